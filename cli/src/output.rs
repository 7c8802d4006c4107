//! Standard output: values as they are, tables for people, JSON for programs.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use thalweg::RecordView;

use crate::times::rfc3339;

/// Bytes gathered before they are written.
const OUT_BUFFER_BYTES: usize = 128 << 10;

/// Whoever read our standard output has closed it: reason to stop, not to complain.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for ReaderGone {}

/// What the host said when it was to take our output.
#[derive(Debug, thiserror::Error)]
#[error("can't write standard output: {source}")]
struct CantWrite {
    source: io::Error,
}

/// Whether an error only says that nobody reads our output any more.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|layer| layer.downcast_ref::<io::Error>())
        .any(|error| error.get_ref().is_some_and(|inner| inner.is::<ReaderGone>()))
}

/// Standard output, buffered by blocks rather than lines. Flush it when a person may be waiting.
pub(crate) struct Out(BufWriter<File>);

impl Out {
    /// Standard output.
    pub(crate) fn new() -> io::Result<Out> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Out(BufWriter::with_capacity(OUT_BUFFER_BYTES, stdout)))
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self, "{line}")
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self, value).map_err(io::Error::from).map_err(mark)?;
        self.write_all(b"\n")
    }
}

/// Says that it was standard output, and names the one error of a pipe that ends well.
fn mark(error: io::Error) -> io::Error {
    let marked = error.get_ref().is_some_and(|inner| inner.is::<ReaderGone>() || inner.is::<CantWrite>());
    match error.kind() {
        _ if marked => error,
        // `write_all` tries again.
        io::ErrorKind::Interrupted => error,
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        kind => io::Error::new(kind, CantWrite { source: error }),
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(mark)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(mark)
    }
}

/// Writes `rows` under `heads`: the first column to the left, numbers to the right.
pub(crate) fn table<const N: usize>(
    out: &mut impl Write,
    heads: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let heads: [String; N] = heads.map(str::to_owned);
    for row in std::iter::once(&heads).chain(rows) {
        write!(out, "{:<width$}", row[0], width = widths[0])?;
        for (cell, width) in row.iter().zip(widths).skip(1) {
            write!(out, "  {cell:>width$}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Bytes in JSON: a string where they are UTF-8, `{"base64": "..."}` where they are not.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Utf8(&'a str),
    Base64 { base64: String },
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Text<'a> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Utf8(text),
            Err(_) => Text::Base64 { base64: BASE64_STANDARD.encode(bytes) },
        }
    }
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    name: Text<'a>,
    value: Option<Text<'a>>,
}

/// A record as `--format json` shows it.
#[derive(Serialize)]
pub(crate) struct JsonRecord<'a> {
    offset: u64,
    timestamp_ms: i64,
    timestamp: Option<String>,
    key: Option<Text<'a>>,
    value: Option<Text<'a>>,
    headers: Vec<JsonHeader<'a>>,
}

impl<'a> From<&RecordView<'a>> for JsonRecord<'a> {
    fn from(record: &RecordView<'a>) -> JsonRecord<'a> {
        let header = |(name, value): (&'a [u8], Option<&'a [u8]>)| JsonHeader {
            name: name.into(),
            value: value.map(Text::from),
        };
        JsonRecord {
            offset: record.offset.0,
            timestamp_ms: record.timestamp_ms,
            timestamp: rfc3339(record.timestamp_ms),
            key: record.key().map(Text::from),
            value: record.value().map(Text::from),
            headers: record.headers().map(header).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        let json = |bytes: &[u8]| serde_json::to_string(&Text::from(bytes)).unwrap();
        assert_eq!(json("21.5 °C\n".as_bytes()), r#""21.5 °C\n""#);
        assert_eq!(json(&[0xff, 0x00]), r#"{"base64":"/wA="}"#);
    }

    #[test]
    fn a_table_is_aligned() {
        let mut out = Vec::new();
        let rows = [["a".into(), "1".into()], ["größer".into(), "1000".into()]];
        table(&mut out, ["NAME", "N"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME       N\na          1\ngrößer  1000\n");
    }

    #[test]
    fn a_failure_of_standard_output_is_named_once() {
        let full = mark(mark(io::ErrorKind::StorageFull.into()));
        assert_eq!(full.to_string(), "can't write standard output: no storage space");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(is_reader_gone(&mark(io::ErrorKind::BrokenPipe.into()).into()));
    }
}
