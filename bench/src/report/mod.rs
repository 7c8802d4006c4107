//! What a run found, for people: a table, a page, percentile files, and the difference of two runs.
//!
//! Everything here is a pure function of a [`Report`](crate::result::Report), but for [`save`] and
//! [`read`], which touch files.

mod axis;
mod bars;
mod change;
mod compare;
mod conditions;
mod grid;
mod hgrm;
mod html;
mod json;
mod plot;
mod save;
mod table;
mod text;
mod units;

#[cfg(test)]
mod sample;

pub use change::{Better, Change, Outcome, Rounds, judge};
pub use compare::{Comparison, compare};
pub use hgrm::{curve, write_hgrm};
pub use html::html;
pub(crate) use json::{line_points, number, numbers};
pub use json::{read, to_json};
pub use save::{Recorded, save};
pub use table::table;
