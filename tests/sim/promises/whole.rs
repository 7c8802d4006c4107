//! An append over several partitions is there in all of them, or in none.

use std::collections::BTreeSet;

/// The joint appends found in some partition, and those not found in some.
pub(crate) fn joints(whole: &BTreeSet<u64>, lost: &BTreeSet<u64>) {
    let torn: Vec<_> = whole.intersection(lost).collect();
    assert!(torn.is_empty(), "I1: joint appends are there in part: {torn:?}");
}
