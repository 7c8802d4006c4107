//! Import and export: what goes in comes out, byte for byte.

use std::fmt::Write as _;
use std::process::Stdio;

use crate::home::{Home, wait_for};

/// Imports `content` and exports it again.
#[track_caller]
fn check(content: &[u8], records: u64) {
    check_as("lines", content, records);
}

#[track_caller]
fn check_as(format: &str, content: &[u8], records: u64) {
    let home = Home::new();
    home.write("in", content);
    let ran = home.run(&format!("log import p in --format {format}"));
    let last = if records == 0 { "none".to_owned() } else { (records - 1).to_string() };
    let bytes = content.len();
    let want = format!("imported {records} records, {bytes} bytes; last acknowledged offset {last}; ");
    assert!(ran.quiet().starts_with(&want), "{} is not {want}", ran.text());
    if records == 0 {
        return assert!(!home.path("data").exists(), "nothing is made for nothing");
    }
    assert_eq!(ran.stderr, "created partition \"p\"\n");
    home.run(&format!("log export p out --format {format}")).quiet();
    assert!(home.read("out") == content, "the export of {bytes} bytes differs");
    let piped = home.run(&format!("log export p - --format {format}"));
    assert!(piped.stdout == content && piped.stderr.is_empty(), "{}", piped.stderr);
}

fn lines(count: u64) -> String {
    let mut text = String::new();
    for n in 0..count {
        let width = (n * n % 97) as usize;
        writeln!(text, "{n} {:width$}é", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
    }
    text
}

fn prefixed(values: &[&[u8]]) -> Vec<u8> {
    let each = |value: &&[u8]| [&(value.len() as u32).to_be_bytes()[..], value].concat();
    values.iter().flat_map(each).collect()
}

#[test]
fn lines_come_back_as_they_were() {
    check(b"one\ntwo\nthree\n", 3);
}

#[test]
fn a_missing_last_newline_stays_missing() {
    check(b"one\ntwo", 2);
    check(b"one\n\n", 2);
    check(b"x", 1);
}

#[test]
fn carriage_returns_belong_to_the_line() {
    check(b"one\r\ntwo\r\n\r\nthree\r", 4);
}

#[test]
fn an_empty_file_is_no_record_and_an_empty_line_is_one() {
    check(b"", 0);
    check(b"\n", 1);
    check(b"\n\n\n", 3);
}

#[test]
fn any_bytes_are_a_line() {
    check(b"\x00\xff\xfe\n\xc3\x28\n", 2);
}

#[test]
fn ten_thousand_lines_come_back() {
    check(lines(10_000).as_bytes(), 10_000);
}

#[test]
fn more_than_several_wal_files_comes_back() {
    let line = [b'x'; 999];
    let content: Vec<u8> =
        (0..20_000u32).flat_map(|n| [n.to_string().as_bytes(), &line, b"\n"].concat()).collect();
    check(&content, 20_000);
}

#[test]
fn lengths_keep_records_apart_that_lines_can_not() {
    check_as("length-prefixed", &prefixed(&[b"a\nb", b"", &[0xff; 70_000], b"\n"]), 4);
    check_as("length-prefixed", b"", 0);
}

#[test]
fn an_export_in_lines_says_what_it_lost() {
    let home = Home::new();
    home.write("in", prefixed(&[b"a\nb"]));
    home.run("log import p in --format length-prefixed").quiet();
    let ran = home.run("log export p out");
    assert!(ran.stderr.contains("1 values have newlines"), "{}", ran.stderr);
}

#[test]
fn a_second_file_goes_behind_the_first() {
    let home = Home::new();
    home.write("a", "1\n2");
    home.write("b", "3\n");
    home.run("log import p a").quiet();
    home.run("log import p b --batch 1").quiet();
    home.run("log export p out").quiet();
    assert_eq!(home.read("out"), b"1\n2\n3\n", "records stay apart");
    home.run("log export p out --from 1 --to 2").quiet();
    assert_eq!(home.read("out"), b"2");
}

#[test]
fn only_the_last_line_may_lack_its_end() {
    let home = Home::new();
    home.feed("log import p -", b"1").quiet();
    home.run("log append p 2").quiet();
    home.feed("log import p -", b"3").quiet();
    assert_eq!(home.run("log export p -").quiet(), "1\n2\n3");
}

/// Flips a bit of a record in its file.
fn damage(home: &Home, value: &[u8]) {
    for entry in std::fs::read_dir(home.path("data/shard-0")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        if let Some(at) = bytes.windows(value.len()).position(|window| window == value) {
            bytes[at] ^= 1;
            return std::fs::write(&path, bytes).unwrap();
        }
    }
    panic!("it is in no file");
}

#[test]
fn an_export_over_lost_offsets_says_how_many() {
    let home = Home::new();
    home.run("log append p before --create").quiet();
    home.run("log append p unlucky").quiet();
    home.run("log append p after").quiet();
    damage(&home, b"unlucky");
    home.run("repair --yes").succeeds();
    let ran = home.run("log export p out --json");
    assert_eq!((&ran.json()[0]["missing"], home.read("out")), (&1.into(), b"before\nafter\n".to_vec()));
    assert!(ran.stderr.contains("1 of the offsets 0..3 have no record"), "{}", ran.stderr);
}

#[test]
fn records_and_json_are_not_mixed() {
    let home = Home::new();
    home.feed("log import p -", b"a\nb\n").quiet();
    let ran = home.run("log export p - --json --from -1");
    assert_eq!(ran.text(), "b\n");
    let summary: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((&summary["partition"], &summary["records"]), (&"p".into(), &1.into()));
}

#[test]
fn an_export_that_is_stopped_leaves_nothing() {
    let home = Home::new();
    home.feed("log import p -", "x\n".repeat(2_000_000).as_bytes()).quiet();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = home.spawn("log export p out", Stdio::null());
        let partial = home.path(&format!("out.{}.partial", child.id()));
        crate::home::wait_until("the export has begun", || partial.exists());
        crate::home::signal(&child, name);
        assert_eq!(wait_for(&mut child), Some(code), "{name}");
        assert!(!partial.exists() && !home.path("out").exists(), "{name}");
    }
}

