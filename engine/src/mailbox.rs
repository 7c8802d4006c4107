//! The bounded queue between callers and a shard.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;
use event_listener::{Event, EventListener};
use thalweg_io::Wake;

use crate::append::AppendError;
use crate::append::request::{AppendRequest, Arrival, ControlRequest};
use crate::ids::ShardId;
use crate::read::request::FetchRequest;
use crate::shard::query::QueryRequest;

/// What callers ask of a shard.
pub(crate) enum Request {
    Append(AppendRequest),
    Control(ControlRequest),
    Fetch(FetchRequest),
    Query(QueryRequest),
}

impl Request {
    fn refuse(self, error: AppendError) {
        match self {
            Request::Append(request) => drop(Arrival::Append(request).refuse(error)),
            Request::Control(request) => drop(Arrival::Control(request).refuse(error)),
            Request::Fetch(request) => request.refuse(&error),
            Request::Query(request) => request.refuse(),
        }
    }
}

/// Why a request was not queued.
pub(crate) enum Refused {
    /// The queue or its byte budget is full.
    Full(Request),
    /// The shard takes nothing any more.
    Ended(Request, AppendError),
}

/// The bounded queue of one shard: `limits.queue_requests_max` requests, and
/// `limits.queue_bytes_max` bytes of appends that are not acknowledged yet.
pub(crate) struct Mailbox {
    shard: ShardId,
    queue: ArrayQueue<Request>,
    /// Reads and questions, which go on while appends have to wait.
    reads: ArrayQueue<Request>,
    bytes: AtomicU64,
    bytes_max: u64,
    /// Rings when there may be room again.
    room: Event,
    wake: Arc<Wake>,
    ended: OnceLock<AppendError>,
    /// Whether the engine is being closed: what is queued is still done.
    closing: AtomicBool,
}

impl Mailbox {
    pub(crate) fn new(shard: ShardId, requests_max: u32, bytes_max: u64, wake: Arc<Wake>) -> Mailbox {
        Mailbox {
            shard,
            queue: ArrayQueue::new(requests_max as usize),
            reads: ArrayQueue::new(requests_max as usize),
            bytes: AtomicU64::new(0),
            bytes_max,
            room: Event::new(),
            wake,
            ended: OnceLock::new(),
            closing: AtomicBool::new(false),
        }
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    /// Queues a request, if there is room; gives it back if not.
    #[allow(clippy::result_large_err, reason = "the request is the caller's, and moves either way")]
    pub(crate) fn try_send(&self, request: Request) -> Result<(), Refused> {
        if let Some(error) = self.ended.get() {
            return Err(Refused::Ended(request, error.clone()));
        }
        if self.is_closing() {
            return Err(Refused::Ended(request, AppendError::Closed));
        }
        let budget = if let Request::Append(append) = &request { append.budget } else { 0 };
        if budget > 0 {
            let before = self.bytes.fetch_add(budget, Ordering::Relaxed);
            // One append always fits, whatever its size, or it could never be sent.
            if before > 0 && before + budget > self.bytes_max {
                self.bytes.fetch_sub(budget, Ordering::Relaxed);
                return Err(Refused::Full(request));
            }
        }
        let queue = match &request {
            Request::Append(_) | Request::Control(_) => &self.queue,
            Request::Fetch(_) | Request::Query(_) => &self.reads,
        };
        if let Err(request) = queue.push(request) {
            self.bytes.fetch_sub(budget, Ordering::Relaxed);
            return Err(Refused::Full(request));
        }
        self.wake.notify();
        if let Some(error) = self.ended.get() {
            // The shard may have looked for the last time before the push.
            self.refuse_all(error);
        }
        Ok(())
    }

    /// A listener for room. Listen first, try again, then wait.
    pub(crate) fn listen(&self) -> EventListener {
        self.room.listen()
    }

    /// The next append or change of the catalog, for the shard.
    pub(crate) fn receive(&self) -> Option<Request> {
        self.queue.pop()
    }

    /// The next read or question, for the shard.
    pub(crate) fn receive_read(&self) -> Option<Request> {
        self.reads.pop()
    }

    /// Whether reads or questions wait.
    pub(crate) fn has_reads(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Whether appends or changes of the catalog wait.
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_arrivals() && !self.has_reads()
    }

    /// Gives back budget and tells those who wait for room.
    pub(crate) fn release(&self, budget: u64) {
        if budget > 0 {
            self.bytes.fetch_sub(budget, Ordering::Relaxed);
        }
        self.room.notify(usize::MAX);
    }

    /// Wakes the shard.
    pub(crate) fn wake(&self) {
        self.wake.notify();
    }

    /// The shard takes nothing any more; the first reason wins.
    pub(crate) fn end(&self, error: AppendError) {
        let error = self.ended.get_or_init(|| error);
        self.refuse_all(error);
        self.room.notify(usize::MAX);
    }

    /// Takes nothing new; what is queued is still done.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.wake.notify();
        self.room.notify(usize::MAX);
    }

    /// Whether the engine is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Why the shard ended, if it has.
    pub(crate) fn ended(&self) -> Option<&AppendError> {
        self.ended.get()
    }

    fn refuse_all(&self, error: &AppendError) {
        while let Some(request) = self.queue.pop().or_else(|| self.reads.pop()) {
            request.refuse(error.clone());
        }
    }
}
