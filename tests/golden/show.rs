//! A golden file as the engine decodes it, one JSON object a line: what `expected.txt` holds and
//! `reader.py` has to say too.

use std::fmt::{Display, Write};

use thalweg::PartitionConfig;
use thalweg::manifest::{Change, SegmentKind, decode_edit};
use thalweg::probe::DeviceProfile;
use thalweg::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind, RecordRefs, check_batch};
use thalweg::segment::{TRAILER_BYTES, Trailer, decode_footer};
use thalweg::superblock::Superblock;
use thalweg::wal::control::Control;
use thalweg::wal::file_header::FileHeader;
use thalweg::wal::group::{GroupHeader, check_batches};
use thalweg::wire::Malformed;
use thalweg_io::BLOCK;

/// Shows a file by its name.
///
/// # Errors
/// [`Malformed`] if it is damaged.
pub(crate) fn show(name: &str, bytes: &[u8]) -> Result<String, Malformed> {
    let mut lines = Lines(String::new());
    match name.split('_').next() {
        Some("superblock") => lines.superblock(bytes)?,
        Some("device") => lines.device(bytes)?,
        Some("manifest") => lines.manifest(bytes)?,
        Some("wal") => lines.wal(bytes)?,
        _ => lines.segment(bytes)?,
    }
    Ok(lines.0)
}

fn quoted(text: impl Display) -> String {
    format!("\"{text}\"")
}

/// Bytes for people: as they are if plain ASCII, else in hex.
fn text(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| matches!(byte, 0x20..0x7f) && !matches!(byte, b'"' | b'\\')) {
        return quoted(String::from_utf8_lossy(bytes));
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    quoted(format!("0x{hex}"))
}

fn or_null<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

fn segment_kind(kind: SegmentKind) -> String {
    quoted(format!("{kind:?}").to_lowercase())
}

