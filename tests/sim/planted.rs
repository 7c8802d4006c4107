//! The worlds are themselves tried: a bug planted in the engine is found, and nothing where there is none.
//!
//! Each bug is searched for in five series of worlds, each of its own seeds, until something complains:
//! a promise, the simulator, or an assertion of the engine. Worlds of all series are lived in turn until
//! three have found it: the median, which may be [`SEEDS_MAX`] at most. A bug may need troubles that not
//! every world has; its worlds have them all, and each of them counts. Every world in which a bug was found
//! is then lived without it, and nothing may complain.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `THALWEG_PLANTED` | bugs searched for, by name: `NoSalt,NoSync` | all |
//! | `THALWEG_PLANTED_SEEDS` | most worlds of a series | 200 |
//! | `THALWEG_PLANTED_SEED` | lives that world with the bugs named, and tells the end of it | |

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use thalweg_tests::scoreboard;

use crate::run;
use crate::shrink::{Failure, keep_panics, live};
use crate::swarm::{Kind, Swarm};

/// Most worlds of a series, and the most that the median may be.
const SEEDS_MAX: u64 = 200;
const SERIES: usize = 5;

/// A planted bug.
#[derive(Clone, Copy, Debug)]
enum Bug {
    Engine(thalweg::planted::Planted),
    Io(thalweg_io::planted::Planted),
}

impl Bug {
    fn all() -> Vec<Bug> {
        let here = thalweg::planted::Planted::ALL.iter().filter(|bug| !bug.takes_shards());
        let engine = here.map(|bug| Bug::Engine(*bug));
        engine.chain(thalweg_io::planted::Planted::ALL.iter().map(|bug| Bug::Io(*bug))).collect()
    }

    /// What a world must have for it to matter, beside what the seed gives it.
    fn needs(self) -> &'static [Kind] {
        use thalweg::planted::Planted::*;
        let Bug::Engine(bug) = self else { return &[] };
        match bug {
            FailedSyncRetried | ShardGoesOnAfterFailure | DirectorySyncRetried | ManifestSyncRetried => {
                &[Kind::WriteErrors, Kind::SyncErrors]
            }
            GroupsAckedOutOfOrder => &[Kind::Bursts, Kind::Reordered],
            JointAppendTorn => &[Kind::Joints, Kind::Cuts, Kind::Lost],
            TrimNotDurable => &[Kind::Trims, Kind::Cuts, Kind::Lost],
            ViewsUnbounded => &[Kind::Readers, Kind::SmallCache],
            NamesTogether => &[Kind::Slow, Kind::SyncErrors, Kind::SmallWal],
            WalRecycledEarly | SegmentRemovedEarly => &[Kind::Slow, Kind::Cuts, Kind::SmallWal],
            MergedRemovedEarly => &[Kind::Slow, Kind::Cuts, Kind::SmallWal, Kind::Merges],
            SegmentNotReadBack => &[Kind::Rot, Kind::SmallWal],
            CompactionKeepsFirst | TombstonesDroppedAtOnce => &[Kind::Compaction, Kind::SmallWal],
            MergeLosesBatch => &[Kind::Merges, Kind::SmallWal],
            IdleMarkerSkipped | ClosedNoteSkipped | CutInTheMiddle | UnreadableIsTorn | NoPositionCheck
            | TornGroupKept | LostHeaderIsSpare | MissingFileIgnored | ShortFileIgnored
            | ManifestUnchecked => &[Kind::Damage],
            IndexUnchecked => &[Kind::Damage, Kind::Rot, Kind::SmallWal, Kind::SmallCache],
            PlaceUnchecked => &[Kind::Damage, Kind::Slow, Kind::SmallWal, Kind::SmallCache],
            _ => &[],
        }
    }

    /// The world of this seed, with what the bug needs.
    fn world(self, seed: u64) -> Swarm {
        self.needs().iter().fold(Swarm::draw(seed), |swarm, kind| swarm.with(*kind))
    }

    fn name(&self) -> String {
        match self {
            Bug::Engine(bug) => format!("{bug:?}"),
            Bug::Io(bug) => format!("{bug:?}"),
        }
    }
}

/// Lives a world with a bug, or with none; what complained, if anything did.
fn complaint(bug: Option<Bug>, swarm: &Swarm) -> Option<Box<Failure>> {
    let (engine, io) = match bug {
        Some(Bug::Engine(bug)) => (Some(bug), None),
        Some(Bug::Io(bug)) => (None, Some(bug)),
        None => (None, None),
    };
    thalweg::planted::plant(engine);
    thalweg_io::planted::plant(io);
    let lived = live(swarm);
    thalweg::planted::plant(None);
    thalweg_io::planted::plant(None);
    lived.err()
}

/// A bug, and what each series of worlds came to.
struct Hunt {
    bug: Bug,
    /// Worlds that were lived.
    lived: u64,
    /// Worlds that a series took, and what complained in the last of them; none if nothing did.
    found: [Option<(u64, Box<Failure>)>; SERIES],
}

