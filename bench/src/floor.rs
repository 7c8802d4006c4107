//! The device itself: what the same bytes cost without a log.
//!
//! One file, written before, so that no commit changes an extent; one blocking O_DIRECT write at a
//! time, from aligned memory, on the thread that asks, which sleeps until the device is done. Faster
//! than the better of the two is only who looks for the end instead of sleeping, or has several groups
//! in flight.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::io::{ReadWriteFlags, pwritev2};
use thalweg_io::{AlignedBuf, BLOCK};

/// How the floor makes a write durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloorKind {
    /// `pwritev2` with `RWF_DSYNC`.
    Dsync,
    /// `pwrite`, then `fdatasync`.
    WriteThenSync,
}

/// Bytes of the floor's file: as large as a WAL file.
pub const FLOOR_FILE_BYTES: u64 = 32 << 20;

/// The pre-written file.
pub struct Floor {
    file: File,
    position: u64,
    buf: AlignedBuf,
}

impl Floor {
    /// Makes the file in `dir` and writes every block of it.
    ///
    /// # Errors
    /// The host's; a file system without direct I/O is one of them.
    pub fn open(dir: &Path) -> io::Result<Floor> {
        let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(direct)
            .open(dir.join("floor"))?;
        let zeros = AlignedBuf::zeroed(1 << 20);
        for at in (0..FLOOR_FILE_BYTES).step_by(zeros.len()) {
            write(&file, &zeros, at, ReadWriteFlags::empty())?;
        }
        file.sync_all()?;
        Ok(Floor { file, position: 0, buf: AlignedBuf::zeroed(BLOCK) })
    }

    /// One durable write of `bytes`, rounded up to whole blocks.
    ///
    /// # Errors
    /// The host's.
    pub fn commit(&mut self, kind: FloorKind, bytes: usize) -> io::Result<()> {
        let len = bytes.next_multiple_of(BLOCK);
        if self.buf.len() != len {
            self.buf = AlignedBuf::zeroed(len);
            self.buf.fill(b'x');
        }
        if self.position + len as u64 > FLOOR_FILE_BYTES {
            self.position = 0;
        }
        match kind {
            FloorKind::Dsync => write(&self.file, &self.buf, self.position, ReadWriteFlags::DSYNC)?,
            FloorKind::WriteThenSync => {
                write(&self.file, &self.buf, self.position, ReadWriteFlags::empty())?;
                rustix::fs::fdatasync(&self.file)?;
            }
        }
        self.position += len as u64;
        Ok(())
    }

    /// Commits of `bytes` one after the other, for `time`.
    ///
    /// # Errors
    /// The host's.
    pub fn measure(&mut self, kind: FloorKind, bytes: usize, time: Duration) -> io::Result<Histogram<u64>> {
        let mut histogram = crate::load::histogram();
        self.commit(kind, bytes)?;
        let begin = Instant::now();
        let mut last = begin;
        while last.duration_since(begin) < time {
            self.commit(kind, bytes)?;
            let now = Instant::now();
            crate::load::note(&mut histogram, now.duration_since(last));
            last = now;
        }
        Ok(histogram)
    }
}

fn write(file: &File, bytes: &[u8], at: u64, flags: ReadWriteFlags) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        done += pwritev2(file, &[IoSlice::new(&bytes[done..])], at + done as u64, flags)?;
    }
    Ok(())
}