fn settings(config: &PartitionConfig) -> [(&'static str, String); 4] {
    [
        ("compact", config.compact.to_string()),
        ("bytes_max", or_null(config.retention.bytes_max)),
        ("age_max_ms", or_null(config.retention.age_max_ms)),
        ("tombstone_age_ms", config.tombstone_age_ms.to_string()),
    ]
}

macro_rules! line {
    ($lines:expr, $kind:literal, $($name:ident = $value:expr),*) => {
        $lines.line($kind, &[$((stringify!($name), $value.to_string())),*])
    };
}

struct Lines(String);

impl Lines {
    fn line(&mut self, kind: &str, fields: &[(&str, String)]) {
        write!(self.0, "{{\"kind\": \"{kind}\"").expect("a string grows");
        for (name, value) in fields {
            write!(self.0, ", \"{name}\": {value}").expect("a string grows");
        }
        self.0.push_str("}\n");
    }

    fn superblock(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let found = Superblock::decode(bytes)?;
        line!(
            self,
            "superblock",
            shards = found.shards,
            directory = quoted(format!("{:032x}", found.directory)),
            wal_file_bytes = found.wal_file_bytes,
            replay_speed = found.replay_speed,
            created_ms = found.created_ms
        );
        Ok(())
    }

    fn device(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let found = DeviceProfile::decode(bytes)?;
        line!(
            self,
            "device",
            major = found.device.major,
            minor = found.device.minor,
            file_system = found.device.file_system,
            backend = quoted(found.backend),
            write_cache = quoted(found.device.write_cache),
            fua = or_null(found.device.fua),
            strategy = quoted(found.way.strategy),
            polls = found.way.polls,
            in_flight = found.in_flight,
            poll_us = found.poll_us,
            measured_ms = found.measured_ms,
            kernel = text(found.device.kernel.as_bytes())
        );
        for each in &found.commits {
            line!(
                self,
                "commit",
                strategy = quoted(each.way.strategy),
                polls = each.way.polls,
                starved = each.starved,
                p50_ns = each.p50_ns,
                p99_ns = each.p99_ns,
                p999_ns = each.p999_ns
            );
        }
        Ok(())
    }

    fn wal(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let header = FileHeader::read(bytes)?;
        line!(
            self,
            "wal_file",
            shard = header.shard,
            sequence = header.sequence,
            salt = header.salt,
            first_group = header.first_group,
            previous = header.previous,
            directory = quoted(format!("{:032x}", header.directory)),
            started_ms = header.started_ms,
            file_bytes = header.file_bytes
        );
        let mut at = BLOCK;
        while at < bytes.len() {
            let group = GroupHeader::read(&bytes[at..])?;
            self.group(at, &group);
            let mut places = Vec::new();
            check_batches(&group, &bytes[at..], |place, _| places.push(at + place))?;
            for place in places {
                self.batch(place, &bytes[place..])?;
            }
            at += (group.len as usize).next_multiple_of(BLOCK);
        }
        Ok(())
    }

    fn group(&mut self, at: usize, group: &GroupHeader) {
        assert_eq!(group.position, at as u64);
        line!(
            self,
            "group",
            position = group.position,
            len = group.len,
            number = group.number,
            sequence = group.sequence,
            durable = group.durable,
            shard = group.shard,
            batch_count = group.batch_count,
            batch_digest = group.batch_digest,
            previous = group.previous,
            written_ms = group.written_ms,
            salt = group.salt,
            directory = quoted(format!("{:016x}", group.directory)),
            revision = group.revision
        );
    }

    /// Shows the batch at the front of `bytes`.
    fn batch(&mut self, position: usize, bytes: &[u8]) -> Result<BatchHeader, Malformed> {
        let header = check_batch(bytes)?;
        line!(
            self,
            "batch",
            position = position,
            len = header.len,
            partition = header.partition,
            leader_epoch = header.leader_epoch,
            base_offset = header.base_offset,
            offset_span = header.offset_span,
            record_count = header.record_count,
            base_timestamp = header.base_timestamp_ms,
            max_timestamp = header.max_timestamp_ms,
            holds = quoted(format!("{:?}", header.kind).to_lowercase())
        );
        let body = &bytes[BATCH_HEADER_BYTES..header.len as usize];
        match header.kind {
            BatchKind::Records => self.records(&header, body)?,
            BatchKind::Opaque => line!(self, "opaque", body = text(body)),
            BatchKind::Control => self.control(&Control::decode(&header, bytes)?),
        }
        Ok(header)
    }

    fn records(&mut self, header: &BatchHeader, body: &[u8]) -> Result<(), Malformed> {
        for record in RecordRefs::new(body, header.record_count, header.offset_span) {
            let record = record?;
            let headers: Vec<_> = record
                .headers()
                .map(|(name, value)| format!("[{}, {}]", text(name), or_null(value.map(text))))
                .collect();
            line!(
                self,
                "record",
                offset = header.base_offset.0 + u64::from(record.offset_delta),
                timestamp = header.base_timestamp_ms + record.timestamp_delta_ms,
                key = or_null(record.key.map(text)),
                value = or_null(record.value.map(text)),
                headers = format!("[{}]", headers.join(", "))
            );
        }
        Ok(())
    }

    fn control(&mut self, control: &Control) {
        let (change, partition, mut said) = match control {
            Control::Create { partition, config, name } => {
                let mut said = settings(config).to_vec();
                said.push(("name", quoted(name)));
                ("create", partition.0, said)
            }
            Control::Delete { partition } => ("delete", partition.0, vec![]),
            Control::Trim { partition, log_start } => {
                ("trim", partition.0, vec![("log_start", log_start.to_string())])
            }
            Control::Configure { partition, config } => ("configure", partition.0, settings(config).to_vec()),
            Control::Joint { transaction, shards } => {
                let shards: Vec<_> = shards.iter().map(|shard| shard.0).collect();
                let said = [("transaction", transaction.to_string()), ("shards", format!("{shards:?}"))];
                ("joint", 0, said.to_vec())
            }
        };
        let mut fields = vec![("change", quoted(change)), ("partition", partition.to_string())];
        fields.append(&mut said);
        self.line("control", &fields);
    }

    fn segment(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let trailer = Trailer::read(&bytes[bytes.len() - TRAILER_BYTES..])?;
        assert_eq!(trailer.file_bytes(), bytes.len() as u64);
        line!(
            self,
            "segment",
            file = trailer.file,
            shard = trailer.shard,
            holds = segment_kind(trailer.kind),
            directory = quoted(format!("{:032x}", trailer.directory)),
            created_ms = trailer.created_ms,
            batch_bytes = trailer.batch_bytes,
            sequence_end = trailer.sequence_end,
            footer_position = trailer.footer_position,
            footer_crc = trailer.footer_crc
        );
        let start = trailer.footer_position as usize;
        let footer = decode_footer(&bytes[start..], &trailer)?;
        for run in &footer.runs {
            line!(
                self,
                "run",
                partition = run.partition,
                entry_count = run.entry_count,
                first_entry = run.first_entry,
                compacted = run.compacted,
                base_offset = run.base_offset,
                end_offset = run.end_offset,
                min_timestamp = run.min_timestamp_ms,
                max_timestamp = run.max_timestamp_ms,
                bytes = run.bytes,
                records = run.records
            );
            for entry in &footer.entries[run.first_entry as usize..][..run.entry_count as usize] {
                line!(
                    self,
                    "entry",
                    base_offset = entry.base_offset,
                    end_offset = entry.end_offset,
                    position = entry.position,
                    max_timestamp = entry.max_timestamp_ms,
                    bytes = entry.bytes,
                    batches = entry.batches
                );
                let mut at = entry.position as usize;
                for _ in 0..entry.batches {
                    at += self.batch(at, &bytes[at..])?.stride();
                }
            }
        }
        if trailer.kind == SegmentKind::Promoted { self.wal(&bytes[..start]) } else { Ok(()) }
    }

    fn manifest(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            let (frame, edit) = decode_edit(&bytes[at..])?;
            line!(
                self,
                "edit",
                position = at,
                len = frame.len,
                revision = edit.revision,
                previous = frame.previous,
                shard = frame.shard,
                snapshot = edit.snapshot,
                directory = quoted(format!("{:032x}", frame.directory)),
                changes = edit.changes.len()
            );
            edit.changes.iter().for_each(|change| self.change(change));
            at += (frame.len as usize).next_multiple_of(BLOCK);
        }
        Ok(())
    }

    fn change(&mut self, change: &Change) {
        let one = |name, subject, value: u64| (name, vec![(subject, value.to_string())]);
        let (name, mut said) = match change {
            Change::WalFileAdded(file) => one("wal_file_added", "file", file.0),
            Change::WalFileRemoved(file) => one("wal_file_removed", "file", file.0),
            Change::Floor { sequence, .. } => one("floor", "sequence", sequence.0),
            Change::SegmentAdded(meta) => one("segment_added", "file", meta.file.0),
            Change::SegmentRemoved(file) => one("segment_removed", "file", file.0),
            Change::PartitionCreated { partition, .. } => {
                one("partition_created", "partition", u64::from(partition.0))
            }
            Change::PartitionDeleted(partition) => {
                one("partition_deleted", "partition", u64::from(partition.0))
            }
            Change::Trimmed { partition, .. } => one("trimmed", "partition", u64::from(partition.0)),
            Change::Configured { partition, .. } => one("configured", "partition", u64::from(partition.0)),
            Change::NextPartition(next) => one("next_partition", "partition", u64::from(next.0)),
            Change::NextFile(next) => one("next_file", "file", next.0),
            Change::JointResolved(transaction) => one("joint_resolved", "transaction", *transaction),
            Change::Durable(group) => one("durable", "group", group.0),
        };
        match change {
            Change::Floor { group, .. } => said.push(("group", group.to_string())),
            Change::SegmentAdded(meta) => said.extend([
                ("file_bytes", meta.file_bytes.to_string()),
                ("batch_bytes", meta.batch_bytes.to_string()),
                ("footer_crc", meta.footer_crc.to_string()),
                ("runs", meta.runs.to_string()),
                ("holds", segment_kind(meta.kind)),
            ]),
            Change::PartitionCreated { config, log_start, name, .. } => {
                said.extend(settings(config));
                said.extend([("log_start", log_start.to_string()), ("name", quoted(name))]);
            }
            Change::Trimmed { log_start, .. } => said.push(("log_start", log_start.to_string())),
            Change::Configured { config, .. } => said.extend(settings(config)),
            _ => {}
        }
        said.insert(0, ("change", quoted(name)));
        self.line("change", &said);
    }
}
