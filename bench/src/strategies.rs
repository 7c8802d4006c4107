//! What the probe chose against every way to commit that could have been asked for.
//!
//! Two engines that are open at once disturb each other: their threads poll on the same core, and
//! their files lie elsewhere on the device. So one is open at a time, all on one directory: how it
//! commits is a setting of its opening. The shard belongs to the calling thread, so that no second
//! thread polls: where the device is a loop over a file, or the ring's writes run in kernel threads,
//! on a small machine those would wait for it. A second measurement of one strategy in every round
//! shows how far apart two equal ones are; where that is further than the target allows, so is the
//! noise, and the run says that it can't tell.

use std::time::{Duration, Instant};

use thalweg::OwnedShard;
use thalweg::config::CommitSetting;

use crate::Result;
use crate::append::{kept, warm_up};
use crate::bench::{Bench, Place, run_at, settle};
use crate::load;
use crate::result::{Line, Sweep, Target, Unit, median, over};

/// The directory and the partition that all share.
const NAME: &str = "strategies";
/// Everything that can be asked for by name.
const FORCED: [CommitSetting; 4] =
    [CommitSetting::Dsync, CommitSetting::WriteThenSync, CommitSetting::Hybrid, CommitSetting::Blocking];
/// Appends in flight where records a second are counted.
const MANY: usize = 64;
/// Before the first measurement on an engine that was just opened.
const WARM_UP: Duration = Duration::from_millis(100);
/// The background is quiet when it wrote nothing for so long. It is waited for so many times.
const QUIET: Duration = Duration::from_millis(50);
const QUIET_WAITS_MAX: u32 = 40;
/// How long a shard with nothing to do sleeps meanwhile.
const STEP: Duration = Duration::from_millis(1);

/// One way to open the directory, and what it came to, round by round.
struct Candidate {
    /// Last part of the names of its figures.
    id: String,
    setting: CommitSetting,
    /// One append in flight, µs.
    p50_us: Vec<f64>,
    /// Records a second of the same.
    alone_per_s: Vec<f64>,
    /// Records a second with [`MANY`] in flight.
    per_s: Vec<f64>,
}

impl Candidate {
    fn new(id: &str, setting: CommitSetting) -> Candidate {
        let [p50_us, alone_per_s, per_s] = [const { Vec::new() }; 3];
        Candidate { id: id.to_owned(), setting, p50_us, alone_per_s, per_s }
    }

    /// Opens the directory in this way, measures, and closes it.
    fn measure(&mut self, bench: &Bench<'_>) -> Result<()> {
        let mut shard = open(bench, self.setting)?;
        let partition = shard.log().partition(NAME)?;
        quiet(&mut shard)?;
        load::turned(&mut shard, &partition, 1, WARM_UP)?;
        let alone = load::turned(&mut shard, &partition, 1, bench.time())?;
        let many = load::turned(&mut shard, &partition, MANY, bench.time())?;
        self.p50_us.push(alone.latency.value_at_quantile(0.5) as f64 / 1000.0);
        self.alone_per_s.push(alone.per_s());
        self.per_s.push(many.per_s());
        shard.close()?;
        Ok(())
    }
}

/// Runs it.
///
/// # Errors
/// The engine's or the host's.
pub fn run(bench: &Bench<'_>) -> Result<()> {
    let chosen = prepare(bench)?;
    let mut candidates: Vec<Candidate> =
        FORCED.iter().map(|setting| Candidate::new(&word(*setting), *setting)).collect();
    candidates.push(Candidate::new("auto", CommitSetting::Auto));
    candidates.push(Candidate::new("again", chosen));
    for round in bench.rounds("strategies") {
        for at in order(candidates.len(), round) {
            candidates[at].measure(bench)?;
        }
    }
    bench.clear(NAME)?;
    report(bench, &candidates, chosen);
    Ok(())
}

/// Fills the directory until its files are used again; the strategy that its probe chose.
fn prepare(bench: &Bench<'_>) -> Result<CommitSetting> {
    let engine = bench.engine(NAME, |config| config.commit.strategy = CommitSetting::Auto)?;
    let strategy = engine.commit().strategy;
    warm_up(&engine.create(NAME, kept())?)?;
    settle(&engine)?;
    engine.close()?;
    let chosen = FORCED.into_iter().find(|setting| setting.forced() == Some(strategy));
    Ok(chosen.ok_or("the strategy chosen has no name")?)
}

fn open(bench: &Bench<'_>, setting: CommitSetting) -> Result<OwnedShard> {
    run_at(Place::Shard);
    let mut config = bench.config(NAME);
    (config.commit.strategy, config.shards) = (setting, None);
    Ok(OwnedShard::open(config)?)
}

