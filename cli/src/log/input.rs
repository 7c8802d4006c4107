//! Reading records from a file or a pipe, in batches, on a thread of its own.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thalweg::record::encoded_len_max;
use thalweg::{Batch, Header, Record};

use crate::interrupt::Interrupt;
use crate::log::framing::{Cut, Framing, NO_NEWLINE_HEADER, PREFIX_BYTES};

/// Bytes asked for in one read.
const READ_BYTES: usize = 256 << 10;
/// Batches that wait for being appended.
const BATCHES_READY_MAX: usize = 16;
/// How often a reader that waits for input looks whether it should stop.
const INTERRUPT_CHECK: Duration = Duration::from_millis(200);
/// How far the end of a line that is too long is looked for, to say how long it is.
const LONG_LINE_BYTES_MAX: u64 = 1 << 30;

/// Why a file can't be imported from some record on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// The host refused.
    #[error("{path}, byte {position}: {source}")]
    Read { path: String, position: u64, source: io::Error },
    /// A record is larger than the log takes.
    #[error(
        "{path}: {record}, at byte {position}, has {at_least}{size} B; a record here may have {room} B \
         (limits.batch_bytes_max={limit})"
    )]
    TooLong {
        path: String,
        record: String,
        position: u64,
        at_least: &'static str,
        size: u64,
        room: u64,
        limit: u32,
    },
    /// A length-prefixed file ends inside a record.
    #[error("{path}: ends inside {record}, at byte {position}: {found} of {wanted} B are there")]
    CutOff { path: String, record: String, position: u64, found: u64, wanted: u64 },
}

/// What records are read from.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    path: String,
    /// Its length, for a regular file.
    pub len: Option<u64>,
}

impl Source {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Source> {
        if path == Path::new("-") {
            return Source::stdin();
        }
        let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
        Source::new(file, path.to_owned())
    }

    /// Standard input.
    pub(crate) fn stdin() -> anyhow::Result<Source> {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Source::new(file, PathBuf::from("stdin"))
    }

    fn new(file: File, path: PathBuf) -> anyhow::Result<Source> {
        let path = path.display().to_string();
        let found = file.metadata().with_context(|| path.clone())?;
        anyhow::ensure!(!found.is_dir(), "can't import {path}: it is a directory");
        let len = found.is_file().then_some(found.len());
        Ok(Source { file, path, len })
    }

    /// Waits for input up to `patience`. The end counts as input: there is nothing to wait for.
    fn has_input(&self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        let tv_nsec = i64::from(patience.subsec_nanos());
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec }));
        // Interrupted: not yet. Anything else: let the read say what is wrong.
        polled.map_or_else(|errno| errno != rustix::io::Errno::INTR, |ready| ready > 0)
    }
}

/// How records become batches.
#[derive(Clone, Debug)]
pub(crate) struct BatchShape {
    /// How records lie in the input.
    pub framing: Framing,
    /// Every record is this one, with another value.
    pub template: Record,
    /// Whether a last line without a newline gets a header that says so.
    pub mark_no_newline: bool,
    /// Bytes at which a batch is full; a single larger record still goes alone.
    pub bytes: u64,
    /// Most records in a batch.
    pub records_max: usize,
    /// `limits.batch_bytes_max`.
    pub limit: u32,
}

/// Records to be appended together.
#[derive(Debug, Default)]
pub(crate) struct InputBatch {
    pub records: Vec<Record>,
    /// Bytes of the input they came from.
    pub source_bytes: u64,
    encoded: u64,
}

/// Batches as they are read; an error is the last.
pub(crate) type Batches = Receiver<Result<InputBatch, InputError>>;

/// Starts reading. The thread ends with the input, when it is interrupted, and when nobody takes
/// the batches any more.
pub(crate) fn start(source: Source, shape: BatchShape, interrupt: Interrupt) -> io::Result<Batches> {
    let (to, batches) = sync_channel(BATCHES_READY_MAX);
    let cutter = Cutter::new(source, shape);
    let pump = Pump { cutter, batch: InputBatch::default(), to, interrupt };
    std::thread::Builder::new().name("input".into()).spawn(move || pump.run())?;
    Ok(batches)
}

/// Nobody takes the batches any more.
struct NobodyListens;

struct Pump {
    cutter: Cutter,
    batch: InputBatch,
    to: SyncSender<Result<InputBatch, InputError>>,
    interrupt: Interrupt,
}

impl Pump {
    fn run(mut self) {
        let read = self.read();
        if self.send_batch().is_ok()
            && let Err(error) = read
        {
            // If nobody listens, nobody wants to know.
            let _ = self.to.send(Err(error));
        }
    }

