//! I4: what anybody has read of what is flushed is never un-read, and never changes: neither in the log
//! nor in the hands of a reader who holds it.

use thalweg::BatchView;
use thalweg_tests::{Found, Truth};

use crate::promises::keep;

/// From now on what was read is as good as acknowledged.
pub(crate) fn see(truth: &mut Truth, found: &Found, placed: &[(usize, u64)]) {
    keep("I4", truth.see(found, placed));
}

/// A batch that a reader holds, with what it was when it was read.
pub(crate) struct Held {
    batch: BatchView,
    checksum: u32,
}

impl Held {
    pub(crate) fn new(batch: BatchView) -> Held {
        Held { checksum: crc32c::crc32c(batch.bytes()), batch }
    }

    /// Lets go of it.
    pub(crate) fn release(self) {
        let now = crc32c::crc32c(self.batch.bytes());
        assert_eq!(now, self.checksum, "I4: the batch at {} changed while held", self.batch.base_offset());
    }
}