/// Turns until the background has caught up with what was left at the last closing. A shard that
/// never does is measured as it is.
fn quiet(shard: &mut OwnedShard) -> Result<()> {
    let mut before = None;
    for _ in 0..QUIET_WAITS_MAX {
        let begin = Instant::now();
        while begin.elapsed() < QUIET {
            if !shard.turn() {
                std::thread::sleep(STEP);
            }
        }
        let asked = shard.log().stats(0);
        let now = shard.block_on(asked).ok_or("the shard is closed")?.background_bytes;
        if before.replace(now) == Some(now) {
            break;
        }
    }
    Ok(())
}

/// Who is measured when: another one begins each round, every other round runs backwards, and each
/// is in every place once in as many rounds as there are candidates, if that is an even number.
fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.rotate_left((round + round % 2) % count.max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn word(setting: CommitSetting) -> String {
    setting.forced().map_or_else(|| "auto".to_owned(), |strategy| strategy.to_string())
}

/// Ratios are to the forced strategy that was best over all rounds: the best of each round would be
/// the luckiest of four, and every other one would look worse than it is.
fn report(bench: &Bench<'_>, candidates: &[Candidate], chosen: CommitSetting) {
    let (forced, others) = candidates.split_at(FORCED.len());
    let by_p50 = |a: &&Candidate, b: &&Candidate| median(&a.p50_us).total_cmp(&median(&b.p50_us));
    let by_rate = |a: &&Candidate, b: &&Candidate| median(&a.per_s).total_cmp(&median(&b.per_s));
    let (fastest, busiest) = (forced.iter().min_by(by_p50), forced.iter().max_by(by_rate));
    let same = forced.iter().find(|each| each.setting == chosen);
    let [auto, again] = others else { return };
    let (Some(fastest), Some(busiest), Some(same)) = (fastest, busiest, same) else { return };
    let mut report = bench.report.borrow_mut();
    let what = format!("what the probe chose ({}), p50 / best forced ({})", same.id, fastest.id);
    let rounds = over(&auto.p50_us, &fastest.p50_us);
    report.row("strategies.auto.p50", &what, Unit::Ratio, Target::AtMost(1.10), &rounds);
    let what = format!("{MANY} in flight: what the probe chose, records/s / best forced ({})", busiest.id);
    report.figure("strategies.auto.rate", &what, Unit::RateRatio, &over(&auto.per_s, &busiest.per_s));
    let what = format!("control: {} a second time, p50 / the first", same.id);
    report.figure("strategies.control.p50", &what, Unit::Ratio, &over(&again.p50_us, &same.p50_us));
    let what = format!("control: {} a second time, {MANY} in flight, records/s / the first", same.id);
    report.figure("strategies.control.rate", &what, Unit::RateRatio, &over(&again.per_s, &same.per_s));
    for each in forced.iter().chain([auto]) {
        let Candidate { id, p50_us, per_s, .. } = each;
        let (at, what) = (format!("strategies.{id}.p50_us"), format!("{id}: one append in flight, p50"));
        report.figure(&at, &what, Unit::Us, p50_us);
        if each.setting != CommitSetting::Auto {
            let (at, what) = (format!("strategies.{id}.p50"), format!("{id}: p50 / {}", fastest.id));
            report.figure(&at, &what, Unit::Ratio, &over(p50_us, &fastest.p50_us));
        }
        let (at, what) = (format!("strategies.{id}.{MANY}"), format!("{id}: {MANY} in flight"));
        report.figure(&at, &what, Unit::RecordsPerS, per_s);
    }
    let points =
        |each: &Candidate| vec![(1.0, median(&each.alone_per_s)), (MANY as f64, median(&each.per_s))];
    let line = |each: &Candidate| Line { name: each.id.clone(), points: points(each) };
    report.sweeps.push(Sweep {
        id: "strategies.in_flight".into(),
        what: "Durable records a second, 1 KiB each, by commit strategy".into(),
        x: "appends in flight".into(),
        y: "records/s".into(),
        lines: forced.iter().chain([auto]).map(line).collect(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_in_every_place_once() {
        let rounds: Vec<Vec<usize>> = (0..6).map(|round| order(6, round)).collect();
        for place in 0..6 {
            let mut there: Vec<usize> = rounds.iter().map(|round| round[place]).collect();
            there.sort_unstable();
            assert_eq!(there, [0, 1, 2, 3, 4, 5], "place {place} in {rounds:?}");
        }
    }
}
