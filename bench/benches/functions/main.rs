//! Single functions on the way of an append and of a read, with criterion.
//!
//! What is private in the engine is reached through its feature `stages`. Quoted for means, never
//! for tails.

#![forbid(unsafe_code)]

mod batches;
mod checksum;
mod hop;
mod lookup;
mod turn;

use criterion::{criterion_group, criterion_main};
use thalweg::Record;

/// A record whose value has 1 KiB.
fn record_of_1_kib() -> Record {
    Record::new(vec![b'x'; 1024]).with_key("key")
}

criterion_group!(
    functions,
    batches::records,
    batches::batches,
    batches::varints,
    batches::groups,
    checksum::checksums,
    hop::queue,
    hop::hop,
    lookup::index,
    lookup::tail,
    turn::appends,
    turn::reads,
);
criterion_main!(functions);
