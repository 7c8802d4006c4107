//! Where one record of a file ends and the next begins.

use std::ops::Range;

use clap::ValueEnum;

/// Bytes of the length before each record of a length-prefixed file.
pub(crate) const PREFIX_BYTES: usize = 4;

/// Header of a record that was imported from a last line without a newline, so that the file can
/// be written back as it was. It has no value.
pub(crate) const NO_NEWLINE_HEADER: &str = "thalweg.no-newline";

/// How records lie in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Framing {
    /// Each line is a record, without its newline; a carriage return belongs to the record
    #[default]
    Lines,
    /// Each record has its length before it, 4 bytes, big-endian
    LengthPrefixed,
}

/// What the front of some input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A record: where its value is, and the bytes it takes with its frame.
    Record { value: Range<usize>, len: usize },
    /// A record whose end has not been seen. Its length, where the frame says it.
    Unfinished { value_len: Option<usize> },
    /// Nothing.
    Empty,
}

impl Framing {
    /// Cuts one record off the front of `input`, whose first `scanned` bytes have been looked at
    /// before and have no end in them.
    pub(crate) fn cut(self, input: &[u8], scanned: usize) -> Cut {
        if input.is_empty() {
            return Cut::Empty;
        }
        match self {
            Framing::Lines => match memchr::memchr(b'\n', &input[scanned..]) {
                Some(at) => Cut::Record { value: 0..scanned + at, len: scanned + at + 1 },
                None => Cut::Unfinished { value_len: None },
            },
            Framing::LengthPrefixed => {
                let Some((prefix, rest)) = input.split_first_chunk::<PREFIX_BYTES>() else {
                    return Cut::Unfinished { value_len: None };
                };
                let value_len = u32::from_be_bytes(*prefix) as usize;
                if rest.len() < value_len {
                    return Cut::Unfinished { value_len: Some(value_len) };
                }
                let end = PREFIX_BYTES + value_len;
                Cut::Record { value: PREFIX_BYTES..end, len: end }
            }
        }
    }

    /// What people call the `number`-th record of such a file, counted from 1.
    pub(crate) fn name_of(self, number: u64) -> String {
        match self {
            Framing::Lines => format!("line {number}"),
            Framing::LengthPrefixed => format!("record {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts everything off `input`: the values, and what is left.
    #[track_caller]
    fn check(framing: Framing, input: &[u8], want: &[&[u8]], left: Cut) {
        let (mut at, mut values) = (0, Vec::new());
        let end = loop {
            match framing.cut(&input[at..], 0) {
                Cut::Record { value, len } => {
                    values.push(&input[at..][value]);
                    at += len;
                }
                end => break end,
            }
        };
        assert_eq!((values, end), (want.to_vec(), left));
    }

    #[test]
    fn a_line_is_a_record_without_its_newline() {
        check(Framing::Lines, b"", &[], Cut::Empty);
        check(Framing::Lines, b"\n\n", &[b"", b""], Cut::Empty);
        check(Framing::Lines, b"a\r\nb", &[b"a\r"], Cut::Unfinished { value_len: None });
    }

    #[test]
    fn a_length_comes_before_its_record() {
        let input = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01";
        check(Framing::LengthPrefixed, input, &[b"ab", b""], Cut::Unfinished { value_len: Some(1) });
        check(Framing::LengthPrefixed, b"\0\0", &[], Cut::Unfinished { value_len: None });
    }

    #[test]
    fn bytes_already_looked_at_are_not_looked_at_again() {
        assert_eq!(Framing::Lines.cut(b"abc\n", 3), Cut::Record { value: 0..3, len: 4 });
    }
}
