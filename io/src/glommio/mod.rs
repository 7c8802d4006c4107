//! A backend inside somebody's glommio executor.
//!
//! For programs that already live in one. It is not the fast way: glommio keeps three rings per
//! executor, and its I/O buffers cannot be ours, so every byte is copied once more.

mod backend;
mod file;

pub use backend::GlommioBackend;

/// The executor's own crate, at the version this backend is built on.
pub use ::glommio as runtime;
