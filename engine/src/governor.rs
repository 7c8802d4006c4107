//! Keeps background I/O out of the way of commits.
//!
//! Everything that is not a commit asks here before it reads or writes. Requests are small and one
//! at a time per task; their rate follows the commit latency that is measured: it falls when
//! commits get slower and recovers when they do not. Without commits there is no limit, nor when
//! the WAL has no spare file left: what is held back then is what the appends wait for.

use std::cell::Cell;

use thalweg_io::{Backend, Nanos, Reactor};

/// Largest request of background I/O, bytes. What hurts a commit is the request in front of it.
pub(crate) const REQUEST_BYTES_MAX: usize = 128 << 10;
/// Commits count as under way for so long after the last one.
const QUIET_AFTER_NS: u64 = 10_000_000;
/// The rate never falls below this, or sealing would stop the appends it makes room for.
const RATE_MIN: f64 = 32.0 * 1024.0 * 1024.0;
/// Commits this much slower than the best seen lower the rate.
const SLOWER: f64 = 1.5;

/// The pace of background I/O on one shard.
pub(crate) struct Governor<B: Backend> {
    reactor: Reactor<B>,
    rate_max: f64,
    /// Bytes per second at present.
    rate: Cell<f64>,
    last_commit: Cell<Option<Nanos>>,
    /// Smoothed commit latency, ns.
    latency: Cell<f64>,
    /// The best latency lately, ns; it forgets slowly.
    best: Cell<f64>,
    /// When the next request may start.
    next: Cell<Nanos>,
    bytes: Cell<u64>,
    urgent: Cell<bool>,
}

impl<B: Backend> Governor<B> {
    pub(crate) fn new(reactor: Reactor<B>, bytes_per_s: u64) -> Governor<B> {
        let rate_max = bytes_per_s as f64;
        Governor {
            reactor,
            rate_max,
            rate: Cell::new(rate_max),
            last_commit: Cell::new(None),
            latency: Cell::new(0.0),
            best: Cell::new(f64::MAX),
            next: Cell::new(Nanos(0)),
            bytes: Cell::new(0),
            urgent: Cell::new(false),
        }
    }

    /// A commit took `nanos`.
    pub(crate) fn committed(&self, nanos: u64) {
        self.last_commit.set(Some(self.reactor.now()));
        let nanos = nanos as f64;
        let latency = if self.latency.get() == 0.0 { nanos } else { self.latency.get() * 0.9 + nanos * 0.1 };
        self.latency.set(latency);
        self.best.set((self.best.get() * 1.0005).min(latency));
        let rate = self.rate.get();
        let slower = latency > self.best.get() * SLOWER;
        let rate = if slower { (rate * 0.98).max(RATE_MIN) } else { (rate * 1.01).min(self.rate_max) };
        self.rate.set(rate.min(self.rate_max));
    }

    /// Appends are about to stop for want of a WAL file: no more holding back.
    pub(crate) fn set_urgent(&self, urgent: bool) {
        self.urgent.set(urgent);
    }

    /// Waits until `bytes` may be read or written.
    pub(crate) async fn permit(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        let now = self.reactor.now();
        let quiet = self.last_commit.get().is_none_or(|last| now.since(last) > QUIET_AFTER_NS);
        if quiet || self.urgent.get() {
            // Let the shard turn between two requests all the same.
            return self.reactor.yield_now().await;
        }
        let start = self.next.get().max(now);
        let cost_ns = bytes as f64 / self.rate.get() * 1e9;
        self.next.set(Nanos(start.0 + cost_ns as u64));
        let wait_us = start.since(now) / 1000;
        if wait_us > 0 {
            self.reactor.sleep_us(wait_us).await;
        } else {
            self.reactor.yield_now().await;
        }
    }

    /// Bytes permitted so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }
}
