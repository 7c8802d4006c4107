//! Records and batches: what a caller appends and what a reader gets back.

mod batch;
mod body;
mod given;
mod view;

pub use batch::{BATCH_HEADER_BYTES, BatchHeader, BatchKind, check_batch};
pub use body::{RecordRef, RecordRefs, encoded_len_max, write_record};
pub use given::{Batch, Header, Record};
pub use view::{BatchView, RecordView};
