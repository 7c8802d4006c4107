//! Notes the commit that is built: a figure travels with it. Empty outside a checkout.

#![forbid(unsafe_code)]

use std::process::Command;

fn main() {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
    // Without the lock it would take to note that it looked: the index is watched below.
    let status = git(&["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]);
    let changed = status.is_some_and(|list| !list.is_empty());
    println!("cargo::rustc-env=THALWEG_COMMIT={commit}{}", if changed { "+" } else { "" });
    // What is measured, too: a change of it that is not committed is what the "+" says.
    let watched = [".git/HEAD", ".git/index", "Cargo.lock", "io/src", "engine/src", "bench/src", "cli/src"];
    for path in watched {
        println!("cargo::rerun-if-changed=../{path}");
    }
}
