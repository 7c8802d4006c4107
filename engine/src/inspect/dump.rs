//! What is in the files of a data directory, piece by piece.

use std::path::{Path, PathBuf};

use serde::Serialize;
use thalweg_io::{AlignedBuf, BLOCK, Backend, Op, OpenMode, Reactor};

use crate::inspect::changes::{DumpedChange, DumpedControl, segment_kind};
use crate::inspect::{Access, InspectError, open};
use crate::manifest::decode_edit;
use crate::probe::{DEVICE_NAME, DeviceProfile, Profiled};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind, RecordRefs, check_batch};
use crate::segment::{TRAILER_BYTES, Trailer, decode_footer};
use crate::superblock::{SUPERBLOCK_NAME, Superblock};
use crate::wal::control::Control;
use crate::wal::file_header::FileHeader;
use crate::wal::group::{GROUP_HEADER_BYTES, GroupHeader, check_batches};
use crate::wire::Malformed;

/// One piece of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are those of `docs/format.md`
pub enum Dumped {
    /// The superblock.
    Superblock { shards: u16, directory: String, wal_file_bytes: u64, replay_speed: u64, created_ms: i64 },
    /// The device profile.
    Device {
        major: u32,
        minor: u32,
        file_system: String,
        kernel: String,
        write_cache: String,
        fua: Option<bool>,
        backend: String,
        strategy: String,
        polls: bool,
        in_flight: u8,
        poll_us: u32,
        measured_ms: i64,
        commits: Vec<DumpedCommit>,
    },
    /// A WAL file's header.
    WalFile { shard: u16, sequence: u64, first_group: u64, file_bytes: u64, started_ms: i64 },
    /// A group's header.
    Group {
        position: u64,
        number: u64,
        durable: u64,
        batches: u32,
        bytes: u32,
        written_ms: i64,
        marker: bool,
    },
    /// A batch.
    Batch {
        position: u64,
        partition: u32,
        base_offset: u64,
        offset_span: u32,
        records: u32,
        bytes: u32,
        max_timestamp_ms: i64,
        opaque: bool,
    },
    /// A record, when asked for.
    Record { offset: u64, timestamp_ms: i64, key_bytes: Option<usize>, value_bytes: Option<usize> },
    /// A change of the catalog.
    Control {
        position: u64,
        #[serde(flatten)]
        change: DumpedControl,
    },
    /// A segment's trailer.
    Segment { file: u64, segment_kind: String, runs: u32, entries: u32, batch_bytes: u64, created_ms: i64 },
    /// A run of a segment.
    Run {
        partition: u32,
        base_offset: u64,
        end_offset: u64,
        entries: u32,
        bytes: u64,
        records: u64,
        compacted: bool,
    },
    /// An index entry of a segment.
    Entry { partition: u32, base_offset: u64, end_offset: u64, position: u64, bytes: u32, batches: u32 },
    /// An edit of the manifest.
    Edit { position: u64, revision: u64, snapshot: bool, changes: Vec<DumpedChange> },
    /// Something that can't be read as what it should be.
    Damage { position: u64, reason: String },
}

/// What a device profile says of one strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the fields are those of `docs/format.md`
pub struct DumpedCommit {
    pub strategy: String,
    pub polls: bool,
    pub starved: bool,
    pub p50_ns: u32,
    pub p99_ns: u32,
    pub p999_ns: u32,
}

impl From<&Profiled> for DumpedCommit {
    fn from(entry: &Profiled) -> DumpedCommit {
        let Profiled { way, starved, p50_ns, p99_ns, p999_ns } = *entry;
        let strategy = way.strategy.to_string();
        DumpedCommit { strategy, polls: way.polls, starved, p50_ns, p99_ns, p999_ns }
    }
}

/// Dumps every file of the data directory at `data_dir`, in name order. `visit` gets each piece
/// with the file it is in; `records` asks for single records too.
///
/// # Errors
/// [`InspectError`] if the directory can't be looked at; damage is a piece like any other.
pub fn dump(
    data_dir: &Path,
    records: bool,
    visit: &mut dyn FnMut(&Path, &Dumped),
) -> Result<(), InspectError> {
    let (_lock, reactor) = open(data_dir, Access::Look)?;
    reactor.block_on(async {
        let mut paths = vec![PathBuf::from(SUPERBLOCK_NAME)];
        let names = list(&reactor, Path::new("")).await?;
        if names.iter().any(|entry| entry.name == DEVICE_NAME) {
            paths.push(PathBuf::from(DEVICE_NAME));
        }
        for dir in names.into_iter().filter(|entry| entry.is_dir) {
            let dir = PathBuf::from(dir.name);
            let files = list(&reactor, &dir).await?.into_iter().filter(|entry| !entry.is_dir);
            paths.extend(files.map(|entry| dir.join(entry.name)));
        }
        for path in paths {
            dump_path(&reactor, &path, records, visit).await?;
        }
        Ok(())
    })
}

