//! `thalweg verify`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use bytesize::ByteSize;
use serde::Serialize;
use thalweg::LockError;
use thalweg::inspect::{self, Damage, InspectError, VerifyReport};

use crate::Global;
use crate::errors::{Hint, WithHint};
use crate::open;
use crate::output::Out;
use crate::progress::{Progress, ProgressKind, Unit};

/// Exit code for a directory that is damaged; 2 is for one that could not be looked at.
pub(crate) const DAMAGED_EXIT_CODE: u8 = 1;

/// Arguments of `thalweg verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 nothing is damaged, 1 something is, 2 it could not be looked at.")]
pub(crate) struct VerifyArgs {
    /// How to show progress
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressKind,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    clean: bool,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

/// Reads everything and says what is damaged.
pub(crate) fn run(global: &Global, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let data_dir = open::existing_dir(global)?;
    let _lock = look(&data_dir)?;
    let mut progress = Progress::start(args.progress, Unit::Bytes, Some(0));
    let report = inspect::verify(&data_dir, &mut |at| {
        progress.set_total(at.bytes_total);
        progress.show(at.bytes_done, || at.path.display().to_string());
    })
    .map_err(explain)?;
    progress.finish(|| format!("{} bytes verified", report.bytes));
    let mut out = Out::new()?;
    if global.json {
        out.json(&JsonReport { clean: report.is_clean(), report: &report })?;
    } else {
        print(&mut out, &report)?;
    }
    out.flush()?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED_EXIT_CODE) })
}

/// Where `LOCK` can't be written, looking goes on without the lock of an owner, and says so. What is
/// returned keeps others out as well as a reader can.
pub(crate) fn look(data_dir: &Path) -> anyhow::Result<Option<File>> {
    let path = data_dir.join(LOCK_FILE);
    let refused = match OpenOptions::new().write(true).open(&path) {
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => error,
    };
    if !matches!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) {
        return Ok(None); // the engine says it with more words
    }
    let lock = File::open(&path).ok();
    if let Some(lock) = &lock
        && matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    {
        return Err(anyhow!("{} is in use by another process", data_dir.display())).hint(IN_USE_HINT);
    }
    let path = path.display();
    eprintln!("note: {path}: {refused}: reading without the lock; nothing may write here meanwhile");
    Ok(lock)
}

const LOCK_FILE: &str = "LOCK";
const IN_USE_HINT: &str =
    "only one process at a time can open a data directory: end that one, or wait for it";

/// Says what can be done about a directory that could not be looked at.
pub(crate) fn explain(error: InspectError) -> anyhow::Error {
    let hint = match &error {
        InspectError::Lock(LockError::Held { .. }) => IN_USE_HINT,
        InspectError::Superblock { .. } | InspectError::Manifest(_) => {
            "a copy of the closed directory, made when it was whole, has what is needed"
        }
        _ => return anyhow!(error),
    };
    anyhow!(error).context(Hint(hint.to_owned()))
}

fn print(out: &mut Out, report: &VerifyReport) -> io::Result<()> {
    let VerifyReport { files, segments, groups, batches, partitions, .. } = report;
    let bytes = ByteSize(report.bytes).display().iec();
    out.line(format_args!(
        "read {files} files, {bytes}: \
         {partitions} partitions, {segments} segments, {groups} groups, {batches} batches"
    ))?;
    for Damage { path, position, reason, .. } in &report.unfinished {
        let path = path.display();
        out.line(format_args!(
            "unfinished: {path}, byte {position}: {reason}; never acknowledged, opening handles it"
        ))?;
    }
    for Damage { path, position, reason, .. } in &report.damage {
        out.line(format_args!("DAMAGED: {}, byte {position}: {reason}", path.display()))?;
    }
    out.line(verdict(report))
}

/// The last line: what is to be done.
fn verdict(report: &VerifyReport) -> String {
    let count = report.damage.len();
    let hopeless: Vec<_> = report.damage.iter().filter(|damage| damage.copy_needed).collect();
    if let Some(Damage { path, .. }) = hopeless.first() {
        let path = path.display();
        return format!(
            "{count} damaged; {path} must come from a copy: `thalweg repair` can do nothing about it"
        );
    }
    match count {
        0 => "nothing is damaged".to_owned(),
        _ => format!("{count} damaged; take a copy of the directory, then see `thalweg repair --dry-run`"),
    }
}
