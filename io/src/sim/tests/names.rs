//! Names of files and directories.

use std::collections::BTreeSet;

use super::super::{SimDisk, SimOptions};
use super::{Life, errno, strict};
use crate::backend::{Durability::Durable, Entry, Op, OpenMode};

fn names(disk: &SimDisk) -> Vec<String> {
    disk.files().into_iter().map(|(path, _)| path.display().to_string()).collect()
}

/// Every set of names that a power cut can leave.
fn outcomes(disk: &SimDisk) -> BTreeSet<Vec<String>> {
    (0..300)
        .map(|seed| {
            let copy = disk.snapshot();
            copy.reseed(seed);
            copy.crash();
            names(&copy)
        })
        .collect()
}

fn set(outcomes: &[&[&str]]) -> BTreeSet<Vec<String>> {
    outcomes.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect()
}

#[test]
fn a_new_name_needs_its_directory_synced() {
    let disk = strict();
    let life = Life::new(&disk);
    let (file, _) = life.open("wal", OpenMode::CreateNew).unwrap();
    life.write(file, 0, 1, 1, Durable).unwrap();
    life.run(Op::Sync { file }).unwrap();
    assert_eq!((disk.contents("wal").is_some(), disk.durable("wal")), (true, None));
    assert_eq!(outcomes(&SimDisk::clone(&disk)), set(&[&[]]));
    life.run(Op::SyncDir { path: "".into() }).unwrap();
    disk.crash();
    assert_eq!(names(&disk), ["wal"]);
}

#[test]
fn a_directory_takes_its_files_with_it() {
    let disk = strict();
    let life = Life::new(&disk);
    life.run(Op::CreateDir { path: "a".into() }).unwrap();
    life.create("a/file");
    let lost = disk.snapshot();
    lost.crash();
    assert_eq!(names(&lost), [] as [&str; 0]);
    life.run(Op::SyncDir { path: "".into() }).unwrap();
    disk.crash();
    assert_eq!(names(&disk), ["a/file"]);
}

#[test]
fn a_removed_name_may_come_back() {
    let disk = SimDisk::new(1);
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 1, 9, Durable).unwrap();
    life.run(Op::Close { file }).unwrap();
    life.run(Op::Remove { path: "wal".into() }).unwrap();
    assert_eq!(outcomes(&disk), set(&[&[], &["wal"]]));
    let back = disk.snapshot();
    back.crash_choosing(|_| false);
    assert_eq!(back.contents("wal").unwrap()[0], 9);
    life.run(Op::SyncDir { path: "".into() }).unwrap();
    assert_eq!(outcomes(&disk), set(&[&[]]));
}

#[test]
fn a_rename_is_whole_and_may_be_undone() {
    let disk = SimDisk::new(1);
    let life = Life::new(&disk);
    for (name, fill) in [("new", 2), ("old", 1)] {
        let file = life.create(name);
        life.write(file, 0, 1, fill, Durable).unwrap();
    }
    life.run(Op::Rename { from: "new".into(), to: "old".into() }).unwrap();
    assert_eq!(disk.contents("old").unwrap()[0], 2);
    assert_eq!(outcomes(&disk), set(&[&["old"], &["new", "old"]]));
    let undone = disk.snapshot();
    undone.crash_choosing(|_| false);
    assert_eq!(undone.contents("old").unwrap()[0], 1);
    life.run(Op::SyncDir { path: "".into() }).unwrap();
    assert_eq!(outcomes(&disk), set(&[&["old"]]));
    disk.crash();
    assert_eq!(disk.contents("old").unwrap()[0], 2);
}

#[test]
fn facts_about_one_name_keep_their_order_and_others_do_not() {
    let disk = SimDisk::new(1);
    let life = Life::new(&disk);
    life.open("a", OpenMode::CreateNew).unwrap();
    life.open("b", OpenMode::CreateNew).unwrap();
    assert_eq!(outcomes(&disk), set(&[&[], &["a"], &["b"], &["a", "b"]]));
    life.run(Op::Rename { from: "a".into(), to: "c".into() }).unwrap();
    // "c" without "a" having been there first is not possible: no outcome has both or a lone loss.
    assert_eq!(outcomes(&disk), set(&[&[], &["a"], &["b"], &["c"], &["a", "b"], &["b", "c"]]));
}

