//! What the kernel is asked for: one data write and one sync per group, whatever the number of
//! partitions, and no acknowledgement before its sync. Looked at from outside, with strace.

#![forbid(unsafe_code)]

use std::process::Command;

/// A system call on a log file, in order.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Write,
    DurableWrite,
    Sync,
}

/// Appends `records` to `partitions` under strace; gives the calls on the WAL meanwhile and the
/// groups that the engine says it wrote.
fn trace(partitions: usize, records: usize, backend: &str, strategy: &str) -> (Vec<Call>, usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("trace");
    let data = dir.path().join("data");
    let run = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-y", "-e", "trace=pwrite64,pwritev2,fdatasync,fsync,openat", "-o"])
        .arg(&out)
        .arg(env!("CARGO_BIN_EXE_spread"))
        .arg(&data)
        .args([&partitions.to_string(), &records.to_string(), backend, strategy])
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
        } else if line.contains("RWF_DSYNC") && is_group {
            Some(Call::DurableWrite)
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

fn has_strace(what: &str) -> bool {
    let there = Command::new("strace").arg("-V").output().is_ok();
    if !there {
        eprintln!("!! NOT RUN: system calls {what} (strace is missing)");
    }
    there
}

fn check(partitions: usize) {
    if !has_strace(&format!("with {partitions} partitions")) {
        return;
    }
    let (calls, groups) = trace(partitions, 2000, "blocking", "write_then_sync");
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

#[test]
fn told_to_block_a_shard_with_a_ring_writes_every_group_by_a_system_call() {
    if !has_strace("of the blocking strategy") {
        return;
    }
    let (calls, groups) = trace(1, 2000, "uring", "blocking");
    assert!(groups > 10, "{groups} groups");
    let writes = calls.iter().filter(|call| **call == Call::DurableWrite).count();
    assert_eq!((writes, calls.len()), (groups, groups), "one durable write for each group and nothing else");
}

#[test]
fn told_to_divide_the_work_a_shard_syncs_what_its_ring_wrote() {
    if !has_strace("of the hybrid strategy") {
        return;
    }
    let (calls, groups) = trace(1, 2000, "uring", "hybrid");
    assert!(groups > 10, "{groups} groups");
    let syncs = calls.iter().filter(|call| **call == Call::Sync).count();
    // Groups whose writes are reaped together share a sync.
    assert!((1..=groups).contains(&syncs), "{syncs} syncs for {groups} groups");
    assert_eq!(calls.len(), syncs, "no group is written by a system call");
}

#[test]
fn told_to_leave_it_to_the_ring_a_shard_makes_no_such_call() {
    if !has_strace("of the ring's own strategies") {
        return;
    }
    for strategy in ["dsync", "write_then_sync"] {
        let (calls, groups) = trace(1, 2000, "uring", strategy);
        assert!(groups > 10, "{groups} groups");
        assert_eq!(calls, [], "{strategy}");
    }
}