    fn read(&mut self) -> Result<(), InputError> {
        while !self.interrupt.is_set() {
            match self.cutter.next()? {
                Step::Record(record, source_bytes) => {
                    if self.add(record, source_bytes).is_err() {
                        return Ok(());
                    }
                }
                Step::Input => {
                    // While there is no more to come, what is here need not wait for company.
                    let stopped = !self.cutter.source.has_input(Duration::ZERO) && self.wait_for_input();
                    if stopped {
                        return Ok(());
                    }
                    self.cutter.fill()?;
                }
                Step::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether reading is to stop instead.
    fn wait_for_input(&mut self) -> bool {
        if self.send_batch().is_err() {
            return true;
        }
        while !self.cutter.source.has_input(INTERRUPT_CHECK) {
            if self.interrupt.is_set() {
                return true;
            }
        }
        false
    }

    fn add(&mut self, record: Record, source_bytes: u64) -> Result<(), NobodyListens> {
        let len = encoded_len_max(&record) as u64;
        let shape = &self.cutter.shape;
        let limit = u64::from(shape.limit) - self.cutter.overhead;
        if self.batch.encoded > 0 && self.batch.encoded + len > shape.bytes.min(limit) {
            self.send_batch()?;
        }
        self.batch.records.push(record);
        self.batch.encoded += len;
        self.batch.source_bytes += source_bytes;
        if self.batch.records.len() >= self.cutter.shape.records_max {
            self.send_batch()?;
        }
        Ok(())
    }

    fn send_batch(&mut self) -> Result<(), NobodyListens> {
        let batch = std::mem::take(&mut self.batch);
        if batch.records.is_empty() {
            return Ok(());
        }
        self.to.send(Ok(batch)).map_err(|_| NobodyListens)
    }
}

enum Step {
    /// A record, and the bytes of the input it took.
    Record(Record, u64),
    /// More has to be read first.
    Input,
    /// There are no more.
    End,
}

/// Cuts the input into records.
struct Cutter {
    source: Source,
    shape: BatchShape,
    buf: BytesMut,
    /// Bytes at the front of `buf` that have no end of a record in them.
    scanned: usize,
    at_end: bool,
    /// Byte of the input at which `buf` begins.
    position: u64,
    /// Records cut so far.
    count: u64,
    /// Bytes of a batch beside its records.
    overhead: u64,
}

impl Cutter {
    fn new(source: Source, shape: BatchShape) -> Cutter {
        let overhead = Batch::Many(Vec::new()).encoded_len_max();
        let buf = BytesMut::new();
        Cutter { source, shape, buf, scanned: 0, at_end: false, position: 0, count: 0, overhead }
    }

    fn next(&mut self) -> Result<Step, InputError> {
        match self.shape.framing.cut(&self.buf, self.scanned) {
            Cut::Record { value, len } => {
                let taken = self.buf.split_to(len).freeze();
                self.record(taken.slice(value), len as u64, false)
            }
            Cut::Unfinished { value_len: Some(len) } if len as u64 > self.room() => {
                Err(self.too_long(len as u64, ""))
            }
            Cut::Unfinished { .. } if self.at_end => self.last(),
            Cut::Unfinished { value_len: None } if self.buf.len() as u64 > u64::from(self.shape.limit) => {
                Err(self.measure_long_line())
            }
            Cut::Empty if self.at_end => Ok(Step::End),
            Cut::Unfinished { .. } | Cut::Empty => {
                self.scanned = self.buf.len();
                Ok(Step::Input)
            }
        }
    }

    /// What is left at the end of the input.
    fn last(&mut self) -> Result<Step, InputError> {
        let rest = self.buf.split().freeze();
        let len = rest.len() as u64;
        if self.shape.framing == Framing::Lines {
            return self.record(rest, len, self.shape.mark_no_newline);
        }
        let wanted = match rest.first_chunk::<PREFIX_BYTES>() {
            Some(prefix) => PREFIX_BYTES as u64 + u64::from(u32::from_be_bytes(*prefix)),
            None => PREFIX_BYTES as u64,
        };
        let record = self.shape.framing.name_of(self.count + 1);
        let (path, position) = (self.source.path.clone(), self.position);
        Err(InputError::CutOff { path, record, position, found: len, wanted })
    }

    fn record(&mut self, value: Bytes, source_bytes: u64, no_newline: bool) -> Result<Step, InputError> {
        let size = value.len() as u64;
        let mut record = Record { value: Some(value), ..self.shape.template.clone() };
        if no_newline {
            record
                .headers
                .push(Header { name: Bytes::from_static(NO_NEWLINE_HEADER.as_bytes()), value: None });
        }
        if self.overhead + encoded_len_max(&record) as u64 > u64::from(self.shape.limit) {
            return Err(self.too_long(size, ""));
        }
        self.scanned = 0;
        self.count += 1;
        self.position += source_bytes;
        Ok(Step::Record(record, source_bytes))
    }

    fn fill(&mut self) -> Result<(), InputError> {
        let have = self.buf.len();
        self.buf.resize(have + READ_BYTES, 0);
        let read = loop {
            match self.source.file.read(&mut self.buf[have..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buf.truncate(have + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.at_end = true,
            Ok(_) => {}
            Err(source) => {
                let position = self.position + have as u64;
                return Err(InputError::Read { path: self.source.path.clone(), position, source });
            }
        }
        Ok(())
    }

    /// Most bytes of a value.
    fn room(&self) -> u64 {
        let empty = Record { value: Some(Bytes::new()), ..self.shape.template.clone() };
        let others = self.overhead + encoded_len_max(&empty) as u64;
        let room = u64::from(self.shape.limit).saturating_sub(others);
        // A longer value has a longer length before it.
        room.saturating_sub(thalweg::wire::uvarint_len(room + 1) as u64 - 1)
    }

    fn too_long(&self, size: u64, at_least: &'static str) -> InputError {
        InputError::TooLong {
            path: self.source.path.clone(),
            record: self.shape.framing.name_of(self.count + 1),
            position: self.position,
            at_least,
            size,
            room: self.room(),
            limit: self.shape.limit,
        }
    }

    /// Reads on to the end of a line that is too long, keeping none of it.
    fn measure_long_line(&mut self) -> InputError {
        let mut size = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buf) {
                return self.too_long(size + at as u64, "");
            }
            size += self.buf.len() as u64;
            self.buf.clear();
            if self.at_end {
                return self.too_long(size, "");
            }
            if size > LONG_LINE_BYTES_MAX || self.fill().is_err() {
                return self.too_long(size, "at least ");
            }
        }
    }
}
