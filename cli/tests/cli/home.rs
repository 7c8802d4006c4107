//! A data directory of its own for each test, and the binary to use it with.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Small enough that a test fills several WAL files. How commits are made is for the tests of the
/// probe.
const CONFIG: &str = "wal.file_bytes = 4194304\ncache.bytes = 16777216\ncommit.strategy = \"dsync\"\n";

/// Longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a configuration and room for a log.
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        let home = Home { dir: tempfile::tempdir().unwrap() };
        home.write("config.toml", CONFIG);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file beside the log; returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The binary, with this directory and nothing of the caller's environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
        command.args(args).current_dir(self.dir.path());
        command.env("THALWEG_DATA_DIR", self.path("data")).env("THALWEG_CONFIG", self.path("config.toml"));
        command.env_remove("THALWEG_LOG").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the binary to its end. `args` are divided at spaces.
    #[track_caller]
    pub(crate) fn run(&self, args: &str) -> Ran {
        Ran::from(self.command(args.split(' ')).output().unwrap())
    }

    /// Runs the binary with `input` as its standard input.
    #[track_caller]
    pub(crate) fn feed(&self, args: &str, input: &[u8]) -> Ran {
        let mut child = self.spawn(args, Stdio::piped());
        // It may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(input);
        Ran::from(child.wait_with_output().unwrap())
    }

    /// Starts the binary.
    pub(crate) fn spawn(&self, args: &str, stdin: Stdio) -> Child {
        self.command(args.split(' ')).stdin(stdin).spawn().unwrap()
    }
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Ran { code: output.status.code(), stdout: output.stdout, stderr }
    }
}

impl Ran {
    /// Standard output of a run that succeeded and had nothing to complain of. That a partition was
    /// made is no complaint.
    #[track_caller]
    pub(crate) fn quiet(&self) -> &str {
        let complaints = self.stderr.lines().filter(|line| !line.starts_with("created partition "));
        assert_eq!((self.code, complaints.collect::<Vec<_>>()), (Some(0), Vec::new()));
        self.text()
    }

    /// Standard output of a run that succeeded, whatever it warned of.
    #[track_caller]
    pub(crate) fn succeeds(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.text()
    }

    /// Standard output as text.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// A run that failed with `code` and said all of `words` on stderr.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let missing: Vec<_> = words.iter().filter(|word| !self.stderr.contains(*word)).collect();
        assert!(missing.is_empty(), "{missing:?} not in: {}", self.stderr);
    }

    /// Standard output as lines of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Looks until `done` says so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a process to end by itself.
#[track_caller]
pub(crate) fn wait_for(child: &mut Child) -> Option<i32> {
    let mut code = None;
    wait_until("the process ends", || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    code.and_then(|status| status.code())
}

/// Sends a signal by name.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}