/// Dumps one file of the data directory at `data_dir`; `path` is relative to it.
///
/// # Errors
/// As [`dump`].
pub fn dump_file(
    data_dir: &Path,
    path: &Path,
    records: bool,
    visit: &mut dyn FnMut(&Path, &Dumped),
) -> Result<(), InspectError> {
    let (_lock, reactor) = open(data_dir, Access::Look)?;
    reactor.block_on(dump_path(&reactor, path, records, visit))
}

async fn list<B: Backend>(reactor: &Reactor<B>, dir: &Path) -> Result<Vec<thalweg_io::Entry>, InspectError> {
    reactor.list(dir).await.map_err(|source| InspectError::Io { path: dir.to_owned(), source })
}

async fn dump_path<B: Backend>(
    reactor: &Reactor<B>,
    path: &Path,
    records: bool,
    visit: &mut dyn FnMut(&Path, &Dumped),
) -> Result<(), InspectError> {
    let io = |source| InspectError::Io { path: path.to_owned(), source };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let at_the_root = name == SUPERBLOCK_NAME || name == DEVICE_NAME;
    if !at_the_root && !name.starts_with("MANIFEST-") && !name.ends_with(".log") {
        return Ok(());
    }
    let bytes = read_file(reactor, path).await.map_err(io)?;
    let mut pieces = Pieces { path, visit, records };
    if name == SUPERBLOCK_NAME {
        pieces.superblock(&bytes);
    } else if name == DEVICE_NAME {
        pieces.device(&bytes);
    } else if name.starts_with("MANIFEST-") {
        pieces.manifest(&bytes);
    } else {
        pieces.log_file(&bytes);
    }
    Ok(())
}

async fn read_file<B: Backend>(reactor: &Reactor<B>, path: &Path) -> std::io::Result<Vec<u8>> {
    let (file, len) = reactor.open(path, OpenMode::Read).await?;
    let mut bytes = Vec::new();
    let mut failed = None;
    while (bytes.len() as u64) < len && failed.is_none() {
        let (buf, read) = reactor.read(file, bytes.len() as u64, AlignedBuf::zeroed(1 << 20)).await;
        match read {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&buf[..read]),
            Err(error) => failed = Some(error),
        }
    }
    reactor.run(Op::Close { file }).await?;
    failed.map_or(Ok(bytes), Err)
}

struct Pieces<'a> {
    path: &'a Path,
    visit: &'a mut dyn FnMut(&Path, &Dumped),
    records: bool,
}

