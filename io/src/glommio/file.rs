//! One open file, through glommio's direct I/O where the file system has it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use glommio::GlommioError;
use glommio::io::{BufferedFile, DmaFile, OpenOptions};
use glommio::timer::sleep;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::backend::{BLOCK, OpenMode, Reply};
use crate::memory::AlignedBuf;
use crate::real_files::FILE_MODE;
use crate::transfer::Transfer;

/// What glommio's file operations answer.
type Answer<T> = Result<T, GlommioError<()>>;

/// Pause before a request is repeated that the kernel had no memory or queue slot for.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// An open file.
#[derive(Debug)]
pub(super) enum File {
    /// Past the page cache.
    Direct(DmaFile),
    /// Through it, on a file system without direct I/O.
    Cached(BufferedFile),
}

impl File {
    /// Opens the file at an absolute path. `direct` as [`direct_io_works`] has found.
    pub(super) async fn open(path: &Path, mode: OpenMode, direct: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read).mode(FILE_MODE.bits());
        options.create_new(mode == OpenMode::CreateNew);
        if direct {
            Ok(File::Direct(retried(async || options.dma_open(path).await).await?))
        } else {
            Ok(File::Cached(retried(async || options.buffered_open(path).await).await?))
        }
    }

    /// Length in bytes.
    pub(super) async fn len(&self) -> io::Result<u64> {
        retried(async || match self {
            File::Direct(file) => file.file_size().await,
            File::Cached(file) => file.file_size().await,
        })
        .await
    }

    /// Reads until `buf` is full or the file ends; returns the bytes read.
    pub(super) async fn read(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut transfer = Transfer::new(position, buf)?;
        while !transfer.complete() {
            let (at, range) = transfer.next();
            let piece = retried(async || match self {
                File::Direct(file) => file.read_at_aligned(at, range.len()).await,
                File::Cached(file) => file.read_at(at, range.len()).await,
            })
            .await?;
            buf[range.start..range.start + piece.len()].copy_from_slice(&piece);
            if !transfer.moved(piece.len()) {
                break; // the end of the file
            }
        }
        Ok(transfer.done())
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut transfer = Transfer::new(position, bytes)?;
        while !transfer.complete() {
            let (at, range) = transfer.next();
            let piece = &bytes[range];
            let written = retried(async || match self {
                File::Direct(file) => {
                    let mut copy = file.alloc_dma_buffer(piece.len());
                    copy.as_bytes_mut().copy_from_slice(piece);
                    file.write_at(copy, at).await
                }
                File::Cached(file) => file.write_at(piece.to_vec(), at).await,
            })
            .await?;
            if !transfer.moved(written) && transfer.stuck() {
                return Err(transfer.stuck_error());
            }
        }
        Ok(())
    }

    /// Makes data, length and allocation durable.
    pub(super) async fn sync(&self) -> io::Result<()> {
        retried(async || match self {
            File::Direct(file) => file.fdatasync().await,
            File::Cached(file) => file.fdatasync().await,
        })
        .await
    }

    /// Reserves space so that the file is at least `len` bytes long.
    pub(super) async fn allocate(&self, len: u64) -> io::Result<Reply> {
        if len == 0 {
            return Ok(Reply::Done);
        }
        let reserved = retried(async || match self {
            File::Direct(file) => file.pre_allocate(len, false).await,
            File::Cached(file) => file.pre_allocate(len, false).await,
        })
        .await;
        match reserved {
            // A file system without it: the length grows, space is only taken by writes.
            Err(error) if lacks_allocation(&error) => {
                if self.len().await? < len {
                    self.truncate(len).await?;
                }
                Ok(Reply::Unreserved)
            }
            reserved => reserved.map(|()| Reply::Done),
        }
    }

    /// Sets the length.
    pub(super) async fn truncate(&self, len: u64) -> io::Result<()> {
        retried(async || match self {
            File::Direct(file) => file.truncate(len).await,
            File::Cached(file) => file.truncate(len).await,
        })
        .await
    }

    /// Closes the file.
    pub(super) async fn close(self) -> io::Result<()> {
        let closed = match self {
            File::Direct(file) => file.close().await,
            File::Cached(file) => file.close().await,
        };
        closed.map_err(io_error)
    }
}

/// Finds out whether glommio's direct I/O works in a directory.
///
/// # Errors
/// Why it does not. Files are then to be opened without.
pub(super) async fn direct_io_works(root: BorrowedFd<'_>) -> io::Result<()> {
    // glommio asks each device once whether it can be polled, by reading from the first file it
    // opens there. An empty file answers yes for any device, and then every read from it fails. So
    // the first file is one with a block in it, and without a name.
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let unnamed = rustix::fs::openat(root, ".", flags, FILE_MODE)?;
    rustix::io::pwrite(&unnamed, &[0; BLOCK], 0)?;
    let path = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
    let file = File::open(Path::new(&path), OpenMode::Read, true).await?;
    // Somebody else in this executor may have opened an empty file first.
    let read = file.read(0, &mut AlignedBuf::zeroed(BLOCK)).await;
    file.close().await?;
    read.map(drop)
}

fn lacks_allocation(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::NOSYS))
}

/// Repeats what was interrupted, and after a pause what the kernel had no room for.
async fn retried<T>(attempt: impl AsyncFn() -> Answer<T>) -> io::Result<T> {
    loop {
        match attempt().await.map_err(io_error) {
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INTR) => {}
                Some(Errno::AGAIN) => sleep(RETRY_PAUSE).await,
                _ => return Err(error),
            },
            done => return done,
        }
    }
}

/// The host's error, which glommio's own conversion would lose the number of.
fn io_error(error: GlommioError<()>) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => error.into(),
    }
}
