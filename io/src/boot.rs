//! Which backend this host can run, found out by trying.
//!
//! io_uring is switched off on many hosts: by a sysctl, by a container's seccomp profile, by an
//! old kernel. The shard then works with [`BlockingBackend`](crate::BlockingBackend), and whoever
//! started it is told why.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::real_files;
use crate::uring::{SetupError, trial};

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring where the host allows it, else system calls.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// System calls, even where io_uring is allowed.
    Blocking,
}

impl FromStr for BackendChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<BackendChoice, String> {
        match name {
            "auto" => Ok(BackendChoice::Auto),
            "uring" => Ok(BackendChoice::Uring),
            "blocking" => Ok(BackendChoice::Blocking),
            other => Err(format!("{other:?}: not one of auto, uring, blocking")),
        }
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendChoice::Auto => "auto",
            BackendChoice::Uring => "uring",
            BackendChoice::Blocking => "blocking",
        })
    }
}

/// A backend that works on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// [`UringBackend`](crate::UringBackend).
    Uring,
    /// [`BlockingBackend`](crate::BlockingBackend).
    Blocking,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendKind::Uring => "uring",
            BackendKind::Blocking => "blocking",
        })
    }
}

/// The answer to a [`BackendChoice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The backend to open.
    pub kind: BackendKind,
    /// Why it is not io_uring, if that was tried.
    pub reason: Option<String>,
}

/// io_uring was asked for by name, and this host does not give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// What stands in the way, and which setting it is.
    pub reason: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring cannot be used: {}", self.reason)
    }
}

impl std::error::Error for Unavailable {}

/// Finds the backend for this host. Tries io_uring on the calling thread unless told not to.
///
/// # Errors
/// [`Unavailable`] when io_uring was asked for by name and does not work here.
pub fn choose(choice: BackendChoice) -> Result<Chosen, Unavailable> {
    if choice == BackendChoice::Blocking {
        return Ok(Chosen { kind: BackendKind::Blocking, reason: None });
    }
    match (trial(), choice) {
        (Ok(_), _) => Ok(Chosen { kind: BackendKind::Uring, reason: None }),
        (Err(error), BackendChoice::Uring) => Err(Unavailable { reason: explain(&error) }),
        (Err(error), _) => Ok(Chosen { kind: BackendKind::Blocking, reason: Some(explain(&error)) }),
    }
}

/// Creates the data directory `root` with what is missing above it, and makes the names durable.
///
/// # Errors
/// The host's: no permission, or something that is no directory is in the way.
pub fn create_data_dir(root: &Path) -> io::Result<()> {
    real_files::create_root(root)
}

/// The number of the device that `dir` is on.
///
/// # Errors
/// The host's.
pub fn device_of(dir: &Path) -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(dir)?))
}

/// What stands in the way of io_uring, and which setting it is.
pub(crate) fn explain(error: &SetupError) -> String {
    let SetupError::Call { what, source } = error else { return error.to_string() };
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => forbidden(what, &Host::read()),
        Some(Errno::NOSYS) => absent(what, &Host::read()),
        Some(Errno::NOMEM) => {
            let limit = getrlimit(Resource::Memlock).current;
            let limit = limit.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
            format!("{what}: no memory for a ring; locked memory (RLIMIT_MEMLOCK) is limited to {limit}")
        }
        _ => error.to_string(),
    }
}

/// What the host says about who may use io_uring.
struct Host {
    /// `kernel.io_uring_disabled`.
    disabled: Option<u32>,
    /// `kernel.io_uring_group`.
    group: Option<i64>,
    /// Whether a seccomp filter watches this thread.
    filtered: bool,
    kernel: String,
}

impl Host {
    fn read() -> Host {
        let sysctl = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Host {
            disabled: sysctl("io_uring_disabled").and_then(|text| text.trim().parse().ok()),
            group: sysctl("io_uring_group").and_then(|text| text.trim().parse().ok()),
            filtered: filtered(&status),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }
}

/// Reads the line `Seccomp: 2` (filter mode) of a thread's status.
fn filtered(status: &str) -> bool {
    status.lines().find_map(|line| line.strip_prefix("Seccomp:")).is_some_and(|mode| mode.trim() == "2")
}

fn forbidden(what: &str, host: &Host) -> String {
    match (host.disabled, host.group) {
        (Some(2..), _) => {
            format!("{what} is forbidden: the sysctl kernel.io_uring_disabled is 2, off for everybody")
        }
        (Some(1), Some(group @ 0..)) if !host.filtered => format!(
            "{what} is forbidden: the sysctl kernel.io_uring_disabled is 1, and this process is not in \
             group {group} (kernel.io_uring_group) and has no CAP_SYS_ADMIN"
        ),
        (Some(1), _) if !host.filtered => format!(
            "{what} is forbidden: the sysctl kernel.io_uring_disabled is 1, and this process has no \
             CAP_SYS_ADMIN"
        ),
        _ if host.filtered => format!(
            "{what} is forbidden by a seccomp filter: a container's or service manager's profile must \
             allow io_uring_setup, io_uring_enter and io_uring_register"
        ),
        _ => format!("{what} is forbidden, by a security module of this host"),
    }
}

fn absent(what: &str, host: &Host) -> String {
    let kernel = &host.kernel;
    if host.filtered {
        return format!(
            "{what} does not exist: kernel {kernel} has no io_uring, or a seccomp filter hides it"
        );
    }
    format!("{what} does not exist: kernel {kernel} has no io_uring")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(disabled: Option<u32>, group: Option<i64>, filtered: bool) -> Host {
        Host { disabled, group, filtered, kernel: "6.1.0".to_owned() }
    }

    #[test]
    fn each_way_to_forbid_io_uring_is_named() {
        let check = |host: Host, want: &str| {
            let reason = forbidden("io_uring_setup", &host);
            assert!(reason.contains(want), "{reason}");
        };
        check(host(Some(2), None, true), "io_uring_disabled is 2");
        check(host(Some(1), Some(500), false), "group 500");
        check(host(Some(1), Some(-1), false), "CAP_SYS_ADMIN");
        check(host(Some(1), Some(-1), true), "seccomp");
        check(host(Some(0), None, true), "seccomp");
        check(host(None, None, false), "security module");
    }

    #[test]
    fn an_absent_system_call_names_the_kernel_and_a_filter_that_may_hide_it() {
        assert!(absent("io_uring_setup", &host(None, None, false)).contains("kernel 6.1.0"));
        assert!(absent("io_uring_setup", &host(None, None, true)).contains("seccomp"));
    }

    #[test]
    fn memory_and_missing_parts_are_told_apart() {
        let call = |errno: Errno| SetupError::Call { what: "io_uring_setup", source: errno.into() };
        assert!(explain(&call(Errno::NOMEM)).contains("RLIMIT_MEMLOCK"));
        assert!(explain(&call(Errno::MFILE)).contains("io_uring_setup"));
        assert!(explain(&SetupError::Missing("fsync")).contains("fsync"));
    }

    #[test]
    fn the_status_of_a_thread_says_whether_it_is_filtered() {
        assert!(filtered("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!filtered("Seccomp:\t0\nSeccomp_filters:\t0\n"));
        assert!(!filtered(""));
    }

    #[test]
    fn the_names_of_the_configuration_are_read_and_written() {
        for choice in [BackendChoice::Auto, BackendChoice::Uring, BackendChoice::Blocking] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("glommio".parse::<BackendChoice>().is_err());
        assert_eq!(choose(BackendChoice::Blocking), Ok(Chosen { kind: BackendKind::Blocking, reason: None }));
    }
}
