//! `thalweg log trim`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;
use serde::Serialize;
use thalweg::{ControlError, Offset};

use crate::Global;
use crate::errors::WithHint;
use crate::log::info::JsonPartition;
use crate::open;
use crate::output::Out;

/// Arguments of `thalweg log trim`.
#[derive(Debug, clap::Args)]
pub(crate) struct TrimArgs {
    /// The partition's name
    name: String,
    /// Drop the records before this offset, which becomes the log start offset
    #[arg(long, value_name = "OFFSET")]
    before: u64,
}

/// For `--json`.
#[derive(Serialize)]
struct Trimmed<'a> {
    #[serde(flatten)]
    info: JsonPartition<'a>,
    /// Offsets by which the log start offset moved.
    dropped: u64,
}

/// Moves the log start offset forward.
pub(crate) fn run(global: &Global, args: &TrimArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let partition = open::partition(&engine, &args.name)?;
    let before = open::describe(&engine, &partition)?;
    if let Err(error) = partition.trim(Offset(args.before)).wait() {
        let hint = format!("give an offset up to {}, which drops all records", before.flushed);
        let beyond_end = matches!(error, ControlError::BeyondEnd { .. });
        let error = anyhow!(error).context(format!("{:?} was not trimmed", args.name));
        return if beyond_end { Err(error).hint(hint) } else { Err(error) };
    }
    let after = open::describe(&engine, &partition)?;
    let mut out = Out::new()?;
    let dropped = after.log_start.0 - before.log_start.0;
    if global.json {
        out.json(&Trimmed { info: (&after).into(), dropped })?;
    } else {
        let (name, log_start) = (&after.name, after.log_start);
        out.line(format_args!("{name:?}: dropped {dropped} offsets, log start offset is {log_start}"))?;
    }
    out.flush()?;
    engine.close()?;
    Ok(ExitCode::SUCCESS)
}