impl Hunt {
    /// Lives worlds of all series in turn, until the median is known.
    fn go(bug: Bug, most: u64) -> Hunt {
        let mut hunt = Hunt { bug, lived: 0, found: Default::default() };
        for nth in 0..most {
            for series in 0..SERIES {
                if hunt.found[series].is_some() || hunt.median().is_some() {
                    continue;
                }
                hunt.lived += 1;
                let failure = complaint(Some(bug), &bug.world(series as u64 * most + nth));
                hunt.found[series] = failure.map(|failure| (nth + 1, failure));
            }
        }
        hunt
    }

    /// The most worlds that the better half of the series took; none if more than half found nothing.
    fn median(&self) -> Option<u64> {
        let mut worlds: Vec<_> = self.found.iter().flatten().map(|(worlds, _)| *worlds).collect();
        worlds.sort_unstable();
        worlds.get(SERIES / 2).copied()
    }

    /// Its line of the table.
    fn tell(&self) -> String {
        let number = |worlds: Option<u64>| worlds.map_or("-".to_owned(), |worlds| worlds.to_string());
        let each = self.found.iter().map(|found| number(found.as_ref().map(|(worlds, _)| *worlds)));
        let each: String = each.map(|worlds| format!("{worlds:>4}")).collect();
        let said = self.found.iter().flatten().next().map_or("-".to_owned(), |(_, failure)| said(failure));
        format!("{:26} {:>4}  {each}  {said}", self.bug.name(), number(self.median()))
    }
}

/// What complained, on one line: a promise by its number, or where in the engine.
fn said(failure: &Failure) -> String {
    let mut lines = failure.why.lines();
    let place = lines.next().and_then(|line| line.strip_prefix("panicked at ")).unwrap_or_default();
    let place = place.rsplit('/').next().unwrap_or_default();
    let line = lines.next().unwrap_or_default();
    let told = if line.starts_with('I') { line.to_owned() } else { format!("{place} {line}") };
    told.chars().take(90).collect()
}

fn seeds_max() -> u64 {
    let given = std::env::var("THALWEG_PLANTED_SEEDS").ok();
    given.map_or(SEEDS_MAX, |given| given.parse().expect("THALWEG_PLANTED_SEEDS is a number"))
}

fn bugs() -> Vec<Bug> {
    let Ok(names) = std::env::var("THALWEG_PLANTED") else {
        return Bug::all();
    };
    Bug::all().into_iter().filter(|bug| names.split(',').any(|name| name == bug.name())).collect()
}

/// Searches for each bug, and tells of it.
fn hunt(bugs: &[Bug], most: u64) -> Vec<Hunt> {
    let (next, hunts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    run::on_threads(|| {
        while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let hunt = Hunt::go(*bug, most);
            say(&hunt.tell());
            hunts.lock().expect("nobody panics with it").push(hunt);
        }
    });
    hunts.into_inner().expect("nobody panics with it")
}

/// Lives every world in which a bug was found without it; how many, and what complained.
fn clean(hunts: &[Hunt]) -> (usize, Vec<String>) {
    let worlds: Vec<&Swarm> = hunts
        .iter()
        .flat_map(|hunt| hunt.found.iter().flatten())
        .map(|(_, failure)| &failure.swarm)
        .collect();
    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    run::on_threads(|| {
        while let Some(swarm) = worlds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(failure) = complaint(None, swarm) {
                complaints.lock().expect("nobody panics with it").push(failure.tell(&failure));
            }
        }
    });
    (worlds.len(), complaints.into_inner().expect("nobody panics with it"))
}

/// Prints past the test's capture: the table is what this test is for.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[test]
fn planted_bugs_are_found_and_nothing_where_there_is_none() {
    keep_panics();
    let (bugs, most) = (bugs(), seeds_max());
    if let Ok(seed) = std::env::var("THALWEG_PLANTED_SEED") {
        let seed = seed.parse().expect("THALWEG_PLANTED_SEED is a number");
        return run::on_threads(|| {
            for bug in &bugs {
                say(&complaint(Some(*bug), &bug.world(seed))
                    .map_or("nothing".to_owned(), |failure| failure.tell(&failure)));
            }
        });
    }
    say("planted bug              median  each  found by");
    let hunts = hunt(&bugs, most);
    let (lived, complaints) = clean(&hunts);
    let missed: Vec<_> =
        hunts.iter().filter(|hunt| hunt.median().is_none()).map(|hunt| hunt.bug.name()).collect();
    let hunted: u64 = hunts.iter().map(|hunt| hunt.lived).sum();
    let found = bugs.len() - missed.len();
    say(&format!(
        "{found} of {} planted bugs found in {hunted} worlds; {lived} of these without a bug, {} complaints",
        bugs.len(),
        complaints.len()
    ));
    scoreboard::count(
        "planted bugs",
        &[("bugs", bugs.len() as u64), ("seeds", hunted + lived as u64)],
        (missed.len() + complaints.len()) as u64,
    );
    assert!(complaints.is_empty(), "without a bug:\n{}", complaints.join("\n"));
    assert!(missed.is_empty(), "not found within {most} worlds: {missed:?}");
}