impl Pieces<'_> {
    fn piece(&mut self, piece: Dumped) {
        (self.visit)(self.path, &piece);
    }

    fn damage(&mut self, position: usize, error: &Malformed) {
        self.piece(Dumped::Damage { position: position as u64, reason: error.to_string() });
    }

    fn superblock(&mut self, bytes: &[u8]) {
        match Superblock::decode(bytes) {
            Ok(found) => self.piece(Dumped::Superblock {
                shards: found.shards,
                directory: format!("{:032x}", found.directory),
                wal_file_bytes: found.wal_file_bytes,
                replay_speed: found.replay_speed,
                created_ms: found.created_ms,
            }),
            Err(error) => self.damage(0, &error),
        }
    }

    fn device(&mut self, bytes: &[u8]) {
        match DeviceProfile::decode(bytes) {
            Ok(found) => self.piece(Dumped::Device {
                major: found.device.major,
                minor: found.device.minor,
                file_system: found.device.file_system_name(),
                kernel: found.device.kernel,
                write_cache: found.device.write_cache.to_string(),
                fua: found.device.fua,
                backend: found.backend.to_string(),
                strategy: found.way.strategy.to_string(),
                polls: found.way.polls,
                in_flight: found.in_flight,
                poll_us: found.poll_us,
                measured_ms: found.measured_ms,
                commits: found.commits.iter().map(DumpedCommit::from).collect(),
            }),
            Err(error) => self.damage(0, &error),
        }
    }

    fn manifest(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() && bytes[at..].iter().any(|byte| *byte != 0) {
            match decode_edit(&bytes[at..]) {
                Ok((frame, edit)) => {
                    let changes = edit.changes.iter().map(DumpedChange::from).collect();
                    let (revision, snapshot) = (edit.revision, edit.snapshot);
                    self.piece(Dumped::Edit { position: at as u64, revision, snapshot, changes });
                    at += (frame.len as usize).next_multiple_of(BLOCK);
                }
                Err(error) => return self.damage(at, &error),
            }
        }
    }

    fn log_file(&mut self, bytes: &[u8]) {
        let trailer = bytes.len().checked_sub(TRAILER_BYTES).map(|at| Trailer::read(&bytes[at..]));
        match trailer {
            Some(Ok(trailer)) => self.segment(bytes, &trailer),
            _ => self.wal(bytes),
        }
    }

    fn segment(&mut self, bytes: &[u8], trailer: &Trailer) {
        self.piece(Dumped::Segment {
            file: trailer.file.0,
            segment_kind: segment_kind(trailer.kind).to_owned(),
            runs: trailer.run_count,
            entries: trailer.entry_count,
            batch_bytes: trailer.batch_bytes,
            created_ms: trailer.created_ms,
        });
        let at = usize::try_from(trailer.footer_position).unwrap_or(usize::MAX).min(bytes.len());
        let footer = match decode_footer(&bytes[at..], trailer) {
            Ok(footer) => footer,
            Err(error) => return self.damage(at, &error),
        };
        for run in &footer.runs {
            self.piece(Dumped::Run {
                partition: run.partition.0,
                base_offset: run.base_offset.0,
                end_offset: run.end_offset.0,
                entries: run.entry_count,
                bytes: run.bytes,
                records: run.records,
                compacted: run.compacted,
            });
            let entries = &footer.entries[run.first_entry as usize..][..run.entry_count as usize];
            for entry in entries {
                self.piece(Dumped::Entry {
                    partition: run.partition.0,
                    base_offset: entry.base_offset.0,
                    end_offset: entry.end_offset.0,
                    position: entry.position,
                    bytes: entry.bytes,
                    batches: entry.batches,
                });
                let mut at = entry.position as usize;
                for _ in 0..entry.batches {
                    match check_batch(&bytes[at.min(bytes.len())..]) {
                        Ok(header) => {
                            self.batch(at, &header, &bytes[at..at + header.len as usize]);
                            at += header.stride();
                        }
                        Err(error) => {
                            self.damage(at, &error);
                            break;
                        }
                    }
                }
            }
        }
    }

    fn wal(&mut self, bytes: &[u8]) {
        let header = match FileHeader::read(bytes) {
            Ok(header) => header,
            Err(_) if bytes.iter().take(BLOCK).all(|byte| *byte == 0) => return, // a spare
            Err(error) => return self.damage(0, &error),
        };
        self.piece(Dumped::WalFile {
            shard: header.shard.0,
            sequence: header.sequence.0,
            first_group: header.first_group.0,
            file_bytes: header.file_bytes,
            started_ms: header.started_ms,
        });
        let mut at = BLOCK;
        while at + GROUP_HEADER_BYTES <= bytes.len() {
            let group = match GroupHeader::read(&bytes[at..]) {
                Ok(group) if group.salt == header.salt && group.position == at as u64 => group,
                // The end of this life: zeros, or what an earlier one left.
                _ => return,
            };
            self.piece(Dumped::Group {
                position: at as u64,
                number: group.number.0,
                durable: group.durable.0,
                batches: group.batch_count,
                bytes: group.len,
                written_ms: group.written_ms,
                marker: group.is_marker(),
            });
            let mut batches = Vec::new();
            let checked = check_batches(&group, &bytes[at..], |place, batch| batches.push((place, *batch)));
            for (place, batch) in batches {
                let from = at + place;
                self.batch(from, &batch, &bytes[from..from + batch.len as usize]);
            }
            if let Err(error) = checked {
                return self.damage(at, &error);
            }
            at += (group.len as usize).next_multiple_of(BLOCK);
        }
    }

    fn batch(&mut self, position: usize, header: &BatchHeader, bytes: &[u8]) {
        let position_u64 = position as u64;
        if header.kind == BatchKind::Control {
            match Control::decode(header, bytes) {
                Ok(control) => {
                    self.piece(Dumped::Control {
                        position: position_u64,
                        change: DumpedControl::from(&control),
                    });
                }
                Err(error) => self.damage(position, &error),
            }
            return;
        }
        self.piece(Dumped::Batch {
            position: position_u64,
            partition: header.partition.0,
            base_offset: header.base_offset.0,
            offset_span: header.offset_span,
            records: header.record_count,
            bytes: header.len,
            max_timestamp_ms: header.max_timestamp_ms,
            opaque: header.kind == BatchKind::Opaque,
        });
        if !self.records || header.kind != BatchKind::Records {
            return;
        }
        let body = &bytes[BATCH_HEADER_BYTES..];
        for record in RecordRefs::new(body, header.record_count, header.offset_span) {
            match record {
                Ok(record) => self.piece(Dumped::Record {
                    offset: header.base_offset.0 + u64::from(record.offset_delta),
                    timestamp_ms: header.base_timestamp_ms.wrapping_add(record.timestamp_delta_ms),
                    key_bytes: record.key.map(<[u8]>::len),
                    value_bytes: record.value.map(<[u8]>::len),
                }),
                Err(error) => self.damage(position, &error),
            }
        }
    }
}
