//! What a log promises, one file per promise. Each check panics with the promise's number.

pub(crate) mod answered;
pub(crate) mod bounds;
pub(crate) mod counters;
pub(crate) mod dense;
pub(crate) mod detected;
pub(crate) mod durable;
pub(crate) mod idempotent;
pub(crate) mod kept;
pub(crate) mod lively;
pub(crate) mod phantom;
pub(crate) mod unread;
pub(crate) mod whole;

/// The promise holds, or the seed has failed.
#[track_caller]
pub(crate) fn keep<T>(promise: &str, checked: Result<T, String>) -> T {
    checked.unwrap_or_else(|wrong| panic!("{promise}: {wrong}"))
}
