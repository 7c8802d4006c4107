//! Making a ring: with everything this kernel has, and with nothing it has not.

use std::fmt;
use std::io;

use io_uring::{EnterFlags, IoUring, Probe, opcode, squeue};
use rustix::io::Errno;

use crate::boot::explain;

/// Requests handed to the kernel in one call, if there is memory for so many.
pub(super) const SQ_ENTRIES: u32 = 256;
/// The smallest ring that is tried.
const SQ_ENTRIES_MIN: u32 = 16;
/// Room for completions, for each request of one call. Requests in the kernel are bounded by it, so
/// that no completion ever overflows.
const CQ_PER_SQ: u32 = 4;

/// Why there is no ring.
#[derive(Debug)]
pub(crate) enum SetupError {
    /// A system call refused.
    Call {
        /// Its name.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The kernel has io_uring, but not this part of it.
    Missing(&'static str),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Call { what, source } => write!(f, "{what}: {source}"),
            SetupError::Missing(what) => write!(f, "this kernel's io_uring has no {what}"),
        }
    }
}

impl From<SetupError> for io::Error {
    fn from(error: SetupError) -> io::Error {
        let kind = match &error {
            SetupError::Call { source, .. } => source.kind(),
            SetupError::Missing(_) => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, explain(&error))
    }
}

/// How much is asked of the kernel, most first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    /// Completions run only when we ask, on our thread, and a flag says that some wait (6.1).
    Deferred,
    /// Completions do not interrupt our thread, and a flag says that some wait (5.19).
    Cooperative,
    /// What every ring has.
    Plain,
}

impl Level {
    pub(super) const ALL: [Level; 3] = [Level::Deferred, Level::Cooperative, Level::Plain];

    fn build(self, entries: u32) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(entries.saturating_mul(CQ_PER_SQ));
        match self {
            Level::Deferred => {
                builder.setup_submit_all().setup_taskrun_flag().setup_single_issuer().setup_defer_taskrun();
            }
            Level::Cooperative => {
                builder.setup_submit_all().setup_taskrun_flag().setup_coop_taskrun();
            }
            Level::Plain => {}
        }
        builder.build(entries)
    }

    fn name(self) -> &'static str {
        match self {
            Level::Deferred => "single issuer, deferred completions",
            Level::Cooperative => "cooperative completions",
            Level::Plain => "plain",
        }
    }
}

/// Which optional operations run in the ring. The others are system calls on the shard's thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Supported {
    pub(super) open: bool,
    pub(super) close: bool,
    pub(super) allocate: bool,
    pub(super) truncate: bool,
    pub(super) rename: bool,
    pub(super) remove: bool,
    pub(super) create_dir: bool,
    pub(super) write_fixed: bool,
}

impl Supported {
    fn from_probe(probe: &Probe) -> Supported {
        Supported {
            open: probe.is_supported(opcode::OpenAt::CODE),
            close: probe.is_supported(opcode::Close::CODE),
            allocate: probe.is_supported(opcode::Fallocate::CODE),
            truncate: probe.is_supported(opcode::Ftruncate::CODE),
            rename: probe.is_supported(opcode::RenameAt::CODE),
            remove: probe.is_supported(opcode::UnlinkAt::CODE),
            create_dir: probe.is_supported(opcode::MkDirAt::CODE),
            write_fixed: probe.is_supported(opcode::WriteFixed::CODE),
        }
    }

    fn inline(&self) -> Vec<&'static str> {
        let all = [
            (self.open, "open"),
            (self.close, "close"),
            (self.allocate, "allocate"),
            (self.truncate, "truncate"),
            (self.rename, "rename"),
            (self.remove, "remove"),
            (self.create_dir, "create directory"),
        ];
        all.iter().filter(|(in_ring, _)| !in_ring).map(|(_, name)| *name).collect()
    }
}

/// A ring that can do what the backend needs.
pub(super) struct Built {
    pub(super) ring: IoUring,
    pub(super) supported: Supported,
    /// Flags of every `io_uring_enter`.
    pub(super) enter_flags: EnterFlags,
    level: Level,
}

impl Built {
    /// What was granted, for people.
    pub(super) fn summary(&self) -> String {
        let mut summary =
            format!("{}, {} requests a call", self.level.name(), self.ring.params().sq_entries());
        if self.enter_flags.contains(EnterFlags::NO_IOWAIT) {
            summary.push_str(", sleep not counted as I/O wait");
        }
        let inline = self.supported.inline();
        if !inline.is_empty() {
            summary.push_str(", outside the ring: ");
            summary.push_str(&inline.join(", "));
        }
        summary
    }
}

/// Makes a ring of at most `entries` submissions, at the first of `levels` that the kernel has.
pub(super) fn build(entries: u32, levels: &[Level]) -> Result<Built, SetupError> {
    let (level, ring) = best(entries, levels)?;
    let params = ring.params();
    if !params.is_feature_nodrop() {
        return Err(SetupError::Missing("guarantee to keep every completion (kernel 5.5)"));
    }
    if !params.is_feature_ext_arg() {
        return Err(SetupError::Missing("wait with a timeout (kernel 5.11)"));
    }
    let mut enter_flags = EnterFlags::GETEVENTS;
    if params.is_feature_no_iowait() {
        enter_flags |= EnterFlags::NO_IOWAIT;
    }
    let mut probe = Probe::new();
    let probed = ring.submitter().register_probe(&mut probe);
    probed.map_err(|source| SetupError::Call { what: "io_uring_register", source })?;
    let needed = [
        (opcode::Read::CODE, "read"),
        (opcode::Write::CODE, "write"),
        (opcode::Fsync::CODE, "fsync"),
        (opcode::PollAdd::CODE, "poll"),
    ];
    for (code, name) in needed {
        if !probe.is_supported(code) {
            return Err(SetupError::Missing(name));
        }
    }
    Ok(Built { ring, supported: Supported::from_probe(&probe), enter_flags, level })
}

/// The largest ring that the host has memory for, with the most that the kernel knows.
fn best(entries: u32, levels: &[Level]) -> Result<(Level, IoUring), SetupError> {
    let mut refused = Errno::INVAL;
    for entries in [entries, entries / 4, entries / 16].into_iter().filter(|n| *n >= SQ_ENTRIES_MIN) {
        for level in levels.iter().copied() {
            let source = match level.build(entries) {
                Ok(ring) => return Ok((level, ring)),
                Err(source) => source,
            };
            match source.raw_os_error().map(Errno::from_raw_os_error) {
                // A flag that this kernel does not know: ask for less.
                Some(Errno::INVAL) => refused = Errno::INVAL,
                // Queues count as locked memory, of which many hosts grant 64 KiB.
                Some(Errno::NOMEM) => {
                    refused = Errno::NOMEM;
                    break;
                }
                _ => return Err(SetupError::Call { what: "io_uring_setup", source }),
            }
        }
    }
    Err(SetupError::Call { what: "io_uring_setup", source: refused.into() })
}

/// Makes a small ring and sends one request through it and back.
pub(crate) fn trial() -> Result<String, SetupError> {
    let mut built = build(SQ_ENTRIES_MIN, &Level::ALL)?;
    let nop: squeue::Entry = opcode::Nop::new().build();
    // SAFETY: a no-op refers to no memory.
    let pushed = unsafe { built.ring.submission().push(&nop) };
    pushed.map_err(|_| SetupError::Missing("room for a request"))?;
    loop {
        match built.ring.submit_and_wait(1) {
            Ok(_) if !built.ring.completion().is_empty() => return Ok(built.summary()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(SetupError::Call { what: "io_uring_enter", source }),
        }
    }
}
