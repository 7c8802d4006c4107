//! What every backend must do, stated once.
//!
//! A case is an async function of a [`Reactor`] on an empty data directory. `contract!(name)` makes
//! one test of each case and runs it with `fn name(case: Case<B>)`, which opens a fresh backend and
//! drives the case to its end. `contract!(@real_time name)` makes those of the cases that need a
//! clock which goes on by itself.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses its part")]

mod data;
mod names;
mod waiting;

pub use data::*;
pub use names::*;
pub use waiting::*;

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use thalweg_io::{AlignedBuf, BLOCK, Backend, FileId, OpenMode, Reactor};

/// One case, for any way to drive it.
pub type Case<B> = fn(Reactor<B>) -> Pin<Box<dyn Future<Output = ()>>>;

/// Makes a test of every case. See the module.
#[macro_export]
macro_rules! contract {
    ($name:ident) => {
        mod $name {
            $crate::contract!(@cases $name:
                blocks_are_read_back_where_they_were_written
                a_read_past_the_end_is_short
                views_of_registered_memory_are_written
                views_of_other_memory_are_written_too
                buffers_come_back_with_errors
                more_operations_than_any_queue_holds
                operations_are_counted_until_they_are_reaped
                an_abandoned_write_still_happens
                open_modes_are_kept_apart
                an_id_is_free_after_close
                renames_replace_and_removes_remove
                directories_are_made_once_and_listed_in_order
                lengths_follow_allocate_and_truncate
                clocks_do_not_go_back
            );
        }
    };
    (@real_time $name:ident) => {
        mod $name {
            $crate::contract!(@cases $name:
                a_park_ends_at_its_deadline
                a_park_ends_when_another_thread_notifies
                a_park_ends_when_an_operation_does
                completions_are_seen_without_parking
                paths_outside_the_data_directory_are_refused
                requests_that_are_not_in_blocks_are_refused
            );
        }
    };
    (@cases $run:ident: $($case:ident)+) => {
        $(
            #[test]
            fn $case() {
                super::$run(|reactor| Box::pin($crate::contract::$case(reactor)));
            }
        )+
    };
}

/// Runs a case on a backend in a fresh directory, sleeping when there is nothing to do.
pub fn parking<B: Backend>(case: Case<B>, open: impl FnOnce(&Path) -> io::Result<B>) {
    let dir = tempfile::tempdir().unwrap();
    let reactor = Reactor::new(open(dir.path()).unwrap());
    reactor.block_on(case(reactor.clone()));
}

/// Runs a case on a backend in a fresh directory, and never sleeps.
pub fn polling<B: Backend>(case: Case<B>, open: impl FnOnce(&Path) -> io::Result<B>) {
    let dir = tempfile::tempdir().unwrap();
    let reactor = Reactor::new(open(dir.path()).unwrap());
    let mut future = pin!(case(reactor.clone()));
    let mut context = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut context) == Poll::Pending {
        reactor.run_tasks(64);
        reactor.poll_io();
        std::thread::yield_now();
    }
}

/// A new file.
async fn create<B: Backend>(reactor: &Reactor<B>, path: &str) -> FileId {
    let (file, len) = reactor.open(path, OpenMode::CreateNew).await.unwrap();
    assert_eq!(len, 0);
    file
}

/// `blocks` blocks that can be told apart from each other and from those of another `seed`.
fn pattern(seed: u64, blocks: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(blocks * BLOCK);
    for (index, word) in buf.chunks_exact_mut(8).enumerate() {
        let mixed = (seed << 32 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&mixed.to_le_bytes());
    }
    buf
}

/// All of a file, as far as `blocks` blocks go.
async fn read_back<B: Backend>(reactor: &Reactor<B>, file: FileId, position: u64, blocks: usize) -> Vec<u8> {
    let (buf, len) = reactor.read(file, position, AlignedBuf::zeroed(blocks * BLOCK)).await;
    buf[..len.unwrap()].to_vec()
}
