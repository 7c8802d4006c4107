//! Each rule of the model, stated once.

mod content;
mod determinism;
mod faults;
mod names;
mod power;
mod time;

use std::io;

use crate::backend::{BLOCK, Durability, FileId, Op, OpenMode};
use crate::memory::AlignedBuf;
use crate::reactor::Reactor;

use super::{SimBackend, SimDisk, SimOptions};

/// One life of a process with one shard.
struct Life(Reactor<SimBackend>);

impl Life {
    fn new(disk: &SimDisk) -> Life {
        Life(Reactor::new(disk.backend()))
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<(FileId, u64)> {
        self.0.block_on(self.0.open(path, mode))
    }

    /// A new file whose name is durable.
    fn create(&self, path: &str) -> FileId {
        let (file, len) = self.open(path, OpenMode::CreateNew).unwrap();
        assert_eq!(len, 0);
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        self.run(Op::SyncDir { path: dir.into() }).unwrap();
        file
    }

    /// Writes blocks of `fill` from block `at` on.
    fn write(
        &self,
        file: FileId,
        at: u64,
        blocks: usize,
        fill: u8,
        durability: Durability,
    ) -> io::Result<()> {
        self.0.block_on(self.0.write(file, at * BLOCK as u64, filled(blocks, fill), durability)).1
    }

    /// Reads up to `blocks` blocks from block `at` on.
    fn read(&self, file: FileId, at: u64, blocks: usize) -> io::Result<Vec<u8>> {
        let buf = AlignedBuf::zeroed(blocks * BLOCK);
        let (buf, len) = self.0.block_on(self.0.read(file, at * BLOCK as u64, buf));
        Ok(buf[..len?].to_vec())
    }

    fn run(&self, op: Op) -> io::Result<()> {
        self.0.block_on(self.0.run(op))
    }
}

fn filled(blocks: usize, fill: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(blocks * BLOCK);
    buf.fill(fill);
    buf
}

fn strict() -> SimDisk {
    SimDisk::with_options(1, SimOptions::strict())
}

/// The first byte of every block of a file.
fn blocks(content: Option<Vec<u8>>) -> Option<Vec<u8>> {
    content.map(|content| content.into_iter().step_by(BLOCK).collect())
}

/// The `errno` of an operation that had to fail.
#[track_caller]
fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().expect("an error of the disk")
}
