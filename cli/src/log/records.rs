//! Walking over records, and showing them.

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::Context;
use clap::ValueEnum;
use thalweg::{BatchView, Offset, Partition, PartitionInfo, ReadFrom, Reader, RecordView};

use crate::output::{JsonRecord, Out};

/// How records are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    /// The value and a newline
    #[default]
    Value,
    /// An object per line: offset, timestamp, key, value and headers
    Json,
    /// The value, with nothing behind it
    Raw,
}

impl RecordFormat {
    /// What `--format` or else `--json` asks for.
    pub(crate) fn chosen(format: Option<RecordFormat>, json: bool) -> RecordFormat {
        format.unwrap_or(if json { RecordFormat::Json } else { RecordFormat::Value })
    }

    /// Prints a record.
    fn print(self, out: &mut Out, record: &RecordView<'_>) -> std::io::Result<()> {
        let value = record.value().unwrap_or_default();
        match self {
            RecordFormat::Json => out.json(&JsonRecord::from(record)),
            RecordFormat::Raw => out.write_all(value),
            RecordFormat::Value => {
                out.write_all(value)?;
                out.write_all(b"\n")
            }
        }
    }
}

/// Where to start, as `--from` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Earliest,
    Latest,
    Offset(u64),
    /// So many offsets before the end, or the log start offset if that is closer.
    BeforeEnd(u64),
}

impl Place {
    /// Reads `earliest`, `latest`, an offset, or `-N`.
    pub(crate) fn parse(text: &str) -> Result<Place, String> {
        match text {
            "earliest" => Ok(Place::Earliest),
            "latest" => Ok(Place::Latest),
            number => {
                let parsed = match number.strip_prefix('-') {
                    Some(before) => before.parse().map(Place::BeforeEnd),
                    None => number.parse().map(Place::Offset),
                };
                let rule = "expected earliest, latest, an offset, or -N for N offsets before the end";
                parsed.map_err(|_| rule.into())
            }
        }
    }

    /// The offset it means in a partition, which must have it.
    pub(crate) fn resolve(self, info: &PartitionInfo) -> anyhow::Result<Offset> {
        let (name, log_start, end) = (&info.name, info.log_start, info.flushed);
        match self {
            Place::Earliest => Ok(log_start),
            Place::Latest => Ok(end),
            Place::BeforeEnd(count) => Ok(Offset(end.0.saturating_sub(count)).max(log_start)),
            Place::Offset(wanted) if wanted < log_start.0 => {
                anyhow::bail!("{name:?}: offset {wanted} was trimmed, the log start offset is {log_start}")
            }
            Place::Offset(wanted) if wanted > end.0 => {
                anyhow::bail!("{name:?}: offset {wanted} is beyond the end of the log, {end}")
            }
            Place::Offset(wanted) => Ok(Offset(wanted)),
        }
    }
}

/// The first record to show. Batches are read whole, so there may be others before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Offset(Offset),
    /// The first record with this timestamp or a later one, and all behind it.
    Timestamp(i64),
}

impl Start {
    /// A reader from here on.
    fn reader(self, partition: &Partition) -> Reader {
        partition.read(match self {
            Start::Offset(offset) => ReadFrom::Offset(offset),
            Start::Timestamp(timestamp_ms) => ReadFrom::Timestamp(timestamp_ms),
        })
    }

    fn shows(&mut self, record: &RecordView<'_>) -> bool {
        match *self {
            Start::Offset(offset) => record.offset >= offset,
            Start::Timestamp(timestamp_ms) if record.timestamp_ms < timestamp_ms => false,
            Start::Timestamp(_) => {
                *self = Start::Offset(record.offset);
                true
            }
        }
    }

    /// Prints the records of a partition from here to its end, `max` at most.
    pub(crate) fn print(
        self,
        partition: &Partition,
        format: RecordFormat,
        max: Option<u64>,
    ) -> anyhow::Result<()> {
        let mut out = Out::new()?;
        let mut left = max.unwrap_or(u64::MAX);
        if left > 0 {
            self.visit(partition, &mut |record| {
                format.print(&mut out, record)?;
                left -= 1;
                Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        }
        Ok(out.flush()?)
    }

    /// Visits the records of a batch from the start on, until `visit` breaks.
    fn visit_batch(
        &mut self,
        batch: &BatchView,
        visit: &mut dyn FnMut(&RecordView<'_>) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<ControlFlow<()>> {
        for record in batch.records() {
            let record = record.with_context(|| format!("batch at offset {}", batch.base_offset()))?;
            if self.shows(&record) && visit(&record)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Visits the records of a partition from here to its end, until `visit` breaks.
    pub(crate) fn visit(
        mut self,
        partition: &Partition,
        visit: &mut dyn FnMut(&RecordView<'_>) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        let mut reader = self.reader(partition).to_end();
        for batch in reader.by_ref() {
            let batch = batch.with_context(|| format!("can't read {:?}", partition.name()))?;
            if self.visit_batch(&batch, visit)?.is_break() {
                break;
            }
        }
        warn_if_skipped(&reader, partition);
        Ok(())
    }
}

/// Retention may overtake a reader.
fn warn_if_skipped(reader: &Reader, partition: &Partition) {
    if reader.skipped() > 0 {
        eprintln!(
            "warning: {:?}: {} offsets were trimmed before they were read",
            partition.name(),
            reader.skipped()
        );
    }
}
