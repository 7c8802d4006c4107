//! Changes of the catalog and of the manifest, as a dump shows them: with the names that
//! `docs/format.md` gives their fields.

use serde::Serialize;

use crate::config::PartitionConfig;
use crate::manifest::{Change, SegmentKind};
use crate::wal::control::Control;

/// Settings of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the fields are those of `docs/format.md`
pub struct DumpedSettings {
    pub compact: bool,
    pub bytes_max: Option<u64>,
    pub age_max_ms: Option<u64>,
    pub tombstone_age_ms: u64,
}

impl From<&PartitionConfig> for DumpedSettings {
    fn from(config: &PartitionConfig) -> DumpedSettings {
        DumpedSettings {
            compact: config.compact,
            bytes_max: config.retention.bytes_max,
            age_max_ms: config.retention.age_max_ms,
            tombstone_age_ms: config.tombstone_age_ms,
        }
    }
}

/// A control batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are those of `docs/format.md`
pub enum DumpedControl {
    Create { partition: u32, settings: DumpedSettings, name: String },
    Delete { partition: u32 },
    Trim { partition: u32, log_start: u64 },
    Configure { partition: u32, settings: DumpedSettings },
    Joint { transaction: u64, shards: Vec<u16> },
}

impl From<&Control> for DumpedControl {
    fn from(control: &Control) -> DumpedControl {
        match control {
            Control::Create { partition, config, name } => {
                DumpedControl::Create { partition: partition.0, settings: config.into(), name: name.clone() }
            }
            Control::Delete { partition } => DumpedControl::Delete { partition: partition.0 },
            Control::Trim { partition, log_start } => {
                DumpedControl::Trim { partition: partition.0, log_start: log_start.0 }
            }
            Control::Configure { partition, config } => {
                DumpedControl::Configure { partition: partition.0, settings: config.into() }
            }
            Control::Joint { transaction, shards } => {
                let shards = shards.iter().map(|shard| shard.0).collect();
                DumpedControl::Joint { transaction: *transaction, shards }
            }
        }
    }
}

/// A change in an edit of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are those of `docs/format.md`
pub enum DumpedChange {
    WalFileAdded {
        file: u64,
    },
    WalFileRemoved {
        file: u64,
    },
    Floor {
        sequence: u64,
        group: u64,
    },
    SegmentAdded {
        file: u64,
        file_bytes: u64,
        batch_bytes: u64,
        footer_crc: u32,
        runs: u32,
        kind: &'static str,
    },
    SegmentRemoved {
        file: u64,
    },
    PartitionCreated {
        partition: u32,
        settings: DumpedSettings,
        log_start: u64,
        name: String,
    },
    PartitionDeleted {
        partition: u32,
    },
    Trimmed {
        partition: u32,
        log_start: u64,
    },
    Configured {
        partition: u32,
        settings: DumpedSettings,
    },
    NextPartition {
        id: u32,
    },
    NextFile {
        number: u64,
    },
    JointResolved {
        transaction: u64,
    },
    Durable {
        group: u64,
    },
}

impl From<&Change> for DumpedChange {
    fn from(change: &Change) -> DumpedChange {
        match change {
            Change::WalFileAdded(file) => DumpedChange::WalFileAdded { file: file.0 },
            Change::WalFileRemoved(file) => DumpedChange::WalFileRemoved { file: file.0 },
            Change::Floor { sequence, group } => DumpedChange::Floor { sequence: sequence.0, group: group.0 },
            Change::SegmentAdded(meta) => DumpedChange::SegmentAdded {
                file: meta.file.0,
                file_bytes: meta.file_bytes,
                batch_bytes: meta.batch_bytes,
                footer_crc: meta.footer_crc,
                runs: meta.runs,
                kind: segment_kind(meta.kind),
            },
            Change::SegmentRemoved(file) => DumpedChange::SegmentRemoved { file: file.0 },
            Change::PartitionCreated { partition, config, log_start, name } => {
                DumpedChange::PartitionCreated {
                    partition: partition.0,
                    settings: config.into(),
                    log_start: log_start.0,
                    name: name.to_string(),
                }
            }
            Change::PartitionDeleted(partition) => DumpedChange::PartitionDeleted { partition: partition.0 },
            Change::Trimmed { partition, log_start } => {
                DumpedChange::Trimmed { partition: partition.0, log_start: log_start.0 }
            }
            Change::Configured { partition, config } => {
                DumpedChange::Configured { partition: partition.0, settings: config.into() }
            }
            Change::NextPartition(id) => DumpedChange::NextPartition { id: id.0 },
            Change::NextFile(number) => DumpedChange::NextFile { number: number.0 },
            Change::JointResolved(transaction) => DumpedChange::JointResolved { transaction: *transaction },
            Change::Durable(group) => DumpedChange::Durable { group: group.0 },
        }
    }
}

/// The name of a kind of segment.
pub(super) fn segment_kind(kind: SegmentKind) -> &'static str {
    match kind {
        SegmentKind::Promoted => "promoted",
        SegmentKind::Shared => "shared",
        SegmentKind::Own => "own",
        SegmentKind::Merged => "merged",
    }
}
