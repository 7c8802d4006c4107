//! Every decoder on bytes that nobody wrote: whole files, changed at random, with their checksums
//! made right again half of the time so that what is behind them is reached too. None panics, and
//! none takes more memory than its process may have.
//!
//! `THALWEG_FUZZ_SECONDS` is the time for each target (default 5). A run goes on where
//! `THALWEG_FUZZ_SEED` says (default 0), and names the seed at which it fails.

#![forbid(unsafe_code)]

mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use mutate::Dice;

/// What a target's process may have, KiB of address space: some hundred times the largest input.
const MEMORY_KIB: u32 = 768 << 10;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a target in a process of its own, with bounded memory.
#[track_caller]
pub(crate) fn fuzz(name: &str, target: fn(&mut Dice)) {
    if std::env::var_os("THALWEG_FUZZ_CHILD").is_some() {
        return until_time_is_up(name, target);
    }
    let limited = format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"");
    let ran = Command::new("sh")
        .arg("-c")
        .arg(limited)
        .arg(std::env::current_exe().unwrap())
        .args([&format!("targets::{name}"), "--exact", "--nocapture", "--test-threads", "1"])
        .env("THALWEG_FUZZ_CHILD", "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.contains("1 passed"), "{name}: {}\n{out}{err}", ran.status);
    print!("{}", out.lines().filter(|line| line.contains("inputs")).collect::<String>());
}

fn until_time_is_up(name: &str, target: fn(&mut Dice)) {
    let time = Duration::from_secs(number("THALWEG_FUZZ_SECONDS").unwrap_or(5));
    let first = number("THALWEG_FUZZ_SEED").unwrap_or(0);
    let start = Instant::now();
    let mut seed = first;
    while start.elapsed() < time || seed == first {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&mut Dice::new(seed)))) {
            eprintln!("{name}: THALWEG_FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
        seed += 1;
    }
    println!("{name}: {} inputs", seed - first);
}
