//! `thalweg repair`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use bytesize::ByteSize;
use serde::Serialize;
use thalweg::inspect::{self, Lost, RepairReport, Repaired};

use crate::Global;
use crate::ask::confirm;
use crate::open;
use crate::output::Out;
use crate::verify::{DAMAGED_EXIT_CODE, explain, look};

/// Arguments of `thalweg repair`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing needs repair, or it is done; 1 something needs repair (--dry-run); \
                  2 it could not be repaired."
)]
pub(crate) struct RepairArgs {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    needed: bool,
    #[serde(flatten)]
    report: &'a RepairReport,
}

/// Says what can be saved and what can't, asks, and does it.
pub(crate) fn run(global: &Global, args: &RepairArgs) -> anyhow::Result<ExitCode> {
    let data_dir = open::existing_dir(global)?;
    let plan = {
        let _lock = look(&data_dir)?;
        inspect::repair(&data_dir, false).map_err(explain)?
    };
    if plan.repairs.is_empty() || args.dry_run {
        report(global, &plan, &data_dir)?;
        let code = if plan.repairs.is_empty() { 0 } else { DAMAGED_EXIT_CODE };
        return Ok(ExitCode::from(code));
    }
    if !args.yes {
        // The plan is for whoever answers, and so is not mixed with the report.
        describe(&mut io::stderr().lock(), &plan)?;
        if !confirm(&format!("Repair {}{}?", data_dir.display(), price(&plan)))? {
            bail!("{} was not repaired", data_dir.display());
        }
    }
    let done = inspect::repair(&data_dir, true).map_err(explain)?;
    report(global, &done, &data_dir)?;
    Ok(ExitCode::SUCCESS)
}

fn report(global: &Global, report: &RepairReport, data_dir: &Path) -> io::Result<()> {
    let mut out = Out::new()?;
    if global.json {
        out.json(&JsonReport { needed: !report.repairs.is_empty(), report })?;
        return out.flush();
    }
    describe(&mut out, report)?;
    if report.applied && !report.repairs.is_empty() {
        let aside = data_dir.join("shard-*/quarantine");
        out.line(format_args!("repaired; what was replaced is in {}", aside.display()))?;
    }
    out.flush()
}

fn describe(out: &mut dyn Write, report: &RepairReport) -> io::Result<()> {
    if report.repairs.is_empty() {
        return writeln!(out, "nothing needs repair");
    }
    for Repaired { path, what } in &report.repairs {
        writeln!(out, "repair: {}: {what}", path.display())?;
    }
    for Lost { partition, name, from, end, next_offset } in &report.lost {
        let whose = format!("{name:?} (partition {partition})");
        match (end, next_offset) {
            (Some(end), _) => {
                let count = end.0 - from.0;
                writeln!(out, "LOST: {whose}, offsets {from}..{end}: {count} offsets stay empty")?;
            }
            (None, Some(next)) => writeln!(
                out,
                "MAY BE LOST: {whose}, everything from offset {from} on: nothing says how far it went; the \
                 next record gets offset {next}, above all that was ever given out"
            )?,
            (None, None) => writeln!(out, "MAY BE LOST: {whose}, everything from offset {from} on")?,
        }
    }
    if report.missing_bytes > 0 {
        let missing = ByteSize(report.missing_bytes).display().iec();
        writeln!(out, "up to {missing} of the log are missing and do not say what they held")?;
    }
    if report.is_lossless() {
        writeln!(out, "no record is lost")?;
    }
    Ok(())
}

/// What a repair gives up, for the question.
fn price(plan: &RepairReport) -> String {
    let offsets: u64 = plan.lost.iter().filter_map(|lost| Some(lost.end?.0 - lost.from.0)).sum();
    match (offsets, plan.lost.iter().any(|lost| lost.end.is_none())) {
        (0, false) => String::new(),
        (offsets, false) => format!(" and give up {offsets} offsets"),
        (0, true) => " and give up what may be lost".to_owned(),
        (offsets, true) => format!(" and give up {offsets} offsets, and what may be lost"),
    }
}
