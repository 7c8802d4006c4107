//! `thalweg bench`: what an append, a read and a restart cost here, against the device in one run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use thalweg::Config;
use thalweg_bench::result::Effort;
use thalweg_bench::suite::{self, Benchmark};
use thalweg_bench::{recover, report};

use crate::Global;
use crate::open::read_config;
use crate::output::Out;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The durable append: one at a time in each style of embedding, many in flight, by the clock
    Append,
    /// Reading one big partition from its start
    Read,
    /// Reading at the end of a partition
    Tail,
    /// Opening, after a crash and after a clean end
    Recover,
    /// The same load on 1, 10,000 and 100,000 partitions
    Partitions,
    /// Appends beside a cold scan
    Mixed,
    /// What the probe of the device chose, against every strategy that can be asked for
    Strategies,
    /// Other embedded engines under the same load, each append synced; by itself only
    #[cfg(feature = "peers")]
    Peers,
}

impl From<What> for Benchmark {
    fn from(what: What) -> Benchmark {
        match what {
            What::Append => Benchmark::Append,
            What::Read => Benchmark::Read,
            What::Tail => Benchmark::Tail,
            What::Recover => Benchmark::Recover,
            What::Partitions => Benchmark::Partitions,
            What::Mixed => Benchmark::Mixed,
            What::Strategies => Benchmark::Strategies,
            #[cfg(feature = "peers")]
            What::Peers => Benchmark::Peers,
        }
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    /// What to measure
    #[arg(required_unless_present = "all")]
    what: Vec<What>,
    /// Measure everything
    #[arg(long, conflicts_with = "what")]
    all: bool,
    /// Less of everything: an overview rather than figures to quote
    #[arg(long)]
    quick: bool,
    /// Measure on the device of this directory; what is written there is removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    on: PathBuf,
    /// Alternating rounds, whose medians are the results
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Seconds of one measurement within a round
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Write report.html, report.json and the percentile files there
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum BenchCommand {
    /// Compare two reports; the exit code is 1 if the second is worse
    Compare {
        /// The earlier report.json, or its folder
        before: PathBuf,
        /// The later one
        after: PathBuf,
    },
    /// Fill a WAL and wait to be killed: what `recover` opens
    #[command(hide = true)]
    FillWal { dir: PathBuf, wal_bytes: u64 },
}

pub(crate) fn run(global: &Global, args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(BenchCommand::Compare { before, after }) => return compare(global, before, after),
        Some(BenchCommand::FillWal { dir, wal_bytes }) => {
            let options = recover::Options { wal_bytes: *wal_bytes, ..recover::Options::default() };
            recover::load(dir, &options).map_err(|error| anyhow!(error))?;
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let mut effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    effort.rounds = args.rounds.unwrap_or(effort.rounds);
    effort.seconds = args.seconds.unwrap_or(effort.seconds);
    if effort.rounds == 0 || !(0.001..=3600.0).contains(&effort.seconds) {
        bail!(
            "--rounds={} --seconds={}: at least one round of 0.001 to 3600 s",
            effort.rounds,
            effort.seconds
        );
    }
    if !args.on.is_dir() {
        bail!("--on={}: there is no such directory", args.on.display());
    }
    #[cfg(feature = "peers")]
    if args.what.contains(&What::Peers) {
        if args.what.len() > 1 {
            bail!("peers: measured by itself only, because the others move threads and leave some behind");
        }
        if let Some(status) = thalweg_bench::peers::run_again(&args.on).map_err(|error| anyhow!(error))? {
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    let benchmarks: Vec<Benchmark> = if args.all {
        Benchmark::ALL.to_vec()
    } else {
        args.what.iter().map(|what| (*what).into()).collect()
    };
    let config = match &global.config {
        Some(path) => read_config(path)?.0,
        None => Config::default(),
    };
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").expect("a fixed template"));
    let progress = |what: &str| {
        bar.set_message(what.to_owned());
        bar.tick();
    };
    let found = suite::run(&args.on, &config, effort, &benchmarks, &progress);
    bar.finish_and_clear();
    let (found, recorded) = found.map_err(|error| anyhow!(error)).context("the benchmark ended early")?;
    let mut out = Out::new()?;
    if global.json {
        out.json(&found)?;
    } else {
        out.line(report::table(&found))?;
    }
    if let Some(dir) = &args.report {
        let files = report::save(&found, &recorded, dir).map_err(|error| anyhow!(error))?;
        if !global.json {
            files.first().map_or(Ok(()), |page| out.line(format_args!("report: {}", page.display())))?;
        }
    }
    std::io::Write::flush(&mut out)?;
    Ok(ExitCode::SUCCESS)
}

fn compare(global: &Global, before: &std::path::Path, after: &std::path::Path) -> anyhow::Result<ExitCode> {
    let comparison = report::compare(before, after).map_err(|error| anyhow!(error))?;
    let mut out = Out::new()?;
    if global.json {
        out.json(&comparison)?;
    } else {
        out.line(comparison.table())?;
    }
    std::io::Write::flush(&mut out)?;
    Ok(if comparison.regressed() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
