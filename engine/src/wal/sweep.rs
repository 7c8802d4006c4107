//! Reading a file from one end to the other: several requests in flight while what has come is
//! looked at.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use thalweg_io::{AlignedBuf, BLOCK, Backend, Buffer, FileId, Op, Pending, Reactor, Reply};

use crate::reread::settle;

/// Bytes of one request: nothing else uses the disk yet.
const REQUEST_BYTES: usize = 1 << 20;
/// Requests in flight.
const DEPTH: usize = 4;

/// A piece of a file, in order.
pub(super) struct Piece {
    /// First byte in the file.
    pub at: u64,
    /// As much as was asked for.
    pub buf: AlignedBuf,
    /// Bytes of it that were read, fewer only where the file ends.
    pub read: io::Result<usize>,
}

/// Reads whole blocks of a file, in order.
pub(super) struct Sweep<B: Backend> {
    reactor: Reactor<B>,
    file: FileId,
    next: u64,
    end: u64,
    flying: VecDeque<(u64, Pending<B>)>,
    unused: Vec<AlignedBuf>,
}

impl<B: Backend> Sweep<B> {
    /// Starts to read from `start` to the last whole block before `end`.
    pub(super) fn new(reactor: &Reactor<B>, file: FileId, start: u64, end: u64) -> Sweep<B> {
        let end = end / BLOCK as u64 * BLOCK as u64;
        let (flying, unused) = (VecDeque::new(), Vec::new());
        Sweep { reactor: reactor.clone(), file, next: start, end, flying, unused }
    }

    /// Keeps as many requests in flight as may be.
    fn start(&mut self) {
        while self.flying.len() < DEPTH && self.next < self.end {
            let len = (REQUEST_BYTES as u64).min(self.end - self.next) as usize;
            let mut buf = self.unused.pop().unwrap_or_else(|| AlignedBuf::zeroed(len));
            buf.set_len(len);
            let op = Op::Read { file: self.file, position: self.next, buf };
            self.flying.push_back((self.next, self.reactor.start(op)));
            self.next += len as u64;
        }
    }

    /// The next piece, or none at the end.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        self.start();
        let (at, pending) = self.flying.pop_front()?;
        let done = pending.await;
        let Some(Buffer::Aligned(buf)) = done.buffer else { unreachable!("a read gives its buffer back") };
        let read = done.result.map(|reply| if let Reply::Read(len) = reply { len } else { 0 });
        Some(Piece { at, buf, read })
    }

    /// Waits for what is in flight: the file may be closed then.
    pub(super) async fn stop(&mut self) {
        self.next = self.end;
        while let Some((_, pending)) = self.flying.pop_front() {
            pending.await;
        }
    }

    /// Takes a piece's buffer back for the next ones, which are sent on their way.
    pub(super) async fn give_back(&mut self, buf: AlignedBuf) {
        if buf.len() == REQUEST_BYTES {
            self.unused.push(buf);
        }
        self.start();
        // What was started goes to the kernel when the reactor turns.
        self.reactor.yield_now().await;
    }
}

/// The bytes of a file, which come in from its start and are let go of behind the place that is looked
/// at: what is held stays in the processor's cache.
pub(crate) struct FileBytes<B: Backend> {
    sweep: Sweep<B>,
    /// Bytes `start..start + held.len()` of the file.
    held: Vec<u8>,
    start: usize,
    len: usize,
    /// Bytes that two reads agree on.
    settled: Range<usize>,
    /// The first byte that can't be read, and why. Blocks that can't be are zeros.
    pub unreadable: Option<(u64, io::Error)>,
}

impl<B: Backend> FileBytes<B> {
    /// Whole blocks of a file of `len` bytes, to be read when they are asked for.
    pub(crate) fn new(reactor: &Reactor<B>, file: FileId, len: u64) -> FileBytes<B> {
        let len = len as usize / BLOCK * BLOCK;
        let sweep = Sweep::new(reactor, file, 0, len as u64);
        FileBytes { sweep, held: Vec::new(), start: 0, len, settled: 0..0, unreadable: None }
    }

    /// Bytes of the file, read or not.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes from `at` on, `len` of them at least unless the file ends before. What is before `at`
    /// can't be asked for again.
    pub(crate) async fn from(&mut self, at: usize, len: usize) -> &[u8] {
        let end = at.saturating_add(len).min(self.len);
        while self.start + self.held.len() < end {
            self.let_go(at);
            let Some(piece) = self.sweep.next().await else { break };
            self.take(piece).await;
        }
        debug_assert!(at >= self.start);
        &self.held[at.saturating_sub(self.start).min(self.held.len())..]
    }

    /// Reads what is held from `at` on, a multiple of 4,096, once more: something is to be decided by it.
    /// Returns whether it is other bytes now.
    pub(crate) async fn settle(&mut self, at: usize) -> bool {
        let end = self.start + self.held.len();
        let known = self.settled.start <= at && end <= self.settled.end;
        if known || at >= end || self.unreadable.is_some() {
            return false;
        }
        self.settled = at..end;
        let from = at - self.start;
        let settled = settle(&self.sweep.reactor, self.sweep.file, at as u64, &self.held[from..]).await;
        match settled {
            Ok(None) => false,
            Ok(Some(bytes)) => {
                self.held[from..].copy_from_slice(&bytes);
                true
            }
            Err(error) => {
                self.unreadable = Some((at as u64, error));
                false
            }
        }
    }

    fn let_go(&mut self, at: usize) {
        let gone = at.saturating_sub(self.start).min(self.held.len());
        self.held.drain(..gone);
        self.start += gone;
    }

    /// All that comes, from the start of the file.
    pub(crate) async fn into_all(mut self) -> (Vec<u8>, Option<(u64, io::Error)>) {
        self.from(0, usize::MAX).await;
        (self.held, self.unreadable)
    }

    /// Waits for what is in flight: the file may be closed then.
    pub(crate) async fn stop(mut self) {
        self.sweep.stop().await;
    }

    async fn take(&mut self, piece: Piece) {
        match piece.read {
            Ok(read) => {
                self.held.extend_from_slice(&piece.buf[..read]);
                self.held.resize(self.held.len() + piece.buf.len() - read, 0);
            }
            Err(_) => self.take_blocks(piece.at, piece.buf.len()).await,
        }
        self.sweep.give_back(piece.buf).await;
    }

    /// Finds the blocks that can't be read, so that the rest still counts.
    async fn take_blocks(&mut self, start: u64, len: usize) {
        for at in (start..start + len as u64).step_by(BLOCK) {
            let reactor = &self.sweep.reactor;
            let (buf, read) = reactor.read(self.sweep.file, at, AlignedBuf::zeroed(BLOCK)).await;
            if let Err(error) = &read {
                let error = io::Error::new(error.kind(), error.to_string());
                self.unreadable.get_or_insert((at, error));
            }
            let read = read.unwrap_or(0);
            self.held.extend_from_slice(&buf[..read]);
            self.held.resize(self.held.len() + BLOCK - read, 0);
        }
    }
}
