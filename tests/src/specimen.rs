//! A specimen of every file: a small data directory of one shard, made with the encoders alone.
//! The golden files are its bytes, and the fuzz targets start from them.

use thalweg::manifest::{Change, Edit, SegmentKind, SegmentMeta, encode_edit};
use thalweg::probe::{BackendKind, CommitStrategy, Device, DeviceProfile, Profiled, Way, WriteCache};
use thalweg::record::{
    BATCH_HEADER_BYTES, BatchHeader, BatchKind, Header, Record, encoded_len_max, write_record,
};
use thalweg::segment::{Footer, IndexEntry, Run, Trailer, encode_footer};
use thalweg::superblock::Superblock;
use thalweg::wal::control::Control;
use thalweg::wal::file_header::FileHeader;
use thalweg::wal::group::{BatchDigest, GROUP_HEADER_BYTES, GroupHeader};
use thalweg::{FileNumber, GroupNumber, LeaderEpoch, Offset, PartitionId, ShardId, WalSequence};
use thalweg::{PartitionConfig, Retention};
use thalweg_io::BLOCK;

/// Length of its WAL files.
pub const WAL_FILE_BYTES: u64 = 224 << 10;
const DIRECTORY: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;
const SHARD: ShardId = ShardId(0);
const MS: i64 = 1_700_000_000_000;

/// Every record of the directory, as the engine should read it.
pub const WANT: &[&str] = &[
    "events 0 Some(\"zero\")",
    "events 1 None",
    "events 2 Some(\"\")",
    "events 3 Some(\"three\")",
    "events 4 Some(\"four\")",
    "events 5 Some(\"five\")",
    "events 6 Some(\"six\")",
    "größe 1 Some(\"b\")",
    "raw 0..3 bytes of another format",
];

fn record(key: Option<&str>, value: Option<&str>, at_ms: i64) -> Record {
    let bytes = |text: &str| text.to_owned().into_bytes().into();
    Record { key: key.map(bytes), value: value.map(bytes), headers: Vec::new(), timestamp_ms: Some(at_ms) }
}

fn with_headers(mut record: Record) -> Record {
    let header = |name: &'static str, value: Option<&'static [u8]>| Header {
        name: name.as_bytes().into(),
        value: value.map(Into::into),
    };
    record.headers = vec![header("unit", Some(b"celsius")), header("unit", None), header("", Some(b""))];
    record
}

fn sealed(mut header: BatchHeader, body: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; BATCH_HEADER_BYTES];
    batch.extend_from_slice(body);
    header.len = batch.len() as u32;
    header.seal(&mut batch);
    batch
}

fn header(partition: u32, base: u64, count: u32, base_ms: i64, max_ms: i64, kind: BatchKind) -> BatchHeader {
    BatchHeader {
        crc: 0,
        len: 0,
        partition: PartitionId(partition),
        leader_epoch: LeaderEpoch(0),
        base_offset: Offset(base),
        offset_span: count,
        record_count: count,
        base_timestamp_ms: base_ms,
        max_timestamp_ms: max_ms,
        kind,
    }
}

fn records(partition: u32, base: u64, records: &[Record]) -> Vec<u8> {
    let times: Vec<i64> = records.iter().map(|record| record.timestamp_ms.unwrap()).collect();
    let mut body = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let mut room = vec![0; encoded_len_max(record)];
        let len = write_record(&mut room, record, index as u32, times[index] - times[0]);
        body.extend_from_slice(&room[..len]);
    }
    let max_ms = *times.iter().max().unwrap();
    sealed(header(partition, base, records.len() as u32, times[0], max_ms, BatchKind::Records), &body)
}

/// Groups one behind the other.
struct Wal {
    bytes: Vec<u8>,
    file: FileHeader,
    number: u64,
    previous: u32,
}

impl Wal {
    fn new(sequence: u64, salt: u64, first_group: u64, previous: u32) -> Wal {
        let file = FileHeader {
            shard: SHARD,
            sequence: WalSequence(sequence),
            salt,
            first_group: GroupNumber(first_group),
            previous,
            directory: DIRECTORY,
            started_ms: MS + first_group as i64,
            file_bytes: WAL_FILE_BYTES,
        };
        let mut bytes = vec![0; BLOCK];
        file.seal(&mut bytes);
        Wal { bytes, file, number: first_group, previous }
    }

