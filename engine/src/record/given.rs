//! What a caller appends.

use bytes::Bytes;

use crate::record::batch::BATCH_HEADER_BYTES;
use crate::record::body::encoded_len_max;

/// A name and a value beside a record. Names may repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: Bytes,
    /// The value, if any.
    pub value: Option<Bytes>,
}

/// One record to append.
///
/// ```
/// use thalweg::Record;
/// let record = Record::new("21.5 °C").with_key("sensor-7").with_header("unit", "celsius");
/// assert_eq!(record.key.as_deref(), Some(&b"sensor-7"[..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The key, for compaction and for the reader's use.
    pub key: Option<Bytes>,
    /// The value. None with a key deletes the key in a compacted partition.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
    /// Milliseconds since the Unix epoch; when none, the time at which the shard took the record.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record with a value.
    pub fn new(value: impl Into<Bytes>) -> Record {
        Record { value: Some(value.into()), ..Record::default() }
    }

    /// A record that deletes `key` in a compacted partition.
    pub fn tombstone(key: impl Into<Bytes>) -> Record {
        Record { key: Some(key.into()), ..Record::default() }
    }

    /// The same record with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Record {
        self.key = Some(key.into());
        self
    }

    /// The same record with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Record {
        self.headers.push(Header { name: name.into(), value: Some(value.into()) });
        self
    }

    /// The same record with a timestamp, ms since the Unix epoch.
    #[must_use]
    pub fn at_ms(mut self, timestamp_ms: i64) -> Record {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

macro_rules! record_from {
    ($($from:ty),*) => {$(
        impl From<$from> for Record {
            fn from(value: $from) -> Record {
                Record::new(value)
            }
        }

        impl From<$from> for Batch {
            fn from(value: $from) -> Batch {
                Batch::One(Record::new(value))
            }
        }
    )*};
}

record_from!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

/// What one append carries: it gets consecutive offsets and is stored whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// One record, with no list around it.
    One(Record),
    /// Several records.
    Many(Vec<Record>),
    /// Bytes of the caller's own format, stored and returned as they are.
    Opaque {
        /// The bytes.
        bytes: Bytes,
        /// Offsets they take, at least 1.
        count: u32,
        /// The largest timestamp inside, ms since the Unix epoch.
        max_timestamp_ms: i64,
    },
}

impl Batch {
    /// Offsets that the batch takes.
    #[must_use]
    pub fn count(&self) -> u32 {
        match self {
            Batch::One(_) => 1,
            Batch::Many(records) => u32::try_from(records.len()).unwrap_or(u32::MAX),
            Batch::Opaque { count, .. } => *count,
        }
    }

    /// The most bytes the batch can take in a group: what `limits.batch_bytes_max` is compared with.
    #[must_use]
    pub fn encoded_len_max(&self) -> u64 {
        let body = match self {
            Batch::One(record) => encoded_len_max(record),
            Batch::Many(records) => records.iter().map(encoded_len_max).sum(),
            Batch::Opaque { bytes, .. } => bytes.len(),
        };
        // The header, and padding to the next multiple of 8.
        (BATCH_HEADER_BYTES + body + 8) as u64
    }

    /// The records, unless the batch is opaque.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        match self {
            Batch::One(record) => std::slice::from_ref(record),
            Batch::Many(records) => records,
            Batch::Opaque { .. } => &[],
        }
    }
}

impl From<Vec<Record>> for Batch {
    fn from(records: Vec<Record>) -> Batch {
        Batch::Many(records)
    }
}

impl From<Record> for Batch {
    fn from(record: Record) -> Batch {
        Batch::One(record)
    }
}
