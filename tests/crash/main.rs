//! Power cuts and failing disks below the real engine, on real kernels.
//!
//! The engine runs with its own io_uring on a file system of ours (FUSE) that logs every request.
//! Each cut between two requests is then a state of the disk: all of them, with everything unsynced
//! lost, kept, or some of it torn, are opened and compared with what was acknowledged before the cut
//! (`states.rs`). Each request fails in turn (`sweep.rs`), or hangs (`hang.rs`). The same file system logs
//! what ext4 and XFS write to a loop device, for images after a power cut (`blocks.rs`), and those two are
//! shut down below a running engine (`live.rs`). On every state of all these `thalweg verify` has its say
//! first, and must agree with what is read then (`verdict.rs`).
//!
//! | variable | default | |
//! |---|---|---|
//! | `THALWEG_FUSE_STATES` | 3000 | states of the disk that are opened |
//! | `THALWEG_FUSE_SEED` | 0 | the first run; later ones count up |
//! | `THALWEG_BLOCK_IMAGES` | 500 | images that are mounted and opened, of ext4 and of XFS each |
//! | `THALWEG_BLOCK_SECONDS` | | how long the engine works on those devices; two short lives by default |
//! | `THALWEG_BLOCK_PREFIXES` | | set: an image of every prefix of the writes, and so many torn ones beside |
//! | `THALWEG_BLOCK_MINUTES` | | longest that looking at images takes; what is left out is said |
//! | `THALWEG_BLOCK_WORKERS` | 4 | devices on which images are looked at, at the same time |
//! | `THALWEG_LIVE_CUTS` | 20 | live power cuts, half of them on each |
//! | `THALWEG_LIVE_SEED` | 0 | when they come |
//! | `THALWEG_HANG_EVERY` | 10 | of the requests of a short life, every so many hang |
//! | `THALWEG_SCOREBOARD` | | file that a line of JSON is appended to for each method |
//!
//! Every prefix of what a minute's work writes to ext4 and to XFS is
//! `THALWEG_BLOCK_SECONDS=60 THALWEG_BLOCK_PREFIXES=0 cargo test -p thalweg-tests
//! --test crash -- --nocapture --test-threads 1 image`.
//!
//! When the engine asks for what is a matter of timing, so no seed brings a state back: what is wrong is
//! kept below `target/tmp`, as files and the journal that led to them, or as an image to mount.

#![forbid(unsafe_code)]

mod blocks;
mod device;
mod fault;
mod fuse;
mod hang;
mod history;
mod image;
mod journal;
mod live;
mod opened;
mod oracle;
mod plays;
mod replay;
mod state;
mod states;
mod store;
mod sweep;
mod verdict;
mod watch;
mod work;

use std::io::Write;

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Says what this host can't run, past the test harness, which keeps what a passing test prints.
pub(crate) fn not_run(what: &str, why: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "!! NOT RUN: {what} ({why})");
}
