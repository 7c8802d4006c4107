//! What a power cut leaves.

use std::path::Path;

use crate::backend::BLOCK;

use super::fault::OpKind;
use super::options::{Fate, Weights};
use super::pages::{SECTOR, WHOLE, Written};
use super::random::SimRandom;

/// Something that a power cut may keep or lose, for a test that decides itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecided<'a> {
    /// An operation in flight: whether it happened at all. The sectors of a write and the names
    /// and lengths it changed are asked for one by one afterwards.
    InFlight(OpKind),
    /// The bytes of one sector.
    Sector {
        /// The file, empty if it has no name.
        file: &'a Path,
        /// First byte of the sector.
        position: u64,
    },
    /// A change of a file's length.
    Length {
        /// The file, empty if it has no name.
        file: &'a Path,
        /// The new length.
        len: u64,
    },
    /// A name set or cleared. For a rename, the new name.
    Name {
        /// The name.
        path: &'a Path,
    },
}

/// Decides what survives.
pub(super) enum Judge<'a> {
    /// By the seed.
    Drawn { random: &'a mut SimRandom, weights: Weights },
    /// By the test: true keeps.
    Asked(&'a mut dyn FnMut(Undecided<'_>) -> bool),
}

impl Judge<'_> {
    /// What became of an operation in flight.
    pub(super) fn in_flight(&mut self, kind: OpKind) -> Fate {
        match self {
            Judge::Drawn { random, weights } => weights.fate(random),
            Judge::Asked(ask) => {
                if ask(Undecided::InFlight(kind)) {
                    Fate::Keep
                } else {
                    Fate::Lose
                }
            }
        }
    }

    /// Whether a file's new length survives.
    pub(super) fn keeps_length(&mut self, file: &Path, len: u64) -> bool {
        match self {
            Judge::Drawn { random, weights } => weights.keeps(random),
            Judge::Asked(ask) => ask(Undecided::Length { file, len }),
        }
    }

    /// Whether a change of names survives.
    pub(super) fn keeps_name(&mut self, path: &Path) -> bool {
        match self {
            Judge::Drawn { random, weights } => weights.keeps(random),
            Judge::Asked(ask) => ask(Undecided::Name { path }),
        }
    }

    /// Takes from a write, whose first page is `first`, the sectors that do not survive.
    pub(super) fn tear(&mut self, file: &Path, first: u64, pages: &mut [Written]) {
        match self {
            Judge::Drawn { random, weights } => match weights.fate(random) {
                Fate::Keep => {}
                Fate::Lose => pages.iter_mut().for_each(|written| written.sectors = 0),
                Fate::Tear => tear_by_seed(random, weights.garbage, pages),
            },
            Judge::Asked(ask) => {
                for (page, written) in (first..).zip(pages) {
                    let kept = |sector: &u32| {
                        let position = page * BLOCK as u64 + u64::from(*sector) * SECTOR as u64;
                        ask(Undecided::Sector { file, position })
                    };
                    let asked = (0..8).filter(|sector| written.sectors & (1 << sector) != 0);
                    written.sectors = asked.filter(kept).fold(0, |sectors, sector| sectors | (1 << sector));
                }
            }
        }
    }
}

/// Each sector is kept or lost by the toss of a coin, and a lost one may be garbage.
fn tear_by_seed(random: &mut SimRandom, garbage: f64, pages: &mut [Written]) {
    for written in pages {
        let kept = random.draw() as u8;
        let lost = written.sectors & !kept;
        written.sectors &= kept;
        if garbage == 0.0 {
            continue;
        }
        for sector in (0..8).filter(|sector| lost & (1 << sector) != 0) {
            if random.chance(garbage) {
                let bytes = &mut std::rc::Rc::make_mut(&mut written.page)[sector * SECTOR..][..SECTOR];
                bytes.fill_with(|| random.draw() as u8);
                written.sectors |= 1 << sector;
            }
        }
    }
}

/// Leaves any subset of a write's sectors: of a write that failed, or was torn in flight.
pub(super) fn tear_in_flight(random: &mut SimRandom, pages: &mut [Written]) {
    for written in pages {
        written.sectors = WHOLE & random.draw() as u8;
    }
}
