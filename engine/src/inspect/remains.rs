//! What is left of a WAL: its groups in order, whole or in part, and the holes between them.

use std::collections::BTreeSet;
use std::rc::Rc;

use thalweg_io::{BLOCK, Backend, Reactor};

use crate::ids::{FileNumber, GroupNumber, WalSequence};
use crate::record::{BatchHeader, BatchKind, check_batch};
use crate::wal::control::Control;
use crate::wal::file_header::FileHeader;
use crate::wal::group::{BatchDigest, GROUP_HEADER_BYTES, GroupHeader};
use crate::wal::life::{FoundFile, Life, WalIdentity, read_file};
use crate::wal::scan::Scan;

/// What is left, in order of group numbers.
#[derive(Default)]
pub(super) struct Remains {
    pub pieces: Vec<Piece>,
}

pub(super) enum Piece {
    Group(Group),
    Hole(Hole),
}

/// A group whose header is whole.
pub(super) struct Group {
    pub file: FileNumber,
    pub header: GroupHeader,
    /// Bytes of its file.
    pub bytes: Rc<[u8]>,
    pub parts: Vec<Part>,
}

/// A batch of a group, or what is left of it.
pub(super) enum Part {
    /// At a byte of the file.
    Whole(usize, BatchHeader),
    /// A batch that its checksum does not fit. `claims` is what its header says, if the group's
    /// digest shows that it starts and ends where it says.
    Broken { at: usize, bytes: u64, claims: Option<BatchHeader>, reason: String },
}

/// A place where groups were durable, or may have been, and can't be read.
pub(super) struct Hole {
    pub file: FileNumber,
    pub position: u64,
    /// Most bytes of groups that were there.
    pub bytes: u64,
    pub reason: String,
}

/// Something wrong with the WAL.
pub(super) struct Flaw {
    pub file: FileNumber,
    pub position: u64,
    pub reason: String,
}

impl Remains {
    /// Reads what is left of a damaged WAL. `gone` are files of the ring that are not there.
    pub(super) async fn read<B: Backend>(
        reactor: &Reactor<B>,
        scan: &Scan,
        gone: &[FileNumber],
        identity: &WalIdentity,
    ) -> Remains {
        let mut walk = Walk::new(identity, scan);
        walk.files(reactor, scan, None).await;
        walk.end(scan);
        walk.unknown_files(scan, gone);
        walk.remains
    }

    /// Reads the groups of a WAL that is as it should be, up to where it ends.
    pub(super) async fn read_clean<B: Backend>(
        reactor: &Reactor<B>,
        scan: &Scan,
        identity: &WalIdentity,
    ) -> Remains {
        let mut walk = Walk::new(identity, scan);
        walk.files(reactor, scan, Some(scan.tail.missing)).await;
        walk.remains
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Group(group) => Some(group),
            Piece::Hole(_) => None,
        })
    }

    /// Changes of the catalog, in order.
    pub(super) fn controls(&self) -> Vec<Control> {
        self.groups()
            .flat_map(Group::whole)
            .filter_map(|(group, at, header)| group.control(at, header))
            .collect()
    }

    /// Everything that is wrong, in order.
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Hole(hole) => {
                    let (file, position) = (hole.file, hole.position);
                    flaws.push(Flaw { file, position, reason: hole.reason.clone() });
                }
                Piece::Group(group) => {
                    for part in &group.parts {
                        let Part::Broken { at, reason, .. } = part else { continue };
                        let reason = format!("group {}: {reason}", group.header.number);
                        flaws.push(Flaw { file: group.file, position: *at as u64, reason });
                    }
                }
            }
        }
        flaws
    }
}

impl Group {
    /// Whole batches and where they are.
    pub(super) fn whole(&self) -> impl Iterator<Item = (&Group, usize, &BatchHeader)> {
        self.parts.iter().filter_map(move |part| match part {
            Part::Whole(at, header) => Some((self, *at, header)),
            Part::Broken { .. } => None,
        })
    }

    /// The change that a whole batch is, if it is one.
    pub(super) fn control(&self, at: usize, header: &BatchHeader) -> Option<Control> {
        let bytes = self.bytes.get(at..at + header.len as usize)?;
        (header.kind == BatchKind::Control).then(|| Control::decode(header, bytes).ok()).flatten()
    }

