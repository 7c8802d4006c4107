//! Settings of a partition as arguments.

use crate::times::{parse_bytes, parse_duration_ms};

/// Longest and largest that may be kept. 0 would be a partition that empties itself.
fn more_than_none(limit: u64) -> Result<u64, String> {
    if limit > 0 {
        return Ok(limit);
    }
    Err("0 would drop every sealed record; `thalweg log trim` drops what is there once".to_owned())
}

/// Reads a size to keep.
pub(crate) fn parse_kept_bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).and_then(more_than_none)
}

/// Reads a time to keep.
pub(crate) fn parse_kept_ms(text: &str) -> Result<u64, String> {
    parse_duration_ms(text).and_then(more_than_none)
}

/// A bound, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound(pub Option<u64>);

impl Bound {
    fn parse(text: &str, some: impl Fn(&str) -> Result<u64, String>) -> Result<Bound, String> {
        if text == "none" { Ok(Bound(None)) } else { some(text).map(|bound| Bound(Some(bound))) }
    }

    /// Reads a size to keep, or `none`.
    pub(crate) fn bytes(text: &str) -> Result<Bound, String> {
        Bound::parse(text, parse_kept_bytes)
    }

    /// Reads a time to keep, or `none`.
    pub(crate) fn ms(text: &str) -> Result<Bound, String> {
        Bound::parse(text, parse_kept_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_some_or_none_and_never_nothing() {
        assert_eq!(Bound::bytes("1KiB"), Ok(Bound(Some(1024))));
        assert_eq!((Bound::bytes("none"), Bound::ms("none")), (Ok(Bound(None)), Ok(Bound(None))));
        assert!(Bound::bytes("0").unwrap_err().contains("log trim"));
        assert!(parse_kept_ms("0s").is_err());
    }
}
