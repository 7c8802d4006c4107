//! Bugs planted on purpose: what proves the log is itself proved by finding them.
//!
//! Each is one call at the place where the bug would be. Only a build with the feature `planted` can
//! have one; without it [`planted`] is a constant `false`, and nothing of this is left in the program.

#![cfg_attr(not(feature = "planted"), expect(unreachable_pub, reason = "tests alone choose a bug"))]

/// The bugs of this crate. The engine has more: `engine/src/planted.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A chunk of the tail cache goes to its next user while one reader still holds it.
    ChunkRecycledWhileHeld,
    /// A write that stored only a part of its bytes counts as whole.
    ShortWriteIgnored,
}

#[cfg(feature = "planted")]
mod chosen {
    use super::Planted;

    thread_local! {
        static CHOSEN: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
    }

    impl Planted {
        /// Every bug.
        pub const ALL: &[Planted] = &[Planted::ChunkRecycledWhileHeld, Planted::ShortWriteIgnored];
    }

    /// Plants a bug for what runs on this thread from here on; none takes it out.
    pub fn plant(bug: Option<Planted>) {
        CHOSEN.set(bug);
    }

    /// Whether this bug is planted on this thread.
    pub(crate) fn planted(bug: Planted) -> bool {
        CHOSEN.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use chosen::plant;
#[cfg(feature = "planted")]
pub(crate) use chosen::planted;

/// No bug is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn planted(_bug: Planted) -> bool {
    false
}

// Decided while compiling: what a bug would do is not in the program.
#[cfg(not(feature = "planted"))]
const _: () = assert!(!planted(Planted::ChunkRecycledWhileHeld));