    fn read(file: FileNumber, header: GroupHeader, bytes: &Rc<[u8]>) -> Group {
        let start = header.position as usize;
        let end = start + header.len as usize;
        let there = &bytes[..end.min(bytes.len())];
        let framed = framed(&header, &there[start..]);
        let mut parts = Vec::new();
        let mut at = start + GROUP_HEADER_BYTES;
        for _ in 0..header.batch_count {
            let rest = there.get(at..).unwrap_or_default();
            match (check_batch(rest), BatchHeader::read(rest)) {
                (Ok(batch), _) => {
                    parts.push(Part::Whole(at, batch));
                    at += batch.stride();
                }
                (Err(error), Ok(claims)) if framed => {
                    let (bytes, reason) = (claims.stride() as u64, error.to_string());
                    parts.push(Part::Broken { at, bytes, claims: Some(claims), reason });
                    at += claims.stride();
                }
                (Err(error), _) => {
                    // Where the next one starts is not known.
                    let (bytes, reason) = (end.saturating_sub(at) as u64, error.to_string());
                    parts.push(Part::Broken { at, bytes, claims: None, reason });
                    break;
                }
            }
        }
        Group { file, header, bytes: bytes.clone(), parts }
    }
}

/// Whether the batches' checksums, as stored, are those the group was written with, one batch
/// behind the other to the group's end: then every batch starts and ends where it says.
fn framed(group: &GroupHeader, bytes: &[u8]) -> bool {
    let mut digest = BatchDigest::default();
    let mut at = GROUP_HEADER_BYTES;
    for _ in 0..group.batch_count {
        let Ok(batch) = BatchHeader::read(bytes.get(at..).unwrap_or_default()) else { return false };
        digest.add(batch.crc);
        at += batch.stride();
    }
    digest.get() == group.batch_digest && at == group.len as usize
}

struct Walk<'a> {
    identity: &'a WalIdentity,
    remains: Remains,
    /// The group that comes next, and the place behind the last one.
    expected: GroupNumber,
    at: (WalSequence, u64),
    /// Lives of files that are there, and how many are missing beside a hole.
    there: BTreeSet<WalSequence>,
    absent: usize,
}

