//! Runs a seed, and makes a seed that fails smaller: without each kind of trouble in turn, and with half
//! of the steps, as long as it still fails.

use std::cell::RefCell;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::counted::Counted;
use crate::events::Events;
use crate::run::Watched;
use crate::swarm::{Kind, Swarm};
use crate::world::World;

/// A seed that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) swarm: Swarm,
    pub(crate) why: String,
    event: u64,
    last: Vec<String>,
}

/// A seed that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lived {
    pub(crate) counted: Counted,
    /// Of everything that happened, in order.
    pub(crate) hash: u64,
}

thread_local! {
    /// What the last panic of this thread said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of worlds are kept, and told once the seed is small.
pub(crate) fn keep_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let here = std::thread::current().name().is_some_and(|name| name.starts_with("world"));
            if here {
                SAID.set(panic.to_string());
            } else {
                before(panic);
            }
        }));
    });
}

/// Lives a world's life.
pub(crate) fn live(swarm: &Swarm) -> Result<Lived, Box<Failure>> {
    let _watched = Watched::begin(swarm);
    let mut events = Events::default();
    match catch_unwind(AssertUnwindSafe(|| World::new(swarm, &mut events).live())) {
        Ok(counted) => Ok(Lived { counted, hash: events.hash() }),
        Err(_) => Err(Box::new(Failure {
            swarm: swarm.clone(),
            why: SAID.take(),
            event: events.count(),
            last: events.last().map(str::to_owned).collect(),
        })),
    }
}

/// A seed of which two worlds were made.
pub(crate) fn two_worlds(swarm: &Swarm, first: &Lived, second: &Lived) -> Box<Failure> {
    let why = format!("it is two worlds: {first:?} and {second:?}");
    Box::new(Failure { swarm: swarm.clone(), why, event: 0, last: Vec::new() })
}

/// The smallest world found that still fails.
pub(crate) fn shrink(mut failure: Box<Failure>) -> Box<Failure> {
    loop {
        let swarm = &failure.swarm;
        let kinds = swarm.on.iter().map(|kind| swarm.without(*kind));
        let shorter = [swarm.steps / 2, swarm.steps * 9 / 10].map(|steps| swarm.shorter(steps));
        let smaller: Vec<Swarm> =
            shorter.into_iter().filter(|less| less.steps < swarm.steps).chain(kinds).collect();
        match smaller.iter().find_map(|swarm| live(swarm).err()) {
            Some(smaller) => failure = smaller,
            None => return failure,
        }
    }
}

impl Failure {
    /// What to print: seed, reason, event, last events, and the commands that run it again.
    pub(crate) fn tell(&self, small: &Failure) -> String {
        let mut text = String::new();
        let seed = self.swarm.seed;
        let command = "cargo test -p thalweg-tests --test sim -- one_seed --nocapture";
        let _ = writeln!(text, "seed {seed} failed at event {}: {}", self.event, self.why);
        let _ = writeln!(text, "again: THALWEG_SIM_SEED={seed} {command}");
        let without: Vec<_> =
            self.swarm.on.difference(&small.swarm.on).map(|kind| format!("{kind:?}")).collect();
        let _ =
            writeln!(text, "the smallest that fails has {:?}, {} steps:", small.swarm.on, small.swarm.steps);
        let _ = writeln!(
            text,
            "  THALWEG_SIM_SEED={seed} THALWEG_SIM_WITHOUT={} THALWEG_SIM_STEPS={} {command}",
            without.join(","),
            small.swarm.steps
        );
        let _ = writeln!(text, "  at event {}: {}", small.event, small.why);
        for line in &small.last {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

/// The world that the environment asks for: `THALWEG_SIM_SEED`, and less of it.
pub(crate) fn asked_for() -> Option<Swarm> {
    let var = |name: &str| std::env::var(name).ok();
    let mut swarm = Swarm::draw(var("THALWEG_SIM_SEED")?.parse().expect("THALWEG_SIM_SEED is a number"));
    for name in var("THALWEG_SIM_WITHOUT").unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
        let kind = Kind::named(name).unwrap_or_else(|| panic!("{name} is no kind of trouble"));
        swarm = swarm.without(kind);
    }
    if let Some(steps) = var("THALWEG_SIM_STEPS") {
        swarm.steps = steps.parse().expect("THALWEG_SIM_STEPS is a number");
    }
    Some(swarm)
}