    /// Adds a group; returns where each batch lies.
    fn group(&mut self, batches: &[Vec<u8>], revision: u64) -> Vec<u64> {
        let position = self.bytes.len();
        let mut group = vec![0; GROUP_HEADER_BYTES];
        let mut digest = BatchDigest::default();
        let mut places = Vec::new();
        for batch in batches {
            places.push((position + group.len()) as u64);
            digest.add(u32::from_le_bytes(batch[..4].try_into().unwrap()));
            group.extend_from_slice(batch);
            group.resize(group.len().next_multiple_of(8), 0);
        }
        let header = GroupHeader {
            crc: 0,
            len: group.len() as u32,
            number: GroupNumber(self.number),
            sequence: self.file.sequence,
            position: position as u64,
            durable: GroupNumber(self.number - 1),
            shard: SHARD,
            batch_count: batches.len() as u32,
            batch_digest: digest.get(),
            previous: self.previous,
            written_ms: MS + self.number as i64,
            salt: self.file.salt,
            directory: DIRECTORY as u64,
            revision,
        };
        self.previous = header.seal(&mut group);
        self.number += 1;
        group.resize(group.len().next_multiple_of(BLOCK), 0);
        self.bytes.extend_from_slice(&group);
        places
    }
}

fn compacted() -> PartitionConfig {
    PartitionConfig { compact: true, tombstone_age_ms: 1000, ..PartitionConfig::default() }
}

fn create(partition: u32, config: PartitionConfig, name: &str) -> Vec<u8> {
    Control::Create { partition: PartitionId(partition), config, name: name.into() }.encode()
}

/// Batches of one partition that lie one behind the other, as a run of one entry.
fn run(
    footer: &mut Footer,
    partition: u32,
    position: u64,
    base: u64,
    end: u64,
    bytes: u64,
    times: (i64, i64),
) {
    footer.runs.push(Run {
        partition: PartitionId(partition),
        entry_count: 1,
        first_entry: footer.entries.len() as u32,
        compacted: false,
        base_offset: Offset(base),
        end_offset: Offset(end),
        min_timestamp_ms: times.0,
        max_timestamp_ms: times.1,
        bytes,
        records: end - base,
    });
    footer.entries.push(IndexEntry {
        base_offset: Offset(base),
        end_offset: Offset(end),
        position,
        max_timestamp_ms: times.1,
        bytes: bytes as u32,
        batches: 1,
    });
}

fn segment(
    mut bytes: Vec<u8>,
    footer: &Footer,
    file: u64,
    kind: SegmentKind,
    sequence_end: u64,
) -> (Vec<u8>, SegmentMeta) {
    let batch_bytes = footer.runs.iter().map(|run| run.bytes).sum();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    let mut trailer = Trailer {
        footer_crc: 0,
        footer_position: bytes.len() as u64,
        entry_count: 0,
        run_count: 0,
        file: FileNumber(file),
        directory: DIRECTORY,
        shard: SHARD,
        kind,
        created_ms: MS + 100,
        batch_bytes,
        sequence_end,
    };
    bytes.extend_from_slice(&encode_footer(footer, &mut trailer));
    let meta = SegmentMeta {
        file: trailer.file,
        file_bytes: bytes.len() as u64,
        footer_crc: trailer.footer_crc,
        runs: trailer.run_count,
        kind,
        batch_bytes,
    };
    (bytes, meta)
}

fn padded(batch: &[u8]) -> u64 {
    batch.len().next_multiple_of(8) as u64
}

