//! Looking for work before sleeping: for as long as it is likely to come sooner than a wake-up
//! would.
//!
//! A sleep costs a wake-up, which on many hosts costs as much as the commit itself. So while a
//! commit is in flight a shard looks for its end, and between commits for the next request, if by
//! what it has measured they come within `threads.poll_us`. Where others want the core it sleeps: a
//! thread that sleeps is woken ahead of those that compute, one that yields is not.

use thalweg_io::Nanos;

/// Weight of the newest sample in the smoothed times.
const NEWEST: f64 = 0.125;
/// Looked for beyond twice the expected time, ns: jitter of very short times.
const GRACE_NS: f64 = 10_000.0;
/// A yield that takes longer has given the core to somebody who computes, ns.
const CROWDED_NS: u64 = 200_000;
/// Not looked for so long after that, ns.
const CROWDED_FOR_NS: u64 = 20_000_000;

/// What a shard knows of when its work comes.
pub(crate) struct Polling {
    /// The longest look at a stretch, ns; 0 sleeps at once.
    longest_ns: f64,
    /// Smoothed time of a commit, ns.
    commit_ns: f64,
    /// Smoothed time from having nothing to do at all to the next request, ns.
    gap_ns: f64,
    /// Since when there is nothing to do, and whether a commit was in flight then.
    idle: Option<(Nanos, bool)>,
    crowded_until: Nanos,
}

impl Polling {
    pub(crate) fn new(longest_us: u32) -> Polling {
        Polling {
            longest_ns: f64::from(longest_us) * 1000.0,
            commit_ns: 0.0,
            gap_ns: 0.0,
            idle: None,
            crowded_until: Nanos(0),
        }
    }

    /// A commit took `nanos`.
    pub(crate) fn committed(&mut self, nanos: u64) {
        smooth(&mut self.commit_ns, nanos);
    }

    /// Whether the shard has had nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.idle.is_some()
    }

    /// There was something to do at `now`.
    pub(crate) fn worked(&mut self, now: Nanos) {
        if let Some((since, false)) = self.idle.take() {
            smooth(&mut self.gap_ns, now.since(since));
        }
    }

    /// A group was started though nothing had come: what follows is no wait for a request.
    pub(crate) fn sent(&mut self) {
        self.idle = None;
    }

    /// Whether to look again rather than to sleep, with nothing to do at `now`.
    pub(crate) fn pays(&mut self, now: Nanos, in_flight: bool) -> bool {
        let (since, _) = *self.idle.get_or_insert((now, in_flight));
        let expected = if in_flight { self.commit_ns } else { self.gap_ns };
        let longest = (2.0 * expected + GRACE_NS).min(self.longest_ns);
        expected <= self.longest_ns && (now.since(since) as f64) < longest && now >= self.crowded_until
    }

    /// A yield of the core lasted from `before` to `after`.
    pub(crate) fn yielded(&mut self, before: Nanos, after: Nanos) {
        if after.since(before) > CROWDED_NS {
            self.crowded_until = after.plus_us(CROWDED_FOR_NS / 1000);
        }
    }
}

fn smooth(smoothed: &mut f64, nanos: u64) {
    *smoothed += (nanos as f64 - *smoothed) * NEWEST;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_us(micros: u64) -> Nanos {
        Nanos(0).plus_us(micros)
    }

    fn looks_for_us(polling: &mut Polling, in_flight: bool) -> u64 {
        polling.idle = None;
        (0..).find(|us| !polling.pays(at_us(1000 + us), in_flight)).unwrap()
    }

    #[test]
    fn a_commit_is_waited_for_awake_if_it_ends_in_time() {
        let mut polling = Polling::new(500);
        (0..100).for_each(|_| polling.committed(100_000));
        assert_eq!(looks_for_us(&mut polling, true), 210);
        (0..100).for_each(|_| polling.committed(600_000));
        assert_eq!(looks_for_us(&mut polling, true), 0);
    }

    #[test]
    fn the_next_request_is_waited_for_awake_if_requests_come_often() {
        let mut polling = Polling::new(500);
        let gaps = |polling: &mut Polling, micros| {
            for n in 0..100 {
                polling.idle = Some((at_us(n), false));
                polling.worked(at_us(n + micros));
            }
        };
        gaps(&mut polling, 20);
        assert_eq!(looks_for_us(&mut polling, false), 50);
        gaps(&mut polling, 1000);
        assert_eq!(looks_for_us(&mut polling, false), 0);
    }

    #[test]
    fn waiting_for_the_device_says_nothing_of_when_requests_come() {
        let mut polling = Polling::new(500);
        polling.idle = Some((at_us(0), true));
        polling.worked(at_us(100_000));
        assert_eq!(polling.gap_ns, 0.0);
        assert!(!polling.is_idle());
        // Nor does the wait for company that a group of few had.
        polling.idle = Some((at_us(0), false));
        polling.sent();
        polling.worked(at_us(100_000));
        assert_eq!(polling.gap_ns, 0.0);
    }

    #[test]
    fn where_others_want_the_core_a_shard_sleeps() {
        let mut polling = Polling::new(500);
        assert!(polling.pays(at_us(10), false));
        polling.yielded(at_us(10), at_us(3000));
        assert_eq!(looks_for_us(&mut polling, false), 0);
        polling.idle = None;
        assert!(polling.pays(at_us(30_000), false));
    }

    #[test]
    fn none_is_looked_for_when_told_so() {
        let mut polling = Polling::new(0);
        assert_eq!(looks_for_us(&mut polling, true), 0);
        assert_eq!(looks_for_us(&mut polling, false), 0);
    }
}
