//! Verify, repair and dump.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::home::{Home, wait_until};

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

/// Four records in groups of their own, a marker behind them, and damage in the last of them.
#[test]
fn a_loss_at_the_end_is_named_and_its_offset_not_given_out_again() {
    let home = Home::new();
    home.run("log create p").quiet();
    for value in ["one", "two", "three", "the last"] {
        let mut append = home.command(["log", "append", "p", value]);
        assert!(append.status().unwrap().success());
    }
    damage(&home, "the last");
    assert_eq!(home.run("verify").code, Some(1));
    let plan = home.run("repair --dry-run");
    assert!(plan.text().contains("LOST: \"p\" (partition 0), offsets 3..4"), "{}", plan.text());
    assert!(!plan.text().contains("no record is lost"), "{}", plan.text());
    let done = home.run("repair --yes --json").json().remove(0);
    let lost = json!({"partition": 0, "name": "p", "from": 3, "end": 4, "next_offset": null});
    assert_eq!((&done["lost"], &done["missing_bytes"]), (&json!([lost]), &json!(0)));
    assert_eq!(home.run("log append p new").quiet(), "4\n");
    assert_eq!(home.run("log read p").quiet(), "one\ntwo\nthree\nnew\n");
}

#[test]
fn an_end_that_nobody_knows_is_said_to_be_unknown() {
    let home = hundred();
    let files = fs::read_dir(home.path("data/shard-0")).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|ext| ext == "log")) {
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(12288).unwrap();
    }
    let plan = home.run("repair --dry-run");
    assert!(plan.text().contains("MAY BE LOST: \"p\" (partition 0), everything from offset"), "{plan:?}");
    home.run("repair").fails(2, &["give up what may be lost"]);
    let done = home.run("repair --yes --json").json().remove(0);
    assert_eq!(done["lost"][0]["end"], Value::Null, "{done}");
    let next = done["lost"][0]["next_offset"].as_u64().unwrap();
    assert!(next >= 101, "{done}");
    assert_eq!(home.run("log append p more").succeeds(), format!("{next}\n"));
}

#[test]
fn what_only_a_copy_can_help_is_damage_and_not_sent_to_repair() {
    for name in ["SUPERBLOCK", "shard-0/MANIFEST"] {
        let home = hundred();
        let mut files = fs::read_dir(home.path("data/shard-0")).unwrap().map(|entry| entry.unwrap().path());
        let manifest = files.find(|path| path.to_str().unwrap().contains(name));
        let path = manifest.unwrap_or_else(|| home.path("data/SUPERBLOCK"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
        let ran = home.run("verify --json");
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let report: Value = serde_json::from_str(ran.text()).unwrap();
        assert_eq!((&report["clean"], &report["damage"][0]["copy_needed"]), (&json!(false), &json!(true)));
        let text = home.run("verify");
        assert!(text.text().contains("must come from a copy"), "{text:?}");
        assert!(!text.text().contains("--dry-run"), "{text:?}");
        home.run("repair --yes").fails(2, &["restore it from a copy", "hint: a copy"]);
    }
}

#[test]
fn looking_needs_no_right_to_write() {
    let home = hundred();
    let readable = |path: PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in [".", "config.toml"] {
        readable(home.path(name), 0o755);
    }
    for dir in ["data", "data/shard-0"] {
        for entry in fs::read_dir(home.path(dir)).unwrap().map(Result::unwrap) {
            readable(entry.path(), if entry.file_type().unwrap().is_dir() { 0o555 } else { 0o444 });
        }
        readable(home.path(dir), 0o555);
    }
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let run = |args: &str| {
        let mut command = home.command(args.split(' '));
        if root {
            command.uid(65_534); // root may write anywhere
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("note: ") && stderr.contains("without the lock"), "{args}: {stderr}");
        assert_eq!(output.status.code(), Some(0), "{args}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run("verify").ends_with("nothing is damaged\n"));
    assert!(run("dump").contains("superblock"));
    assert_eq!(run("repair --dry-run"), "nothing needs repair\n");
    for dir in ["data/shard-0", "data"] {
        readable(home.path(dir), 0o755); // so that it can be removed
    }
}

#[test]
fn a_directory_in_use_is_said_to_be_and_what_to_do() {
    let home = hundred();
    let mut owner = home.spawn("log append p", Stdio::piped());
    wait_until("the log is open", || home.run("verify").code == Some(2));
    for (args, code) in [("verify", 2), ("dump", 1), ("repair --dry-run", 2)] {
        home.run(args).fails(code, &["hint: only one process at a time"]);
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
}

#[test]
fn a_dump_in_json_has_the_fields_of_the_format() {
    let home = hundred();
    let pieces = home.run("dump --json").json();
    let create = pieces.iter().find(|piece| piece["change"] == "create").unwrap();
    assert_eq!((&create["partition"], &create["name"]), (&json!(0), &json!("p")));
    let settings = &create["settings"];
    assert_eq!((&settings["compact"], &settings["bytes_max"]), (&json!(false), &Value::Null));
    let changes = pieces.iter().filter_map(|piece| piece["changes"].as_array()).flatten();
    let names: BTreeSet<_> = changes.map(|change| change["change"].as_str().unwrap()).collect();
    for name in ["floor", "next_file", "next_partition", "joint_resolved", "wal_file_added"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    assert!(!home.run("dump --json").text().contains("PartitionId("));
    assert!(home.run("dump").text().contains(" create partition=0 settings=(compact=false "));
}
