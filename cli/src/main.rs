//! `thalweg`: the one binary. Partitions from a shell, and the tools that look at a closed data
//! directory.

#![forbid(unsafe_code)]

mod ask;
mod bench;
mod dump;
mod errors;
mod interrupt;
mod log;
mod open;
mod output;
mod probe;
mod progress;
mod repair;
mod shell;
mod soak;
mod times;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A durable log engine for Linux: records are acknowledged when they would survive a power cut.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, max_term_width = 100, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// The data directory [default: `data_dir` of the configuration, or ./thalweg-data]
    #[arg(long, global = true, value_name = "DIR", env = "THALWEG_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// A TOML file with the engine's settings; a key it does not know is refused
    #[arg(long, global = true, value_name = "FILE", env = "THALWEG_CONFIG")]
    config: Option<PathBuf>,
    /// Answer in JSON: one object, or one object per line for lists
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Partitions: make, fill, read, trim and delete them
    Log {
        #[command(subcommand)]
        command: log::LogCommand,
    },
    /// Measure what an append, a read and a restart cost here, against the device
    Bench(bench::BenchArgs),
    /// Append, read, trim, compact and restart for a long time, checking every record
    Soak(soak::SoakArgs),
    /// Show what is in the files of a closed data directory
    Dump(dump::DumpArgs),
    /// Check every checksum and invariant of a closed data directory, changing nothing
    Verify(verify::VerifyArgs),
    /// Make a damaged data directory open again, saving what can be read
    Repair(repair::RepairArgs),
    /// Measure how a directory's device makes writes durable, and keep what is best there
    Probe(probe::ProbeArgs),
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write those of all commands into a directory
    #[command(hide = true)]
    Man(shell::ManArgs),
}

/// The system's allocator, which `bench` counts the calls of.
#[global_allocator]
static ALLOCATOR: thalweg_io::allocations::Counted = thalweg_io::allocations::Counted;

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    start_tracing();
    let failure = if could_not_run_is_2(&command) { 2 } else { 1 };
    let done = match command {
        Command::Log { command } => command.run(&global),
        Command::Bench(args) => bench::run(&global, &args),
        Command::Soak(args) => soak::run(&global, &args),
        Command::Dump(args) => dump::run(&global, &args),
        Command::Verify(args) => verify::run(&global, &args),
        Command::Repair(args) => repair::run(&global, &args),
        Command::Probe(args) => probe::run(&global, &args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) if output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            errors::report(&error);
            ExitCode::from(failure)
        }
    }
}

/// These answer 1 for damage or a regression, so their own failure needs another code.
fn could_not_run_is_2(command: &Command) -> bool {
    matches!(command, Command::Verify(_) | Command::Repair(_) | Command::Bench(_) | Command::Soak(_))
}

/// Events go to stderr, warnings and worse unless `THALWEG_LOG` asks for more.
fn start_tracing() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .with_env_var("THALWEG_LOG")
        .from_env_lossy();
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false)
        .init();
}
