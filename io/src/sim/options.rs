//! How a simulated disk behaves when nothing is planned.

use super::random::SimRandom;

/// How a simulated disk behaves: what a power cut does to unsynced state, how long operations
/// take, how much fits.
#[derive(Clone, Debug, PartialEq)]
pub struct SimOptions {
    /// Weight of keeping an unsynced change whole at a power cut.
    pub keep: f64,
    /// Weight of losing it whole.
    pub lose: f64,
    /// Weight of tearing it: every sector of a write is kept or lost by the toss of a coin. What
    /// cannot be torn (a length, a name) is kept or lost as a whole then.
    pub tear: f64,
    /// Probability that a lost sector of a *torn* write holds neither old nor new bytes. 0 by
    /// default: the contract takes sectors for atomic.
    pub garbage: f64,
    /// Whether the three weights are skewed anew at every power cut, so that nearly everything
    /// lost, nearly everything kept and all between are common among seeds.
    pub swarm: bool,
    /// Shortest time an operation takes, ns.
    pub latency_ns_min: u64,
    /// Longest time an operation takes, ns.
    pub latency_ns_max: u64,
    /// Whether operations may complete in another order than they were submitted in.
    pub reorder: bool,
    /// Bytes that fit on the disk. Files are charged by their length, in whole blocks.
    pub capacity_bytes: u64,
}

impl SimOptions {
    /// Everything unsynced is lost: what a missing sync costs at worst.
    #[must_use]
    pub fn strict() -> SimOptions {
        SimOptions { keep: 0.0, lose: 1.0, tear: 0.0, swarm: false, ..SimOptions::random() }
    }

    /// Everything completed or in flight is kept: what a kill without a power cut leaves.
    #[must_use]
    pub fn kind() -> SimOptions {
        SimOptions { keep: 1.0, lose: 0.0, tear: 0.0, swarm: false, ..SimOptions::random() }
    }

    /// Every unsynced change is kept, lost or torn by the seed.
    #[must_use]
    pub fn random() -> SimOptions {
        SimOptions {
            keep: 0.4,
            lose: 0.3,
            tear: 0.3,
            garbage: 0.0,
            swarm: true,
            latency_ns_min: 5_000,
            latency_ns_max: 100_000,
            reorder: true,
            capacity_bytes: 1 << 40,
        }
    }

    /// The weights of one power cut.
    pub(super) fn weights(&self, random: &mut SimRandom) -> Weights {
        // Cubing makes small factors common: one weight then often dwarfs the others.
        let mut skew = || if self.swarm { random.unit().powi(3) } else { 1.0 };
        Weights {
            keep: self.keep * skew(),
            lose: self.lose * skew(),
            tear: self.tear * skew(),
            garbage: self.garbage,
        }
    }
}

impl Default for SimOptions {
    fn default() -> Self {
        SimOptions::random()
    }
}

/// What becomes of one change that nothing made certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Lose,
    Tear,
}

/// The weights of the three fates, during one power cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    keep: f64,
    lose: f64,
    tear: f64,
    pub(super) garbage: f64,
}

impl Weights {
    pub(super) fn fate(&self, random: &mut SimRandom) -> Fate {
        let point = random.unit() * (self.keep + self.lose + self.tear);
        if point < self.keep {
            Fate::Keep
        } else if point < self.keep + self.tear {
            Fate::Tear
        } else {
            Fate::Lose
        }
    }

    /// As [`fate`](Self::fate), for what cannot be torn.
    pub(super) fn keeps(&self, random: &mut SimRandom) -> bool {
        match self.fate(random) {
            Fate::Keep => true,
            Fate::Lose => false,
            Fate::Tear => random.chance(0.5),
        }
    }
}
