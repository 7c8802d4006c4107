//! What a reader gets: a batch that shares the bytes it was found in.

use bytes::Bytes;
use thalweg_io::View;

use crate::ids::Offset;
use crate::record::batch::{BATCH_HEADER_BYTES, BatchHeader, BatchKind};
use crate::record::body::{RecordRef, RecordRefs};
use crate::wire::Malformed;

/// A checked batch, in the tail cache or in a buffer read from disk. Cloning copies no bytes.
///
/// A view into the tail cache keeps its chunk from being reused: hold it while you look at it, and
/// copy what you want to keep.
#[derive(Clone, Debug)]
pub struct BatchView {
    header: BatchHeader,
    bytes: View,
    /// Records below it are not shown.
    start: Offset,
}

impl BatchView {
    /// Wraps bytes whose checksum has been compared already.
    pub(crate) fn checked(header: BatchHeader, bytes: View) -> BatchView {
        debug_assert_eq!(bytes.len(), header.len as usize);
        BatchView { header, bytes, start: Offset(0) }
    }

    /// Shows only the records from `start` on.
    pub(crate) fn starting_at(mut self, start: Offset) -> BatchView {
        self.start = start;
        self
    }

    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Offset of the first record stored. A reader that starts in the middle of a batch gets the whole
    /// batch; its [`records`](Self::records) begin where the reader does.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    /// The offset after the batch.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.header.end_offset()
    }

    /// Header and body as stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body: records, or the caller's own bytes.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// Whether the bytes are a part of the tail cache.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        matches!(self.bytes, View::Cache(_))
    }

    /// The records, borrowed, from where the reader started. An opaque batch is one record whose value
    /// is the whole body.
    pub fn records(&self) -> impl Iterator<Item = Result<RecordView<'_>, Malformed>> {
        let opaque = (self.header.kind == BatchKind::Opaque).then(|| {
            Ok(RecordView {
                offset: self.header.base_offset,
                timestamp_ms: self.header.max_timestamp_ms,
                record: None,
                body: self.body(),
            })
        });
        let (count, span) = match self.header.kind {
            BatchKind::Records => (self.header.record_count, self.header.offset_span),
            BatchKind::Opaque | BatchKind::Control => (0, 0),
        };
        let body = if count > 0 { self.body() } else { &[] };
        let records = RecordRefs::new(body, count, span).map(|record| {
            let record = record?;
            Ok(RecordView {
                offset: self.header.base_offset.plus(u64::from(record.offset_delta)),
                timestamp_ms: self.header.base_timestamp_ms.wrapping_add(record.timestamp_delta_ms),
                body: record.value.unwrap_or_default(),
                record: Some(record),
            })
        });
        let shown = |record: &Result<RecordView<'_>, _>| {
            record.as_ref().map_or(true, |record| record.offset >= self.start)
        };
        opaque.into_iter().chain(records.filter(shown))
    }
}

/// A record in a batch, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    record: Option<RecordRef<'a>>,
    body: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// The key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.as_ref().and_then(|record| record.key)
    }

    /// The value; none for a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        match &self.record {
            Some(record) => record.value,
            None => Some(self.body),
        }
    }

    /// Bytes of the record in its batch's body.
    pub(crate) fn encoded_len(&self) -> usize {
        self.record.as_ref().map_or(self.body.len(), |record| record.bytes.len())
    }

    /// The headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        self.record.as_ref().map(RecordRef::headers).into_iter().flatten()
    }

    /// A copy that can be kept, or appended elsewhere.
    #[must_use]
    pub fn to_owned(&self) -> crate::record::Record {
        crate::record::Record {
            key: self.key().map(Bytes::copy_from_slice),
            value: self.value().map(Bytes::copy_from_slice),
            headers: self
                .headers()
                .map(|(name, value)| crate::record::Header {
                    name: Bytes::copy_from_slice(name),
                    value: value.map(Bytes::copy_from_slice),
                })
                .collect(),
            timestamp_ms: Some(self.timestamp_ms),
        }
    }
}
