//! `thalweg log append`.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;
use thalweg::{AppendError, Batch, Engine, Header, Partition, Record};

use crate::Global;
use crate::errors::WithHint;
use crate::interrupt::Interrupt;
use crate::log::framing::Framing;
use crate::log::input::{self, BatchShape, Source};
use crate::log::window::{Acked, Window};
use crate::open;
use crate::output::{Out, is_reader_gone};
use crate::times::parse_timestamp_ms;

/// Bytes of lines that are appended together when they arrive together.
const LINES_BATCH_BYTES: u64 = 64 << 10;

/// Arguments of `thalweg log append`.
#[derive(Debug, clap::Args)]
pub(crate) struct AppendArgs {
    /// The partition's name
    name: String,
    /// The values, each one record; without any, or with -, each line of stdin is one
    #[arg(value_name = "VALUE")]
    values: Vec<OsString>,
    /// The key of every record
    #[arg(long, short)]
    key: Option<OsString>,
    /// A header of every record; may be given more than once
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<Header>,
    /// The timestamp of every record: milliseconds since 1970, or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_timestamp_ms)]
    timestamp: Option<i64>,
    /// Append one record without a value: it deletes the key in a compacted partition
    #[arg(long, requires = "key", conflicts_with = "values")]
    tombstone: bool,
    /// Make the partition if it does not exist
    #[arg(long)]
    create: bool,
}

fn parse_header(text: &str) -> Result<Header, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok(Header { name: name.to_owned().into(), value: Some(value.to_owned().into()) })
}

impl AppendArgs {
    fn template(&self) -> Record {
        Record {
            key: self.key.clone().map(|key| key.into_vec().into()),
            value: None,
            headers: self.headers.clone(),
            timestamp_ms: self.timestamp,
        }
    }

    fn reads_stdin(&self) -> bool {
        let only_dash = self.values.len() == 1 && Path::new(&self.values[0]) == Path::new("-");
        !self.tombstone && (self.values.is_empty() || only_dash)
    }
}

/// Appends records and prints the offset of each when it is on the disk.
pub(crate) fn run(global: &Global, args: AppendArgs) -> anyhow::Result<ExitCode> {
    let config = open::config(global)?;
    let limit = config.limits.batch_bytes_max;
    let engine = if args.create { open::open_or_make(config) } else { open::open_existing(config) }?;
    let partition = find(&engine, &args)?;
    let log_end = open::describe(&engine, &partition)?.log_end;
    let printer = Printer { out: Out::new()?, printed: log_end.0, json: global.json, failed: None };
    let mut appending = Appending { window: Window::new(&partition, log_end), printer };
    let mut code = ExitCode::SUCCESS;
    if args.reads_stdin() {
        code = appending.lines(&args, limit)?;
    } else {
        appending.values(&args)?;
    }
    let acked = appending.window.acked();
    match appending.printer.failed {
        Some(error) if !is_reader_gone(&error) => Err(error.context(format!(
            "offsets {}..{} are appended and on the disk, but not all could be printed",
            acked.base, acked.end
        ))),
        _ => {
            engine.close()?;
            Ok(code)
        }
    }
}

fn find(engine: &Engine, args: &AppendArgs) -> anyhow::Result<Partition> {
    if args.create {
        open::partition_or_make(engine, &args.name)
    } else {
        open::partition(engine, &args.name)
    }
}

struct Appending<'a> {
    window: Window<'a>,
    printer: Printer,
}

impl Appending<'_> {
    fn values(&mut self, args: &AppendArgs) -> anyhow::Result<()> {
        let template = args.template();
        if args.tombstone {
            self.send(Batch::One(template.clone()), 0)?;
        }
        for value in &args.values {
            let value = Some(value.clone().into_vec().into());
            self.send(Batch::One(Record { value, ..template.clone() }), 0)?;
        }
        self.finish()
    }

    /// Appends the lines of stdin, until it is interrupted.
    fn lines(&mut self, args: &AppendArgs, limit: u32) -> anyhow::Result<ExitCode> {
        let interrupt = Interrupt::install()?;
        let shape = BatchShape {
            framing: Framing::Lines,
            template: args.template(),
            mark_no_newline: false,
            bytes: LINES_BATCH_BYTES,
            records_max: usize::MAX,
            limit,
        };
        let batches = input::start(Source::stdin()?, shape, interrupt.clone())?;
        loop {
            // Offsets of what is there are printed before more input is waited for.
            let batch = match batches.try_recv() {
                Ok(batch) => batch,
                Err(_) => {
                    self.finish()?;
                    let Ok(batch) = batches.recv() else { break };
                    batch
                }
            };
            match batch {
                Ok(batch) => self.send(Batch::Many(batch.records), batch.source_bytes)?,
                Err(error) => {
                    self.finish()?;
                    return Err(error.into());
                }
            }
        }
        self.finish()?;
        Ok(interrupt.exit_code())
    }

    fn send(&mut self, batch: Batch, source_bytes: u64) -> anyhow::Result<()> {
        let sent = self.window.send(batch, source_bytes);
        self.printer.print(&self.window.acked());
        sent.map_err(|error| self.explain(error))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let mut settled = Ok(());
        while settled.is_ok() && !self.window.is_empty() {
            settled = self.window.settle_oldest();
            self.printer.print(&self.window.acked());
        }
        self.printer.flush();
        settled.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: AppendError) -> anyhow::Error {
        explain(error, &self.window.acked())
    }
}

/// Says what an append that failed leaves behind.
pub(crate) fn explain(error: AppendError, acked: &Acked) -> anyhow::Error {
    let hint = match &error {
        AppendError::KeyRequired(_) => Some("give the records a key with `thalweg log append --key`"),
        AppendError::BatchTooLarge { .. } => {
            Some("raise limits.batch_bytes_max in the --config file, or append smaller values")
        }
        AppendError::OutOfSpace { .. } => Some("nothing is damaged: make room and append the rest again"),
        AppendError::Halted { .. } => {
            Some("check the disk and its log (dmesg); open again to see what survived")
        }
        _ => None,
    };
    let done = match acked.last() {
        Some(last) => format!("records up to offset {last} are appended, then"),
        None => "nothing was appended".to_owned(),
    };
    match hint {
        Some(hint) => Err::<(), _>(anyhow!(error).context(done)).hint(hint).unwrap_err(),
        None => anyhow!(error).context(done),
    }
}

/// Prints offsets as they are acknowledged.
struct Printer {
    out: Out,
    /// The next offset to print.
    printed: u64,
    json: bool,
    /// Why offsets can't be printed any more. The records are wanted all the same.
    failed: Option<anyhow::Error>,
}

impl Printer {
    fn print(&mut self, acked: &Acked) {
        while self.failed.is_none() && self.printed < acked.end.0 {
            let offset = self.printed;
            let printed =
                if self.json { self.out.json(&json!({ "offset": offset })) } else { self.out.line(offset) };
            self.note(printed);
            self.printed += 1;
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            let flushed = self.out.flush();
            self.note(flushed);
        }
    }

    fn note(&mut self, done: std::io::Result<()>) {
        self.failed = done.err().map(anyhow::Error::from);
    }
}
