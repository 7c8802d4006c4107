//! The format is what it was: files written once are still written the same, still read the same,
//! and read the same by a reader that shares no code with the engine.
//!
//! `THALWEG_BLESS=1` writes the golden files anew, and fails, so that it can't pass unseen. Version 1
//! is never blessed again once it is released: a change of the format is a version beside it.

#![forbid(unsafe_code)]

mod show;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg::inspect::{Dumped, dump, verify};
use thalweg::record::BatchKind;
use thalweg::{Config, OwnedShard, ReadFrom};
use thalweg_tests::specimen;

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn golden(name: &str) -> Vec<u8> {
    let path = place(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every golden file with the bytes it should have.
fn files() -> impl Iterator<Item = (String, Vec<u8>)> {
    specimen::all().into_iter().map(|(name, bytes)| (format!("{name}_v1.bin"), bytes))
}

/// The lines of `expected.txt` about one file.
fn expected(name: &str) -> String {
    let all = String::from_utf8(golden("expected.txt")).expect("text");
    let (_, from) = all.split_once(&format!("# {name}\n")).unwrap_or_else(|| panic!("nothing about {name}"));
    from.split("\n# ").next().map(|lines| format!("{}\n", lines.trim_end())).expect("a first part")
}

/// The first line that differs says more than two whole texts.
#[track_caller]
fn check_lines(name: &str, got: &str, want: &str) {
    for (number, (got, want)) in got.lines().zip(want.lines()).enumerate() {
        assert_eq!(got, want, "{name}, line {} of what it holds", number + 1);
    }
    assert_eq!(got.lines().count(), want.lines().count(), "{name}: lines");
}

#[test]
fn made_again_the_files_have_the_same_bytes() {
    if std::env::var_os("THALWEG_BLESS").is_some_and(|value| value == "1") {
        let mut text = String::new();
        for (name, bytes) in files() {
            std::fs::write(place(&name), &bytes).expect("a place for the golden file");
            let lines = show::show(&name, &bytes).expect("what was just made can be read");
            text.push_str(&format!("# {name}\n{lines}"));
        }
        std::fs::write(place("expected.txt"), text).expect("a place for the expected values");
        panic!("the golden files are written anew: look at the difference, then run without THALWEG_BLESS");
    }
    for (name, bytes) in files() {
        let kept = golden(&name);
        let differs = kept.iter().zip(&bytes).position(|(kept, made)| kept != made);
        assert_eq!(differs, None, "{name}: the first byte that differs");
        assert_eq!(kept.len(), bytes.len(), "{name}: length");
    }
}

#[test]
fn the_files_hold_what_they_held() {
    for (name, _) in files() {
        let got = show::show(&name, &golden(&name)).expect("a golden file is whole");
        check_lines(&name, &got, &expected(&name));
    }
}

/// Lays the golden files out as a data directory.
fn lay_out(root: &Path) {
    std::fs::create_dir_all(root.join("shard-0")).expect("a directory");
    let mut wal = golden("wal_v1.bin");
    wal.resize(specimen::WAL_FILE_BYTES as usize, 0);
    let files = [
        ("SUPERBLOCK", golden("superblock_v1.bin")),
        ("DEVICE", golden("device_v1.bin")),
        ("shard-0/MANIFEST-0000000000000001", golden("manifest_v1.bin")),
        ("shard-0/0000000000000000.log", golden("promoted_v1.bin")),
        ("shard-0/0000000000000001.log", wal),
        ("shard-0/0000000000000002.log", golden("segment_v1.bin")),
    ];
    for (name, bytes) in files {
        std::fs::write(root.join(name), bytes).expect("a file");
    }
}

#[test]
fn verify_and_dump_find_no_damage_in_them() {
    let directory = tempfile::tempdir().expect("a directory");
    lay_out(directory.path());
    let report = verify(directory.path(), &mut |_| {}).expect("a data directory");
    assert_eq!((&report.damage, &report.unfinished), (&vec![], &vec![]));
    assert_eq!((report.segments, report.groups, report.partitions), (2, 4, 3));
    dump(directory.path(), true, &mut |path, piece| {
        assert!(!matches!(piece, Dumped::Damage { .. }), "{}: {piece:?}", path.display());
    })
    .expect("a data directory");
}

/// Every record of a shard, as `specimen::WANT` writes them.
fn records(shard: &mut OwnedShard) -> Vec<String> {
    let mut found = Vec::new();
    for partition in shard.log().partitions() {
        let name = partition.name().to_owned();
        let start = shard.block_on(partition.describe()).map_or(0, |info| info.log_start.0);
        let mut reader = partition.read(ReadFrom::Earliest).to_end();
        while let Some(batch) = shard.block_on(reader.next_batch()) {
            let batch = batch.expect("a batch");
            if batch.header().kind == BatchKind::Opaque {
                let (base, end) = (batch.base_offset(), batch.end_offset());
                found.push(format!("{name} {base}..{end} {}", String::from_utf8_lossy(batch.body())));
                continue;
            }
            for record in batch.records().map(|record| record.expect("a record")) {
                let value = record.value().map(String::from_utf8_lossy);
                if record.offset.0 >= start {
                    found.push(format!("{name} {} {value:?}", record.offset));
                }
            }
        }
    }
    found
}

#[test]
fn the_engine_opens_them_and_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    lay_out(directory.path());
    let mut config = Config::new(directory.path());
    config.threads.backend = BackendSetting::Blocking;
    config.commit.strategy = CommitSetting::Dsync;
    config.group.bytes_max = 4096;
    config.limits.batch_bytes_max = 8192;
    config.cache.bytes = 256 << 10;
    let mut shard = OwnedShard::open(config).expect("the golden directory opens");
    assert_eq!(records(&mut shard), specimen::WANT);
    let events = shard.log().partition("events").expect("a known partition");
    let ticket = events.append("seven");
    assert_eq!(shard.block_on(ticket).expect("an append").base_offset.0, 7);
    shard.close().unwrap();
}

/// Runs the Python reader; none, and loudly, where there is no Python.
fn python(file: &Path) -> Option<Output> {
    match Command::new("python3").arg(place("reader.py")).arg(file).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("!! NOT RUN: the independent Python reader (python3: {error})");
            None
        }
    }
}

#[test]
fn an_independent_reader_finds_the_same() {
    for (name, _) in files() {
        let Some(output) = python(&place(&name)) else { return };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
        let got = String::from_utf8(output.stdout).expect("UTF-8");
        check_lines(&name, &got, &expected(&name));
    }
}

#[test]
fn an_independent_reader_notices_damage() {
    let directory = tempfile::tempdir().expect("a directory");
    let places = [
        ("superblock_v1.bin", 20),
        ("device_v1.bin", 100),
        ("manifest_v1.bin", 4096 + 60),
        ("wal_v1.bin", 30),
        ("wal_v1.bin", 4096 + 96 + 70),
        ("segment_v1.bin", 70),
        ("promoted_v1.bin", 4096 + 20),
    ];
    for (name, at) in places {
        let mut bytes = golden(name);
        bytes[at] ^= 0x10;
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let Some(output) = python(&path) else { return };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}, byte {at}: {errors}");
        assert!(!errors.contains("Traceback"), "{name}, byte {at}: {errors}");
    }
}
