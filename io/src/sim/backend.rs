//! A shard's view of a simulated disk.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use crate::backend::{Backend, Completion, Nanos, Op, Tag};
use crate::memory::Region;
use crate::wake::Wake;

use super::client::ClientKey;
use super::state::State;

/// Virtual time that one `poll` takes, ns: a loop that never parks still gets on.
pub const POLL_NS: u64 = 200;

/// One shard's backend on a [`SimDisk`](super::SimDisk), for one life of its process.
///
/// Dropping it waits, in virtual time, for what is in flight. After a power cut it stays usable
/// and answers every operation with an error of kind
/// [`BrokenPipe`](std::io::ErrorKind::BrokenPipe).
#[derive(Debug)]
pub struct SimBackend {
    state: Rc<RefCell<State>>,
    client: ClientKey,
    wake: Arc<Wake>,
}

impl SimBackend {
    pub(super) fn new(state: Rc<RefCell<State>>) -> SimBackend {
        let client = state.borrow_mut().connect();
        let wake = Wake::new().expect("an event descriptor for the simulated shard");
        SimBackend { state, client, wake: Arc::new(wake) }
    }
}

impl Drop for SimBackend {
    fn drop(&mut self) {
        self.state.borrow_mut().disconnect(self.client);
    }
}

impl Backend for SimBackend {
    const NAME: &'static str = "sim";

    fn submit(&mut self, op: Op, tag: Tag) {
        self.state.borrow_mut().submit(self.client, op, tag);
    }

    fn poll(&mut self, out: &mut Vec<Completion>) -> usize {
        self.state.borrow_mut().poll(self.client, out)
    }

    /// Jumps to the next completion of any backend of the disk, or to the deadline. Returns at
    /// once when there is neither.
    fn park(&mut self, deadline: Option<Nanos>) {
        self.state.borrow_mut().park(self.client, deadline.map(|deadline| deadline.0));
    }

    /// Gives whoever polls a look in between any two turns, and then sleeps.
    fn idle(&mut self, deadline: Option<Nanos>) -> impl Future<Output = ()> + use<> {
        let (state, client) = (self.state.clone(), self.client);
        let mut looked = false;
        poll_fn(move |context| {
            if !std::mem::replace(&mut looked, true) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            state.borrow_mut().park(client, deadline.map(|deadline| deadline.0));
            Poll::Ready(())
        })
    }

    fn in_flight(&self) -> usize {
        self.state.borrow().in_flight(self.client)
    }

    fn register(&mut self, _region: &Arc<Region>) {}

    fn wake(&self) -> Arc<Wake> {
        self.wake.clone()
    }

    fn now(&self) -> Nanos {
        Nanos(self.state.borrow().now)
    }

    fn wall_ms(&self) -> i64 {
        self.state.borrow().wall_ms()
    }

    fn random(&mut self) -> u64 {
        self.state.borrow_mut().entropy.draw()
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(self.state.borrow().free_bytes())
    }
}
