//! The bounded queue between callers and a shard.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_queue::ArrayQueue;
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
    /// Answers it with an error.
    pub(crate) fn refuse(self, error: AppendError) {
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

/// A request that found no room and stands in line. It is its ticket's, and goes with it.
pub(crate) struct Waiting(Mutex<Option<Request>>);

impl Waiting {
    /// Takes the parts of one request back, if all of them still wait.
    pub(crate) fn take_back(parts: &[Arc<Waiting>]) {
        let mut held: Vec<_> = parts.iter().map(|part| lock(&part.0)).collect();
        if held.iter().all(|part| part.is_some()) {
            let taken: Vec<_> = held.iter_mut().map(|part| part.take()).collect();
            drop(held);
            drop(taken);
        }
    }
}

/// A bounded queue, and the line in front of it: first come, first served.
struct Lane {
    queue: ArrayQueue<Request>,
    line: Mutex<VecDeque<Arc<Waiting>>>,
    /// Length of the line, to be read without the lock.
    in_line: AtomicUsize,
}

impl Lane {
    fn new(requests_max: u32) -> Lane {
        Lane {
            queue: ArrayQueue::new(requests_max as usize),
            line: Mutex::new(VecDeque::new()),
            in_line: AtomicUsize::new(0),
        }
    }

    fn has_line(&self) -> bool {
        self.in_line.load(Ordering::Acquire) > 0
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.has_line()
    }
}

/// The bounded queue of one shard: `limits.queue_requests_max` requests, and
/// `limits.queue_bytes_max` bytes of appends that are not acknowledged yet.
pub(crate) struct Mailbox {
    shard: ShardId,
    arrivals: Lane,
    /// Reads and questions, which go on while appends have to wait.
    reads: Lane,
    bytes: AtomicU64,
    bytes_max: u64,
    wake: Arc<Wake>,
    ended: OnceLock<AppendError>,
    /// Whether the engine is being closed: what is queued is still done.
    closing: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::result_large_err, reason = "the request is the caller's, and moves either way")]
impl Mailbox {
    pub(crate) fn new(shard: ShardId, requests_max: u32, bytes_max: u64, wake: Arc<Wake>) -> Mailbox {
        Mailbox {
            shard,
            arrivals: Lane::new(requests_max),
            reads: Lane::new(requests_max),
            bytes: AtomicU64::new(0),
            bytes_max,
            wake,
            ended: OnceLock::new(),
            closing: AtomicBool::new(false),
        }
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    /// Queues a request if there is room and nobody stands in line for it; gives it back if not.
    pub(crate) fn try_send(&self, request: Request) -> Result<(), Refused> {
        if let Some(error) = self.refusal() {
            return Err(Refused::Ended(request, error));
        }
        let lane = self.lane(&request);
        if lane.has_line() {
            return Err(Refused::Full(request));
        }
        self.push(lane, request).map_err(Refused::Full)?;
        self.sent();
        Ok(())
    }

    /// Queues a request; where there is no room it stands in line, and is queued when its turn comes.
    ///
    /// # Errors
    /// The request and why the shard takes nothing any more.
    pub(crate) fn send(&self, request: Request) -> Result<Option<Arc<Waiting>>, (Request, AppendError)> {
        let request = match self.try_send(request) {
            Ok(()) => return Ok(None),
            Err(Refused::Ended(request, error)) => return Err((request, error)),
            Err(Refused::Full(request)) => request,
        };
        let lane = self.lane(&request);
        let waiting = Arc::new(Waiting(Mutex::new(Some(request))));
        {
            let mut line = lock(&lane.line);
            line.push_back(waiting.clone());
            lane.in_line.fetch_add(1, Ordering::SeqCst);
        }
        // Room made since then was made by someone who saw no line.
        fence(Ordering::SeqCst);
        self.admit_waiting(lane);
        self.sent();
        Ok(Some(waiting))
    }

    /// Why nothing can be sent any more, if so.
    pub(crate) fn refusal(&self) -> Option<AppendError> {
        self.ended.get().cloned().or_else(|| self.is_closing().then_some(AppendError::Closed))
    }

    fn lane(&self, request: &Request) -> &Lane {
        match request {
            Request::Append(_) | Request::Control(_) => &self.arrivals,
            Request::Fetch(_) | Request::Query(_) => &self.reads,
        }
    }

    /// Queues a request within the bounds.
    fn push(&self, lane: &Lane, request: Request) -> Result<(), Request> {
        let budget = if let Request::Append(append) = &request { append.budget } else { 0 };
        if budget > 0 {
            // One append always fits, whatever its size, or it could never be sent.
            let fits = |before: u64| before == 0 || before + budget <= self.bytes_max;
            let add = |before: u64| fits(before).then_some(before + budget);
            if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
                return Err(request);
            }
        }
        lane.queue.push(request).inspect_err(|_| {
            self.bytes.fetch_sub(budget, Ordering::Relaxed);
        })
    }

    fn sent(&self) {
        self.wake.notify();
        if let Some(error) = self.ended.get() {
            // The shard may have looked for the last time before the push.
            self.refuse_all(error);
        }
    }

    /// Queues from the head of the line while there is room.
    fn admit_waiting(&self, lane: &Lane) {
        if !lane.has_line() {
            return;
        }
        let mut line = lock(&lane.line);
        while let Some(first) = line.front() {
            let mut request = lock(&first.0);
            if let Some(waiting) = request.take()
                && let Err(back) = self.push(lane, waiting)
            {
                *request = Some(back);
                return;
            }
            drop(request);
            line.pop_front();
            lane.in_line.fetch_sub(1, Ordering::Release);
        }
    }

    /// The next append or change of the catalog, for the shard.
    pub(crate) fn receive(&self) -> Option<Request> {
        self.arrivals.queue.pop()
    }

    /// The next read or question, for the shard.
    pub(crate) fn receive_read(&self) -> Option<Request> {
        self.reads.queue.pop()
    }

    /// Whether reads or questions wait.
    pub(crate) fn has_reads(&self) -> bool {
        !self.reads.queue.is_empty()
    }

    /// Whether appends or changes of the catalog wait.
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.arrivals.queue.is_empty()
    }

    /// Whether nothing waits, in the queue or in line for it.
    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty() && self.reads.is_empty()
    }

    /// Gives back budget, and lets in who stands in line.
    pub(crate) fn release(&self, budget: u64) {
        if budget > 0 {
            self.bytes.fetch_sub(budget, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        self.admit_waiting(&self.arrivals);
        self.admit_waiting(&self.reads);
    }

    /// Wakes the shard.
    pub(crate) fn wake(&self) {
        self.wake.notify();
    }

    /// The shard takes nothing any more; the first reason wins.
    pub(crate) fn end(&self, error: AppendError) {
        let error = self.ended.get_or_init(|| error);
        self.refuse_all(error);
    }

    /// Takes nothing new; what is queued is still done.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.wake.notify();
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
        for lane in [&self.arrivals, &self.reads] {
            while let Some(request) = lane.queue.pop() {
                request.refuse(error.clone());
            }
            let line = std::mem::take(&mut *lock(&lane.line));
            lane.in_line.fetch_sub(line.len(), Ordering::Release);
            for request in line.iter().filter_map(|waiting| lock(&waiting.0).take()) {
                request.refuse(error.clone());
            }
        }
    }
}
