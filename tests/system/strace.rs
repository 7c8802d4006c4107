//! What the kernel is asked for: one data write and one sync per group, whatever the number of
//! partitions, and no acknowledgement before its sync. Looked at from outside, with strace.

#![forbid(unsafe_code)]

use std::process::Command;

/// A system call on a log file, in order.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Write,
    Sync,
}

/// Appends `records` to `partitions` under strace; gives the calls on the WAL meanwhile and the
/// groups that the engine says it wrote.
fn trace(partitions: usize, records: usize) -> (Vec<Call>, usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("trace");
    let data = dir.path().join("data");
    let run = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=pwrite64,pwritev2,fdatasync,fsync,openat", "-o"])
        .arg(&out)
        .arg(env!("CARGO_BIN_EXE_spread"))
        .arg(&data)
        .args([partitions.to_string(), records.to_string(), "blocking".to_owned()])
        .output()
        .expect("strace starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let groups = String::from_utf8_lossy(&run.stdout).trim().parse().expect("a number of groups");
    let text = std::fs::read_to_string(&out).expect("strace wrote its output");
    let begin = text.find("mark-begin").expect("the records begin");
    let end = text.find("mark-end").expect("the records end");
    let calls = text[begin..end].lines().filter_map(|line| {
        // Only the shard's own thread writes groups; a call that was interrupted in the trace by
        // another thread's shows up twice, once without its result.
        let is_group = line.contains("TLWGRP") || line.contains("TLWWAL");
        if line.contains("resumed>") {
            None
        } else if line.contains("pwrite") && is_group {
            Some(Call::Write)
        } else if line.contains("fdatasync(") && line.contains(".log>") {
            Some(Call::Sync)
        } else {
            None
        }
    });
    (calls.collect(), groups)
}

fn check(partitions: usize) {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("!! NOT RUN: system calls with {partitions} partitions (strace is missing)");
        return;
    }
    let (calls, groups) = trace(partitions, 2000);
    assert!(groups > 10, "{groups} groups");
    // The last group's calls may lie behind the mark's first lines, never before its sync: a
    // ticket resolves only when the sync has returned.
    let writes = calls.iter().filter(|call| **call == Call::Write).count();
    assert_eq!(writes, groups, "one write for each group");
    for pair in calls.chunks(2) {
        assert_eq!(pair, [Call::Write, Call::Sync], "a write, then its sync, before anything else");
    }
}

#[test]
fn a_group_is_one_write_and_one_sync_with_one_partition() {
    check(1);
}

#[test]
fn a_group_is_one_write_and_one_sync_with_ten_thousand_partitions() {
    check(10_000);
}
