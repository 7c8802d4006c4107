//! I1: what was acknowledged is there, at its offset, with the same key, value, headers and timestamp,
//! and so is its partition with its settings.

use thalweg_tests::Truth;

use crate::copy::{Contents, Look};
use crate::oracle::Oracle;
use crate::promises::keep;

/// Every partition that was made, and not deleted, is there.
pub(crate) fn every_partition(oracle: &Oracle, contents: &Contents) {
    let gone = oracle.there.keys().find(|name| !contents.contains_key(*name));
    assert_eq!(gone, None, "I1: a partition is gone");
}

/// The settings are the last that were acknowledged, or some that were asked for since.
pub(crate) fn settings(truth: &mut Truth, look: &Look) {
    let config = look.info.config;
    let known = config == truth.config || truth.asked.contains(&config);
    assert!(known, "I1: {}: {config:?}, acknowledged are {:?}", look.info.name, truth.config);
    truth.config = config;
    truth.asked.clear();
}

/// The log starts where it did, and holds what was acknowledged.
pub(crate) fn records(truth: &Truth, look: &Look) {
    let (name, start) = (&look.info.name, look.info.log_start.0);
    keep("I1", truth.check_start(name, start));
    keep("I1", truth.check_retained(name, look.log_start, &look.found));
    let end = look.info.log_end.0;
    assert!(end >= truth.end(), "I1: {name}: ends at {end}, {} is known", truth.end());
    keep("I1", truth.check_kept(name, start..u64::MAX, look.log_start, &look.found));
}
