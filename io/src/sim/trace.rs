//! What happened, as a hash and as the last few events.

use std::collections::VecDeque;
use std::fmt;

use super::fault::OpKind;
use super::random::mix;

/// How many events are kept for a test that failed.
const EVENTS_KEPT: usize = 256;

/// One completed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Virtual time, ns.
    pub at: u64,
    /// What was done.
    pub kind: OpKind,
    /// The file it was done to, in order of creation; 0 for names.
    pub file: u64,
    /// First byte.
    pub position: u64,
    /// Bytes.
    pub len: u64,
    /// `errno`, or 0.
    pub error: i32,
    /// A hash of the bytes that were read or written, or of the names.
    pub content: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { at, kind, file, position, len, error, content } = self;
        write!(f, "{at} ns: {kind:?} file {file} @{position} +{len} content {content:016x}")?;
        if *error != 0 {
            write!(f, " errno {error}")?;
        }
        Ok(())
    }
}

/// The hash chain of a disk's events, and the last of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    last: VecDeque<Event>,
}

impl Trace {
    pub(super) fn event(&mut self, event: Event) {
        let words = [
            event.at,
            event.kind as u64,
            event.file,
            event.position,
            event.len,
            event.error as u64,
            event.content,
        ];
        words.into_iter().for_each(|word| self.word(word));
        if self.last.len() == EVENTS_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(event);
    }

    /// Something that is no operation: a power cut, a change from outside.
    pub(super) fn word(&mut self, word: u64) {
        self.hash = mix(self.hash.rotate_left(5) ^ word);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn last(&self) -> Vec<Event> {
        self.last.iter().copied().collect()
    }
}

/// A hash of `bytes`, in four lanes: with one, in which each word waits for the one before, it took a
/// quarter of a simulated life.
pub(super) fn content_hash(bytes: &[u8]) -> u64 {
    const LANES: usize = 4;
    let step = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
    let (words, rest) = bytes.as_chunks::<8>();
    let (rows, single) = words.as_chunks::<LANES>();
    let mut lanes = [bytes.len() as u64, 1, 2, 3];
    for row in rows {
        for (lane, word) in lanes.iter_mut().zip(row) {
            *lane = step(*lane, u64::from_le_bytes(*word));
        }
    }
    let hash = lanes.into_iter().fold(0, step);
    let hash = single.iter().fold(hash, |hash, word| step(hash, u64::from_le_bytes(*word)));
    mix(rest.iter().fold(hash, |hash, byte| step(hash, u64::from(*byte))))
}
