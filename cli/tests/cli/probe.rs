//! What is measured of a device, where that is kept, and when it is not believed.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::home::Home;

const STRATEGIES: [&str; 4] = ["dsync", "write_then_sync", "hybrid", "blocking"];

/// A home whose engine finds out how to commit.
fn automatic(wal_file_bytes: u64) -> Home {
    let home = Home::new();
    home.write("config.toml", format!("wal.file_bytes = {wal_file_bytes}\ncache.bytes = 16777216\n"));
    home
}

/// What `DEVICE` holds.
fn profile(home: &Home) -> Value {
    home.run("dump --json data/DEVICE").json().remove(0)
}

fn measured_ms(home: &Home) -> i64 {
    profile(home)["measured_ms"].as_i64().unwrap()
}

fn names(home: &Home, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(home.path(dir)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Runs with events; returns those.
#[track_caller]
fn events(home: &Home, args: &str) -> String {
    let output = home.command(args.split(' ')).env("THALWEG_LOG", "info").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_new_directory_is_measured_and_keeps_what_was_found() {
    let home = automatic(4 << 20);
    let said = events(&home, "log create a");
    assert!(said.contains("how commits are made") && said.contains(" takes "), "{said}");
    assert_eq!(names(&home, "data"), ["DEVICE", "LOCK", "SUPERBLOCK", "shard-0"]);
    let found = profile(&home);
    assert_eq!((&found["kind"], &found["poll_us"]), (&"device".into(), &500.into()));
    assert!(STRATEGIES.contains(&found["strategy"].as_str().unwrap()), "{found}");
    let said = events(&home, "log list");
    assert!(said.contains("measured before"), "{said}");
    assert_eq!(home.run("verify").quiet().lines().last(), Some("nothing is damaged"));
}

#[test]
fn a_profile_that_is_damaged_or_of_another_device_is_measured_again() {
    let home = automatic(4 << 20);
    home.run("log create a").quiet();
    let (path, first) = (home.path("data/DEVICE"), measured_ms(&home));
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(&path, bad).unwrap();
    assert!(events(&home, "log list").contains("DEVICE can't be read"));
    let second = measured_ms(&home);
    assert!(second > first);

    fs::write(&path, b"").unwrap();
    assert!(events(&home, "log list").contains("DEVICE can't be read"));

    // The golden profile is of a device that nobody has.
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/device_v1.bin");
    fs::copy(golden, &path).unwrap();
    assert!(events(&home, "log list").contains("another device"));
    assert!(measured_ms(&home) > second);
}

#[test]
fn a_strategy_that_is_asked_for_by_name_is_taken_unmeasured() {
    for strategy in STRATEGIES {
        let home = automatic(4 << 20);
        home.write("config.toml", format!("wal.file_bytes = 4194304\ncommit.strategy = \"{strategy}\"\n"));
        let said = events(&home, "log append a --create one");
        assert!(said.contains(&format!("strategy={strategy}")), "{said}");
        assert!(said.contains("commit.strategy asks for it"), "{said}");
        assert_eq!(home.run("log read a").quiet(), "one\n");
        assert_eq!(names(&home, "data"), ["LOCK", "SUPERBLOCK", "shard-0"]);
    }
}

#[test]
fn a_probe_of_any_directory_shows_every_strategy_and_leaves_nothing() {
    let home = automatic(4 << 20);
    fs::create_dir(home.path("disk")).unwrap();
    let report = home.run("probe disk --seconds 1 --json").json().remove(0);
    assert_eq!(names(&home, "disk"), Vec::<String>::new());
    assert_eq!(report["stored"], false);
    let figures = report["figures"].as_array().unwrap();
    let of = |strategy: &str| figures.iter().filter(|each| each["strategy"] == strategy).count();
    let fewest = if report["backend"] == "uring" { &STRATEGIES[..] } else { &STRATEGIES[..2] };
    assert!(fewest.iter().all(|strategy| of(strategy) > 0), "{report}");
    assert!(of(report["strategy"].as_str().unwrap()) >= 9, "{report}");
    let text = home.run("probe disk --seconds 1");
    assert!(text.quiet().contains("no data directory yet"), "{}", text.text());
    assert!(text.text().contains("\nSTRATEGY "), "{}", text.text());
}

#[test]
fn a_data_directory_keeps_the_probe_unless_somebody_has_it_open() {
    let home = automatic(4 << 20);
    home.run("log create a").quiet();
    let first = measured_ms(&home);
    let report = home.run("probe --seconds 1 --json").json().remove(0);
    assert_eq!(report["stored"], true);
    assert!(measured_ms(&home) > first);
    assert_eq!(profile(&home)["strategy"], report["strategy"]);
    let mut owner = home.spawn("log append a", Stdio::piped());
    crate::home::wait_until("the log is open", || !home.run("verify").stderr.is_empty());
    home.run("probe --seconds 1").fails(1, &["is locked by", "hint"]);
    drop(owner.stdin.take());
    crate::home::wait_for(&mut owner);
}

#[test]
fn without_room_a_probe_says_so_and_an_engine_does_without() {
    // One that opens with files of 1.2 MiB, where no file may have 4 MiB.
    let home = automatic(1_228_800);
    let limited = |args: &str| {
        let mut shell = home.command(args.split(' '));
        let thalweg = shell.get_program().to_owned();
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", "trap '' XFSZ; ulimit -f 3072; exec \"$0\" \"$@\""])
            .arg(thalweg)
            .args(args.split(' '));
        for (name, value) in shell.get_envs() {
            sh.env(name, value.unwrap_or_default());
        }
        shell = sh;
        crate::home::Ran::from(shell.current_dir(home.path("")).output().unwrap())
    };
    let created = limited("log append a --create one");
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    assert!(created.stderr.contains("the device can't be measured; commits are dsync"), "{}", created.stderr);
    limited("probe --seconds 1").fails(1, &["can't measure the device", "PROBE.tmp", "File too large"]);
    assert_eq!(names(&home, "data"), ["LOCK", "SUPERBLOCK", "shard-0"]);
    home.run("probe absent").fails(1, &["absent", "make the directory first"]);
}
