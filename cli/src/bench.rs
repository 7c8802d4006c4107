//! `thalweg bench`: what an append, a read and a restart cost here, against the device in one run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use thalweg::Config;
use thalweg_bench::result::Effort;
use thalweg_bench::suite::{self, Benchmark, Folder, Ran};
use thalweg_bench::{recover, report};

use crate::Global;
use crate::interrupt::Interrupt;
use crate::open::read_config;
use crate::output::Out;

/// Takes a benchmark by its name.
fn benchmark() -> impl TypedValueParser<Value = Benchmark> {
    let names = Benchmark::known().map(|each| PossibleValue::new(each.name()).help(each.about()));
    PossibleValuesParser::new(names).try_map(|name| {
        Benchmark::known().find(|each| each.name() == name).ok_or("there is no such benchmark")
    })
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    /// What to measure
    #[arg(required_unless_present = "all", value_parser = benchmark())]
    what: Vec<Benchmark>,
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
    /// Fill a WAL as standard input says and wait to be killed: what `recover` opens
    #[command(hide = true)]
    FillWal { dir: PathBuf },
}

pub(crate) fn run(global: &Global, args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(BenchCommand::Compare { before, after }) => return compare(global, before, after),
        Some(BenchCommand::FillWal { dir }) => {
            recover::load(dir, std::io::stdin().lock()).map_err(|error| anyhow!(error))?;
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let (effort, benchmarks) = (effort(args)?, benchmarks(args)?);
    let config = match &global.config {
        Some(path) => read_config(path)?.0,
        None => Config::default(),
    };
    config.validate()?;
    let folder = Folder::below(&args.on).map_err(|error| anyhow!(error))?;
    let interrupt = Interrupt::install_without(folder.path().to_owned())?;
    #[cfg(feature = "peers")]
    if benchmarks.contains(&Benchmark::Peers)
        && let Some(status) =
            thalweg_bench::peers::run_again(folder.path()).map_err(|error| anyhow!(error))?
    {
        interrupt.end_if_set();
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return code.map(ExitCode::from).ok_or_else(|| anyhow!("the benchmark ended early: {status}"));
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").expect("a fixed template"));
    let progress = |what: &str| {
        bar.set_message(what.to_owned());
        bar.tick();
    };
    let found = suite::run(&folder, &config, effort, &benchmarks, &progress);
    bar.finish_and_clear();
    interrupt.end_if_set();
    let ran = found.map_err(|error| anyhow!(error)).context("nothing could be measured")?;
    // What was found before an error is worth its time all the same.
    let shown = show(global, args, &ran);
    ran.ended.map_err(|error| anyhow!(error)).context("the benchmark ended early")?;
    shown.map(|()| ExitCode::SUCCESS)
}

/// Prints what was found, and writes the report.
fn show(global: &Global, args: &BenchArgs, ran: &Ran) -> anyhow::Result<()> {
    let mut out = Out::new()?;
    if global.json {
        out.json(&ran.report)?;
    } else {
        out.line(report::table(&ran.report))?;
    }
    if let Some(dir) = &args.report {
        let files = report::save(&ran.report, &ran.recorded, dir).map_err(|error| anyhow!(error))?;
        if !global.json {
            files.first().map_or(Ok(()), |page| out.line(format_args!("report: {}", page.display())))?;
        }
    }
    Ok(std::io::Write::flush(&mut out)?)
}

/// How much is measured, checked.
fn effort(args: &BenchArgs) -> anyhow::Result<Effort> {
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
    Ok(effort)
}

/// What is measured, each once, if it can be and its report can be written.
fn benchmarks(args: &BenchArgs) -> anyhow::Result<Vec<Benchmark>> {
    if !args.on.is_dir() {
        bail!("--on={}: there is no such directory", args.on.display());
    }
    if let Some(file) = args.report.as_ref().filter(|path| path.exists() && !path.is_dir()) {
        bail!("--report={}: a report needs a folder, and this is a file", file.display());
    }
    if args.all {
        return Ok(Benchmark::ALL.to_vec());
    }
    let mut once = Vec::new();
    for benchmark in &args.what {
        if !once.contains(benchmark) {
            once.push(*benchmark);
        }
    }
    #[cfg(feature = "peers")]
    if once.contains(&Benchmark::Peers) && once.len() > 1 {
        bail!("peers: measured by itself only, because the others move threads and leave some behind");
    }
    Ok(once)
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
