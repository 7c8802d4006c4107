//! Segments: immutable files of batches, each with an index of its own at its end.

mod build;
mod encode;
pub(crate) mod files;
mod footer;
mod pieces;
mod read;

pub use build::{Built, SegmentWriter};
pub(crate) use build::{IndexBuilder, SegmentIdentity, promote};
pub use encode::encode_footer;
pub use footer::{ENTRY_BYTES, Footer, IndexEntry, RUN_BYTES, Run, TRAILER_BYTES, Trailer, decode_footer};
pub(crate) use pieces::Pieces;
pub(crate) use read::Window;
pub use read::{ReadError, SegmentReader, read_trailer};
