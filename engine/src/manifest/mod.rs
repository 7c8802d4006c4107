//! The manifest of a shard: which files it has, what each is for, and which partitions exist.
//!
//! It changes by edits. Each edit names the revision it expects, is checked by predicates over the
//! state before and after, is appended to the manifest file, and is in force once that is durable.

mod codec;
mod edit;
mod file;
mod predicate;
mod snapshot;
mod state;

pub use codec::{EDIT_HEADER_BYTES, decode_edit, encode_edit};
pub use edit::{Change, Edit, SegmentKind, SegmentMeta};
pub(crate) use file::is_full;
pub use file::{Loaded, ManifestError, ManifestFile, load, manifest_name};
pub use predicate::Conflict;
pub use state::{Manifest, PartitionMeta};
