//! I3: nothing is read that was never appended, or was refused, or was lost once already; a batch is
//! there whole.

use thalweg_tests::{Found, Truth};

use crate::copy::{Contents, Look};
use crate::oracle::Oracle;
use crate::promises::keep;

/// Every partition there is was made by somebody, and not deleted for good.
pub(crate) fn only_known_partitions(oracle: &Oracle, contents: &Contents) {
    let known = |name: &&String| oracle.there.contains_key(*name) || oracle.limbo.contains_key(*name);
    let stranger = contents.keys().find(|name| !known(name));
    assert_eq!(stranger, None, "I3: a partition is back, or nobody made it");
}

/// What is there beyond what is known was sent: index in `sent`, and first offset.
pub(crate) fn placed(truth: &Truth, look: &Look) -> Vec<(usize, u64)> {
    among(&look.info.name, truth, look.info.log_start.0, &look.found)
}

/// As [`placed`], of what a reader got.
pub(crate) fn among(name: &str, truth: &Truth, from: u64, found: &Found) -> Vec<(usize, u64)> {
    keep("I3", truth.place(name, from, found))
}
