//! `thalweg log tail`.

use std::collections::VecDeque;
use std::io::Write;
use std::ops::ControlFlow;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use anyhow::Context as _;
use thalweg::{Offset, Partition, PartitionInfo};

use crate::Global;
use crate::interrupt::Interrupt;
use crate::log::records::{RecordFormat, Start, warn_if_skipped};
use crate::open;
use crate::output::{Out, has_reader};

/// How often a waiting tail looks whether anybody still wants it.
const WANTED_CHECK: Duration = Duration::from_millis(200);

/// Arguments of `thalweg log tail`.
#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    /// The partition's name
    name: String,
    /// Start with the last so many records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Stop after so many records instead of waiting for ever
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// How to print a record [default: value, or json with --json]
    #[arg(long, value_enum)]
    format: Option<RecordFormat>,
}

/// Prints the last records, then waits for more until it is interrupted.
pub(crate) fn run(global: &Global, args: &TailArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let partition = open::partition(&engine, &args.name)?;
    let interrupt = Interrupt::install()?;
    let info = open::describe(&engine, &partition)?;
    let mut start = Start::Offset(start_of_last(&partition, &info, args.lines)?);
    let format = RecordFormat::chosen(args.format, global.json);
    let mut out = Out::new()?;
    let mut left = args.max.unwrap_or(u64::MAX);
    let mut reader = start.reader(&partition);
    while left > 0 {
        let unwanted = || interrupt.is_set() || !has_reader();
        let Some(batch) = wait_unless(reader.next_batch(), unwanted) else { break };
        let Some(batch) = batch else { break };
        let batch = batch.with_context(|| format!("can't read {:?}", partition.name()))?;
        let _ = start.visit_batch(&batch, &mut |record| {
            format.print(&mut out, record)?;
            left -= 1;
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        out.flush()?;
    }
    warn_if_skipped(&reader, &partition);
    drop(reader);
    engine.close();
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

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread until it is ready, or until `stop` says so, which is asked now and
/// then.
fn wait_unless<F: Future>(future: F, stop: impl Fn() -> bool) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        if stop() {
            return None;
        }
        std::thread::park_timeout(WANTED_CHECK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_answer_or_when_told_to() {
        assert_eq!(wait_unless(std::future::ready(3), || true), Some(3));
        assert_eq!(wait_unless(std::future::pending::<()>(), || true), None);
    }
}
