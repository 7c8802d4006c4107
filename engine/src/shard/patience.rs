//! How long the device has not answered for a group: at first that is worth a word, in the end the shard
//! stops, so that nobody waits for ever.

use thalweg_io::Nanos;

use crate::ids::GroupNumber;

/// Looks at a group within the time that ends the shard. A look counts for no more than its share of it: time
/// in which the process or its whole machine stood still is no time of the device's.
const LOOKS: u64 = 10;

/// How long the oldest group in flight has waited.
pub(crate) struct Patience {
    stuck_ns: u64,
    group: GroupNumber,
    looked: Nanos,
    waited_ns: u64,
}

/// What a look at the oldest group in flight came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is early days, or this was said before.
    Waits,
    /// A tenth of the time is over.
    Overdue,
    /// All of it is.
    Stuck,
}

impl Patience {
    pub(crate) fn new(stuck_ms: u32) -> Patience {
        let stuck_ns = u64::from(stuck_ms) * 1_000_000;
        Patience { stuck_ns, group: GroupNumber(0), looked: Nanos(0), waited_ns: 0 }
    }

    /// Looks at `group`, which is the oldest without an answer at `now`.
    pub(crate) fn look(&mut self, group: GroupNumber, now: Nanos) -> Look {
        if self.group != group {
            (self.group, self.waited_ns) = (group, 0);
            self.looked = now;
            return Look::Waits;
        }
        let share = self.stuck_ns / LOOKS;
        let before = self.waited_ns;
        self.waited_ns += now.since(self.looked).min(share);
        self.looked = now;
        match self.waited_ns {
            waited if waited >= self.stuck_ns => Look::Stuck,
            waited if waited >= share && before < share => Look::Overdue,
            _ => Look::Waits,
        }
    }

    /// When to look again at a group that was sent at `sent`.
    pub(crate) fn next_look(&self, sent: Nanos) -> Nanos {
        self.looked.max(sent).plus_us(self.stuck_ns / LOOKS / 1000)
    }

    /// The time after which a group counts as overdue, ms.
    pub(crate) fn overdue_ms(&self) -> u64 {
        self.stuck_ns / LOOKS / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Looks at group 1 at these seconds.
    fn looks(seconds: &[u64]) -> Vec<Look> {
        let mut patience = Patience::new(30_000);
        seconds.iter().map(|at| patience.look(GroupNumber(1), Nanos(at * SECOND))).collect()
    }

    #[test]
    fn a_group_is_overdue_once_and_stuck_in_the_end() {
        use Look::{Overdue, Stuck, Waits};
        let seconds: Vec<u64> = (100..=130).collect();
        let seen = looks(&seconds);
        assert_eq!(seen.iter().position(|look| *look == Overdue), Some(3));
        assert_eq!(seen.iter().position(|look| *look == Stuck), Some(30));
        assert_eq!(seen.iter().filter(|look| **look == Waits).count(), 29);
    }

    #[test]
    fn time_in_which_nobody_looked_is_not_the_devices() {
        assert_eq!(looks(&[100, 100_000, 100_001]), [Look::Waits, Look::Overdue, Look::Waits]);
    }

    #[test]
    fn each_group_has_all_of_the_time() {
        let mut patience = Patience::new(30_000);
        for group in 1..100 {
            for second in 0..3 {
                let now = Nanos((group * 3 + second) * SECOND);
                assert_eq!(patience.look(GroupNumber(group), now), Look::Waits);
            }
        }
    }
}
