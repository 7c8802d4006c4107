//! Thalweg and other embedded engines under the same load, with real syncs, in one run:
//! `peers [--dir DIR] [--rounds N] [--seconds S] [--json FILE] [--only NAMES] [--workload NAMES]`.
//!
//! DIR is on the disk to measure (default: here), N rounds (5) of S seconds (1) for each of some
//! thirty measurements. NAMES are separated by commas: of rows besides the device and `thalweg`, and
//! of `one` (append in flight), `many` (64), `batch` (one of 64 records).

#![forbid(unsafe_code)]

#[path = "../peers/mod.rs"]
mod peers;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use peers::{DIR_VARIABLE, Options, QUIET_VARIABLE, Result, Workload};

const SECONDS_MAX: f64 = 3600.0;

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One peer is configured by environment variables alone, and a program cannot change its own
/// without `unsafe`: so the run is a second process, and this one keeps its folder.
fn start() -> Result<ExitCode> {
    let mut options = parse(env::args().skip(1))?;
    if let (Some(dir), Some(_)) = (env::var_os(DIR_VARIABLE), env::var_os(QUIET_VARIABLE)) {
        options.dir = PathBuf::from(dir).parent().ok_or("a folder is missing")?.to_owned();
        peers::run(&options)?;
        return Ok(ExitCode::SUCCESS);
    }
    let dir = tempfile::Builder::new().prefix("peers-").tempdir_in(std::path::absolute(&options.dir)?)?;
    let status = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(DIR_VARIABLE, dir.path().join("walrus"))
        .env(QUIET_VARIABLE, "1")
        .status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let (rounds, seconds) = (5, 1.0);
    let (only, workloads) = (Vec::new(), Workload::ALL.to_vec());
    let mut options = Options { dir: PathBuf::from("."), rounds, seconds, only, workloads, json: None };
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name}: a value is missing"))?;
        let names = || value.split(',');
        match name.as_str() {
            "--dir" => options.dir = PathBuf::from(&value),
            "--rounds" => options.rounds = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--json" => options.json = Some(PathBuf::from(&value)),
            "--only" => options.only = names().map(str::to_owned).collect(),
            "--workload" => {
                let named = |name| {
                    Workload::named(name).ok_or_else(|| format!("--workload {name}: no such workload"))
                };
                options.workloads = names().map(named).collect::<std::result::Result<_, _>>()?;
            }
            _ => return Err(format!("{name}: not an option").into()),
        }
    }
    if options.rounds == 0 {
        return Err("--rounds 0: at least 1".into());
    }
    if !(options.seconds > 0.0 && options.seconds <= SECONDS_MAX) {
        return Err(format!("--seconds {}: more than 0, at most {SECONDS_MAX}", options.seconds).into());
    }
    Ok(options)
}