#[test]
fn a_file_moved_to_another_directory_never_loses_both_names() {
    let disk = SimDisk::new(1);
    let life = Life::new(&disk);
    for dir in ["x", "y"] {
        life.run(Op::CreateDir { path: dir.into() }).unwrap();
    }
    life.run(Op::SyncDir { path: "".into() }).unwrap();
    life.create("x/f");
    life.run(Op::Rename { from: "x/f".into(), to: "y/f".into() }).unwrap();
    assert_eq!(outcomes(&disk), set(&[&["x/f"], &["y/f"], &["x/f", "y/f"]]));
    let (target, source) = (disk.snapshot(), disk.snapshot());
    Life::new(&target).run(Op::SyncDir { path: "y".into() }).unwrap();
    assert_eq!(outcomes(&target), set(&[&["y/f"], &["x/f", "y/f"]]));
    Life::new(&source).run(Op::SyncDir { path: "x".into() }).unwrap();
    assert_eq!(outcomes(&source), set(&[&["y/f"]]));
}

#[test]
fn a_directory_sync_covers_only_what_completed_before_it_was_submitted() {
    let disk = SimDisk::with_options(1, SimOptions { reorder: false, ..SimOptions::strict() });
    let life = Life::new(&disk);
    let open = life.0.start(Op::Open { path: "wal".into(), mode: OpenMode::CreateNew });
    let sync = life.0.start(Op::SyncDir { path: "".into() });
    life.0.block_on(open).result.unwrap();
    life.0.block_on(sync).result.unwrap();
    disk.crash();
    assert_eq!(names(&disk), [] as [&str; 0]);
}

#[test]
fn names_fail_as_on_a_real_file_system() {
    let life = Life::new(&strict());
    life.create("file");
    life.run(Op::CreateDir { path: "dir".into() }).unwrap();
    life.run(Op::CreateDir { path: "dir".into() }).unwrap();
    assert_eq!(errno(life.open("none", OpenMode::Read)), 2);
    assert_eq!(errno(life.open("none/file", OpenMode::CreateNew)), 2);
    assert_eq!(errno(life.open("file", OpenMode::CreateNew)), 17);
    assert_eq!(errno(life.open("file/x", OpenMode::Read)), 20);
    assert_eq!(errno(life.open("dir", OpenMode::ReadWrite)), 21);
    assert_eq!(errno(life.open("../file", OpenMode::Read)), 22);
    assert_eq!(errno(life.run(Op::Remove { path: "dir".into() })), 21);
    assert_eq!(errno(life.run(Op::Rename { from: "none".into(), to: "x".into() })), 2);
    assert_eq!(errno(life.run(Op::CreateDir { path: "file".into() })), 17);
    assert_eq!(errno(life.run(Op::SyncDir { path: "none".into() })), 2);
    let listed = life.0.block_on(life.0.list("")).unwrap();
    let entry = |name: &str, is_dir| Entry { name: name.into(), len: 0, is_dir };
    assert_eq!(listed, [entry("dir", true), entry("file", false)]);
    assert_eq!(life.0.block_on(life.0.list("none")).unwrap(), []);
}

#[test]
fn a_directory_is_renamed_with_what_is_in_it() {
    let disk = SimDisk::new(1);
    let life = Life::new(&disk);
    for dir in ["a", "b", "full"] {
        life.run(Op::CreateDir { path: dir.into() }).unwrap();
    }
    life.run(Op::SyncDir { path: "".into() }).unwrap();
    life.create("a/f");
    life.create("full/g");
    let rename = |from: &str, to: &str| life.run(Op::Rename { from: from.into(), to: to.into() });
    assert_eq!(errno(rename("a", "full")), 39);
    assert_eq!(errno(rename("a", "full/g")), 20);
    assert_eq!(errno(rename("a", "a/b")), 22);
    assert_eq!(errno(rename("a/f", "b")), 21);
    rename("a", "b").unwrap();
    assert_eq!(outcomes(&disk), set(&[&["a/f", "full/g"], &["b/f", "full/g"]]));
}

#[test]
fn a_removed_file_stays_while_it_is_open() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 1, 4, Durable).unwrap();
    life.run(Op::Remove { path: "wal".into() }).unwrap();
    life.run(Op::SyncDir { path: "".into() }).unwrap();
    let used = |disk: &SimDisk| SimOptions::random().capacity_bytes - disk.free_bytes();
    assert_eq!((life.read(file, 0, 1).unwrap()[0], used(&disk)), (4, 4096));
    assert_eq!(used(&disk.snapshot()), 0);
    life.run(Op::Close { file }).unwrap();
    assert_eq!(used(&disk), 0);
}
