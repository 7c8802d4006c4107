//! Tail: the last records. And the lock, which is why it follows nobody.

use std::process::{Child, Stdio};

use crate::home::{Home, signal, wait_for, wait_until};

fn five() -> Home {
    let home = Home::new();
    home.feed("log append p --create", b"0\n1\n2\n3\n4\n").quiet();
    home
}

#[test]
fn the_last_records_are_shown() {
    let home = five();
    assert_eq!(home.run("log tail p").quiet(), "0\n1\n2\n3\n4\n");
    assert_eq!(home.run("log tail p -n 2").quiet(), "3\n4\n");
    assert_eq!(home.run("log tail p -n 3 --max 1").quiet(), "2\n");
    assert_eq!(home.run("log tail p -n 0").quiet(), "");
    assert_eq!(home.run("log tail p -n 1 --json").json()[0]["offset"], 4);
    home.feed("log append p", "x\n".repeat(20).as_bytes()).quiet();
    assert_eq!(home.run("log tail p").quiet(), "x\n".repeat(10));
}

#[test]
fn trimmed_records_are_not_the_last() {
    let home = five();
    home.run("log trim p --before 3").quiet();
    assert_eq!(home.run("log tail p -n 100").quiet(), "3\n4\n");
}

/// A process that has the directory open, and waits for input.
fn owner(home: &Home) -> Child {
    let child = home.spawn("log append p", Stdio::piped());
    wait_until("it has the lock", || {
        home.run("log list").stderr.contains(&format!("locked by process {}", child.id()))
    });
    child
}

#[test]
fn a_directory_in_use_is_refused_with_the_name_of_its_owner() {
    let home = five();
    let mut child = owner(&home);
    let owner = format!("locked by process {}", child.id());
    home.run("log tail p").fails(1, &["can't open", "data", &owner, "end that one, or wait"]);
    home.run("verify").fails(2, &[&owner]);
    signal(&child, "INT");
    assert_eq!(wait_for(&mut child), Some(130));
    home.run("log list").quiet();
}
