//! Tail: the last records, and waiting.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::home::{Home, signal, wait_for};

fn five() -> Home {
    let home = Home::new();
    home.feed("log append p --create", b"0\n1\n2\n3\n4\n").quiet();
    home
}

/// A tail that has shown its first line and waits, and what it shows.
fn waiting(home: &Home) -> (Child, impl BufRead) {
    let mut child = home.spawn("log tail p -n 1", Stdio::null());
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "4\n");
    (child, lines)
}

#[test]
fn the_last_records_are_shown() {
    let home = five();
    assert_eq!(home.run("log tail p --max 5").quiet(), "0\n1\n2\n3\n4\n");
    assert_eq!(home.run("log tail p -n 2 --max 2").quiet(), "3\n4\n");
    assert_eq!(home.run("log tail p -n 3 --max 1").quiet(), "2\n");
    assert_eq!(home.run("log tail p -n 2 --max 0").quiet(), "");
    assert_eq!(home.run("log tail p -n 1 --max 1 --json").json()[0]["offset"], 4);
}

#[test]
fn trimmed_records_are_not_the_last() {
    let home = five();
    home.run("log trim p --before 3").quiet();
    assert_eq!(home.run("log tail p -n 100 --max 2").quiet(), "3\n4\n");
}

#[test]
fn an_interrupted_tail_ends_well() {
    let home = five();
    for name in ["INT", "TERM"] {
        let (mut child, _lines) = waiting(&home);
        signal(&child, name);
        assert_eq!(wait_for(&mut child), Some(0), "{name}");
    }
}

#[test]
fn a_tail_that_nobody_reads_ends_though_nothing_is_appended() {
    let home = five();
    let (mut child, lines) = waiting(&home);
    drop(lines);
    assert_eq!(wait_for(&mut child), Some(0));
}

#[test]
fn a_directory_in_use_is_refused_with_the_name_of_its_owner() {
    let home = five();
    let (mut child, _lines) = waiting(&home);
    let owner = format!("locked by process {}", child.id());
    home.run("log list").fails(1, &["can't open", "data", &owner, "end that one, or wait"]);
    home.run("verify").fails(2, &[&owner]);
    signal(&child, "INT");
    assert_eq!(wait_for(&mut child), Some(0));
    home.run("log list").quiet();
}
