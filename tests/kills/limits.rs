//! Owners that lack something: descriptors, file sizes (FAULTS P5), locked memory (P10), io_uring (P9).
//! Each goes on, or ends and says what it lacks. Whatever it does, what it acknowledged is there when the
//! next one, that lacks nothing, opens the log.

use std::process::Command;

use thalweg_tests::scoreboard;

use crate::cycle::{Cycles, Outcome};

/// The signal of a process that writes past the longest file it may have.
const SIGXFSZ: i32 = 25;
/// Times that an owner says that something is acknowledged, before it is killed: enough that its WAL
/// files are sealed and others made.
const ACKS: u64 = 150;

/// Runs an owner for each limit, below the shell that sets it. `allowed` says whether an end is one.
#[track_caller]
fn limited(
    what: &str,
    backend: &str,
    limits: &[String],
    allowed: impl Fn(Option<i32>, &str) -> bool,
) -> [u64; 2] {
    let mut log = Cycles::new(backend, 9);
    let (mut went_on, mut ended) = (0, 0);
    for limit in limits {
        let script = format!("{limit} && exec \"$0\" \"$@\"");
        let outcome = log.starved(&["sh", "-c", &script], ACKS);
        match outcome.unwrap_or_else(|why| panic!("{backend}, {limit}: {why}")) {
            Outcome::WentOn => went_on += 1,
            Outcome::Ended(signal, complaint) => {
                assert!(allowed(signal, &complaint), "{backend}, {limit}: {signal:?}, {complaint}");
                ended += 1;
            }
        }
    }
    println!("{what}, {backend}: of {} owners {went_on} went on, {ended} ended", limits.len());
    [went_on, ended]
}

fn note(what: &str, counts: &[[u64; 2]]) {
    let sum = |which: usize| counts.iter().map(|count| count[which]).sum();
    scoreboard::count(what, &[("went on", sum(0)), ("ended and said why", sum(1))], 0);
}

#[test]
fn without_descriptors_nothing_is_lost() {
    let limits: Vec<String> =
        [12, 16, 20, 22, 24, 26, 28, 32, 40, 56, 72, 100].map(|most| format!("ulimit -n {most}")).into();
    let named = |signal: Option<i32>, complaint: &str| {
        signal.is_none() && (complaint.contains("open files") || complaint.contains("RLIMIT_NOFILE"))
    };
    let counts = ["auto", "blocking"].map(|backend| limited("descriptors", backend, &limits, named));
    assert!(counts.iter().all(|[went_on, ended]| *went_on > 0 && *ended > 0), "{counts:?}");
    note("limits on open files", &counts);
}

#[test]
fn without_long_files_nothing_is_lost() {
    // In units of 512 B; a WAL file has 1024.
    let sizes = [200, 900, 1024, 1100, 1500, 4000];
    let limit = |size: u32| {
        // The signal kills; without it the error is the write's.
        [format!("ulimit -f {size}"), format!("trap '' XFSZ && ulimit -f {size}")]
    };
    let limits: Vec<String> = sizes.into_iter().flat_map(limit).collect();
    let named =
        |signal: Option<i32>, complaint: &str| signal == Some(SIGXFSZ) || complaint.contains("too large");
    let counts = ["auto", "blocking"].map(|backend| limited("file sizes", backend, &limits, named));
    assert!(counts.iter().all(|[went_on, ended]| *went_on > 0 && *ended > 0), "{counts:?}");
    note("limits on file sizes", &counts);
}

/// Whether a command can be run here and ends well.
fn runs(words: &[&str]) -> bool {
    let output = Command::new(words[0]).args(&words[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn without_locked_memory_a_log_opens_all_the_same() {
    // Who may lock as much as they like is not limited.
    let without = ["setpriv", "--bounding-set=-ipc_lock"];
    if !runs(&[&without[..], &["true"]].concat()) {
        println!("!! NOT RUN: owners without locked memory (setpriv is missing, or may not)");
        return;
    }
    let mut counts = [0, 0];
    for backend in ["auto", "uring"] {
        let mut log = Cycles::new(backend, 10);
        for kib in [0, 16, 64, 512] {
            let script = format!("ulimit -l {kib} && exec \"$0\" \"$@\"");
            let outcome = log.starved(&[without[0], without[1], "sh", "-c", &script], ACKS / 3);
            match outcome.unwrap_or_else(|why| panic!("{backend}, {kib} KiB: {why}")) {
                Outcome::WentOn => counts[0] += 1,
                Outcome::Ended(signal, complaint) => {
                    let named = signal.is_none() && complaint.contains("RLIMIT_MEMLOCK");
                    assert!(backend == "uring" && named, "{backend}, {kib} KiB: {signal:?}, {complaint}");
                    counts[1] += 1;
                }
            }
        }
    }
    note("limits on locked memory", &[counts]);
}

/// What is done to the ring's system calls, the backend asked for, and what becomes of the owner: what it
/// must say if it may end, nothing if it must go on.
const FORBIDDEN: [(&str, &str, Option<&str>); 6] = [
    ("io_uring_setup:error=EPERM", "auto", None),
    ("io_uring_setup:error=ENOSYS", "auto", None),
    ("io_uring_setup:error=ENOMEM", "auto", None),
    ("io_uring_setup:error=EPERM", "uring", Some("io_uring cannot be used")),
    // The kernel has no room for a moment.
    ("io_uring_enter:error=EAGAIN:when=40+7", "uring", None),
    ("io_uring_enter:error=EPERM:when=60+", "uring", Some("no longer serves the ring")),
];

#[test]
fn without_a_ring_nothing_is_lost() {
    if !runs(&["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "inject=getpid:error=EPERM", "true"])
    {
        println!("!! NOT RUN: owners without a ring (strace is missing, or may not trace)");
        return;
    }
    let mut counts = [0, 0];
    for (inject, backend, allowed) in FORBIDDEN {
        let mut log = Cycles::new(backend, 11);
        let (call, inject) = (inject.split(':').next().expect("a call"), format!("inject={inject}"));
        let trace = format!("trace={call}");
        let below = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        for _ in 0..2 {
            let outcome = log.starved(&below, ACKS);
            match (outcome.unwrap_or_else(|why| panic!("{backend}, {inject}: {why}")), allowed) {
                (Outcome::WentOn, None) => counts[0] += 1,
                (Outcome::Ended(None, complaint), Some(words)) if complaint.contains(words) => counts[1] += 1,
                (outcome, _) => panic!("{backend}, {inject}: {outcome:?}"),
            }
        }
    }
    note("io_uring refused", &[counts]);
}
