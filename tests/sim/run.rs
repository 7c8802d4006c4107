//! Many worlds, on some threads, with an eye on those that never end.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use thalweg_tests::scoreboard;

use crate::counted::Counted;
use crate::shrink::{Failure, keep_panics, shrink};
use crate::swarm::Swarm;

/// The longest a world may take, real time: one that takes longer never ends.
const WORLD_MAX: Duration = Duration::from_secs(120);
/// Seeds that are told of when many fail.
const TOLD_MAX: usize = 5;

/// The seeds that `variable` asks for: so many, or `from..to`.
pub(crate) fn seeds(variable: &str, count: u64) -> Range<u64> {
    let Ok(given) = std::env::var(variable) else { return 0..count };
    let (from, to) = given.split_once("..").unwrap_or(("0", &given));
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{variable}={given}: no number"));
    number(from)..number(to)
}

/// Lives every seed's world; panics with what failed, made small.
pub(crate) fn worlds(
    method: &str,
    seeds: &Range<u64>,
    live: impl Fn(u64) -> Result<Counted, Box<Failure>> + Sync,
) {
    keep_panics();
    let (next, total, failures) =
        (AtomicU64::new(seeds.start), Mutex::new(Counted::default()), Mutex::new(Vec::new()));
    let started = Instant::now();
    on_threads(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failures.lock().is_ok_and(|failed| failed.len() >= TOLD_MAX) {
                return;
            }
            match live(seed) {
                Ok(counted) => total.lock().expect("counting does not panic").add(&counted),
                Err(failure) => {
                    let small = shrink(failure.clone());
                    failures.lock().expect("counting does not panic").push(failure.tell(&small));
                }
            }
        }
    });
    let (total, failures) = (total.into_inner().expect("counted"), failures.into_inner().expect("counted"));
    let rate = total.seeds as f64 / started.elapsed().as_secs_f64();
    println!("{method}: {total:?}, {rate:.1} seeds/s");
    scoreboard::count(method, &total.named(), failures.len() as u64);
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n"));
}

/// Does the same work on each of the threads that worlds may have.
pub(crate) fn on_threads(work: impl Fn() + Sync) {
    let threads = std::env::var("THALWEG_SIM_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    std::thread::scope(|scope| {
        for worker in 0..threads {
            let named = std::thread::Builder::new().name(format!("world {worker}"));
            named.spawn_scoped(scope, &work).expect("a thread for worlds");
        }
    });
}

/// Ends the process, with the seed, if it lives too long.
pub(crate) struct Watched {
    _ends: Sender<()>,
}

impl Watched {
    pub(crate) fn begin(swarm: &Swarm) -> Watched {
        let (ends, ended) = channel();
        let swarm = swarm.clone();
        std::thread::spawn(move || {
            if ended.recv_timeout(WORLD_MAX) == Err(RecvTimeoutError::Timeout) {
                eprintln!(
                    "I17: a world lives for more than {WORLD_MAX:?}; THALWEG_SIM_SEED={}, {swarm:?}",
                    swarm.seed
                );
                std::process::abort();
            }
        });
        Watched { _ends: ends }
    }
}
