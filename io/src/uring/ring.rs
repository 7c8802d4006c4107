//! The two queues shared with the kernel, and the one system call that moves them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter, opcode, squeue, types};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::setup::Built;

/// Name of the request that watches the wake-up descriptor. No operation has it.
const WAKE: u64 = u64::MAX;

/// Completions that are kept free for what is not an operation.
const SPARE_COMPLETIONS: usize = 8;

/// What became of an `io_uring_enter`.
#[derive(Debug)]
pub(super) enum Entered {
    /// The kernel took requests, or waited as asked.
    Fine,
    /// The kernel is short of memory or has completions for us to take first. Try again later.
    Busy,
    /// The kernel no longer serves this ring.
    Broken(io::Error),
}

/// A ring, its requests counted.
pub(super) struct Ring {
    ring: IoUring,
    enter_flags: EnterFlags,
    /// Requests of operations pushed and not yet answered. The wake-up request is not counted.
    flying: usize,
    flying_max: usize,
    wake_armed: bool,
}

impl Ring {
    pub(super) fn new(built: Built) -> Ring {
        let completions = built.ring.params().cq_entries() as usize;
        Ring {
            flying_max: completions.saturating_sub(SPARE_COMPLETIONS).max(1),
            ring: built.ring,
            enter_flags: built.enter_flags,
            flying: 0,
            wake_armed: false,
        }
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    /// Requests of operations pushed and not yet answered.
    pub(super) fn flying(&self) -> usize {
        self.flying
    }

    /// Whether another request has room in the submission queue, and its completion in the other.
    pub(super) fn has_room(&mut self) -> bool {
        self.flying < self.flying_max && !self.ring.submission().is_full()
    }

    /// Whether [`has_room`](Self::has_room) waits for an answer, and not only for an enter.
    pub(super) fn is_saturated(&self) -> bool {
        self.flying >= self.flying_max
    }

    /// Requests that the kernel has not taken yet.
    pub(super) fn unsent(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// Puts the request of operation `key` in the submission queue.
    ///
    /// # Safety
    /// The memory that `entry` refers to stays valid and untouched until `take` has given the
    /// answer of `key`.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry, key: usize) -> bool {
        let entry = entry.clone().user_data(key as u64);
        // SAFETY: as promised by the caller.
        let pushed = unsafe { self.ring.submission().push(&entry) }.is_ok();
        self.flying += usize::from(pushed);
        pushed
    }

    /// Makes sure that `fd` becoming readable ends a wait. False if there is no room to ask.
    pub(super) fn watch(&mut self, fd: BorrowedFd<'_>) -> bool {
        if !self.wake_armed {
            let events = u32::from(PollFlags::IN.bits());
            let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), events).build().user_data(WAKE);
            // SAFETY: a poll refers to no memory of ours.
            self.wake_armed = unsafe { self.ring.submission().push(&entry) }.is_ok();
        }
        self.wake_armed
    }

    /// Whether completions wait in the kernel that only an enter brings to us.
    pub(super) fn has_deferred(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Hands requests to the kernel and runs deferred completions; waits for `want` completions,
    /// at most `nanos` if given.
    pub(super) fn enter(&mut self, want: u32, nanos: Option<u64>) -> Entered {
        let Ok(unsent) = u32::try_from(self.unsent()) else { return Entered::Busy };
        let submitter = self.ring.submitter();
        let result = match nanos {
            Some(nanos) => {
                let span = std::time::Duration::from_nanos(nanos);
                let span = Timespec::new().sec(span.as_secs()).nsec(span.subsec_nanos());
                let args = SubmitArgs::new().timespec(&span);
                let flags = self.enter_flags | EnterFlags::EXT_ARG;
                // SAFETY: `args` and `span` are alive during the call and of the type that EXT_ARG
                // means; `unsent` counts valid entries.
                unsafe { submitter.enter(unsent, want, flags.bits(), Some(&args)) }
            }
            // SAFETY: without an argument; `unsent` counts valid entries.
            None => unsafe {
                submitter.enter::<SubmitArgs<'_, '_>>(unsent, want, self.enter_flags.bits(), None)
            },
        };
        let Err(error) = result else { return Entered::Fine };
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::INTR | Errno::TIME) => Entered::Fine,
            Some(Errno::AGAIN | Errno::BUSY | Errno::NOMEM) => Entered::Busy,
            _ => Entered::Broken(error),
        }
    }

    /// Moves the answers that are there to `out`, as key and result. Returns whether the watched
    /// descriptor was readable.
    pub(super) fn take(&mut self, out: &mut Vec<(usize, i32)>) -> bool {
        let mut woken = false;
        for entry in self.ring.completion() {
            if entry.user_data() == WAKE {
                self.wake_armed = false;
                woken = true;
            } else {
                self.flying -= 1;
                out.push((entry.user_data() as usize, entry.result()));
            }
        }
        woken
    }
}
