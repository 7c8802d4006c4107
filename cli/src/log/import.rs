//! `thalweg log import`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use thalweg::{Batch, Config, Offset, PartitionId, Record};

use crate::Global;
use crate::interrupt::Interrupt;
use crate::log::append::explain;
use crate::log::framing::Framing;
use crate::log::input::{self, BatchShape, Batches, InputBatch, InputError, Source};
use crate::log::window::{Acked, Window};
use crate::open;
use crate::output::Out;
use crate::progress::{Progress, ProgressKind, Unit};
use crate::times::parse_bytes;

/// How often progress is shown while the input has nothing to give.
const IDLE_TICK: Duration = Duration::from_millis(500);

/// Arguments of `thalweg log import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The partition's name; it is made if it does not exist and there is something to import
    name: String,
    /// The file, or - for stdin
    file: PathBuf,
    /// How records lie in the file
    #[arg(long, value_enum, default_value_t)]
    format: Framing,
    /// Most records in one append [default: as many as --batch-bytes holds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Bytes in one append; a larger record goes alone
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_bytes)]
    batch_bytes: u64,
    /// How to show progress
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressKind,
    /// Append the last acknowledged offset to this file, a line each time it grows
    #[arg(long, value_name = "FILE")]
    acks: Option<PathBuf>,
}

/// What an import did, for `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    partition: &'a str,
    /// None if there was nothing to import: the partition was not looked for then.
    id: Option<PartitionId>,
    records: u64,
    bytes: u64,
    last_acknowledged_offset: Option<u64>,
    seconds: f64,
    complete: bool,
}

/// Appends the records of a file. Nothing is made for a file without any.
pub(crate) fn run(global: &Global, args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let config = open::config(global)?;
    let source = Source::open(&args.file)?;
    let acks = args.acks.as_ref().map(open_acks).transpose()?;
    let shape = BatchShape {
        framing: args.format,
        template: Record::default(),
        mark_no_newline: true,
        bytes: args.batch_bytes,
        records_max: args.batch.map_or(usize::MAX, |most| most as usize),
        limit: config.limits.batch_bytes_max,
    };
    let interrupt = Interrupt::install()?;
    let start = Instant::now();
    let progress = Progress::start(args.progress, Unit::Bytes, source.len);
    let batches = input::start(source, shape, interrupt.clone())?;
    let (stored, done) = match batches.recv() {
        Ok(Ok(first)) => store(config, &args.name, first, batches, acks, progress)?,
        nothing => {
            progress.finish(|| progress_line(&NOTHING.acked));
            (NOTHING, nothing.map_or(Ok(()), |failed| failed.map(drop).map_err(Into::into)))
        }
    };
    let summary = Summary {
        partition: &args.name,
        id: stored.id,
        records: stored.acked.records(),
        bytes: stored.acked.source_bytes,
        last_acknowledged_offset: stored.acked.last().map(|last| last.0),
        seconds: start.elapsed().as_secs_f64(),
        complete: done.is_ok() && !interrupt.is_set(),
    };
    // What was acknowledged stays, so it is said also when the rest failed.
    let said = say(global, &summary);
    done?;
    said.with_context(|| {
        let last = offset_or_none(summary.last_acknowledged_offset);
        format!("imported {} records, last acknowledged offset {last}, but", summary.records)
    })?;
    Ok(interrupt.exit_code())
}

/// What an import left in the log.
struct Stored {
    id: Option<PartitionId>,
    acked: Acked,
}

const NOTHING: Stored =
    Stored { id: None, acked: Acked { base: Offset(0), end: Offset(0), source_bytes: 0 } };

