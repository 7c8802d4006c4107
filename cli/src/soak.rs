//! `thalweg soak`: a long run on this machine, with a checker beside it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde::Serialize;
use thalweg::Config;
use thalweg_bench::soak::{self, Plan, SoakReport};

use crate::Global;
use crate::interrupt::Interrupt;
use crate::open::read_config;
use crate::output::Out;
use crate::progress::{Progress, ProgressKind, Unit};

/// What the checker found something wrong is answered with.
const FOUND: u8 = 1;
/// Bounds of `--minutes`: a second, and a month.
const MINUTES: (f64, f64) = (1.0 / 60.0, 45_000.0);
/// Bounds of `--per-second`.
const PER_SECOND: (f64, f64) = (1.0, 10_000_000.0);
/// Records that a partition keeps.
const KEPT_RECORDS: u64 = 20_000;

#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// How long; parts of a minute are taken
    #[arg(long, value_name = "N")]
    minutes: f64,
    /// On the device of this directory, in a folder that is removed if nothing is wrong
    #[arg(long, value_name = "DIR", default_value = ".")]
    on: PathBuf,
    /// Appends a second, of records of 9 to 2047 bytes
    #[arg(long, value_name = "N", default_value_t = 2000.0)]
    per_second: f64,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressKind,
}

/// The report, and where the log is kept that is wrong.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    report: &'a SoakReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<&'a Path>,
}

pub(crate) fn run(global: &Global, args: &SoakArgs) -> anyhow::Result<ExitCode> {
    let plan = plan(args)?;
    let config = match &global.config {
        Some(path) => read_config(path)?.0,
        None => Config::default(),
    };
    config.validate()?;
    if !args.on.is_dir() {
        bail!("--on={}: there is no such directory", args.on.display());
    }
    let folder = soak::Folder::below(&args.on).map_err(|error| anyhow!(error))?;
    let interrupt = Interrupt::install()?;
    let total = plan.time.as_secs();
    let mut progress = Progress::start(args.progress, Unit::Seconds, Some(total));
    let mut show = |seconds: f64, words: &str| {
        progress.show((seconds as u64).min(total), || format!("{seconds:.0} s of {total} s: {words}"));
    };
    let ran = soak::run(folder.path(), &config, &plan, &|| interrupt.is_set(), &mut show);
    progress.finish(|| "done".to_owned());
    let report = ran.map_err(|error| anyhow!(error)).context("nothing could be appended")?;
    // What is wrong is kept for whoever wants to look at it.
    let kept = report.found.is_some().then(|| folder.keep());
    let mut out = Out::new()?;
    if global.json {
        out.json(&Shown { report: &report, kept: kept.as_deref() })?;
    } else {
        out.line(report.table())?;
    }
    std::io::Write::flush(&mut out)?;
    if let (Some(found), Some(kept)) = (&report.found, &kept) {
        let at = report.seconds;
        crate::errors::report(&anyhow!(
            "after {at:.1} s: {found}\nthe log is kept in {}: `thalweg verify` says what is damaged there",
            kept.join("log").display()
        ));
        return Ok(ExitCode::from(FOUND));
    }
    Ok(interrupt.exit_code())
}

/// What is asked for, checked.
fn plan(args: &SoakArgs) -> anyhow::Result<Plan> {
    let within = |value: f64, (least, most): (f64, f64)| (least..=most).contains(&value);
    if !within(args.minutes, MINUTES) {
        bail!("--minutes={}: must be {:.3} to {}", args.minutes, MINUTES.0, MINUTES.1);
    }
    if !within(args.per_second, PER_SECOND) {
        bail!("--per-second={}: must be {} to {}", args.per_second, PER_SECOND.0, PER_SECOND.1);
    }
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    Ok(Plan { time, per_s: args.per_second, kept_records: KEPT_RECORDS })
}
