//! `thalweg log export`.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Serialize;
use thalweg::{Offset, PartitionId, RecordView};

use crate::Global;
use crate::interrupt::Interrupt;
use crate::log::framing::{Framing, NO_NEWLINE_HEADER};
use crate::log::records::{Place, Start};
use crate::log::sink::Sink;
use crate::open;
use crate::output::Out;
use crate::progress::{Progress, ProgressKind, Unit};

/// Arguments of `thalweg log export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "To stdout only records are written; with --json the summary then goes to stderr.")]
pub(crate) struct ExportArgs {
    /// The partition's name
    name: String,
    /// The file, or - for stdout
    file: PathBuf,
    /// How records are to lie in the file
    #[arg(long, value_enum, default_value_t)]
    format: Framing,
    /// The first offset, or -N for N offsets before the end
    #[arg(
        long, value_name = "PLACE", default_value = "earliest", allow_hyphen_values = true,
        value_parser = Place::parse
    )]
    from: Place,
    /// The offset after the last one, or -N
    #[arg(
        long, value_name = "PLACE", default_value = "latest", allow_hyphen_values = true,
        value_parser = Place::parse
    )]
    to: Place,
    /// How to show progress
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressKind,
}

/// What was written.
#[derive(Default, Serialize)]
struct Written {
    records: u64,
    bytes: u64,
    /// Records whose value has a newline: read as lines, each is several.
    with_newlines: u64,
    /// Records without a value: read as lines, each is an empty one.
    without_value: u64,
    /// The last line came without a newline. One is written if there is another record.
    #[serde(skip)]
    newline_due: bool,
}

/// What an export did, for `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    partition: &'a str,
    id: PartitionId,
    from: Offset,
    to: Offset,
    #[serde(flatten)]
    written: Written,
    /// Offsets without a record: compacted, trimmed meanwhile, or lost.
    missing: u64,
    seconds: f64,
}

/// Writes the values of a partition to a file.
pub(crate) fn run(global: &Global, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let partition = open::partition(&engine, &args.name)?;
    let info = open::describe(&engine, &partition)?;
    let (from, to) = (args.from.resolve(&info)?, args.to.resolve(&info)?);
    ensure!(from <= to, "--from {from} is behind --to {to}");
    let start = Instant::now();
    let mut sink = Sink::open(&args.file)?;
    // A stream may end anywhere; a file is taken away first.
    let interrupt = if sink.is_file() { Some(Interrupt::install()?) } else { None };
    let stopped = || interrupt.as_ref().is_some_and(Interrupt::is_set);
    let mut progress = Progress::start(args.progress, Unit::Records, Some(to.0 - from.0));
    let mut written = Written::default();
    let to_stdout = sink.is_stdout();
    if from < to {
        Start::Offset(from).visit(&partition, &mut |record| {
            if record.offset >= to || stopped() {
                return Ok(ControlFlow::Break(()));
            }
            failed(written.write(&mut sink, args.format, record), &args.file)?;
            progress.show(record.offset.0 - from.0, || progress_line(&written));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    engine.close()?;
    progress.finish(|| progress_line(&written));
    if let Some(interrupt) = interrupt.filter(Interrupt::is_set) {
        drop(sink);
        eprintln!("interrupted: {} was not written", args.file.display());
        return Ok(interrupt.exit_code());
    }
    failed(sink.finish(), &args.file)?;
    if args.format == Framing::Lines {
        written.warn();
    }
    let missing = to.0 - from.0 - written.records;
    if missing > 0 {
        eprintln!(
            "warning: {missing} of the offsets {from}..{to} have no record: compacted, trimmed meanwhile, \
             or lost in a repair"
        );
    }
    let seconds = start.elapsed().as_secs_f64();
    let id = info.id;
    let summary = Summary { partition: &args.name, id, from, to, written, missing, seconds };
    match (global.json, to_stdout) {
        (true, true) => eprintln!("{}", serde_json::to_string(&summary)?),
        (false, true) => {}
        (_, false) => say(global, &summary)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Names the file; standard output names itself.
fn failed(done: io::Result<()>, file: &Path) -> anyhow::Result<()> {
    if file == Path::new("-") {
        return Ok(done?);
    }
    done.with_context(|| format!("can't write {}", file.display()))
}

fn progress_line(written: &Written) -> String {
    format!("{} records, {} bytes", written.records, written.bytes)
}

fn say(global: &Global, summary: &Summary<'_>) -> anyhow::Result<()> {
    let mut out = Out::new()?;
    if global.json {
        out.json(summary)?;
    } else {
        let Summary { written: Written { records, bytes, .. }, from, to, seconds, .. } = summary;
        out.line(format_args!(
            "exported {records} records, {bytes} bytes; offsets {from}..{to}; {seconds:.3} s"
        ))?;
    }
    out.flush()?;
    Ok(())
}

fn newline(wanted: bool) -> &'static [u8] {
    if wanted { b"\n" } else { b"" }
}

impl Written {
    fn write(&mut self, sink: &mut Sink, format: Framing, record: &RecordView<'_>) -> io::Result<()> {
        let value = record.value().unwrap_or_default();
        self.records += 1;
        self.without_value += u64::from(record.value().is_none());
        match format {
            Framing::Lines => {
                self.with_newlines += u64::from(memchr::memchr(b'\n', value).is_some());
                let bare = record.headers().any(|(name, _)| name == NO_NEWLINE_HEADER.as_bytes());
                let (before, after) = (newline(self.newline_due), newline(!bare));
                for part in [before, value, after] {
                    sink.write_all(part)?;
                    self.bytes += part.len() as u64;
                }
                self.newline_due = bare;
            }
            Framing::LengthPrefixed => {
                let len = u32::try_from(value.len()).map_err(io::Error::other)?.to_be_bytes();
                sink.write_all(&len)?;
                sink.write_all(value)?;
                self.bytes += (len.len() + value.len()) as u64;
            }
        }
        Ok(())
    }

    /// Says what a file of lines can't say.
    fn warn(&self) {
        if self.with_newlines > 0 {
            eprintln!(
                "warning: {} values have newlines in them; --format length-prefixed keeps records apart",
                self.with_newlines
            );
        }
        if self.without_value > 0 {
            eprintln!("warning: {} records without a value became empty lines", self.without_value);
        }
    }
}
