//! Cutting the power of a real file system, for tests that look at what is left.

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Setter, ioctl, opcode};

/// `FS_IOC_SHUTDOWN`, of ext4, XFS and f2fs: `_IOR('X', 125, __u32)`.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
const _: () = assert!(SHUTDOWN == 0x8004_587D);

/// Leave the journal as it is on the disk: nothing that is in memory only gets there.
const NO_LOG_FLUSH: u32 = 2;

/// Ends the file system that `dir` is on, as if its disk had lost its power: every request fails from
/// here on, and what was not synced is gone once it is mounted again. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// The host's: not permitted, or a file system that can't do that.
pub fn cut(dir: impl AsFd) -> io::Result<()> {
    // SAFETY: the request reads one `u32` at the address it is given, and `Setter` keeps it there for
    // the call. It writes no memory of ours.
    let answer = unsafe { ioctl(dir, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) };
    Ok(answer?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_such_file_system_says_so_and_lives_on() {
        let pipe = std::io::pipe().unwrap();
        assert!(cut(&pipe.0).is_err());
    }
}
