//! Random numbers that a seed reproduces.

/// A named stream of random numbers (splitmix64).
///
/// Each subsystem draws from a stream of its own, so that one more draw in one of them shifts
/// nothing in the others.
#[derive(Clone, Debug)]
pub struct SimRandom(u64);

impl SimRandom {
    /// The stream `name` of `seed`.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> SimRandom {
        // FNV-1a keeps the names apart; one round of the generator keeps close seeds apart.
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        SimRandom(mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)) ^ hash)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "there is no number below 0");
        ((u128::from(self.draw()) * u128::from(end)) >> 64) as u64
    }

    /// True with `probability` (0 never, 1 always).
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The finalizer of splitmix64: a bijection in which every bit depends on every other.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_seed_and_its_name() {
        let draws = |seed, name| {
            let mut stream = SimRandom::new(seed, name);
            [stream.draw(), stream.draw()]
        };
        assert_eq!(draws(1, "crash"), draws(1, "crash"));
        assert_ne!(draws(1, "crash"), draws(1, "latency"));
        assert_ne!(draws(1, "crash"), draws(2, "crash"));
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_all_of_it() {
        let mut stream = SimRandom::new(7, "test");
        let mut seen = [0u32; 10];
        for _ in 0..1000 {
            seen[stream.below(10) as usize] += 1;
            assert!((0.0..1.0).contains(&stream.unit()));
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
        assert!(!stream.chance(0.0) && stream.chance(1.0));
    }
}
