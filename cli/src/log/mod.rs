//! `thalweg log`: partitions from a shell.

mod append;
mod configure;
mod create;
mod delete;
mod describe;
mod export;
mod framing;
mod import;
mod info;
mod input;
mod list;
mod read;
mod records;
mod settings;
mod sink;
mod tail;
mod trim;
mod window;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Global;

/// The commands under `thalweg log`.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Make a partition
    Create(create::CreateArgs),
    /// List the partitions
    #[command(visible_alias = "ls")]
    List,
    /// Show a partition with its settings
    Describe(describe::DescribeArgs),
    /// Change what a partition keeps
    Configure(configure::ConfigureArgs),
    /// Append records, and print the offset of each
    Append(append::AppendArgs),
    /// Print records up to the end of the log
    Read(read::ReadArgs),
    /// Print the last records
    Tail(tail::TailArgs),
    /// Append the lines of a file, each one record
    Import(import::ImportArgs),
    /// Write the values of records to a file
    Export(export::ExportArgs),
    /// Drop the oldest records
    Trim(trim::TrimArgs),
    /// Delete a partition and its records
    Delete(delete::DeleteArgs),
}

impl LogCommand {
    /// Runs the command.
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            LogCommand::Create(args) => create::run(global, &args),
            LogCommand::List => list::run(global),
            LogCommand::Describe(args) => describe::run(global, &args),
            LogCommand::Configure(args) => configure::run(global, &args),
            LogCommand::Append(args) => append::run(global, args),
            LogCommand::Read(args) => read::run(global, &args),
            LogCommand::Tail(args) => tail::run(global, &args),
            LogCommand::Import(args) => import::run(global, &args),
            LogCommand::Export(args) => export::run(global, &args),
            LogCommand::Trim(args) => trim::run(global, &args),
            LogCommand::Delete(args) => delete::run(global, &args),
        }
    }
}
