//! Writes by system calls on the calling thread: all of a buffer, and durable if asked.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use crate::transfer::Transfer;

/// Pause before a request is repeated that the kernel had no memory or queue slot for.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// Writes all of `bytes`.
pub(crate) fn write(fd: BorrowedFd<'_>, position: u64, bytes: &[u8]) -> io::Result<()> {
    Ok(write_with(fd, position, bytes, ReadWriteFlags::empty())?)
}

/// Writes all of `bytes`, then makes the file's data and length durable.
pub(crate) fn write_then_sync(fd: BorrowedFd<'_>, position: u64, bytes: &[u8]) -> io::Result<()> {
    write(fd, position, bytes)?;
    Ok(retry_on_intr(|| rustix::fs::fdatasync(fd))?)
}

/// Writes all of `bytes`, durable by `RWF_DSYNC`. Returns how the flag was refused, if it was: the
/// bytes are then durable by a sync.
pub(crate) fn write_dsync(fd: BorrowedFd<'_>, position: u64, bytes: &[u8]) -> io::Result<Option<Errno>> {
    let refused = match write_with(fd, position, bytes, ReadWriteFlags::DSYNC) {
        Err(WriteError::Refused(errno)) => errno,
        Err(WriteError::Failed(error)) => return Err(error),
        Ok(()) => return Ok(None),
    };
    // Refused before a byte moved. Either the flag is unknown here, and a plain write works, or the
    // request itself is bad, and that answer comes again.
    write_then_sync(fd, position, bytes)?;
    Ok(Some(refused))
}

/// Why a write did not come to its end.
enum WriteError {
    /// The kernel would not take the first piece as it was asked.
    Refused(Errno),
    Failed(io::Error),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> io::Error {
        match error {
            WriteError::Refused(errno) => errno.into(),
            WriteError::Failed(error) => error,
        }
    }
}

/// Writes all of `bytes`.
fn write_with(
    fd: BorrowedFd<'_>,
    position: u64,
    bytes: &[u8],
    flags: ReadWriteFlags,
) -> Result<(), WriteError> {
    let mut transfer = Transfer::new(position, bytes).map_err(WriteError::Failed)?;
    while !transfer.complete() {
        let (at, range) = transfer.next();
        let piece = &bytes[range];
        let written = if flags.is_empty() {
            rustix::io::pwrite(fd, piece, at)
        } else {
            rustix::io::pwritev2(fd, &[IoSlice::new(piece)], at, flags)
        };
        match written {
            Ok(bytes) => {
                if !transfer.moved(bytes) && transfer.stuck() {
                    return Err(WriteError::Failed(transfer.stuck_error()));
                }
            }
            Err(errno @ (Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)) if transfer.done() == 0 => {
                return Err(WriteError::Refused(errno));
            }
            Err(errno) => pause_or_fail(errno).map_err(WriteError::Failed)?,
        }
    }
    Ok(())
}

/// Returns for another try after `EINTR`, and after a pause for `EAGAIN`.
pub(crate) fn pause_or_fail(errno: Errno) -> io::Result<()> {
    match errno {
        Errno::INTR => Ok(()),
        Errno::AGAIN => {
            std::thread::sleep(RETRY_PAUSE);
            Ok(())
        }
        errno => Err(errno.into()),
    }
}
