//! The write-ahead log of one shard: a small ring of fixed-size, pre-written, recycled files that
//! hold groups in order of arrival. It makes acknowledgements cheap, and is short.

pub mod control;
pub mod decide;
pub mod file_header;
pub mod group;
pub(crate) mod lease;
pub mod life;
pub mod ring;
pub mod scan;
mod sweep;
