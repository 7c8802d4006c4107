//! What the suites of this crate share: places where a log lives, and settings that make a small
//! log do quickly what a large one does in time.

#![forbid(unsafe_code)]

mod host;
mod hosts;
pub mod scoreboard;
pub mod specimen;
mod truth;
mod wrong;

pub use host::{Host, HostExt, Row, block_on, row};
#[cfg(feature = "glommio")]
pub use hosts::glommio::Glommio;
pub use hosts::owned::Owned;
pub use hosts::sim::Sim;
pub use hosts::threads::Threads;
pub use hosts::{Directory, small};
pub use truth::{Found, Sent, Truth, in_order, is_as};
pub use wrong::Wrong;
