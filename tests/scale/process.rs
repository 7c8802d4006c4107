//! What this process has of the host.

use std::fs;

/// Bytes of memory of its own that are resident: heap, stacks and the tail cache, no code.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("kernel 4.5 or later");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number of KiB");
    kib << 10
}

/// Descriptors that are open.
pub(crate) fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("the process has descriptors").count()
}
