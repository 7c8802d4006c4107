//! `thalweg log export`.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Serialize;
use thalweg::{Offset, RecordView};

use crate::Global;
use crate::log::framing::{Framing, NO_NEWLINE_HEADER};
use crate::log::records::{Place, Start};
use crate::log::sink::Sink;
use crate::open;
use crate::output::Out;
use crate::progress::{Progress, ProgressKind, Unit};

/// Arguments of `thalweg log export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The partition's name
    name: String,
    /// The file, or - for stdout
    file: PathBuf,
    /// How records are to lie in the file
    #[arg(long, value_enum, default_value_t)]
    format: Framing,
    /// The first offset [default: the log start offset]
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// The offset after the last one [default: the end of the log]
    #[arg(long, value_name = "OFFSET")]
    to: Option<u64>,
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
}

/// What an export did, for `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    partition: &'a str,
    from: Offset,
    to: Offset,
    #[serde(flatten)]
    written: Written,
    seconds: f64,
}

/// Writes the values of a partition to a file.
pub(crate) fn run(global: &Global, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let partition = open::partition(&engine, &args.name)?;
    let info = open::describe(&engine, &partition)?;
    let from = args.from.map_or(Place::Earliest, Place::Offset).resolve(&info)?;
    let to = args.to.map_or(Place::Latest, Place::Offset).resolve(&info)?;
    ensure!(from <= to, "--from {from} is behind --to {to}");
    let start = Instant::now();
    let mut sink = Sink::open(&args.file)?;
    let mut progress = Progress::start(args.progress, Unit::Records, Some(to.0 - from.0));
    let mut written = Written::default();
    let failed = || format!("can't write {}", args.file.display());
    if from < to {
        Start::Offset(from).visit(&partition, &mut |record| {
            if record.offset >= to {
                return Ok(ControlFlow::Break(()));
            }
            written.write(&mut sink, args.format, record).with_context(failed)?;
            progress.show(record.offset.0 - from.0, || progress_line(&written));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    engine.close();
    let quiet = sink.is_stdout();
    sink.finish().with_context(failed)?;
    progress.finish(|| progress_line(&written));
    if args.format == Framing::Lines {
        written.warn();
    }
    if !quiet {
        let seconds = start.elapsed().as_secs_f64();
        say(global, &Summary { partition: &args.name, from, to, written, seconds })?;
    }
    Ok(ExitCode::SUCCESS)
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

impl Written {
    fn write(&mut self, sink: &mut Sink, format: Framing, record: &RecordView<'_>) -> io::Result<()> {
        let value = record.value().unwrap_or_default();
        self.records += 1;
        self.without_value += u64::from(record.value().is_none());
        match format {
            Framing::Lines => {
                self.with_newlines += u64::from(memchr::memchr(b'\n', value).is_some());
                let bare = record.headers().any(|(name, _)| name == NO_NEWLINE_HEADER.as_bytes());
                sink.write_all(value)?;
                let end: &[u8] = if bare { b"" } else { b"\n" };
                sink.write_all(end)?;
                self.bytes += (value.len() + end.len()) as u64;
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
