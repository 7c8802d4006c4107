//! Errors say what, where and what to do, and end with a code.

use crate::home::{Home, Ran};

#[test]
fn a_missing_directory_is_not_made_by_looking() {
    let home = Home::new();
    for args in ["log list", "log read p", "log append p x", "log export p -", "log delete p --yes"] {
        home.run(args).fails(1, &["data does not exist", "--data-dir"]);
    }
    for args in ["verify", "repair --yes"] {
        home.run(args).fails(2, &["data does not exist"]);
    }
    assert!(!home.path("data").exists());
    std::fs::create_dir(home.path("data")).unwrap();
    home.run("log list").fails(1, &["is no data directory", "SUPERBLOCK", "--data-dir"]);
}

#[test]
fn a_missing_partition_is_named() {
    let home = Home::new();
    home.run("log create p").quiet();
    for args in ["read q", "tail q", "append q x", "export q -", "trim q --before 1", "delete q --yes"] {
        let ran = home.run(&format!("log {args}"));
        ran.fails(1, &["there is no partition \"q\"", "log list", "log create"]);
    }
}

#[test]
fn a_missing_file_makes_no_partition() {
    let home = Home::new();
    home.run("log import p nowhere").fails(1, &["can't read nowhere", "No such file"]);
    assert!(!home.path("data").exists());
}

#[test]
fn an_unknown_setting_is_refused_with_its_place() {
    let home = Home::new();
    home.write("config.toml", "[wal]\nfile_bytes = 4194304\nfile_byte = 1\n");
    home.run("log create p").fails(1, &["config.toml", "line 3", "unknown field `file_byte`", "file_bytes"]);
    home.write("config.toml", "[wal]\nfile_bytes = 4097\n");
    home.run("log create p").fails(1, &["config.toml", "wal.file_bytes=4097: must be a multiple of 4096"]);
    home.run("log create p --config nowhere").fails(1, &["nowhere", "No such file"]);
    assert!(!home.path("data").exists());
}

#[test]
fn a_line_that_is_too_long_is_named_and_what_was_before_it_stays() {
    let home = Home::new();
    let long = "x".repeat(2_000_000);
    home.write("in", format!("one\ntwo\n{long}\nfour\n"));
    let ran = home.run("log import p in");
    ran.fails(
        1,
        &["in: line 3, at byte 8, has 2000000 B", "may have 10484", "limits.batch_bytes_max=1048576"],
    );
    assert!(
        ran.text().starts_with("imported 2 records, 8 bytes; last acknowledged offset 1; "),
        "{}",
        ran.text()
    );
    assert_eq!(home.run("log read p").quiet(), "one\ntwo\n");
    home.feed("log append p", long.as_bytes()).fails(1, &["stdin: line 1, at byte 0, has 2000000 B"]);
    home.feed("log import p - --format length-prefixed", &[1, 0, 0, 0]).fails(1, &["record 1", "16777216 B"]);
}

