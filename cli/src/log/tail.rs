//! `thalweg log tail`.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::process::ExitCode;

use thalweg::{Offset, Partition, PartitionInfo};

use crate::Global;
use crate::log::records::{RecordFormat, Start};
use crate::open;

/// Arguments of `thalweg log tail`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It does not follow the log: while a process has a data directory open no other can, \
                        so there is nobody whose appends it could show. A program follows its own log with \
                        the library's reader."
)]
pub(crate) struct TailArgs {
    /// The partition's name
    name: String,
    /// So many of the last records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Stop after so many of them
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// How to print a record [default: value, or json with --json]
    #[arg(long, value_enum)]
    format: Option<RecordFormat>,
}

/// Prints the last records.
pub(crate) fn run(global: &Global, args: &TailArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let partition = open::partition(&engine, &args.name)?;
    let info = open::describe(&engine, &partition)?;
    let start = Start::Offset(start_of_last(&partition, &info, args.lines)?);
    let format = RecordFormat::chosen(args.format, global.json);
    start.print(&partition, format, args.max)?;
    engine.close()?;
    Ok(ExitCode::SUCCESS)
}

/// The offset of the `count`-th record from the end. Compaction and repairs leave offsets empty,
/// so it may be further back than `count` offsets.
fn start_of_last(partition: &Partition, info: &PartitionInfo, count: usize) -> anyhow::Result<Offset> {
    let mut span = count as u64;
    while span > 0 {
        let from = Offset(info.flushed.0.saturating_sub(span)).max(info.log_start);
        let mut last = VecDeque::new();
        Start::Offset(from).visit(partition, &mut |record| {
            if last.len() == count {
                last.pop_front();
            }
            last.push_back(record.offset);
            Ok(ControlFlow::Continue(()))
        })?;
        if last.len() == count || from == info.log_start {
            return Ok(last.front().copied().unwrap_or(info.flushed));
        }
        span = span.saturating_mul(4);
    }
    Ok(info.flushed)
}
