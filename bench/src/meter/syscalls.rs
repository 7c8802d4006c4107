//! System calls, counted by the kernel.

use std::io;

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

/// Counts the system calls of a thread and of the threads it starts from then on.
pub struct Syscalls {
    counter: Counter,
}

impl Syscalls {
    /// Starts to count for the calling thread and its children.
    ///
    /// # Errors
    /// The kernel does not let this process count: it takes root, or `kernel.perf_event_paranoid`
    /// of -1 and a readable tracefs.
    pub fn start() -> io::Result<Syscalls> {
        let enter = Tracepoint::with_name("raw_syscalls/sys_enter")?;
        let mut counter = Builder::new(enter).inherit(true).build()?;
        counter.enable()?;
        Ok(Syscalls { counter })
    }

    /// System calls so far.
    ///
    /// # Errors
    /// The kernel's.
    pub fn count(&mut self) -> io::Result<u64> {
        self.counter.read()
    }
}