impl<'a> Walk<'a> {
    fn new(identity: &'a WalIdentity, scan: &Scan) -> Walk<'a> {
        Walk {
            identity,
            remains: Remains::default(),
            expected: identity.floor_group,
            at: (identity.floor, BLOCK as u64),
            there: scan.live().map(|(_, _, header)| header.sequence).collect(),
            absent: 0,
        }
    }

    async fn files<B: Backend>(&mut self, reactor: &Reactor<B>, scan: &Scan, end: Option<GroupNumber>) {
        let live: Vec<_> = scan.live().collect();
        for (index, (_, file, header)) in live.iter().enumerate() {
            // A later life may start at a group that this file has too: the log was cut there.
            let later = live[index + 1..].iter().filter(|(_, file, _)| matches!(file.life, Life::Live(_)));
            let limit = later.map(|(.., header)| header.first_group).chain(end).min();
            let (bytes, unreadable) = read_file(reactor, file.id, file.len).await;
            let unreadable = unreadable.map(|(at, _)| at);
            self.file(file, header, limit.unwrap_or(GroupNumber(u64::MAX)), bytes.into());
            let last = index + 1 == live.len();
            if let Some(from) = unreadable.filter(|_| last && end.is_none()) {
                self.rest_of_file(scan, from, "the disk can't read it");
            }
        }
    }

    fn file(&mut self, file: &FoundFile, header: &FileHeader, limit: GroupNumber, bytes: Rc<[u8]>) {
        let mut at = BLOCK;
        while at + BLOCK <= bytes.len() {
            let group = GroupHeader::read(&bytes[at..at + BLOCK]).ok().filter(|group| {
                (group.sequence, group.salt) == (header.sequence, header.salt)
                    && group.shard == self.identity.shard
                    && group.position == at as u64
                    && (self.expected..limit).contains(&group.number)
            });
            let Some(group) = group else {
                at += BLOCK;
                continue;
            };
            self.hole_before(file.number, &group);
            let read = Group::read(file.number, group, &bytes);
            // A broken length must not hide what comes behind it; the header has a checksum.
            at += (group.len as usize).next_multiple_of(BLOCK);
            self.expected = group.number.next();
            self.at = (group.sequence, at as u64);
            self.remains.pieces.push(Piece::Group(read));
        }
    }

    /// Bytes of WAL between the last group and a place.
    fn bytes_to(&self, sequence: WalSequence, position: u64) -> u64 {
        let files = sequence.0.saturating_sub(self.at.0.0);
        let end = files.saturating_mul(self.identity.file_bytes).saturating_add(position);
        end.saturating_sub(self.at.1).saturating_sub(files.saturating_mul(BLOCK as u64))
    }

    fn hole_before(&mut self, file: FileNumber, group: &GroupHeader) {
        if group.number == self.expected {
            return;
        }
        let (from, last) = (self.expected, group.number.0 - 1);
        let same = self.at.0 == group.sequence;
        let lives = group.sequence.0.saturating_sub(self.at.0.0);
        let found = self.there.range(self.at.0..group.sequence).count();
        self.absent += usize::try_from(lives).unwrap_or(usize::MAX).saturating_sub(found);
        let bytes = self.bytes_to(group.sequence, group.position).max(BLOCK as u64);
        let reason =
            format!("groups {from} to {last} can't be read, and group {} follows them", group.number);
        let position = if same { self.at.1 } else { BLOCK as u64 };
        self.remains.pieces.push(Piece::Hole(Hole { file, position, bytes, reason }));
    }

    /// Groups behind the last one that can be read: known to have been there, or in a file that
    /// lost its end.
    fn end(&mut self, scan: &Scan) {
        let begun = scan.live().map(|(_, _, header)| header.first_group.0.saturating_sub(1)).max();
        let said = scan.tail.later_durable.map_or(0, |proof| proof.durable.0);
        let durable = begun.unwrap_or(0).max(said).max(scan.tail.outside_durable.0);
        let short = scan.live().last().and_then(|(_, file, _)| file.flaw.clone());
        if durable >= self.expected.0 {
            self.rest_of_file(scan, 0, &format!("groups {} to {durable} were durable", self.expected));
        } else if let Some(short) = short {
            self.rest_of_file(scan, 0, &short);
        }
    }

    /// Everything from byte `from` of the last file, or behind the last group, counts as lost.
    fn rest_of_file(&mut self, scan: &Scan, from: u64, why: &str) {
        let Some((_, file, header)) = scan.live().last() else { return };
        let bytes = self.bytes_to(header.sequence, self.identity.file_bytes);
        let known = self.remains.pieces.last().is_some_and(|piece| matches!(piece, Piece::Hole(_)));
        let behind = self.at.0 == header.sequence && from > 0 && from < self.at.1;
        if bytes == 0 || known || behind {
            return;
        }
        let position = if self.at.0 == header.sequence { self.at.1 } else { BLOCK as u64 };
        let reason = format!("what came from group {} on can't be read: {why}", self.expected);
        self.remains.pieces.push(Piece::Hole(Hole { file: file.number, position, bytes, reason }));
    }

    /// Files that may have held the end of the log: gone, or cut so short that nothing says.
    fn unknown_files(&mut self, scan: &Scan, gone: &[FileNumber]) {
        let spare = scan.files.iter().filter(|file| file.life == Life::Spare && file.flaw.is_some());
        let unknown: Vec<_> = gone.iter().copied().chain(spare.map(|file| file.number)).collect();
        // Files whose lives are missing beside a hole are that hole.
        for file in unknown.into_iter().skip(self.absent) {
            let state = if gone.contains(&file) { "is not there" } else { "can't be read" };
            let reason = format!("the file {state}, and may have held the last groups");
            let bytes = self.identity.file_bytes.saturating_sub(BLOCK as u64);
            self.remains.pieces.push(Piece::Hole(Hole { file, position: 0, bytes, reason }));
        }
    }
}
