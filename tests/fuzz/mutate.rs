//! Changing bytes at random.

/// Numbers from a seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `sides`, which is at least 1.
    pub(crate) fn below(&mut self, sides: usize) -> usize {
        (self.draw() % sides.max(1) as u64) as usize
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.draw() & 1 == 0
    }

    /// Anything, up to `len_max` bytes.
    pub(crate) fn bytes(&mut self, len_max: usize) -> Vec<u8> {
        let len = self.below(len_max + 1);
        (0..len).map(|_| self.draw() as u8).collect()
    }

    /// Changes `bytes` in one to four places of `within`.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>, within: usize) {
        for _ in 0..1 + self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(within.min(bytes.len()));
            self.mutate_at(bytes, at);
        }
    }

    fn mutate_at(&mut self, bytes: &mut Vec<u8>, at: usize) {
        const ODD: [u64; 12] = [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            0xffff,
            0x7fff_ffff,
            0xffff_ffff,
            1 << 32,
            i64::MAX as u64,
            1 << 63,
            u64::MAX,
        ];
        match self.below(10) {
            0..=2 => bytes[at] ^= 1 << self.below(8),
            3 => bytes[at] = self.draw() as u8,
            4..=6 => {
                let width = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at);
                let odd = ODD[self.below(ODD.len())].wrapping_add(self.below(3) as u64).wrapping_sub(1);
                bytes[at..at + width].copy_from_slice(&odd.to_le_bytes()[..width]);
            }
            7 => {
                let (from, len) = (self.below(bytes.len()), self.below(64));
                let len = len.min(bytes.len() - from).min(bytes.len() - at);
                bytes.copy_within(from..from + len, at);
            }
            8 => {
                let len = self.below(16).min(bytes.len() - at);
                bytes.drain(at..at + len);
            }
            _ => {
                let more = self.bytes(16);
                bytes.splice(at..at, more);
            }
        }
    }
}

/// Writes the CRC-32C of `bytes[from..end]` at `at`, as far as there are so many bytes.
pub(crate) fn seal(bytes: &mut [u8], at: usize, from: usize, end: usize) {
    if from <= end && end <= bytes.len() && at + 4 <= bytes.len() {
        let crc = crc32c::crc32c(&bytes[from..end]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The number of four bytes at `at`; 0 where there are fewer.
pub(crate) fn length_at(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes(four.try_into().unwrap()) as usize)
}
