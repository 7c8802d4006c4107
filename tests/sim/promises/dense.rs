//! I2: offsets are dense: no gap, no duplicate, nothing out of order.

use thalweg_tests::{Found, Truth};

use crate::copy::Look;

/// A whole partition. Compaction leaves gaps, and retention may trim while it is read.
pub(crate) fn after_restart(truth: &Truth, look: &Look) {
    let info = &look.info;
    assert_eq!(info.flushed, info.log_end, "I2: {}: all that was found is flushed", info.name);
    if truth.compacted {
        return;
    }
    let start = info.log_start.0.max(if truth.retained { look.log_start } else { 0 });
    let there = look.found.range(start..).count() as u64;
    assert_eq!(there, info.log_end.0 - start, "I2: {}: records from {start} on, {info:?}", info.name);
}

/// What a reader got in a row.
pub(crate) fn in_a_row(name: &str, truth: &Truth, found: &Found) {
    if truth.compacted {
        return;
    }
    let first = found.keys().next().copied().unwrap_or(0);
    let gap = (first..).zip(found.keys()).find(|(expected, offset)| expected != *offset);
    assert_eq!(gap, None, "I2: {name}: a gap among what was read");
}
