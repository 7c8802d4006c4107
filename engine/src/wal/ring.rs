//! The ring of WAL files: one active, some full and waiting to be sealed, some spare.

use std::collections::VecDeque;

use thalweg_io::{BLOCK, FileId};

use crate::ids::{FileNumber, GroupNumber, PartitionId, ShardId, WalPosition, WalSequence};
use crate::wal::file_header::FileHeader;

/// A pre-written file, ready for a new life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpareFile {
    pub number: FileNumber,
    pub id: FileId,
}

/// The spare file that is being filled with zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling {
    pub number: FileNumber,
    /// A write of zeros or their sync is on its way: nothing else may be done with the file yet.
    pub writing: bool,
    /// The log waits for the file.
    pub wanted: bool,
}

/// A WAL file in use.
#[derive(Debug)]
pub(crate) struct WalFile {
    pub number: FileNumber,
    pub id: FileId,
    pub sequence: WalSequence,
    pub salt: u64,
    pub first_group: GroupNumber,
    /// The next byte to write, a multiple of 4,096.
    pub position: u64,
    /// Partitions with batches in it, each once.
    pub touched: Vec<PartitionId>,
    /// Largest joint append with a part in it.
    pub joint: u64,
    /// Wall clock of the first group, ms.
    pub since_ms: i64,
    /// Bytes of batches in it.
    pub batch_bytes: u64,
    /// Whether its end was cut off to promote it.
    pub shortened: bool,
}

/// Where the WAL of a shard stands.
pub(crate) struct WalRing {
    pub shard: ShardId,
    pub directory: u128,
    pub file_bytes: u64,
    pub active: Option<WalFile>,
    pub full: VecDeque<WalFile>,
    pub spares: VecDeque<SpareFile>,
    pub filling: Option<Filling>,
    pub next_sequence: WalSequence,
    pub next_group: GroupNumber,
    /// Checksum of the last group header built.
    pub previous: u32,
    /// The last group known durable.
    pub durable: GroupNumber,
}

impl WalRing {
    /// Whether a group of up to `len` bytes fits behind the last one. Space for a marker is kept.
    pub(crate) fn fits(&self, len: u64) -> bool {
        let room = |active: &WalFile| active.position + len + BLOCK as u64 <= self.file_bytes;
        self.active.as_ref().is_some_and(room)
    }

    /// Takes a spare file: one that is full of zeros, else the one that is being filled, as soon as
    /// nothing is being written to it.
    fn take_spare(&mut self) -> Option<SpareFile> {
        let Some(filling) = &mut self.filling else { return self.spares.pop_front() };
        let filled = self.spares.iter().position(|spare| spare.number != filling.number);
        if let Some(index) = filled {
            return self.spares.remove(index);
        }
        filling.wanted = true;
        if filling.writing {
            return None;
        }
        self.filling = None;
        self.spares.pop_front()
    }

    /// Whether `number` is being filled with zeros.
    pub(crate) fn is_filling(&self, number: FileNumber) -> bool {
        self.filling.is_some_and(|filling| filling.number == number)
    }

    /// Starts a new life of a spare file. The old active file waits to be sealed. Returns false if
    /// there is no spare.
    pub(crate) fn roll(&mut self, salt: u64, now_ms: i64) -> bool {
        let Some(spare) = self.take_spare() else { return false };
        if let Some(active) = self.active.take() {
            self.full.push_back(active);
        }
        self.active = Some(WalFile {
            number: spare.number,
            id: spare.id,
            sequence: self.next_sequence,
            salt,
            first_group: self.next_group,
            position: 0,
            touched: Vec::new(),
            joint: 0,
            since_ms: now_ms,
            batch_bytes: 0,
            shortened: false,
        });
        self.next_sequence = WalSequence(self.next_sequence.0 + 1);
        true
    }

    /// The header of the active file, to be written in front of its first group.
    pub(crate) fn file_header(&self, active: &WalFile, now_ms: i64) -> FileHeader {
        FileHeader {
            shard: self.shard,
            sequence: active.sequence,
            salt: active.salt,
            first_group: active.first_group,
            previous: self.previous,
            directory: self.directory,
            started_ms: now_ms,
            file_bytes: self.file_bytes,
        }
    }

    /// The file and byte at a position, if the WAL still has it.
    pub(crate) fn locate(&self, position: WalPosition) -> Option<(&WalFile, u64)> {
        let (sequence, byte) = position.split(self.file_bytes);
        let files = self.full.iter().chain(&self.active);
        files.into_iter().find(|file| file.sequence == sequence).map(|file| (file, byte))
    }

    /// Bytes of groups not yet in segments.
    pub(crate) fn unsealed_bytes(&self) -> u64 {
        self.full.iter().chain(&self.active).map(|file| file.position).sum()
    }

    /// Files in the ring.
    pub(crate) fn files(&self) -> usize {
        self.full.len() + self.spares.len() + usize::from(self.active.is_some())
    }
}
