//! Reading the WAL back: which groups are there, and what is at the end.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use thalweg_io::{BLOCK, Backend, Op, OpenMode, Reactor};

use crate::append::group::Placed;
use crate::ids::{FileNumber, GroupNumber, WalPosition, WalSequence};
use crate::planted::{Planted, planted};
use crate::record::BatchKind;
use crate::shard::core::file_path;
use crate::wal::control::Control;
use crate::wal::decide::{Proof, Tail, TailState};
use crate::wal::file_header::FileHeader;
use crate::wal::group::{GroupHeader, check_batches};
use crate::wal::life::{FoundFile, Life, WalIdentity, read_footer_position, read_life};
use crate::wal::sweep::FileBytes;

/// A whole group.
#[derive(Clone, Debug)]
pub struct FoundGroup {
    /// Its header.
    pub header: GroupHeader,
    /// Index of its file in the scan's list.
    pub file: usize,
    /// The byte after it, padding included.
    pub end: u64,
    /// Its batches of records.
    pub(crate) placed: Vec<Placed>,
    /// Its changes of the catalog.
    pub controls: Vec<Control>,
}

/// What reading the WAL back found.
#[derive(Debug)]
pub struct Scan {
    /// Files of the ring; live ones in order of use, then spare ones.
    pub files: Vec<FoundFile>,
    /// Whole groups, in order, without a gap.
    pub groups: Vec<FoundGroup>,
    /// What comes behind the last of them.
    pub tail: Tail,
    /// Bytes read.
    pub bytes: u64,
    /// The largest sequence seen anywhere.
    pub last_sequence: WalSequence,
    /// The largest revision of the manifest that a group was written under, and where that group is.
    pub revision: Option<Witnessed>,
}

/// A group's word for the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The manifest had this revision at least.
    pub revision: u64,
    /// The group that says so.
    pub said_by: GroupNumber,
    /// Where that group starts.
    pub file: FileNumber,
    /// Byte in that file.
    pub position: u64,
}

impl Scan {
    /// Live files, in order of use.
    pub fn live(&self) -> impl Iterator<Item = (usize, &FoundFile, &FileHeader)> {
        self.files
            .iter()
            .enumerate()
            .filter_map(|(index, file)| file.life.header().map(|header| (index, file, header)))
    }
}

/// Opens the files of the ring and reads their groups. `strays` are files that the manifest does
/// not name: those among them that are WAL files in use are read too, for what they prove.
///
/// # Errors
/// The host's, for a file that the manifest names and that can't be opened; with the path in it.
pub async fn scan<B: Backend>(
    reactor: &Reactor<B>,
    dir: &Path,
    files: impl Iterator<Item = FileNumber>,
    strays: &[FileNumber],
    identity: &WalIdentity,
    outside_durable: GroupNumber,
    mode: OpenMode,
) -> io::Result<Scan> {
    let found = find_files(reactor, dir, files, strays, identity, mode).await?;
    let mut walk = Walk {
        identity,
        groups: Vec::new(),
        expected: identity.floor_group,
        previous: None,
        salts: found
            .iter()
            .filter_map(|file| file.life.header().map(|header| (header.sequence, header.salt)))
            .collect(),
        missing: None,
        later: None,
        revision: None,
        bytes: 0,
    };
    let live: Vec<_> = found.iter().enumerate().filter(|(_, file)| file.life != Life::Spare).collect();
    for (at, (index, file)) in live.iter().enumerate() {
        let Some(header) = file.life.header() else { continue };
        let later = live[at + 1..].iter().filter_map(|(_, file)| match &file.life {
            Life::Live(header) => Some(header.first_group),
            Life::Spare | Life::Headless(_) => None,
        });
        // A later life may start at a group that this file has too: the log was cut there.
        let limit = later.min();
        walk.file(reactor, *index, file, header, limit).await;
    }
    let mut headerless = found.iter().filter(|file| !matches!(file.life, Life::Live(_)));
    if let Some((number, flaw)) = headerless.find_map(|file| Some((file.number, file.flaw.clone()?))) {
        // What was in the part that is gone is not known.
        walk.missing = Some((number, 0, TailState::Unreadable(flaw)));
    }
    let last_sequence =
        found.iter().filter_map(|file| file.life.header()).map(|header| header.sequence).max();
    let (file, position, state) = walk.missing.unwrap_or_else(|| {
        let last = live.last().map_or(FileNumber(0), |(_, file)| file.number);
        (last, walk.groups.last().map_or(BLOCK as u64, |group| group.end), TailState::Untouched)
    });
    let tail =
        Tail { missing: walk.expected, file, position, state, later_durable: walk.later, outside_durable };
    Ok(Scan {
        files: found,
        groups: walk.groups,
        tail,
        bytes: walk.bytes,
        last_sequence: last_sequence.unwrap_or_default(),
        revision: walk.revision,
    })
}

