//! Verify, repair and dump.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::home::Home;

/// A log of a hundred records, in groups of at most ten.
fn hundred() -> Home {
    let home = Home::new();
    for ten in 0..10 {
        let lines: String = (0..10).map(|one| format!("record {}\n", ten * 10 + one)).collect();
        home.feed("log import p -", lines.as_bytes()).quiet();
    }
    home.run("log append p last").quiet();
    home
}

/// Flips a bit of the stored value of a record; returns the file.
fn damage(home: &Home, value: &str) -> PathBuf {
    let files = fs::read_dir(home.path("data/shard-0")).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|ext| ext == "log")) {
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(value.len()).position(|window| window == value.as_bytes()) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            return path;
        }
    }
    panic!("{value:?} is in no file");
}

#[test]
fn a_log_without_damage_is_clean() {
    let home = hundred();
    assert!(home.run("verify").quiet().ends_with("nothing is damaged\n"));
    let report = &home.run("verify --json").json()[0];
    assert_eq!((&report["clean"], &report["damage"]), (&Value::Bool(true), &Value::Array(Vec::new())));
    assert_eq!(home.run("repair").quiet(), "nothing needs repair\n");
    assert_eq!(home.run("repair --json").json()[0]["needed"], false);
    assert_eq!(home.run("log read p").text().lines().count(), 101);
}

#[test]
fn damage_is_found_named_and_repaired_around() {
    let home = hundred();
    let path = damage(&home, "record 50");
    let name = path.file_name().unwrap().to_str().unwrap();
    let ran = home.run("verify");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.text().contains("DAMAGED: ") && ran.text().contains(name), "{}", ran.text());
    home.run("log read p").fails(1, &["can't open", name, "thalweg verify", "thalweg repair"]);

    let plan = home.run("repair --dry-run");
    assert_eq!(plan.code, Some(1), "{plan:?}");
    assert!(plan.text().contains("LOST: \"p\""), "{}", plan.text());
    home.run("repair").fails(2, &["LOST: \"p\"", "--yes"]);
    assert_eq!(home.run("verify").code, Some(1), "nothing has changed");

    let done = home.run("repair --yes --json");
    let report = &done.json()[0];
    assert_eq!(report["applied"], true);
    let lost = |end: &str| report["lost"][0][end].as_u64().unwrap();
    let lost = lost("from")..lost("end");
    assert!(lost.contains(&50) && (50..60).contains(&lost.start) && (51..61).contains(&lost.end), "{lost:?}");
    home.run("verify").quiet();
    let offsets: Vec<u64> = home
        .run("log read p --json")
        .json()
        .iter()
        .map(|record| record["offset"].as_u64().unwrap())
        .collect();
    let want: Vec<u64> = (0..101).filter(|offset| !lost.contains(offset)).collect();
    assert_eq!(offsets, want);
    assert_eq!(home.run("log append p more").quiet(), "101\n");
    assert_eq!(home.run("log tail p -n 60 --max 60").quiet().lines().count(), 60);
}

#[test]
fn a_dump_shows_every_kind_of_file() {
    let home = hundred();
    let kinds = |args: &str| {
        let pieces = home.run(args).json();
        let mut kinds: Vec<_> =
            pieces.iter().map(|piece| piece["kind"].as_str().unwrap().to_owned()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    let all = ["batch", "control", "edit", "group", "record", "superblock", "wal_file"];
    assert_eq!(kinds("dump --json --records"), all);
    assert_eq!(kinds("dump --json data/SUPERBLOCK"), ["superblock"]);
    assert!(!kinds("dump --json data/shard-0").contains(&"superblock".to_owned()));
    let text = home.run("dump data --records");
    assert!(text.quiet().contains("\n        record offset=100 "), "{}", text.text());
}
