//! The worlds are themselves tried: a bug planted in the engine is found, and nothing where there is none.
//!
//! Each bug is searched for in five series of worlds, each of its own seeds, until something complains:
//! a promise, the simulator, or an assertion of the engine. A bug counts as found if the median of the
//! five took at most [`SEEDS_MAX`] worlds; a series without a find counts as one more. Every seed that
//! was needed is then lived without a bug, and nothing may complain.
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
use crate::swarm::Swarm;

/// Most worlds of a series, and the most that the median may be.
const SEEDS_MAX: u64 = 200;
const SERIES: u64 = 5;

/// Bugs that these worlds don't find as soon as they should: searched for by name alone, counted as
/// not found. Stronger worlds take them off this list; nothing else does.
const NOT_FOUND_YET: [thalweg::planted::Planted; 14] = {
    use thalweg::planted::Planted::*;
    [
        GroupsAckedOutOfOrder,
        PlaceUnchecked,
        IndexUnchecked,
        WalReusedWhileRead,
        DirectorySyncRetried,
        NamesTogether,
        SegmentNotReadBack,
        WalRecycledEarly,
        MergedEarly,
        NoPositionCheck,
        MissingFileIgnored,
        ManifestUnchecked,
        CutNotRecorded,
        RevisionUnchecked,
    ]
};

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

    fn name(&self) -> String {
        match self {
            Bug::Engine(bug) => format!("{bug:?}"),
            Bug::Io(bug) => format!("{bug:?}"),
        }
    }
}

/// Lives a world with a bug, or with none; what complained, if anything did.
fn complaint(bug: Option<Bug>, seed: u64) -> Option<Box<Failure>> {
    let (engine, io) = match bug {
        Some(Bug::Engine(bug)) => (Some(bug), None),
        Some(Bug::Io(bug)) => (None, Some(bug)),
        None => (None, None),
    };
    thalweg::planted::plant(engine);
    thalweg_io::planted::plant(io);
    let lived = live(&Swarm::draw(seed));
    thalweg::planted::plant(None);
    thalweg_io::planted::plant(None);
    lived.err()
}

/// A bug, and what each series of worlds came to.
struct Hunt {
    bug: Bug,
    /// Worlds lived, the one that complained included; one more than the most if none did.
    worlds: [u64; SERIES as usize],
    complaints: [Option<String>; SERIES as usize],
}

impl Hunt {
    fn median(&self) -> u64 {
        let mut worlds = self.worlds;
        worlds.sort_unstable();
        worlds[worlds.len() / 2]
    }

    /// Its line of the table.
    fn tell(&self) -> String {
        let worlds = self.worlds.map(|worlds| format!("{worlds:>4}")).join("");
        let said = self.complaints.iter().flatten().next().map_or("-", |said| said.as_str());
        format!("{:26} {:>4}  {worlds}  {said}", self.bug.name(), self.median())
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
        let found = |bug: &Bug| !matches!(bug, Bug::Engine(bug) if NOT_FOUND_YET.contains(bug));
        return Bug::all().into_iter().filter(found).collect();
    };
    Bug::all().into_iter().filter(|bug| names.split(',').any(|name| name == bug.name())).collect()
}

/// Searches for each bug in each series; the table, line by line.
fn hunt(bugs: &[Bug], most: u64) -> Vec<Hunt> {
    let empty = |bug: &Bug| Hunt { bug: *bug, worlds: [0; SERIES as usize], complaints: Default::default() };
    let hunts: Vec<_> = bugs.iter().map(|bug| Mutex::new(empty(bug))).collect();
    let next = AtomicUsize::new(0);
    run::on_threads(|| {
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let (series, nth) = (job / bugs.len(), job % bugs.len());
            if series >= SERIES as usize {
                return;
            }
            let start = series as u64 * most;
            let found =
                (start..start + most).find_map(|seed| Some((seed, complaint(Some(bugs[nth]), seed)?)));
            let mut hunt = hunts[nth].lock().expect("nobody panics with it");
            hunt.worlds[series] = found.as_ref().map_or(most, |(seed, _)| seed - start) + 1;
            hunt.complaints[series] = found.map(|(_, failure)| said(&failure));
        }
    });
    hunts.into_iter().map(|hunt| hunt.into_inner().expect("nobody panics with it")).collect()
}

/// Lives every seed that some bug needed, without a bug; how many, and what complained.
fn clean(hunts: &[Hunt], most: u64) -> (usize, Vec<String>) {
    let needed = |series: usize| hunts.iter().map(|hunt| hunt.worlds[series].min(most)).max().unwrap_or(0);
    let seeds: Vec<u64> = (0..SERIES as usize)
        .flat_map(|series| (0..needed(series)).map(move |at| series as u64 * most + at))
        .collect();
    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    run::on_threads(|| {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(failure) = complaint(None, *seed) {
                let told = format!("seed {seed}: {}", failure.why);
                complaints.lock().expect("nobody panics with it").push(told);
            }
        }
    });
    (seeds.len(), complaints.into_inner().expect("nobody panics with it"))
}

/// Prints past the test's capture: the table is what this test is for.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Says what was counted.
fn score(worlds: u64, planted: usize, found: usize) {
    let counted = [("seeds", worlds), ("planted", planted as u64), ("planted found", found as u64)];
    scoreboard::count("planted bugs", &counted, 0);
}

#[test]
fn planted_bugs_are_found_and_nothing_where_there_is_none() {
    keep_panics();
    let (bugs, most) = (bugs(), seeds_max());
    if let Ok(seed) = std::env::var("THALWEG_PLANTED_SEED") {
        let seed = seed.parse().expect("THALWEG_PLANTED_SEED is a number");
        return run::on_threads(|| {
            for bug in &bugs {
                say(&complaint(Some(*bug), seed)
                    .map_or("nothing".to_owned(), |failure| failure.tell(&failure)));
            }
        });
    }
    let hunts = hunt(&bugs, most);
    say("planted bug              median  each  found by");
    hunts.iter().for_each(|hunt| say(&hunt.tell()));
    let (lived, complaints) = clean(&hunts, most);
    let missed: Vec<_> =
        hunts.iter().filter(|hunt| hunt.median() > most).map(|hunt| hunt.bug.name()).collect();
    let hunted: u64 = hunts.iter().flat_map(|hunt| hunt.worlds).map(|worlds| worlds.min(most)).sum();
    let found = bugs.len() - missed.len();
    say(&format!(
        "{found} of {} planted bugs found in {hunted} worlds ({} more not yet); \
         {lived} worlds without a bug, {} complaints",
        bugs.len(),
        NOT_FOUND_YET.len(),
        complaints.len()
    ));
    score(hunted + lived as u64, bugs.len() + NOT_FOUND_YET.len(), found);
    assert!(complaints.is_empty(), "without a bug:\n{}", complaints.join("\n"));
    assert!(missed.is_empty(), "not found within {most} worlds: {missed:?}");
}