/// Opens the files of the ring: live ones in order of use, spare ones behind.
async fn find_files<B: Backend>(
    reactor: &Reactor<B>,
    dir: &Path,
    files: impl Iterator<Item = FileNumber>,
    strays: &[FileNumber],
    identity: &WalIdentity,
    mode: OpenMode,
) -> io::Result<Vec<FoundFile>> {
    let mut found = Vec::new();
    for number in files.chain(strays.iter().copied()) {
        let path = file_path(dir, number);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let opened = reactor.open(&path, mode).await;
        if planted(Planted::MissingFileIgnored) && opened.is_err() {
            continue;
        }
        let (id, len) = opened.map_err(named)?;
        if mode == OpenMode::ReadWrite {
            // After a failed sync the kernel may hold what the disk does not: ask the disk first.
            reactor.run(Op::Sync { file: id }).await.map_err(named)?;
        }
        let (life, unreadable) = read_life(reactor, id, len, identity).await;
        if life == Life::Spare && strays.contains(&number) {
            reactor.run(Op::Close { file: id }).await.map_err(named)?;
            continue;
        }
        let footer = read_footer_position(reactor, id, len, number, identity).await;
        let short = len < identity.file_bytes && footer.is_none() && !planted(Planted::ShortFileIgnored);
        let short = short.then(|| format!("the file has {len} of {} B", identity.file_bytes));
        found.push(FoundFile { number, id, len, life, footer, flaw: short.or(unreadable) });
    }
    found.sort_by_key(|file: &FoundFile| file.life.header().map_or(u64::MAX, |header| header.sequence.0));
    Ok(found)
}

struct Walk<'a> {
    identity: &'a WalIdentity,
    groups: Vec<FoundGroup>,
    expected: GroupNumber,
    /// Checksum of the last group's header; none before the first group.
    previous: Option<u32>,
    salts: BTreeMap<WalSequence, u64>,
    /// Where the first missing group should be.
    missing: Option<(FileNumber, u64, TailState)>,
    /// The strongest proof behind it.
    later: Option<Proof>,
    revision: Option<Witnessed>,
    bytes: u64,
}