/// Appends `first` and the batches after it. Returns what was acknowledged, and why that is not all.
fn store(
    config: Config,
    name: &str,
    first: InputBatch,
    batches: Batches,
    acks: Option<File>,
    progress: Progress,
) -> anyhow::Result<(Stored, anyhow::Result<()>)> {
    let engine = open::open_or_make(config)?;
    let partition = open::partition_or_make(&engine, name)?;
    let log_end = open::describe(&engine, &partition)?.log_end;
    let window = Window::new(&partition, log_end);
    let mut import = Import { window, first: Some(first), batches, acks, progress, written: log_end.0 };
    let done = import.run();
    let acked = import.window.acked();
    import.progress.finish(|| progress_line(&acked));
    let closed = engine.close();
    Ok((Stored { id: Some(partition.id()), acked }, done.and_then(|()| Ok(closed?))))
}

fn open_acks(path: &PathBuf) -> anyhow::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("can't write {}", path.display()))
}

fn say(global: &Global, summary: &Summary<'_>) -> anyhow::Result<()> {
    let mut out = Out::new()?;
    if global.json {
        out.json(summary)?;
    } else {
        let Summary { records, bytes, seconds, .. } = summary;
        let last = offset_or_none(summary.last_acknowledged_offset);
        out.line(format_args!(
            "imported {records} records, {bytes} bytes; last acknowledged offset {last}; {seconds:.3} s"
        ))?;
    }
    out.flush()?;
    Ok(())
}

fn offset_or_none(offset: Option<u64>) -> String {
    offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string())
}

fn progress_line(acked: &Acked) -> String {
    let last = offset_or_none(acked.last().map(|last| last.0));
    format!("last acknowledged offset {last}, {} records, {} bytes", acked.records(), acked.source_bytes)
}

struct Import<'a> {
    window: Window<'a>,
    /// Came before the log was opened.
    first: Option<InputBatch>,
    batches: Batches,
    acks: Option<File>,
    progress: Progress,
    /// The acknowledged end as the file of acknowledgements has it.
    written: u64,
}

/// What there is to do next.
enum Turn {
    Send(InputBatch),
    Fail(InputError),
    /// The input has nothing just now.
    Settle,
    End,
}

impl Import<'_> {
    /// Appends everything. On the way out nothing is in flight, except after an append that failed.
    fn run(&mut self) -> anyhow::Result<()> {
        let failed = loop {
            let settled = match self.next() {
                Turn::Send(batch) => self.window.send(Batch::Many(batch.records), batch.source_bytes),
                Turn::Settle => self.window.settle_oldest(),
                Turn::Fail(error) => break Some(error),
                Turn::End => break None,
            };
            self.note()?;
            settled.map_err(|error| explain(error, &self.window.acked()))?;
        };
        while !self.window.is_empty() {
            let settled = self.window.settle_oldest().and_then(|()| self.window.settle_ready());
            self.note()?;
            settled.map_err(|error| explain(error, &self.window.acked()))?;
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Input comes first; without any, the oldest append is waited for; without that, input is.
    fn next(&mut self) -> Turn {
        if let Some(first) = self.first.take() {
            return Turn::Send(first);
        }
        let received = match self.batches.try_recv() {
            Err(TryRecvError::Empty) if self.window.is_empty() => {
                match self.batches.recv_timeout(IDLE_TICK) {
                    Ok(received) => received,
                    Err(RecvTimeoutError::Timeout) => return Turn::Settle,
                    Err(RecvTimeoutError::Disconnected) => return Turn::End,
                }
            }
            Err(TryRecvError::Empty) => return Turn::Settle,
            Err(TryRecvError::Disconnected) => return Turn::End,
            Ok(received) => received,
        };
        received.map_or_else(Turn::Fail, Turn::Send)
    }

    /// Writes down and shows what is acknowledged.
    fn note(&mut self) -> anyhow::Result<()> {
        let acked = self.window.acked();
        if let (Some(acks), Some(last)) = (&mut self.acks, acked.last())
            && self.written < acked.end.0
        {
            // One write, so that a kill leaves whole lines.
            acks.write_all(format!("{last}\n").as_bytes()).context("can't write the file of --acks")?;
            self.written = acked.end.0;
        }
        self.progress.show(acked.source_bytes, || progress_line(&acked));
        Ok(())
    }
}
