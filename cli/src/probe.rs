//! `thalweg probe`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use serde::Serialize;
use thalweg::probe::{self, Budget, Device, Figures, ProbeError, ProbeReport};

use crate::Global;
use crate::errors::Hint;
use crate::open;
use crate::output::{Out, table};
use crate::progress::{Progress, ProgressKind, Unit};

/// Arguments of `thalweg probe`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProbeArgs {
    /// A directory, which need not be a data directory yet [default: the data directory]
    dir: Option<PathBuf>,
    /// How long to measure, about
    #[arg(long, value_name = "N", default_value_t = Budget::THOROUGH.total.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How to show progress
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressKind,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    device: JsonDevice<'a>,
    backend: String,
    backend_reason: Option<&'a str>,
    poll_us: u32,
    strategy: String,
    polls: bool,
    in_flight: u8,
    why: &'a str,
    stored: bool,
    figures: Vec<JsonFigures>,
}

#[derive(Serialize)]
struct JsonDevice<'a> {
    major: u32,
    minor: u32,
    file_system: String,
    kernel: &'a str,
    write_cache: String,
    fua: Option<bool>,
}

#[derive(Serialize)]
struct JsonFigures {
    strategy: String,
    polls: bool,
    starved: bool,
    bytes: u32,
    in_flight: u8,
    commits: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    commits_per_s: f64,
}

/// Measures, and shows what was measured and what follows from it.
pub(crate) fn run(global: &Global, args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let mut config = open::config(global)?;
    if let Some(dir) = &args.dir {
        config.data_dir.clone_from(dir);
    }
    let budget = Budget { total: Duration::from_secs(args.seconds), ..Budget::THOROUGH };
    let mut progress = Progress::start(args.progress, Unit::Percent, Some(100));
    let report = probe::probe(&config, budget, &mut |part| {
        let percent = (part * 100.0) as u64;
        progress.show(percent, || format!("{percent}% measured"));
    })
    .map_err(explain)?;
    progress.finish(|| "measured".to_owned());
    let mut out = Out::new()?;
    if global.json {
        out.json(&json(&report))?;
    } else {
        print(&mut out, &report)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn explain(error: ProbeError) -> anyhow::Error {
    let hint = match &error {
        ProbeError::Lock(thalweg::LockError::Held { .. }) => {
            Some("close the program that has it open: its commits and the probe would disturb each other")
        }
        ProbeError::Io { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => Some("make the directory first, or give another one"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("a probe needs room for 5 MiB"),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Some("a probe writes a file, so it needs the right to")
            }
            _ => None,
        },
        _ => None,
    };
    let error = anyhow!(error).context("can't measure the device");
    match hint {
        Some(hint) => error.context(Hint(hint.to_owned())),
        None => error,
    }
}

fn json(report: &ProbeReport) -> JsonReport<'_> {
    let profile = &report.profile;
    let Device { major, minor, write_cache, fua, ref kernel, .. } = profile.device;
    let starved = probe::starved(&report.figures);
    let micros = |ns: u64| ns as f64 / 1000.0;
    let figures = report.figures.iter().map(|each| JsonFigures {
        strategy: each.way.strategy.to_string(),
        polls: each.way.polls,
        starved: starved.contains(&each.way),
        bytes: each.load.bytes,
        in_flight: each.load.in_flight,
        commits: each.commits,
        p50_us: micros(each.p50_ns),
        p99_us: micros(each.p99_ns),
        p999_us: micros(each.p999_ns),
        commits_per_s: each.commits_per_s.round(),
    });
    JsonReport {
        device: JsonDevice {
            major,
            minor,
            file_system: profile.device.file_system_name(),
            kernel,
            write_cache: write_cache.to_string(),
            fua,
        },
        backend: profile.backend.to_string(),
        backend_reason: report.backend.reason.as_deref(),
        poll_us: profile.poll_us,
        strategy: profile.way.strategy.to_string(),
        polls: profile.way.polls,
        in_flight: profile.in_flight,
        why: &report.why,
        stored: report.stored,
        figures: figures.collect(),
    }
}

fn print(out: &mut Out, report: &ProbeReport) -> anyhow::Result<()> {
    let profile = &report.profile;
    let Device { major, minor, write_cache, fua, ref kernel, .. } = profile.device;
    let fua = match fua {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    let file_system = profile.device.file_system_name();
    out.line(format_args!("device   {major}:{minor}, {file_system}, write cache {write_cache}, FUA {fua}"))?;
    let reason = report.backend.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    out.line(format_args!("backend  {}{reason}, kernel {kernel}", profile.backend))?;
    let (way, in_flight) = (profile.way, profile.in_flight);
    let waits =
        if way.polls { format!("polls for {} µs, then sleeps", profile.poll_us) } else { "sleeps".into() };
    out.line(format_args!(
        "chosen   {}; the thread {waits}; groups in flight worth having: {in_flight}",
        way.strategy
    ))?;
    out.line(format_args!("because  {}", report.why))?;
    let file = profile_file(report);
    out.line(format_args!("kept     {file}\n"))?;
    let mut figures: Vec<&Figures> = report.figures.iter().collect();
    figures.sort_by_key(|each| (each.load.bytes, each.load.in_flight, each.p50_ns));
    let starved = probe::starved(&report.figures);
    let rows: Vec<_> = figures.iter().map(|each| row(each, starved.contains(&each.way))).collect();
    let heads =
        ["STRATEGY", "WAITS", "KiB", "IN FLIGHT", "COMMITS", "P50 µs", "P99 µs", "P99.9 µs", "COMMITS/S"];
    table(out, heads, &rows)?;
    Ok(())
}

fn profile_file(report: &ProbeReport) -> String {
    match report.stored {
        true => format!("in {}", probe::DEVICE_NAME),
        false => "nowhere: this is no data directory yet".to_owned(),
    }
}

fn row(each: &Figures, starved: bool) -> [String; 9] {
    let micros = |ns: u64| format!("{:.1}", ns as f64 / 1000.0);
    let waits = match (each.way.polls, starved) {
        (true, true) => "starved",
        (true, false) => "polls",
        (false, _) => "sleeps",
    };
    [
        each.way.strategy.to_string(),
        waits.to_owned(),
        (each.load.bytes / 1024).to_string(),
        each.load.in_flight.to_string(),
        each.commits.to_string(),
        micros(each.p50_ns),
        micros(each.p99_ns),
        micros(each.p999_ns),
        format!("{:.0}", each.commits_per_s),
    ]
}
