//! The device itself: a blocking O_DIRECT write with `RWF_DSYNC` into blocks written before.

use std::path::Path;

use thalweg_io::{
    AlignedBuf, BLOCK, BlockingBackend, CommitStrategy, Durability, FileId, Op, OpenMode, Reactor,
};

use super::load::{Load, Sample, Workload};
use super::{About, Result, Subject};

/// Written over and over, as a recycled WAL file is.
const FILE_BYTES: u64 = 64 << 20;
const ZEROED_AT_ONCE_BYTES: usize = 1 << 20;

pub(super) const ABOUT: About = About {
    name: "device",
    package: None,
    syncs: "the floor: one blocking O_DIRECT `pwritev2(RWF_DSYNC)` into blocks written before, one in \
            flight; for a batch, and for 64 in flight, the 64 records in one write",
};

pub(super) struct Floor {
    reactor: Reactor<BlockingBackend>,
    file: FileId,
    position: u64,
}

impl Floor {
    pub(super) fn open(dir: &Path) -> Result<Floor> {
        let reactor = Reactor::new(BlockingBackend::open(dir, CommitStrategy::Dsync)?);
        let (file, _) = reactor.block_on(reactor.open("floor", OpenMode::CreateNew))?;
        for at in (0..FILE_BYTES).step_by(ZEROED_AT_ONCE_BYTES) {
            let zeros = AlignedBuf::zeroed(ZEROED_AT_ONCE_BYTES);
            reactor.block_on(reactor.write(file, at, zeros, Durability::Volatile)).1?;
        }
        reactor.block_on(reactor.run(Op::Sync { file }))?;
        Ok(Floor { reactor, file, position: 0 })
    }

    /// Writes `bytes`, padded to whole blocks, behind what was written last.
    fn write(&mut self, buf: &mut Option<AlignedBuf>, bytes: &[&[u8]]) -> Result<()> {
        let len: usize = bytes.iter().map(|part| part.len()).sum();
        let mut filled = buf.take().unwrap_or_else(|| AlignedBuf::zeroed(len));
        let mut at = 0;
        for part in bytes {
            filled[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let padded = len.next_multiple_of(BLOCK) as u64;
        if self.position + padded > FILE_BYTES {
            self.position = 0;
        }
        let write = self.reactor.write(self.file, self.position, filled, Durability::Durable);
        let (back, written) = self.reactor.block_on(write);
        written?;
        self.position += padded;
        *buf = Some(back);
        Ok(())
    }
}

impl Subject for Floor {
    fn about(&self) -> About {
        ABOUT
    }

    fn takes(&self, _: Workload) -> bool {
        true
    }

    fn run(&mut self, workload: Workload, load: &Load) -> Result<Sample> {
        let mut buf = None;
        match workload {
            Workload::One => load.one_by_one(|record| self.write(&mut buf, &[record])),
            Workload::Many | Workload::Batch => load.in_batches(|records| self.write(&mut buf, records)),
        }
    }
}
