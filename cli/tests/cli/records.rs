//! Append, read, trim, list and delete.

use std::io::Read;
use std::process::Stdio;

use serde_json::json;

use crate::home::{Home, wait_for};

/// Three records at 1000, 2000 and 3000 ms.
fn three() -> Home {
    let home = Home::new();
    home.run("log create p").quiet();
    for (value, timestamp) in [("one", 1000), ("two", 2000), ("three", 3000)] {
        home.run(&format!("log append p {value} --timestamp {timestamp}")).quiet();
    }
    home
}

#[test]
fn each_value_gets_the_next_offset() {
    let home = Home::new();
    assert_eq!(home.run("log append p a b c --create").quiet(), "0\n1\n2\n");
    assert_eq!(home.feed("log append p", b"d\ne").quiet(), "3\n4\n");
    assert_eq!(home.feed("log append p -", b"f\n").quiet(), "5\n");
    assert_eq!(home.run("log append p g --json").quiet(), "{\"offset\":6}\n");
    assert_eq!(home.run("log read p").quiet(), "a\nb\nc\nd\ne\nf\ng\n");
}

#[test]
fn lines_are_acknowledged_as_they_come() {
    use std::io::Write;
    let home = Home::new();
    let mut child = home.spawn("log append p --create", Stdio::piped());
    let mut pipe = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    for want in [b"0\n", b"1\n"] {
        pipe.write_all(b"line\n").unwrap();
        let mut got = [0; 2];
        stdout.read_exact(&mut got).unwrap();
        assert_eq!(&got, want);
    }
    drop(pipe);
    assert_eq!(wait_for(&mut child), Some(0));
}

#[test]
fn a_record_has_key_headers_and_time() {
    let home = Home::new();
    let args = [
        "log",
        "append",
        "p",
        "21.5 °C",
        "--create",
        "-k",
        "s7",
        "-H",
        "unit=c",
        "-H",
        "unit=",
        "--timestamp",
    ];
    let ran = home.command(args.iter().chain(&["2025-05-17T10:30:00.250+02:00"])).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    home.run("log append p --key s7 --tombstone --timestamp -1").quiet();
    let want = json!({
        "offset": 0, "timestamp_ms": 1_747_470_600_250_i64, "timestamp": "2025-05-17T08:30:00.250Z",
        "key": "s7", "value": "21.5 °C",
        "headers": [{ "name": "unit", "value": "c" }, { "name": "unit", "value": "" }],
    });
    let tombstone = json!({
        "offset": 1, "timestamp_ms": -1, "timestamp": null, "key": "s7", "value": null, "headers": [],
    });
    assert_eq!(home.run("log read p --format json").json(), [want.clone(), tombstone]);
    assert_eq!(home.run("log read p --json --max 1").json(), [want]);
}

#[test]
fn bytes_that_are_no_text_are_base64_in_json_and_themselves_elsewhere() {
    let home = Home::new();
    home.feed("log append p --create", b"\xff\x00\nb\n").quiet();
    let got = home.run("log read p --json").json();
    assert_eq!((&got[0]["value"], &got[1]["value"]), (&json!({ "base64": "/wA=" }), &json!("b")));
    assert_eq!(home.run("log read p").stdout, b"\xff\x00\nb\n");
    assert_eq!(home.run("log read p --format raw").stdout, b"\xff\x00b");
}

#[test]
fn reading_starts_where_it_is_told_to() {
    let home = three();
    for (args, want) in [
        ("--from earliest", "one\ntwo\nthree\n"),
        ("--from latest", ""),
        ("--from 1", "two\nthree\n"),
        ("--from 3", ""),
        ("--from -1", "three\n"),
        ("--from -9", "one\ntwo\nthree\n"),
        ("--from 1 --max 1", "two\n"),
        ("--max 0", ""),
        ("--from-timestamp 2000", "two\nthree\n"),
        ("--from-timestamp 1001", "two\nthree\n"),
        ("--from-timestamp -5", "one\ntwo\nthree\n"),
        ("--from-timestamp 3001", ""),
        ("--from-timestamp 1970-01-01T00:00:02.5Z", "three\n"),
        ("--from-timestamp 1970-01-01T01:00:02.5+01:00", "three\n"),
    ] {
        assert_eq!(home.run(&format!("log read p {args}")).quiet(), want, "{args}");
    }
}

#[test]
fn a_time_is_found_inside_a_batch() {
    let home = Home::new();
    home.run("log create p").quiet();
    // Appends that come together share a batch, with one timestamp; so give them their own.
    let lines: String = (0..2000).map(|n| format!("{n}\n")).collect();
    home.feed("log append p --timestamp 5000", lines.as_bytes()).quiet();
    home.feed("log append p --timestamp 6000", lines.as_bytes()).quiet();
    let got = home.run("log read p --from-timestamp 5001 --json --max 1").json();
    assert_eq!((&got[0]["offset"], &got[0]["value"]), (&json!(2000), &json!("0")));
}

