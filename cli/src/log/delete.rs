//! `thalweg log delete`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;

use crate::Global;
use crate::ask::confirm;
use crate::log::info::{JsonPartition, size};
use crate::open;
use crate::output::Out;

/// Arguments of `thalweg log delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// The partition's name
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// For `--json`: the partition as it was.
#[derive(Serialize)]
struct Deleted<'a> {
    #[serde(flatten)]
    info: JsonPartition<'a>,
    deleted: bool,
}

/// Deletes a partition.
pub(crate) fn run(global: &Global, args: &DeleteArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let partition = open::partition(&engine, &args.name)?;
    let info = open::describe(&engine, &partition)?;
    let bytes = size(info.bytes);
    let what = format!("{:?} with offsets {}..{} ({bytes})", info.name, info.log_start, info.flushed);
    if !args.yes && !confirm(&format!("Delete {what} for good?"))? {
        bail!("{:?} was not deleted", info.name);
    }
    engine.delete(&args.name)?;
    let mut out = Out::new()?;
    if global.json {
        out.json(&Deleted { info: (&info).into(), deleted: true })?;
    } else {
        out.line(format_args!("deleted {what}"))?;
    }
    out.flush()?;
    engine.close()?;
    Ok(ExitCode::SUCCESS)
}
