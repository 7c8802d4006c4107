//! Changes of a shard's catalog, stored in the WAL as control batches.
//!
//! A control batch is a batch of kind 2 whose body is one change. Its `partition` field names the
//! partition; offsets and timestamps are those of the change where they mean something, else zero.
//!
//! | first byte | change    | what follows                                                  |
//! |------------|-----------|---------------------------------------------------------------|
//! | 1          | create    | settings (`docs/format.md`, "Partition settings"), name: prefixed |
//! | 2          | delete    | nothing                                                       |
//! | 3          | trim      | new log start offset: 8 B                                     |
//! | 4          | configure | settings                                                      |
//! | 5          | joint     | transaction: 8 B, shards: count:uvarint (shard:uvarint)*      |
//!
//! A *joint* change opens a group whose batches are one part of an append over several shards.

use crate::config::{PartitionConfig, Retention};
use crate::ids::{LeaderEpoch, Offset, PartitionId, ShardId};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind};
use crate::wire::{Fields, Malformed, push_prefixed, push_uvarint};

/// One change of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A partition comes into being.
    Create {
        /// Its id.
        partition: PartitionId,
        /// Its settings.
        config: PartitionConfig,
        /// Its name.
        name: String,
    },
    /// A partition goes, with its records.
    Delete {
        /// Its id.
        partition: PartitionId,
    },
    /// The log start offset moves forward.
    Trim {
        /// The partition.
        partition: PartitionId,
        /// The first offset that is kept.
        log_start: Offset,
    },
    /// A partition's settings change.
    Configure {
        /// The partition.
        partition: PartitionId,
        /// The new settings, all of them.
        config: PartitionConfig,
    },
    /// The group is one part of an append over several shards.
    Joint {
        /// The append's number, growing over the whole engine.
        transaction: u64,
        /// Every shard that has a part.
        shards: Vec<ShardId>,
    },
}

/// Most shards a joint append may name; bounds what a decoder allocates.
const SHARDS_MAX: u64 = 1 << 16;

impl Control {
    fn partition(&self) -> PartitionId {
        match self {
            Control::Create { partition, .. }
            | Control::Delete { partition }
            | Control::Trim { partition, .. }
            | Control::Configure { partition, .. } => *partition,
            Control::Joint { .. } => PartitionId(0),
        }
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Control::Create { config, name, .. } => {
                out.push(1);
                push_settings(&mut out, config);
                push_prefixed(&mut out, name.as_bytes());
            }
            Control::Delete { .. } => out.push(2),
            Control::Trim { log_start, .. } => {
                out.push(3);
                out.extend_from_slice(&log_start.0.to_le_bytes());
            }
            Control::Configure { config, .. } => {
                out.push(4);
                push_settings(&mut out, config);
            }
            Control::Joint { transaction, shards } => {
                out.push(5);
                out.extend_from_slice(&transaction.to_le_bytes());
                push_uvarint(&mut out, shards.len() as u64);
                shards.iter().for_each(|shard| push_uvarint(&mut out, u64::from(shard.0)));
            }
        }
        out
    }

    /// The change as a whole batch.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut batch = vec![0; BATCH_HEADER_BYTES];
        batch.extend_from_slice(&self.body());
        let header = BatchHeader {
            crc: 0,
            len: batch.len() as u32,
            partition: self.partition(),
            leader_epoch: LeaderEpoch(0),
            base_offset: Offset(0),
            offset_span: 0,
            record_count: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            kind: BatchKind::Control,
        };
        header.seal(&mut batch);
        batch
    }

    /// Reads the change from a checked control batch.
    ///
    /// # Errors
    /// [`Malformed`] if the body is none that this build writes.
    pub fn decode(header: &BatchHeader, batch: &[u8]) -> Result<Control, Malformed> {
        let partition = header.partition;
        let mut fields = Fields::new(&batch[BATCH_HEADER_BYTES..header.len as usize]);
        let control = match fields.u8("control kind")? {
            1 => {
                let config = read_settings(&mut fields)?;
                Control::Create { partition, config, name: read_name(&mut fields)? }
            }
            2 => Control::Delete { partition },
            3 => Control::Trim { partition, log_start: Offset(fields.u64("log start")?) },
            4 => Control::Configure { partition, config: read_settings(&mut fields)? },
            5 => {
                let transaction = fields.u64("transaction")?;
                let count = fields.uvarint("joint shards")?;
                if count > SHARDS_MAX.min(fields.remaining() as u64) {
                    return Err(Malformed::Impossible { field: "joint shards", value: count });
                }
                let shards = (0..count).map(|_| {
                    let shard = fields.uvarint("joint shard")?;
                    let narrow = u16::try_from(shard);
                    narrow
                        .map(ShardId)
                        .map_err(|_| Malformed::Impossible { field: "joint shard", value: shard })
                });
                Control::Joint { transaction, shards: shards.collect::<Result<_, _>>()? }
            }
            kind => return Err(Malformed::Impossible { field: "control kind", value: u64::from(kind) }),
        };
        if fields.remaining() > 0 {
            let value = fields.remaining() as u64;
            return Err(Malformed::Impossible { field: "bytes after the control change", value });
        }
        Ok(control)
    }
}

