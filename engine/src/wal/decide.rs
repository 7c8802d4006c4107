//! What recovery may cut, as a pure function of what it saw.
//!
//! A group that cannot be read whole, in its place, is either *torn* (power failed while it was
//! being written; it was never acknowledged) or *damaged* (it was durable once). The two look the
//! same. What tells them apart is a later group: each carries the number of the last group known
//! durable when it was written. So:
//!
//! | the first missing group `f`             | decision                                     |
//! |-----------------------------------------|----------------------------------------------|
//! | nothing was ever written behind `f - 1` | the log ends before `f`                      |
//! | a later header says `durable ≥ f`       | refuse: `f` was acknowledged                 |
//! | an outside record says `durable ≥ f`    | refuse: `f` was acknowledged                 |
//! | the disk cannot read the place, or the  | refuse: what is not there proves no tear     |
//! | file is shorter than it was made        |                                              |
//! | whole groups of this life behind it     | cut from `f` on, and go on in a fresh file   |
//! | otherwise                               | cut from `f` on, and write `f` anew in place |
//!
//! Several groups may be in flight, so groups behind `f` may be whole and still unacknowledged:
//! acknowledgements are given in order, and `f` was not.

use crate::ids::{FileNumber, GroupNumber};
use crate::planted::{Planted, planted};

/// What recovery found behind the last group of an unbroken run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The first group that is not there whole.
    pub missing: GroupNumber,
    /// The file and byte where it should start.
    pub file: FileNumber,
    /// Byte in that file.
    pub position: u64,
    /// Why it does not count: all zeros, or what is wrong with it.
    pub state: TailState,
    /// The largest `durable` mark in any valid header behind that place, of any file.
    pub later_durable: Option<Proof>,
    /// The largest number that something outside the WAL says was durable (the manifest).
    pub outside_durable: GroupNumber,
}

/// The state of the place where the first missing group should start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailState {
    /// Zeros, or bytes of an earlier life of the file: nothing was written here.
    Untouched,
    /// Something was written here, and it is not whole.
    Broken(String),
    /// The disk refuses to read it, or a part of the file is gone.
    Unreadable(String),
}

/// A header that proves something about groups before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The last group known durable when the header was written.
    pub durable: GroupNumber,
    /// The group that says so.
    pub said_by: GroupNumber,
    /// Where that group starts.
    pub file: FileNumber,
    /// Byte in that file.
    pub position: u64,
}

/// What recovery does about the tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The log ends before the missing group.
    End,
    /// Something unacknowledged is in the way: drop it.
    Cut {
        /// Whether whole groups are behind the cut. They could follow new ones by chance, so the
        /// log goes on in a fresh file, whose header records the cut.
        fresh_file: bool,
    },
    /// Acknowledged records may be behind the damage. Refuse to open.
    Refuse(String),
}

/// Decides about the tail of a WAL.
#[must_use]
pub fn decide(tail: &Tail) -> Decision {
    let missing = tail.missing;
    if let Some(proof) = &tail.later_durable
        && proof.durable >= missing
        && !planted(Planted::CutInTheMiddle)
    {
        return Decision::Refuse(format!(
            "group {missing} is damaged, but group {} (file {:016x}, byte {}) shows that it was durable",
            proof.said_by, proof.file.0, proof.position
        ));
    }
    if tail.outside_durable >= missing {
        return Decision::Refuse(format!(
            "group {missing} is missing, but the manifest shows that group {} was durable",
            tail.outside_durable
        ));
    }
    match &tail.state {
        TailState::Unreadable(_) if planted(Planted::UnreadableIsTorn) => Decision::Cut { fresh_file: true },
        TailState::Unreadable(why) => {
            Decision::Refuse(format!("group {missing} can't be read ({why}), which proves no torn write"))
        }
        TailState::Untouched if tail.later_durable.is_none() => Decision::End,
        TailState::Untouched | TailState::Broken(_) => {
            Decision::Cut { fresh_file: tail.later_durable.is_some() }
        }
    }
}

/// What a decision drops from the end of a WAL, if there is anything to say of it.
#[must_use]
pub fn dropped(decision: &Decision, tail: &Tail) -> Option<String> {
    let Decision::Cut { fresh_file } = decision else { return None };
    let TailState::Broken(why) = &tail.state else {
        return Some(format!("groups behind {}, which was never written", tail.missing));
    };
    // Behind the last group of a recycled file lie bytes of its earlier lives: no news.
    let ours = *fresh_file || !why.contains("magic");
    ours.then(|| {
        format!("group {} at byte {} of file {:016x}: {why}", tail.missing, tail.position, tail.file.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileNumber = FileNumber(1);

    fn proof(durable: u64) -> Option<Proof> {
        let said_by = GroupNumber(durable + 1);
        Some(Proof { durable: GroupNumber(durable), said_by, file: FILE, position: 8192 })
    }

    #[track_caller]
    fn check(state: TailState, later_durable: Option<Proof>, outside: u64, want: &str) {
        let tail = Tail {
            missing: GroupNumber(5),
            file: FILE,
            position: 4096,
            state,
            later_durable,
            outside_durable: GroupNumber(outside),
        };
        let got = match decide(&tail) {
            Decision::End => "end",
            Decision::Cut { fresh_file: false } => "cut",
            Decision::Cut { fresh_file: true } => "fresh",
            Decision::Refuse(_) => "refuse",
        };
        assert_eq!(got, want, "{tail:?}");
    }

    fn broken() -> TailState {
        TailState::Broken("checksum".into())
    }

    #[test]
    fn the_table() {
        check(TailState::Untouched, None, 0, "end");
        check(broken(), None, 0, "cut");
        check(TailState::Unreadable("EIO".into()), None, 0, "refuse");
    }

    #[test]
    fn later_groups_prove_only_what_they_say() {
        for state in [TailState::Untouched, broken()] {
            check(state.clone(), proof(4), 0, "fresh"); // in flight together with 5
            check(state.clone(), proof(5), 0, "refuse");
            check(state, proof(6), 0, "refuse");
        }
        check(TailState::Unreadable("EIO".into()), proof(4), 0, "refuse");
    }

    #[test]
    fn an_outside_record_proves_as_well() {
        for state in [TailState::Untouched, broken()] {
            check(state, None, 5, "refuse");
        }
        check(TailState::Untouched, None, 4, "end");
        check(broken(), None, 4, "cut");
    }

    #[test]
    fn what_is_dropped_is_said_unless_it_is_of_an_earlier_life() {
        let tail = |state| Tail {
            missing: GroupNumber(5),
            file: FILE,
            position: 4096,
            state,
            later_durable: None,
            outside_durable: GroupNumber(0),
        };
        let untouched = tail(TailState::Untouched);
        assert_eq!(dropped(&decide(&untouched), &untouched), None);
        let says = |why: &str| {
            let tail = tail(TailState::Broken(why.to_owned()));
            dropped(&decide(&tail), &tail)
        };
        assert_eq!(
            says("batch: checksum").unwrap(),
            "group 5 at byte 4096 of file 0000000000000001: batch: checksum"
        );
        assert_eq!(says("no magic"), None);
    }
}
