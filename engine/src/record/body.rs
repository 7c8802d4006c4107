//! Records inside a batch's body.
//!
//! ```text
//! record  := len:uvarint            bytes behind this field
//!            offset_delta:uvarint   from the batch's base offset, growing
//!            timestamp_delta:zigzag from the batch's base timestamp, ms
//!            key:optional value:optional
//!            headers:uvarint (name:prefixed value:optional)*
//! prefixed := len:uvarint bytes
//! optional := 0 | (len + 1):uvarint bytes
//! ```

use crate::record::given::{Header, Record};
use crate::wire::{Fields, Malformed, Writer, optional_len, uvarint_len, zigzag};

/// A record inside a batch, borrowed from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// From the batch's base offset.
    pub offset_delta: u32,
    /// From the batch's base timestamp, ms.
    pub timestamp_delta_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none marks the key as deleted.
    pub value: Option<&'a [u8]>,
    headers: Fields<'a>,
    header_count: u64,
    /// The record's bytes in the body, its length included.
    pub bytes: &'a [u8],
}

impl PartialEq for Fields<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.position() == other.position() && self.remaining() == other.remaining()
    }
}
impl Eq for Fields<'_> {}

impl<'a> RecordRef<'a> {
    /// The headers, in the order given. A name may occur more than once.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut fields = self.headers.clone();
        (0..self.header_count).map_while(move |_| {
            let name = fields.prefixed("header name").ok()?;
            Some((name, fields.optional("header value").ok()?))
        })
    }
}

/// The records of a body, in offset order.
#[derive(Clone, Debug)]
pub struct RecordRefs<'a> {
    body: &'a [u8],
    left: u32,
    span: u32,
    next_delta: u64,
}

impl<'a> RecordRefs<'a> {
    /// Reads `count` records that cover `span` offsets from `body`.
    #[must_use]
    pub fn new(body: &'a [u8], count: u32, span: u32) -> RecordRefs<'a> {
        RecordRefs { body, left: count, span, next_delta: 0 }
    }

    fn read(&mut self) -> Result<RecordRef<'a>, Malformed> {
        let mut outer = Fields::new(self.body);
        let inside = outer.prefixed("record")?;
        let bytes = &self.body[..outer.position()];
        let mut fields = Fields::new(inside);
        let offset_delta = fields.uvarint("record offset_delta")?;
        if offset_delta < self.next_delta || offset_delta >= u64::from(self.span) {
            return Err(Malformed::Impossible { field: "record offset_delta", value: offset_delta });
        }
        let timestamp_delta_ms = fields.ivarint("record timestamp_delta")?;
        let key = fields.optional("record key")?;
        let value = fields.optional("record value")?;
        let header_count = fields.uvarint("record header count")?;
        let headers = fields.clone();
        for _ in 0..header_count {
            fields.prefixed("header name")?;
            fields.optional("header value")?;
        }
        if fields.remaining() > 0 {
            return Err(Malformed::Impossible { field: "record len", value: inside.len() as u64 });
        }
        self.next_delta = offset_delta + 1;
        self.body = &self.body[bytes.len()..];
        Ok(RecordRef {
            offset_delta: offset_delta as u32,
            timestamp_delta_ms,
            key,
            value,
            headers,
            header_count,
            bytes,
        })
    }
}

impl<'a> Iterator for RecordRefs<'a> {
    type Item = Result<RecordRef<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if !self.body.is_empty() {
                let value = self.body.len() as u64;
                self.body = &[];
                return Some(Err(Malformed::Impossible { field: "bytes after the last record", value }));
            }
            return None;
        }
        self.left -= 1;
        let record = self.read();
        if record.is_err() {
            (self.left, self.body) = (0, &[]);
        }
        Some(record)
    }
}

fn headers_len(headers: &[Header]) -> usize {
    let each = |header: &Header| {
        uvarint_len(header.name.len() as u64) + header.name.len() + optional_len(header.value.as_deref())
    };
    uvarint_len(headers.len() as u64) + headers.iter().map(each).sum::<usize>()
}

fn fields_len(record: &Record) -> usize {
    optional_len(record.key.as_deref()) + optional_len(record.value.as_deref()) + headers_len(&record.headers)
}

/// The most bytes `record` can take in a body, whatever its offset and timestamp.
#[must_use]
pub fn encoded_len_max(record: &Record) -> usize {
    // Length (5), offset delta (5) and timestamp delta (10) at their longest.
    20 + fields_len(record)
}

/// Writes `record` at the front of `out`; returns its bytes. `out` must hold
/// [`encoded_len_max`] bytes.
pub fn write_record(out: &mut [u8], record: &Record, offset_delta: u32, timestamp_delta_ms: i64) -> usize {
    let timestamp = zigzag(timestamp_delta_ms);
    let len = uvarint_len(u64::from(offset_delta)) + uvarint_len(timestamp) + fields_len(record);
    let mut out = Writer::new(out);
    out.uvarint(len as u64);
    out.uvarint(u64::from(offset_delta));
    out.uvarint(timestamp);
    out.optional(record.key.as_deref());
    out.optional(record.value.as_deref());
    out.uvarint(record.headers.len() as u64);
    for header in &record.headers {
        out.uvarint(header.name.len() as u64);
        out.put(&header.name);
        out.optional(header.value.as_deref());
    }
    out.position()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = Vec<(Record, i64)>> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        let header = (proptest::collection::vec(any::<u8>(), 0..9), bytes());
        let record = (bytes(), bytes(), proptest::collection::vec(header, 0..4), any::<i64>());
        proptest::collection::vec(record, 1..20).prop_map(|records| {
            let make = |(key, value, headers, ts): (Option<Vec<u8>>, Option<Vec<u8>>, Vec<_>, i64)| {
                let headers = headers
                    .into_iter()
                    .map(|(name, value): (Vec<u8>, Option<Vec<u8>>)| Header {
                        name: name.into(),
                        value: value.map(Into::into),
                    })
                    .collect();
                let record = Record {
                    key: key.map(Into::into),
                    value: value.map(Into::into),
                    headers,
                    timestamp_ms: None,
                };
                (record, ts)
            };
            records.into_iter().map(make).collect()
        })
    }

    proptest! {
        #[test]
        fn records_come_back_as_written(records in records()) {
            let mut body = Vec::new();
            for (delta, (record, ts)) in records.iter().enumerate() {
                let mut out = vec![0; encoded_len_max(record)];
                let len = write_record(&mut out, record, delta as u32, *ts);
                body.extend_from_slice(&out[..len]);
            }
            let count = records.len() as u32;
            let back: Vec<_> = RecordRefs::new(&body, count, count).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(back.len(), records.len());
            for (got, (want, ts)) in back.iter().zip(&records) {
                prop_assert_eq!(got.key, want.key.as_deref());
                prop_assert_eq!(got.value, want.value.as_deref());
                prop_assert_eq!(got.timestamp_delta_ms, *ts);
                let headers: Vec<_> = got.headers().collect();
                let want: Vec<_> =
                    want.headers.iter().map(|h| (&h.name[..], h.value.as_deref())).collect();
                prop_assert_eq!(headers, want);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = RecordRefs::new(&body, 50, 50).count();
        }
    }
}
