//! What happened in a world, as a hash chain and as the last few lines.

use std::collections::VecDeque;

/// Lines that are kept for a seed that failed.
const KEPT: usize = 30;

/// The world's own events. The disk has a chain of its own.
#[derive(Debug, Default)]
pub(crate) struct Events {
    count: u64,
    hash: u64,
    last: VecDeque<String>,
}

impl Events {
    pub(crate) fn note(&mut self, line: String) {
        self.count += 1;
        for byte in line.bytes().chain([0]) {
            self.word(u64::from(byte));
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(format!("{:>5} {line}", self.count));
    }

    /// Something worth a place in the chain, and no line.
    pub(crate) fn word(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// The number of the last event.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }
}
