//! The records that owners append: every byte follows from where a record lies and in which life it was
//! appended, so that whoever reads one can tell whether it is right.

/// Bytes before the filling.
const HEAD_BYTES: usize = 32;
/// Most bytes of a filling, exclusive.
const FILLING_BYTES_END: u64 = 2000;
/// In the place of a twin's partition: there is no twin.
const NO_TWIN: u32 = u32::MAX;

/// A record's place: partition and offset.
pub(crate) type Place = (u32, u64);

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) place: Place,
    /// The life of the process that appended it.
    pub(crate) life: u32,
    /// The record of another partition that was appended with it, all or nothing.
    pub(crate) twin: Option<Place>,
}

impl Stamp {
    /// The record's value.
    ///
    /// | bytes  | field          | meaning (little-endian)     |
    /// |--------|----------------|-----------------------------|
    /// | 0..4   | partition      |                             |
    /// | 4..8   | life           |                             |
    /// | 8..16  | offset         |                             |
    /// | 16..20 | twin partition | all ones: there is no twin  |
    /// | 20..24 | reserved       | zero                        |
    /// | 24..32 | twin offset    |                             |
    /// | 32..   | filling        | eight bytes again and again |
    pub(crate) fn value(&self) -> Vec<u8> {
        let (twin, twin_offset) = self.twin.unwrap_or((NO_TWIN, 0));
        let mut value = Vec::with_capacity(HEAD_BYTES + FILLING_BYTES_END as usize);
        value.extend_from_slice(&self.place.0.to_le_bytes());
        value.extend_from_slice(&self.life.to_le_bytes());
        value.extend_from_slice(&self.place.1.to_le_bytes());
        value.extend_from_slice(&twin.to_le_bytes());
        value.extend_from_slice(&[0; 4]);
        value.extend_from_slice(&twin_offset.to_le_bytes());
        let pattern = (u64::from(self.place.0) << 32 | u64::from(self.life)) ^ self.place.1.rotate_left(20);
        let pattern = pattern.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let len = (pattern >> 32) % FILLING_BYTES_END;
        value.extend_from_slice(&pattern.to_le_bytes().repeat(len as usize / 8));
        value
    }

    /// What `value` says of itself, if all of it is as it was appended.
    pub(crate) fn read(value: &[u8]) -> Option<Stamp> {
        let head = value.get(..HEAD_BYTES)?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let twin = (word(16) != NO_TWIN).then(|| (word(16), long(24)));
        let stamp = Stamp { place: (word(0), long(8)), life: word(4), twin };
        (stamp.value() == value).then_some(stamp)
    }
}
