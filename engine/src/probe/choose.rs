//! From figures to a choice, as a pure function.

use thalweg_io::CommitStrategy;

/// How a thread makes groups durable and waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// How a write becomes durable.
    pub strategy: CommitStrategy,
    /// Whether the thread looks for the completion before it sleeps.
    pub polls: bool,
}

/// What is to be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Bytes of a group.
    pub bytes: u32,
    /// Groups on their way at once.
    pub in_flight: u8,
}

/// The load that decides: the smallest group, alone. Larger ones are the device's time, not ours.
pub const DECIDING: Load = Load { bytes: 4096, in_flight: 1 };

/// What was measured of one way under one load, over rounds that took turns with the other ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// The way.
    pub way: Way,
    /// The load.
    pub load: Load,
    /// Commits measured.
    pub commits: u64,
    /// From submitting to reaping in order, ns: median of the rounds' medians.
    pub p50_ns: u64,
    /// 99th percentile, ns: median of those of a few parts of the time.
    pub p99_ns: u64,
    /// 99.9th percentile, ns, likewise; of a part with fewer than 1,000 commits, their slowest.
    pub p999_ns: u64,
    /// Median of the rounds' rates.
    pub commits_per_s: f64,
}

/// The way to commit on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The way.
    pub way: Way,
    /// Groups in flight up to which the device does more.
    pub in_flight: u8,
    /// Why it is this one, in a sentence.
    pub why: String,
}

/// Times that nothing but a missed scheduler tick explains: a tick is 1 to 10 ms.
const TICK_NS: u64 = 1_000_000;
/// Times the floor that a starved commit takes at least.
const STARVED_TIMES: u64 = 10;
/// What stalls leave of the rate that the median promises, beside what they leave the floor: less is
/// more than a machine that does other things too takes.
const LEFT_BY_STALLS: f64 = 0.8;
/// Times its own median that the tail of a commit may be.
const TAIL_TIMES: u64 = 10;
/// Times another's tail that is no difference on a machine that does other things too.
const NOISE_TIMES: u64 = 2;
/// Medians within so many percent of the lowest are equal.
const TIE_PERCENT: u64 = 10;
/// A rate with several in flight that is so many times the other's is worth more than a short probe's
/// figures for one in flight differ by chance.
const OVERLAP_TIMES: f64 = 2.0;
/// Medians within so many percent are equal for a way with such a rate.
const OVERLAP_TIE_PERCENT: u64 = 30;
/// Rates within this part of the highest are equal.
const TIE_RATE: f64 = 0.95;
/// What another group in flight must bring to be worth its memory.
const GAIN_MIN: f64 = 1.25;
/// The size that shows whether groups in flight overlap.
const OVERLAP_BYTES: u32 = 64 << 10;

fn deciding(figures: &[Figures]) -> impl Iterator<Item = &Figures> {
    figures.iter().filter(|each| each.load == DECIDING && each.commits > 0)
}

/// The cost of the device itself: a blocking call, or what comes nearest. `None` without figures.
#[must_use]
pub fn floor(figures: &[Figures]) -> Option<&Figures> {
    let blocking = deciding(figures).find(|each| each.way.strategy == CommitStrategy::Blocking);
    blocking.or_else(|| deciding(figures).min_by_key(|each| each.p50_ns))
}

/// Ways that poll and by that keep the kernel's threads from finishing their commits: these then
/// take whole scheduler ticks, while a blocking call on the same thread does not.
///
/// A short probe has some hundred commits of each way, and a busy host delays one of them now and
/// then. So ticks in the tail count where they cost a good part of the rate; a slow commit or two do
/// not.
#[must_use]
pub fn starved(figures: &[Figures]) -> Vec<Way> {
    let Some(floor) = floor(figures) else { return Vec::new() };
    let takes_ticks = |ns: u64| ns >= TICK_NS && ns > floor.p50_ns.saturating_mul(STARVED_TIMES);
    let is_starved = |each: &&Figures| {
        let stalls = takes_ticks(each.p999_ns) && each.p999_ns > floor.p999_ns.saturating_mul(NOISE_TIMES);
        let costs = kept_rate(each) < kept_rate(floor) * LEFT_BY_STALLS;
        each.way.polls && (takes_ticks(each.p50_ns) || (stalls && costs))
    };
    deciding(figures).filter(is_starved).map(|each| each.way).collect()
}