#[test]
fn the_longest_line_that_fits_is_the_one_the_message_names() {
    let home = Home::new();
    let ran = home.feed("log import p -", &[b'x'; 1 << 20]);
    ran.fails(1, &["line 1"]);
    let room: usize =
        ran.stderr.split("may have ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut line = vec![b'x'; room + 1];
    line.push(b'\n');
    home.feed("log import p -", &line).fails(1, &["line 1"]);
    home.feed("log import p -", &line[1..]).quiet();
    assert!(home.run("log export p -").stdout == line[1..]);
}

#[test]
fn a_file_that_ends_inside_a_record_is_named() {
    let home = Home::new();
    let ran = home.feed("log import p - --format length-prefixed", b"\0\0\0\x01a\0\0\0\x05bcd");
    ran.fails(1, &["stdin: ends inside record 2, at byte 5: 7 of 9 B are there"]);
    assert_eq!(home.run("log read p").quiet(), "a\n");
}

#[test]
fn a_compacted_partition_wants_keys() {
    let home = Home::new();
    home.run("log create p --compact").quiet();
    home.run("log append p x").fails(1, &["every record needs a key", "--key"]);
    home.feed("log import p -", b"x\n").fails(1, &["every record needs a key", "nothing was appended"]);
    home.run("log append p x --key k").quiet();
}

#[test]
fn a_file_that_does_not_say_where_it_is_from_is_refused() {
    let home = Home::new();
    home.write("stray.log", "x");
    home.run("dump stray.log").fails(1, &["stray.log is in no data directory", "SUPERBLOCK"]);
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let home = Home::new();
    home.run("log nope").fails(2, &["nope"]);
    home.run("log read p --from nowhere").fails(2, &["expected earliest, latest, an offset, or -N"]);
    home.run("log create p --retention-bytes many").fails(2, &["many"]);
    home.run("log create p --retention-bytes 0").fails(2, &["0 would drop every sealed record"]);
    home.run("log configure p").fails(2, &["--retention-bytes"]);
}

#[test]
fn a_name_that_is_empty_is_refused_before_anything_is_made() {
    let home = Home::new();
    home.write("config.toml", "data_dir = \"\"\n");
    let ran = home.command(["log", "create", "p"]).env_remove("THALWEG_DATA_DIR").output().unwrap();
    Ran::from(ran).fails(1, &["data_dir=\"\": must name a directory"]);
    home.run("log create p --data-dir=").fails(2, &["--data-dir"]);
    assert!(!home.path("LOCK").exists() && !home.path("SUPERBLOCK").exists());
}

#[test]
fn waits_are_bounded_and_sizes_say_what_is_needed() {
    let home = Home::new();
    for (config, want) in [
        ("group.linger_us = 1000001", "group.linger_us=1000001: must be 0 to 1000000"),
        ("threads.poll_us = 1000001", "threads.poll_us=1000001: must be 0 to 1000000"),
        ("cache.bytes = 4096", "cache.bytes=4096: must be 6340608 to "),
        ("wal.file_bytes = 4096", "wal.file_bytes=4096: must be 1130496 to "),
    ] {
        home.write("config.toml", config);
        home.run("log create p").fails(1, &["config.toml", want]);
    }
    assert!(!home.path("data").exists());
    // Room for groups is made where nobody says how much.
    home.write("config.toml", "wal.file_bytes = 67108864\ngroup.bytes_max = 16777216\n");
    home.run("log create p").quiet();
}

#[test]
fn another_length_of_wal_files_is_refused_and_the_default_is_not() {
    let home = Home::new();
    home.run("log create p").quiet();
    home.write("config.toml", "wal.file_bytes = 8388608\n");
    home.run("log list")
        .fails(1, &["wal.file_bytes=8388608", "made with 4194304", "leave `wal.file_bytes` unset"]);
    home.write("config.toml", "");
    home.run("log list").quiet();
}

#[test]
fn an_output_that_takes_nothing_is_named() {
    let home = Home::new();
    home.run("log append p a b c --create").quiet();
    let full = |args: &str| {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        Ran::from(home.command(args.split(' ')).stdout(full).output().unwrap())
    };
    for args in ["log read p", "log read p --json", "log list", "log export p -"] {
        full(args).fails(1, &["error: can't write standard output: No space left on device"]);
    }
    full("log append p d e").fails(1, &["offsets 3..5 are appended", "standard output: No space left"]);
    home.write("in", "f\n");
    full("log import p in").fails(1, &["imported 1 records, last acknowledged offset 5", "standard output"]);
    assert_eq!(home.run("log read p").quiet(), "a\nb\nc\nd\ne\nf\n");
}

#[test]
fn a_limit_on_open_files_is_named() {
    let home = Home::new();
    home.run("log create p").quiet();
    let line = format!("ulimit -n 40; exec {} log list", env!("CARGO_BIN_EXE_thalweg"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &line]).env("THALWEG_DATA_DIR", home.path("data"));
    let ran = Ran::from(shell.output().unwrap());
    // Without io_uring the log opens; it needs few files.
    assert!(ran.code == Some(0) || ran.stderr.contains("RLIMIT_NOFILE"), "{}", ran.stderr);
}

#[test]
fn events_say_which_backend_it_is() {
    let home = Home::new();
    let ran = home.command(["log", "create", "p"]).env("THALWEG_LOG", "info").output().unwrap();
    assert!(String::from_utf8_lossy(&ran.stderr).contains("backend="), "{ran:?}");
}