#[test]
fn every_way_to_cut_batches_gives_the_same_log() {
    let content = lines(500);
    for batching in ["--batch 1", "--batch 7", "--batch-bytes 1", "--batch-bytes 1GiB"] {
        let home = Home::new();
        home.write("in", &content);
        home.run(&format!("log import p in {batching}")).quiet();
        assert!(home.run("log export p -").stdout == content.as_bytes(), "{batching}");
    }
}

#[test]
fn an_import_tells_programs_how_far_it_is() {
    let home = Home::new();
    let ran = home.feed("log import p - --json --progress plain --acks acks", b"a\nb\nc\n");
    let summary = &ran.json()[0];
    assert_eq!((&summary["records"], &summary["last_acknowledged_offset"]), (&3.into(), &2.into()));
    assert_eq!(summary["complete"], true);
    assert!(ran.stderr.ends_with("last acknowledged offset 2, 3 records, 6 bytes\n"), "{}", ran.stderr);
    assert!(home.read("acks").ends_with(b"2\n"));
}

#[test]
fn a_slow_pipe_is_acknowledged_as_it_comes() {
    use std::io::Write;
    let home = Home::new();
    let mut child = home.spawn("log import p - --acks acks", Stdio::piped());
    let mut pipe = child.stdin.take().unwrap();
    for offset in 0..3 {
        pipe.write_all(b"line\nhalf a ").unwrap();
        let want = format!("{offset}\n");
        crate::home::wait_until("an acknowledgement", || {
            home.path("acks").exists() && home.read("acks").ends_with(want.as_bytes())
        });
    }
    // Half a line is not a record, unless the input ends there.
    crate::home::signal(&child, "TERM");
    assert_eq!(wait_for(&mut child), Some(143));
    drop(pipe);
    assert_eq!(home.run("log read p").quiet(), "line\nhalf a line\nhalf a line\n");
}

#[test]
fn an_export_that_can_not_be_written_leaves_nothing() {
    let home = Home::new();
    home.feed("log import p -", b"a\n").quiet();
    home.run("log export p no/such/dir").fails(1, &["can't write", "no/such/dir"]);
    home.run("log export p out --from 2").fails(1, &["offset 2 is beyond the end of the log, 1"]);
    let left: Vec<_> =
        std::fs::read_dir(home.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "data" || name == "config.toml"), "{left:?}");
}