/// Whether the 99th percentile is in proportion to the median, or to the best one of all ways.
pub(super) fn has_sound_tail(p50_ns: u64, p99_ns: u64, best_p99_ns: u64) -> bool {
    p99_ns < p50_ns.saturating_mul(TAIL_TIMES) || p99_ns <= best_p99_ns.saturating_mul(NOISE_TIMES)
}

/// The rate of one commit at a time over what its median promises: 1 without a tail.
fn kept_rate(figures: &Figures) -> f64 {
    figures.commits_per_s * figures.p50_ns as f64 / 1e9
}

/// Chooses the way to commit. `None` without figures.
///
/// The lowest median of the smallest group wins, among those whose tail is sound and which starve
/// nobody. Where medians are equal, the rate with several groups in flight decides, and then which
/// leaves the thread free.
#[must_use]
pub fn choose(figures: &[Figures]) -> Option<Choice> {
    let starved = starved(figures);
    let fed: Vec<_> = deciding(figures).filter(|each| !starved.contains(&each.way)).collect();
    let tail_min = fed.iter().map(|each| each.p99_ns).min()?;
    let sound = |each: &&&Figures| has_sound_tail(each.p50_ns, each.p99_ns, tail_min);
    let sound: Vec<&Figures> = fed.iter().filter(sound).copied().collect();
    let best = sound.iter().min_by_key(|each| each.p50_ns)?;
    let best_rate = pipelined_rate(figures, best.way);
    let tied = |each: &&&Figures| {
        let overlaps = best_rate > 0.0 && pipelined_rate(figures, each.way) >= best_rate * OVERLAP_TIMES;
        let percent = if overlaps { OVERLAP_TIE_PERCENT } else { TIE_PERCENT };
        each.p50_ns.saturating_mul(100) <= best.p50_ns.saturating_mul(100 + percent)
    };
    let equals: Vec<&Figures> = sound.iter().filter(tied).copied().collect();
    let rates: Vec<f64> = equals.iter().map(|each| pipelined_rate(figures, each.way)).collect();
    let rate_max = rates.iter().copied().fold(0.0, f64::max);
    let fast = equals.iter().zip(&rates).filter(|(_, rate)| **rate >= rate_max * TIE_RATE);
    let (winner, _) = fast.min_by_key(|(each, _)| rank(each.way.strategy))?;
    let why = explain(winner, &equals, &fed, &sound, &starved);
    Some(Choice { way: winner.way, in_flight: in_flight(figures, winner.way), why })
}

fn rank(strategy: CommitStrategy) -> usize {
    CommitStrategy::ALL.iter().position(|each| *each == strategy).unwrap_or(usize::MAX)
}

/// Commits per second with several in flight, over all sizes: their geometric mean. 0 if none was
/// measured.
fn pipelined_rate(figures: &[Figures], way: Way) -> f64 {
    let several =
        figures.iter().filter(|each| each.way == way && each.load.in_flight > 1 && each.commits > 0);
    let (sum, count) = several.fold((0.0, 0u32), |(sum, count), each| {
        (sum + each.commits_per_s.max(f64::MIN_POSITIVE).ln(), count + 1)
    });
    if count == 0 { 0.0 } else { (sum / f64::from(count)).exp() }
}

/// Groups in flight up to which each step brings something.
fn in_flight(figures: &[Figures], way: Way) -> u8 {
    let mut steps: Vec<(u8, f64)> = figures
        .iter()
        .filter(|each| each.way == way && each.load.bytes == OVERLAP_BYTES && each.commits > 0)
        .map(|each| (each.load.in_flight, each.commits_per_s))
        .collect();
    steps.sort_by_key(|(in_flight, _)| *in_flight);
    let gains = steps.windows(2).take_while(|pair| pair[1].1 >= pair[0].1 * GAIN_MIN);
    gains.last().map_or(1, |pair| pair[1].0)
}

