//! Step 4: wait at the end until there is more.

use std::rc::Rc;

use thalweg_io::Backend;

use crate::ids::{Offset, PartitionId};
use crate::planted::{Planted, planted};
use crate::read::request::{FetchError, FetchRequest, ReadFrom};
use crate::shard::Core;

impl<B: Backend> Core<B> {
    /// Keeps a fetch until its partition has more than `end`.
    pub(crate) fn wait_at_end(&self, mut request: FetchRequest, end: Offset) {
        let mut state = self.state_mut();
        if let Some(error) = state.halt_error() {
            drop(state);
            return request.refuse(&error);
        }
        if state.waiting_count >= self.config.read.waiting_max as usize {
            state.forget_unwanted();
        }
        if state.waiting_count >= self.config.read.waiting_max as usize {
            drop(state);
            return request.slot.fill(Err(FetchError::TooManyWaiting(self.shard)));
        }
        // "Latest" means the end as it was when the reader asked; a timestamp may still be ahead.
        if request.from == ReadFrom::Latest {
            request.from = ReadFrom::Offset(end);
        }
        let list = state.waiting.entry(request.partition).or_default();
        let before = list.len();
        if list.len() == list.capacity() {
            list.retain(FetchRequest::is_wanted);
        }
        list.push(request);
        let now = list.len();
        state.waiting_count = state.waiting_count + now - before;
    }

    /// Looks again for everybody who waits at the end of `partition`.
    pub(crate) fn wake_readers(self: &Rc<Self>, partition: PartitionId) {
        let waiting = {
            let mut state = self.state_mut();
            if state.waiting_count == 0 || planted(Planted::WaitingReadersForgotten) {
                return;
            }
            let Some(waiting) = state.waiting.remove(&partition) else { return };
            state.waiting_count -= waiting.len();
            waiting
        };
        waiting.into_iter().filter(FetchRequest::is_wanted).for_each(|request| self.fetch(request));
    }
}

impl crate::shard::state::State {
    /// Drops fetches whose readers are gone.
    fn forget_unwanted(&mut self) {
        self.waiting.retain(|_, list| {
            list.retain(FetchRequest::is_wanted);
            !list.is_empty()
        });
        self.waiting_count = self.waiting.values().map(Vec::len).sum();
    }
}
