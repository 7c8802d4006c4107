//! Kill -9 in the middle of an import: what was acknowledged is there.

use std::io::{BufRead, Write};
use std::process::Stdio;

use crate::home::{Home, wait_until};

/// The record at an offset.
fn line(offset: u64) -> String {
    let width = (offset % 113) as usize;
    format!("{offset} {:0width$}", offset.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Imports lines without end from `from` on, and kills the import once it has acknowledged some.
/// Returns the last offset that it said was acknowledged.
fn import_until_killed(home: &Home, from: u64, acknowledgements: usize) -> u64 {
    let _ = std::fs::remove_file(home.path("acks"));
    let mut child = home.spawn("log import p - --acks acks", Stdio::piped());
    let mut pipe = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let mut offset = from;
        while writeln!(pipe, "{}", line(offset)).is_ok() {
            offset += 1;
        }
    });
    let acks = || std::fs::read(home.path("acks")).unwrap_or_default();
    wait_until("acknowledgements", || acks().lines().count() >= acknowledgements);
    child.kill().unwrap();
    child.wait().unwrap();
    writer.join().unwrap();
    String::from_utf8(acks()).unwrap().lines().last().unwrap().parse().unwrap()
}

#[test]
fn every_acknowledged_record_survives_a_kill() {
    let home = Home::new();
    let mut next = 0;
    for acknowledgements in [3, 40, 200] {
        let last = import_until_killed(&home, next, acknowledgements);
        // The first to open it may warn of what the kill left half-made.
        let read = home.run("log read p");
        let lines: Vec<&str> = read.succeeds().lines().collect();
        assert!(lines.len() as u64 > last, "{last} was acknowledged, {} records are there", lines.len());
        // Records that were written and not yet acknowledged may be there too, in order.
        for (offset, found) in lines.iter().enumerate() {
            assert_eq!(*found, line(offset as u64), "offset {offset}");
        }
        next = lines.len() as u64;
        home.run("verify").quiet();
    }
}

/// Retention recycles files while the import goes on: at no moment may a kill leave a log that
/// does not open.
#[test]
fn a_log_whose_files_are_being_recycled_survives_a_kill() {
    let home = Home::new();
    let config = "wal.file_bytes = 4194304\ncache.bytes = 16777216\nsegment.check_interval_ms = 1\n";
    home.write("config.toml", config);
    home.run("log create p --retention-bytes 4MiB").quiet();
    let mut next = 0;
    for acknowledgements in [100, 150, 200, 250, 300, 350] {
        let last = import_until_killed(&home, next, acknowledgements);
        // Retention goes on while this reads, so there may be gaps; what is there is right.
        let read = home.run("log read p --json").json();
        for record in &read {
            assert_eq!(record["value"], line(record["offset"].as_u64().unwrap()));
        }
        let flushed = home.run("log list --json").json()[0]["flushed"].as_u64().unwrap();
        assert_eq!(read.last().unwrap()["offset"], flushed - 1);
        assert!(flushed > last, "{last} was acknowledged, the log ends at {flushed}");
        next = flushed;
    }
}