fn explain(
    winner: &Figures,
    equals: &[&Figures],
    fed: &[&Figures],
    sound: &[&Figures],
    starved: &[Way],
) -> String {
    let micros = |ns: u64| format!("{:.0} µs", ns as f64 / 1000.0);
    let name = |each: &Figures| format!("{} {}", each.way.strategy, micros(each.p50_ns));
    let mut why = format!("{} takes {}", winner.way.strategy, micros(winner.p50_ns));
    let others: Vec<&&Figures> = fed.iter().filter(|each| each.way != winner.way).collect();
    let listed = |what: &str, which: Vec<String>| match which.len() {
        0 => String::new(),
        _ => format!("{what}{}", which.join(", ")),
    };
    let slower = others.iter().filter(|each| sound.contains(each) && !equals.contains(each));
    why += &listed("; more: ", slower.map(|each| name(each)).collect());
    let equal = others.iter().filter(|each| equals.contains(each));
    why += &listed(
        "; as good alone, not better with several in flight: ",
        equal.map(|each| name(each)).collect(),
    );
    let unsound = others.iter().filter(|each| !sound.contains(each));
    let tail = |each: &Figures| format!("{} (p99 {})", name(each), micros(each.p99_ns));
    why += &listed("; with a long tail: ", unsound.map(|each| tail(each)).collect());
    let ways = starved.iter().map(|way| way.strategy.to_string()).collect();
    why += &listed("; commits wait for whole scheduler ticks while the thread polls: ", ways);
    if !starved.is_empty() && !winner.way.polls {
        why += "; so it does not poll here";
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use CommitStrategy::{Blocking, Dsync, Hybrid, WriteThenSync};

    fn figures(strategy: CommitStrategy, p50_us: u64, p99_us: u64) -> Figures {
        Figures {
            way: Way { strategy, polls: true },
            load: DECIDING,
            commits: 1000,
            p50_ns: p50_us * 1000,
            p99_ns: p99_us * 1000,
            p999_ns: p99_us * 1100,
            // One in fifty takes as long as the 99th percentile.
            commits_per_s: 1e6 / (0.98 * p50_us as f64 + 0.02 * p99_us as f64),
        }
    }

    fn under(mut figures: Figures, bytes: u32, in_flight: u8, commits_per_s: f64) -> Figures {
        (figures.load, figures.commits_per_s) = (Load { bytes, in_flight }, commits_per_s);
        figures
    }

    fn parked(mut figures: Figures) -> Figures {
        figures.way.polls = false;
        figures
    }

    #[track_caller]
    fn check(figures: &[Figures], strategy: CommitStrategy, polls: bool, words: &[&str]) {
        let choice = choose(figures).unwrap();
        assert_eq!(choice.way, Way { strategy, polls }, "{}", choice.why);
        for word in words {
            assert!(choice.why.contains(word), "{word:?} in: {}", choice.why);
        }
    }

    #[test]
    fn the_lowest_median_wins() {
        let all = [figures(Dsync, 38, 120), figures(Hybrid, 46, 110), figures(Blocking, 42, 100)];
        check(&all, Dsync, true, &["dsync takes 38 µs", "more: hybrid 46 µs, blocking 42 µs"]);
        let all = [figures(Dsync, 60, 120), figures(WriteThenSync, 58, 110), figures(Blocking, 42, 100)];
        check(&all, Blocking, true, &[]);
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn equal_medians_are_decided_by_the_rate_with_several_in_flight() {
        let all = |dsync_rate: f64| {
            let (dsync, blocking) = (figures(Dsync, 41, 100), figures(Blocking, 40, 100));
            [dsync, blocking, under(dsync, 4096, 4, dsync_rate), under(blocking, 4096, 4, 25e3)]
        };
        check(&all(50e3), Dsync, true, &["as good alone", "blocking 40 µs"]);
        check(&all(20e3), Blocking, true, &[]);
        // As fast with several in flight too: the one that leaves the thread free.
        check(&all(24.5e3), Dsync, true, &[]);
        // Nothing was measured with several in flight.
        check(&all(50e3)[..2], Dsync, true, &[]);
    }

    #[test]
    fn a_way_that_overlaps_commits_may_be_somewhat_slower_alone() {
        let all = |dsync_us: u64, blocking_rate: f64| {
            let (dsync, blocking) = (figures(Dsync, dsync_us, 200), figures(Blocking, 40, 100));
            [dsync, blocking, under(dsync, 4096, 4, 25e3), under(blocking, 4096, 4, blocking_rate)]
        };
        check(&all(50, 6e3), Dsync, true, &["as good alone", "blocking 40 µs"]);
        check(&all(50, 20e3), Blocking, true, &[]);
        check(&all(55, 6e3), Blocking, true, &[]);
    }

    #[test]
    fn a_long_tail_loses_unless_all_have_it() {
        let all = [figures(Dsync, 38, 900), figures(Blocking, 42, 100)];
        check(&all, Blocking, true, &["long tail: dsync 38 µs (p99 900 µs)"]);
        let all = [figures(Dsync, 38, 900), figures(Blocking, 42, 800)];
        check(&all, Dsync, true, &[]);
        let all = [figures(Dsync, 38, 379), figures(Blocking, 42, 100)];
        check(&all, Dsync, true, &[]);
    }

    #[test]
    fn a_way_that_starves_its_own_commits_does_not_poll() {
        let polled = [figures(Dsync, 4000, 4100), figures(Blocking, 42, 100), figures(Hybrid, 47, 90)];
        assert_eq!(starved(&polled), [Way { strategy: Dsync, polls: true }]);
        check(&polled, Blocking, true, &["whole scheduler ticks", "dsync"]);
        let with = |p50_us| [&polled[..], &[parked(figures(Dsync, p50_us, 120))]].concat();
        check(&with(38), Dsync, false, &["so it does not poll here"]);
        check(&with(60), Blocking, true, &["dsync 60 µs"]);
    }

    #[test]
    fn ticks_in_the_tail_are_starvation_unless_a_blocking_call_has_them_too() {
        let tail = |floor_us| [figures(WriteThenSync, 45, 3600), figures(Blocking, 42, floor_us)];
        assert_eq!(starved(&tail(100)), [Way { strategy: WriteThenSync, polls: true }]);
        assert_eq!(starved(&tail(3000)), []);
        // A commit or two that something else held up are not, unless they come so often that they cost.
        let rarely = |per_s| {
            let polled = Figures { p999_ns: 3_600_000, commits_per_s: per_s, ..figures(Dsync, 40, 100) };
            starved(&[polled, figures(Blocking, 42, 100)])
        };
        assert_eq!(rarely(23_500.0), []);
        assert_eq!(rarely(17_000.0), [Way { strategy: Dsync, polls: true }]);
        // A slow device takes its time, whoever waits for it.
        assert_eq!(starved(&[figures(Dsync, 5000, 9000), figures(Blocking, 4800, 8000)]), []);
        assert_eq!(starved(&[parked(figures(Dsync, 4000, 4100)), figures(Blocking, 42, 100)]), []);
    }

    #[test]
    fn groups_in_flight_are_worth_what_they_bring() {
        let dsync = figures(Dsync, 40, 100);
        let rates = |rates: [f64; 3]| {
            let steps = [1u8, 2, 4].iter().zip(rates);
            let steps = steps.map(|(in_flight, rate)| under(dsync, OVERLAP_BYTES, *in_flight, rate));
            choose(&[&[dsync][..], &steps.collect::<Vec<_>>()].concat()).unwrap().in_flight
        };
        assert_eq!(rates([10e3, 11e3, 30e3]), 1);
        assert_eq!(rates([10e3, 15e3, 16e3]), 2);
        assert_eq!(rates([10e3, 15e3, 25e3]), 4);
        assert_eq!(choose(&[dsync]).unwrap().in_flight, 1);
    }
}
