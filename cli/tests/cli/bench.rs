//! `thalweg bench`: what it writes, and what it says of two runs.

use std::process::Stdio;

use crate::home::{Home, signal, wait_for, wait_until};

#[test]
fn a_run_leaves_its_reports_and_nothing_else_and_can_be_compared() {
    let home = Home::new();
    std::fs::create_dir(home.path("device")).unwrap();
    let ran = home.run("bench tail --quick --rounds 1 --on device --report one");
    ran.succeeds();
    for words in
        ["A quick run", "from ack to a spinning reader", "targets reached", "report: one/report.html"]
    {
        assert!(ran.text().contains(words), "{words:?} is not in {}", ran.text());
    }
    assert_eq!(std::fs::read_dir(home.path("device")).unwrap().count(), 0, "the folder is removed");
    let page = std::fs::read_to_string(home.path("one/report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("from ack to a spinning reader"));
    home.run("bench compare one one/report.json").succeeds();
    let found = home.run("bench compare one one --json").json().remove(0);
    assert_eq!(found["regressions"], serde_json::json!([]), "{found}");
}

#[test]
fn what_can_not_be_measured_is_refused() {
    let home = Home::new();
    home.run("bench append --on nowhere").fails(2, &["--on=nowhere", "no such directory"]);
    home.run("bench append --rounds 0").fails(2, &["--rounds=0", "at least one round"]);
    home.run("bench").fails(2, &["Usage"]);
    home.run("bench everything").fails(2, &["everything", "possible values: append, read, tail"]);
    home.write("taken", "");
    home.run("bench tail --report taken").fails(2, &["--report=taken", "needs a folder"]);
    home.write("report.json", "{\"version\": 99}");
    home.run("bench compare report.json report.json").fails(2, &["report.json", "version", "99"]);
    home.run("bench compare here there").fails(2, &["here", "No such file"]);
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let home = Home::new();
        let device = home.path("device");
        std::fs::create_dir(&device).unwrap();
        let folders = || std::fs::read_dir(&device).unwrap().map(|entry| entry.unwrap().path());
        let mut child = home.spawn("bench append --quick --on device", Stdio::null());
        // With an engine open in it.
        wait_until("a measurement", || folders().any(|folder| folder.join("engine/shard-0").exists()));
        signal(&child, name);
        assert_eq!(wait_for(&mut child), Some(code));
        assert_eq!(folders().count(), 0, "the folder is removed");
    }
}

#[test]
fn who_fills_a_wal_to_be_killed_ends_with_the_one_who_would() {
    let home = Home::new();
    let ran = home
        .feed("bench fill-wal wal", b"{\"config\":{\"wal\":{\"file_bytes\":4194304}},\"until\":\"File\"}\n");
    assert_eq!(ran.succeeds(), "full\n");
    home.run("verify --data-dir wal").quiet();
    home.feed("bench fill-wal wal", b"").fails(2, &["no orders"]);
}
