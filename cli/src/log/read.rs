//! `thalweg log read`.

use std::process::ExitCode;

use crate::Global;
use crate::log::records::{Place, RecordFormat, Start};
use crate::open;
use crate::times::parse_timestamp_ms;

/// Arguments of `thalweg log read`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReadArgs {
    /// The partition's name
    name: String,
    /// Where to start: earliest, latest, an offset, or -N for N offsets before the end
    #[arg(
        long, value_name = "PLACE", default_value = "earliest", allow_hyphen_values = true,
        value_parser = Place::parse
    )]
    from: Place,
    /// Start at the first record of this time or later: milliseconds since 1970, or RFC 3339
    #[arg(
        long, value_name = "TIME", allow_hyphen_values = true,
        value_parser = parse_timestamp_ms, conflicts_with = "from"
    )]
    from_timestamp: Option<i64>,
    /// Stop after so many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// How to print a record [default: value, or json with --json]
    #[arg(long, value_enum)]
    format: Option<RecordFormat>,
}

/// Prints records up to the end of the log.
pub(crate) fn run(global: &Global, args: &ReadArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let partition = open::partition(&engine, &args.name)?;
    let start = match args.from_timestamp {
        Some(timestamp_ms) => Start::Timestamp(timestamp_ms),
        None => Start::Offset(args.from.resolve(&open::describe(&engine, &partition)?)?),
    };
    let format = RecordFormat::chosen(args.format, global.json);
    start.print(&partition, format, args.max)?;
    engine.close()?;
    Ok(ExitCode::SUCCESS)
}