/// Reads a partition's name.
///
/// # Errors
/// [`Malformed`] if it is not UTF-8.
pub fn read_name(fields: &mut Fields<'_>) -> Result<String, Malformed> {
    let name = fields.prefixed("partition name")?;
    let name = std::str::from_utf8(name).map_err(|error| Malformed::Impossible {
        field: "partition name",
        value: error.valid_up_to() as u64,
    })?;
    Ok(name.to_owned())
}

/// Appends a partition's settings.
///
/// ```text
/// settings := flags:u8 (1 compact, 2 bytes bound, 4 age bound)
///             [bytes_max:u64] [age_max_ms:u64] tombstone_age_ms:u64
/// ```
pub fn push_settings(out: &mut Vec<u8>, config: &PartitionConfig) {
    let Retention { bytes_max, age_max_ms } = config.retention;
    let flags =
        u8::from(config.compact) | u8::from(bytes_max.is_some()) << 1 | u8::from(age_max_ms.is_some()) << 2;
    out.push(flags);
    for bound in [bytes_max, age_max_ms].into_iter().flatten() {
        out.extend_from_slice(&bound.to_le_bytes());
    }
    out.extend_from_slice(&config.tombstone_age_ms.to_le_bytes());
}

/// Reads what [`push_settings`] wrote.
///
/// # Errors
/// [`Malformed`] if it is cut short or has flags this build does not know.
pub fn read_settings(fields: &mut Fields<'_>) -> Result<PartitionConfig, Malformed> {
    let flags = fields.u8("settings flags")?;
    if flags > 7 {
        return Err(Malformed::Impossible { field: "settings flags", value: u64::from(flags) });
    }
    let mut bound = |bit: u8, field| -> Result<Option<u64>, Malformed> {
        if flags & bit != 0 { fields.u64(field).map(Some) } else { Ok(None) }
    };
    let bytes_max = bound(2, "settings bytes_max")?;
    let age_max_ms = bound(4, "settings age_max_ms")?;
    Ok(PartitionConfig {
        compact: flags & 1 != 0,
        retention: Retention { bytes_max, age_max_ms },
        tombstone_age_ms: fields.u64("settings tombstone_age_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::check_batch;

    #[track_caller]
    fn check(control: Control) {
        let batch = control.encode();
        let header = check_batch(&batch).unwrap();
        assert_eq!(Control::decode(&header, &batch), Ok(control));
    }

    #[test]
    fn every_change_comes_back_as_written() {
        let config = PartitionConfig {
            compact: true,
            retention: Retention { bytes_max: None, age_max_ms: Some(5) },
            ..PartitionConfig::default()
        };
        check(Control::Create { partition: PartitionId(1), config, name: "größe".into() });
        check(Control::Delete { partition: PartitionId(2) });
        check(Control::Trim { partition: PartitionId(3), log_start: Offset(u64::MAX) });
        check(Control::Configure { partition: PartitionId(4), config: PartitionConfig::default() });
        check(Control::Joint { transaction: 8, shards: vec![ShardId(0), ShardId(3)] });
    }
}