fn manifest(promoted: SegmentMeta, shared: SegmentMeta) -> Vec<u8> {
    let created = |id: u32, config, name: &str| Change::PartitionCreated {
        partition: PartitionId(id),
        config,
        log_start: Offset(0),
        name: name.into(),
    };
    let snapshot = Edit {
        revision: 5,
        snapshot: true,
        changes: vec![
            Change::NextFile(FileNumber(3)),
            Change::NextPartition(PartitionId(2)),
            Change::Floor { sequence: WalSequence(2), group: GroupNumber(4) },
            Change::JointResolved(0),
            Change::Durable(GroupNumber(3)),
            Change::WalFileAdded(FileNumber(1)),
            Change::SegmentAdded(promoted),
            created(0, PartitionConfig::default(), "events"),
            created(1, compacted(), "größe"),
        ],
    };
    let (mut bytes, crc) = encode_edit(&snapshot, SHARD, DIRECTORY, 0);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    let retention = Retention { bytes_max: Some(1 << 40), age_max_ms: Some(1 << 50) };
    let edit = Edit {
        revision: 6,
        snapshot: false,
        changes: vec![
            Change::SegmentAdded(shared),
            Change::Floor { sequence: WalSequence(3), group: GroupNumber(6) },
            Change::Trimmed { partition: PartitionId(1), log_start: Offset(1) },
            Change::Configured {
                partition: PartitionId(0),
                config: PartitionConfig { retention, ..PartitionConfig::default() },
            },
            Change::NextFile(FileNumber(5)),
            Change::WalFileAdded(FileNumber(4)),
            Change::WalFileRemoved(FileNumber(4)),
        ],
    };
    let (edit, _) = encode_edit(&edit, SHARD, DIRECTORY, crc);
    bytes.extend_from_slice(&edit);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn profile() -> DeviceProfile {
    let entry = |strategy, polls, starved, p50_ns| Profiled {
        way: Way { strategy, polls },
        starved,
        p50_ns,
        p99_ns: 2 * p50_ns,
        p999_ns: 3 * p50_ns,
    };
    DeviceProfile {
        device: Device {
            major: 259,
            minor: 2,
            file_system: 0xef53,
            kernel: "6.18.0-test".to_owned(),
            write_cache: WriteCache::Back,
            fua: Some(false),
        },
        backend: BackendKind::Uring,
        way: Way { strategy: CommitStrategy::Hybrid, polls: true },
        in_flight: 2,
        poll_us: 50,
        measured_ms: MS,
        commits: vec![
            entry(CommitStrategy::Dsync, false, true, 45_000),
            entry(CommitStrategy::Hybrid, true, false, 40_000),
            entry(CommitStrategy::Blocking, true, false, 41_000),
        ],
    }
}

fn block(bytes: &[u8]) -> Vec<u8> {
    let mut block = bytes.to_vec();
    block.resize(BLOCK, 0);
    block
}

/// Every file, by name.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let superblock = Superblock {
        shards: 1,
        directory: DIRECTORY,
        wal_file_bytes: WAL_FILE_BYTES,
        replay_speed: 1 << 30,
        created_ms: MS,
    };

    // Sequence 1, promoted: groups 1 to 3.
    let mut first = Wal::new(1, 0x1111, 1, 0);
    first.group(&[create(0, PartitionConfig::default(), "events")], 1);
    let batch = records(
        0,
        0,
        &[
            with_headers(record(Some("k"), Some("zero"), MS)),
            record(Some("k"), None, MS - 5),
            record(None, Some(""), MS + 7),
        ],
    );
    let places = first.group(&[create(1, compacted(), "größe"), batch.clone()], 1);
    first.group(&[], 2);
    let mut footer = Footer::default();
    run(&mut footer, 0, places[1], 0, 3, padded(&batch), (MS, MS + 7));
    let previous = first.previous;
    let (promoted, promoted_meta) = segment(first.bytes, &footer, 0, SegmentKind::Promoted, 2);

    // Sequence 2, sealed into a shared segment: groups 4 and 5.
    let events = records(0, 3, &[record(None, Some("three"), MS + 10), record(None, Some("four"), MS + 11)]);
    let sizes =
        records(1, 0, &[record(Some("a"), Some("a"), MS + 12), record(Some("b"), Some("b"), MS + 13)]);
    let mut bytes = events.clone();
    bytes.resize(padded(&events) as usize, 0);
    let position = bytes.len() as u64;
    bytes.extend_from_slice(&sizes);
    let mut footer = Footer::default();
    run(&mut footer, 0, 0, 3, 5, padded(&events), (MS + 10, MS + 11));
    run(&mut footer, 1, position, 0, 2, padded(&sizes), (MS + 12, MS + 13));
    let (shared, shared_meta) = segment(bytes, &footer, 2, SegmentKind::Shared, 3);

    // Sequence 3, the WAL: groups 6 to 9.
    let mut wal = Wal::new(3, 0x3333, 6, previous);
    wal.group(
        &[
            Control::Configure { partition: PartitionId(1), config: compacted() }.encode(),
            Control::Trim { partition: PartitionId(1), log_start: Offset(1) }.encode(),
            create(2, PartitionConfig::default(), "raw"),
            create(3, PartitionConfig::default(), "gone"),
            records(0, 5, &[record(None, Some("five"), MS + 20)]),
        ],
        6,
    );
    wal.group(&[Control::Delete { partition: PartitionId(3) }.encode()], 6);
    let opaque = sealed(header(2, 0, 3, MS + 30, MS + 30, BatchKind::Opaque), b"bytes of another format");
    let joint = Control::Joint { transaction: 1, shards: vec![SHARD] }.encode();
    wal.group(&[joint, records(0, 6, &[record(None, Some("six"), MS + 30)]), opaque], 6);
    wal.group(&[], 6);

    vec![
        ("superblock", block(&superblock.encode())),
        ("device", block(&profile().encode())),
        ("wal", wal.bytes),
        ("promoted", promoted),
        ("segment", shared),
        ("manifest", manifest(promoted_meta, shared_meta)),
    ]
}
