//! Which core a thread runs on.

use std::io;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores this thread may run on, ascending. A container's limit is already applied.
///
/// # Errors
/// The kernel would not say.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Keeps the current thread on `core`.
///
/// # Errors
/// `InvalidInput` when the host has no such core or this process may not use it.
pub fn pin_to(core: usize) -> io::Result<()> {
    pin_to_any(&[core])
}

/// Keeps the current thread on some of `cores`: for helpers that must stay off the shards' cores.
///
/// # Errors
/// `InvalidInput` when none of them can be used, or one is past what the kernel can count.
pub fn pin_to_any(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        if *core >= CpuSet::MAX_CPU {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("core {core}: no such core")));
        }
        set.set(*core);
    }
    sched_setaffinity(None, &set).map_err(|errno| match errno {
        Errno::INVAL => {
            let what = format!("cores {cores:?}: not available to this process");
            io::Error::new(io::ErrorKind::InvalidInput, what)
        }
        errno => errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_to_a_core_it_may_use_and_no_other() {
        std::thread::spawn(|| {
            let cores = allowed_cores().unwrap();
            let last = *cores.last().unwrap();
            pin_to(last).unwrap();
            assert_eq!(allowed_cores().unwrap(), [last]);
            pin_to_any(&cores).unwrap();
            assert_eq!(allowed_cores().unwrap(), cores);
            for none in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
                assert_eq!(pin_to(none).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
        })
        .join()
        .unwrap();
    }
}