impl Walk<'_> {
    async fn file<B: Backend>(
        &mut self,
        reactor: &Reactor<B>,
        index: usize,
        file: &FoundFile,
        header: &FileHeader,
        limit: Option<GroupNumber>,
    ) {
        let len = file.len.min(self.identity.file_bytes);
        let mut bytes = FileBytes::new(reactor, file.id, len);
        self.bytes += bytes.len() as u64;
        self.groups_of(index, file, header, limit, &mut bytes).await;
        bytes.stop().await;
    }

    async fn groups_of<B: Backend>(
        &mut self,
        index: usize,
        file: &FoundFile,
        header: &FileHeader,
        limit: Option<GroupNumber>,
        bytes: &mut FileBytes<B>,
    ) {
        let mut at = BLOCK;
        if self.missing.is_some() {
            return self.look_for_proofs(file, header, bytes, at).await;
        }
        if limit.is_some_and(|limit| self.expected >= limit) {
            return; // a later life took this file's place
        }
        if header.first_group != self.expected {
            let why = format!("the file starts with group {}", header.first_group);
            self.missing = Some((file.number, at as u64, TailState::Broken(why)));
            return self.look_for_proofs(file, header, bytes, at).await;
        }
        if let Life::Headless(_) = file.life {
            // A header that is lost with its groups there: whether they count is for the proofs.
            let why = "the file's header is damaged".to_owned();
            self.missing = Some((file.number, 0, TailState::Broken(why)));
            return self.look_for_proofs(file, header, bytes, at).await;
        }
        let mut previous = self.previous.unwrap_or(header.previous);
        while limit.is_none_or(|limit| self.expected < limit) {
            let claimed = GroupHeader::read(bytes.from(at, BLOCK).await).map_or(0, |group| group.len);
            let rest = bytes.from(at, claimed as usize).await;
            match self.group(index, header, previous, rest, at) {
                Ok(group) => {
                    at = group.end as usize;
                    previous = group.header.crc;
                    self.witness(&group.header, file.number);
                    self.expected = self.expected.next();
                    self.groups.push(group);
                }
                // What ends the log, or cuts it, is read twice.
                Err(_) if bytes.settle(at).await => {}
                Err(why) => {
                    self.missing = Some((file.number, at as u64, why.clone()));
                    self.look_for_proofs(file, header, bytes, at).await;
                    let state = match &bytes.unreadable {
                        Some((from, error)) => TailState::Unreadable(format!("byte {from}: {error}")),
                        None if file.flaw.is_some() => {
                            TailState::Unreadable(file.flaw.clone().unwrap_or_default())
                        }
                        // A footer that was written behind the last group: the file is full.
                        None if file.footer == Some(at as u64) => TailState::Untouched,
                        None => why,
                    };
                    self.missing = Some((file.number, at as u64, state));
                    break;
                }
            }
        }
        self.previous = Some(previous);
    }

    /// The group at `at`, whose file goes on with `rest`, if it is whole and the one that belongs there.
    fn group(
        &self,
        index: usize,
        file: &FileHeader,
        previous: u32,
        rest: &[u8],
        at: usize,
    ) -> Result<FoundGroup, TailState> {
        if rest.len() < BLOCK {
            return Err(TailState::Untouched); // the file is full
        }
        if rest[..BLOCK].iter().all(|byte| *byte == 0) {
            return Err(TailState::Untouched);
        }
        let header = GroupHeader::read(rest).map_err(|error| TailState::Broken(error.to_string()))?;
        if (header.sequence, header.salt) != (file.sequence, file.salt) && !planted(Planted::NoSalt) {
            return Err(TailState::Untouched); // an earlier life of the file
        }
        let right = header.shard == self.identity.shard
            && header.position == at as u64
            && header.number == self.expected
            && header.previous == previous;
        if !right && !planted(Planted::NoSalt) && !planted(Planted::NoPositionCheck) {
            let (number, position) = (header.number, header.position);
            return Err(TailState::Broken(format!(
                "holds group {number} of byte {position}, not group {} as it should",
                self.expected
            )));
        }
        let mut placed = Vec::new();
        let mut controls = Vec::new();
        let mut flaw = None;
        let start = WalPosition::new(file.sequence, at as u64, self.identity.file_bytes);
        let checked = check_batches(&header, rest, |position, batch| {
            if batch.kind == BatchKind::Control {
                match Control::decode(batch, &rest[position..position + batch.len as usize]) {
                    Ok(control) => controls.push(control),
                    Err(error) => flaw = Some(error),
                }
                return;
            }
            placed.push(Placed {
                partition: batch.partition,
                base_offset: batch.base_offset,
                span: batch.offset_span,
                position: WalPosition(start.0 + position as u64),
                len: batch.len,
                max_timestamp_ms: batch.max_timestamp_ms,
            });
        });
        if let Some(error) = checked.err().or(flaw).filter(|_| !planted(Planted::TornGroupKept)) {
            return Err(TailState::Broken(error.to_string()));
        }
        let end = at + (header.len as usize).next_multiple_of(BLOCK);
        Ok(FoundGroup { header, file: index, end: end as u64, placed, controls })
    }

    /// Looks at every block behind a missing group for headers of this life: each says how far the
    /// log was durable when it was written.
    async fn look_for_proofs<B: Backend>(
        &mut self,
        file: &FoundFile,
        header: &FileHeader,
        bytes: &mut FileBytes<B>,
        from: usize,
    ) {
        if header.first_group > self.expected {
            // A file is begun when every group before its first is durable.
            let durable = GroupNumber(header.first_group.0 - 1);
            self.prove(Proof { durable, said_by: header.first_group, file: file.number, position: 0 });
        }
        let from = from.next_multiple_of(BLOCK);
        for at in (from..bytes.len().saturating_sub(BLOCK - 1)).step_by(BLOCK) {
            let block = bytes.from(at, BLOCK).await;
            let Ok(group) = GroupHeader::read(&block[..BLOCK.min(block.len())]) else { continue };
            let ours = group.sequence == header.sequence
                && self.salts.get(&group.sequence) == Some(&group.salt)
                && group.shard == self.identity.shard
                && group.position == at as u64;
            // The header of the missing group itself proves nothing about it.
            if !ours || group.number <= self.expected && group.durable < self.expected {
                continue;
            }
            self.witness(&group, file.number);
            self.prove(Proof {
                durable: group.durable,
                said_by: group.number,
                file: file.number,
                position: at as u64,
            });
        }
    }

    fn prove(&mut self, proof: Proof) {
        if self.later.is_none_or(|known| proof.durable > known.durable) {
            self.later = Some(proof);
        }
    }

    fn witness(&mut self, group: &GroupHeader, file: FileNumber) {
        let GroupHeader { revision, number: said_by, position, .. } = *group;
        if self.revision.is_none_or(|known| revision > known.revision) {
            self.revision = Some(Witnessed { revision, said_by, file, position });
        }
    }
}
