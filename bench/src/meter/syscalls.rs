//! System calls, counted by the kernel.

use std::{fs, io};

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

/// Where tracefs is mounted: its own place, and the older one.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
const EVENT: &str = "raw_syscalls/sys_enter";

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
        let ids = TRACEFS.iter().map(|root| fs::read_to_string(format!("{root}/{EVENT}/id")));
        let id = ids.reduce(|first, second| first.or(second)).unwrap_or_else(|| Ok(String::new()))?;
        let enter = Tracepoint::with_id(id.trim().parse().map_err(io::Error::other)?);
        let mut counter = Builder::new(enter).inherit(true).exclude_kernel(false).build()?;
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
