//! `thalweg soak`: a short one, one that is interrupted, and one whose log is damaged under it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Stdio;

use crate::home::{Home, Ran, signal, wait_until};

fn home() -> Home {
    let home = Home::new();
    fs::create_dir(home.path("device")).unwrap();
    home
}

/// The folders of runs on the device.
fn folders(home: &Home) -> Vec<PathBuf> {
    fs::read_dir(home.path("device")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_short_run_appends_reads_trims_restarts_and_finds_nothing() {
    let home = home();
    // Enough appends that partitions are trimmed would take longer: what is asserted is what was done.
    let found = home.run("soak --minutes 0.12 --per-second 4000 --on device --json").json().remove(0);
    let number = |name: &str| found[name].as_u64().unwrap();
    assert!(number("appended") > 1000 && number("restarts") >= 2, "{found}");
    // By the follower, and again at each opening.
    assert!(number("checked") > number("appended"), "{found}");
    assert_eq!(found["found"], serde_json::Value::Null);
    let samples = found["samples"].as_array().unwrap();
    assert!(samples.len() > 3 && samples[0]["resident_bytes"].as_u64().unwrap() > 1 << 20, "{found}");
    assert_eq!(folders(&home), Vec::<PathBuf>::new(), "the folder is removed");
}

#[test]
fn a_run_that_is_interrupted_reports_all_the_same() {
    let home = home();
    let child = home.spawn("soak --minutes 60 --on device", Stdio::null());
    wait_until("records", || folders(&home).iter().any(|folder| folder.join("log/shard-0").exists()));
    signal(&child, "INT");
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.text().ends_with("nothing is wrong\n") && ran.stderr.is_empty(), "{ran:?}");
    assert_eq!(folders(&home), Vec::<PathBuf>::new(), "the folder is removed");
}

#[test]
fn what_the_checker_finds_is_told_and_kept() {
    let home = home();
    let child = home.spawn("soak --minutes 0.4 --per-second 20000 --on device", Stdio::null());
    let sealed = || {
        let shard = folders(&home).pop().map(|folder| folder.join("log/shard-0"));
        let files = shard.and_then(|shard| fs::read_dir(shard).ok()).into_iter().flatten().flatten();
        let mut logs: Vec<_> = files.map(|entry| entry.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|end| end == "log"));
        logs.sort();
        logs
    };
    wait_until("files that are full", || sealed().len() > 3);
    for path in sealed() {
        // A file may become another while this looks: the next one will do.
        let Ok(file) = fs::OpenOptions::new().write(true).open(&path) else { continue };
        for at in (8192..4 << 20).step_by(8192) {
            file.write_all_at(b"damage", at + 100).unwrap();
        }
    }
    let ran = Ran::from(child.wait_with_output().unwrap());
    ran.fails(1, &["the log is kept in", "thalweg verify"]);
    let kept = folders(&home).pop().unwrap();
    assert!(kept.join("log/SUPERBLOCK").exists());
}

#[test]
fn a_run_that_can_not_be_is_refused() {
    let home = home();
    home.run("soak").fails(2, &["--minutes"]);
    home.run("soak --minutes 0").fails(2, &["--minutes=0: must be"]);
    home.run("soak --minutes 1 --per-second 0").fails(2, &["--per-second=0: must be"]);
    home.run("soak --minutes 1 --on nowhere").fails(2, &["--on=nowhere", "no such directory"]);
    home.write("config.toml", "cache.bytes = 1\n");
    home.run("soak --minutes 1").fails(2, &["cache.bytes=1"]);
}