#[test]
fn trimmed_records_are_gone() {
    let home = three();
    let ran = home.run("log trim p --before 2");
    assert_eq!(ran.quiet(), "\"p\": dropped 2 offsets, log start offset is 2\n");
    assert_eq!(home.run("log read p").quiet(), "three\n");
    assert_eq!(home.run("log export p -").quiet(), "three\n");
    home.run("log read p --from 1").fails(1, &["offset 1 was trimmed", "log start offset is 2"]);
    home.run("log trim p --before 4").fails(1, &["\"p\"", "the log ends at 3", "up to 3"]);
    home.run("log trim p --before 3").quiet();
    assert_eq!(home.run("log read p").quiet(), "");
    assert_eq!(home.run("log append p four").quiet(), "3\n");
    assert_eq!(home.run("log read p").quiet(), "four\n");
}

#[test]
fn deleted_partitions_are_gone_and_their_names_are_free() {
    let home = three();
    home.run("log delete p").fails(1, &["Delete \"p\"", "offsets 0..3", "--yes"]);
    home.run("log delete p --yes").quiet();
    home.run("log read p").fails(1, &["there is no partition \"p\""]);
    home.run("log create p").quiet();
    assert_eq!(home.run("log read p").quiet(), "");
    assert_eq!(home.run("log append p x").quiet(), "0\n");
}

#[test]
fn a_list_has_every_partition() {
    let home = three();
    home.run("log create q --retention-bytes 10GiB --retention-age 7d").quiet();
    home.run("log create c --compact --tombstone-age 1h").quiet();
    home.run("log trim p --before 1").quiet();
    let got = home.run("log list --json").json();
    let column = |name: &str| got.iter().map(|info| info[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("partition"), ["c", "p", "q"]);
    assert_eq!(column("log_start"), [0, 1, 0]);
    assert_eq!(column("flushed"), [0, 3, 0]);
    let retention = &got[2]["config"]["retention"];
    assert_eq!(retention, &json!({ "bytes_max": 10u64 << 30, "age_max_ms": 604_800_000 }));
    assert_eq!(got[0]["config"]["compact"], true);
    let table = home.run("log list");
    let rows: Vec<Vec<&str>> = table.quiet().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "ID", "LOG", "START", "FLUSHED", "END", "BYTES", "SEGMENTS", "KEEPS"]);
    assert_eq!((&rows[2][..4], rows[2][7]), (&["p", "0", "1", "3"][..], "all"));
    assert!(table.text().contains("7days, 10.0 GiB\n"), "{}", table.text());
}

#[test]
fn a_partition_is_made_once() {
    let home = Home::new();
    assert_eq!(home.run("log create p --compact").quiet(), "created \"p\", partition 0\n");
    home.run("log create p").fails(1, &["a partition named \"p\" exists", "--if-not-exists"]);
    assert_eq!(home.run("log create p --compact --if-not-exists").quiet(), "\"p\" exists, partition 0\n");
    let ran = home.run("log create p --if-not-exists");
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("other settings"), "{}", ran.stderr);
}

#[test]
fn json_names_a_partition_the_same_way_everywhere() {
    let home = Home::new();
    home.write("in", "a\nb\n");
    for (args, extra) in [
        ("create p", json!({ "created": true })),
        ("create p --if-not-exists", json!({ "created": false })),
        ("import p in", json!({ "records": 2, "complete": true })),
        ("export p out", json!({ "records": 2, "missing": 0 })),
        ("describe p", json!({ "flushed": 2 })),
        ("configure p --retention-age 1d", json!({ "log_start": 0 })),
        ("list", json!({ "log_end": 2 })),
        ("trim p --before 1", json!({ "dropped": 1, "log_start": 1 })),
        ("delete p --yes", json!({ "deleted": true })),
    ] {
        let got = home.run(&format!("log {args} --json")).json().remove(0);
        assert_eq!((&got["partition"], &got["id"]), (&json!("p"), &json!(0)), "{args}");
        for (name, want) in extra.as_object().unwrap() {
            assert_eq!(&got[name], want, "{args}: {name}");
        }
    }
}

#[test]
fn settings_are_shown_and_changed_one_by_one() {
    let home = Home::new();
    home.run("log create p --retention-age 7d").quiet();
    home.run("log configure p --retention-bytes 1GiB").quiet();
    let retention = |home: &Home| home.run("log describe p --json").json()[0]["config"]["retention"].clone();
    assert_eq!(retention(&home), json!({ "bytes_max": 1 << 30, "age_max_ms": 604_800_000 }));
    home.run("log configure p --retention-age none").quiet();
    assert_eq!(retention(&home), json!({ "bytes_max": 1 << 30, "age_max_ms": null }));
    home.run("log configure p --tombstone-age 1h").fails(1, &["not compacted", "--compact true"]);
    let shown = home.run("log configure p --compact true --tombstone-age 1h");
    assert_eq!(shown.quiet(), home.run("log describe p").quiet());
    assert!(shown.text().contains("retention bytes  1.0 GiB\n"), "{}", shown.text());
    assert!(shown.text().contains("compact          yes, tombstones for 1h\n"), "{}", shown.text());
    home.run("log append p x").fails(1, &["every record needs a key"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let home = Home::new();
    let lines: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    home.write("in", &lines);
    home.run("log import p in").quiet();
    for args in ["log read p", "log read p --json", "log export p -", "dump --records"] {
        let mut child = home.spawn(args, Stdio::null());
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 8]).unwrap();
        drop(stdout);
        let ran = child.wait_with_output().unwrap();
        assert_eq!((ran.status.code(), ran.stderr.as_slice()), (Some(0), &b""[..]), "{args}");
    }
}
