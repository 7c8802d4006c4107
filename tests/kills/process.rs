//! Owners as their parent sees them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Longest that an owner may say nothing when something is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an owner is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Appends until it is killed.
    Append,
    /// Says what there is and waits to be killed.
    Look,
}

/// The command line of an owner of `dir`, in its life `life`. `backend` is a value of `threads.backend`.
pub(crate) fn owner(role: Role, dir: &Path, backend: &str, life: u32) -> Vec<String> {
    let role = if role == Role::Append { "append" } else { "look" };
    let dir = dir.to_str().expect("a path that is text");
    [env!("CARGO_BIN_EXE_kills-owner"), role, dir, backend, &life.to_string()].map(str::to_owned).to_vec()
}

/// The same behind other programs, that change what the process may have and become it.
pub(crate) fn within<S: AsRef<OsStr>>(programs: &[S], owner: &[String]) -> Command {
    let words: Vec<&OsStr> =
        programs.iter().map(AsRef::as_ref).chain(owner.iter().map(AsRef::as_ref)).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// A process that has a data directory open, or tries.
pub(crate) struct Owner {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Owner {
    pub(crate) fn start(mut command: Command) -> Owner {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("an owner starts");
        let mut from = BufReader::new(child.stdout.take().expect("a pipe"));
        let (to, lines) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            // The last line of a dead process may be half a line.
            while from.read_line(&mut line).is_ok() && line.ends_with('\n') {
                line.pop();
                if to.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        Owner { child, lines, said: Vec::new() }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that begins with `word`. None if the owner ended without one.
    pub(crate) fn until(&mut self, word: &str) -> Option<String> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.split(' ').next() == Some(word) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("nothing was said for {PATIENCE:?}: {:?}", self.said)
                }
            }
        }
    }

    /// Waits for so many acknowledgements more. Whether they came.
    pub(crate) fn acknowledges(&mut self, count: u64) -> bool {
        (0..count).all(|_| self.until("acked").is_some())
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Kills it and does not wait for its end. One that runs below another program, which must not die
    /// before it, has said its own number.
    pub(crate) fn kill(mut self) -> Dead {
        let own = self.said.iter().find_map(|line| line.strip_prefix("pid ")?.parse::<u32>().ok());
        match own.filter(|own| *own != self.id()) {
            Some(own) => signal(own, "KILL"),
            None => self.child.kill().expect("a process of ours can be killed"),
        }
        Dead(self)
    }

    /// Waits for it to end by itself: what it said, how it ended, what it complained of.
    pub(crate) fn end(mut self) -> (Vec<String>, ExitStatus, String) {
        while self.until("never said").is_some() {}
        let mut complaint = String::new();
        let mut stderr = self.child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut complaint).expect("a complaint that is text");
        (self.said, self.child.wait().expect("a child of ours"), complaint)
    }
}

fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &id.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -s {name} {id}");
}

/// An owner that was killed, and may not be gone yet.
pub(crate) struct Dead(Owner);

impl Dead {
    /// Waits until it is gone: all that it had said.
    pub(crate) fn said(self) -> Vec<String> {
        self.0.end().0
    }
}
