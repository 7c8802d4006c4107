//! A shard on the simulated disk.

use std::future::Future;

use thalweg::{Config, Log, OpenError, OwnedShard, RecoveryReport};
use thalweg_io::sim::{SimDisk, SimOptions};

use crate::Host;

/// How long a shard that waits for nothing is left alone at first, µs of virtual time.
const IDLE_US: u64 = 10;

/// A shard on a disk in memory, in virtual time.
pub struct Sim {
    /// The disk.
    pub disk: SimDisk,
    config: Config,
    shard: Option<OwnedShard>,
}

impl Sim {
    /// On a disk drawn from `seed`.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Sim {
        Sim { disk: SimDisk::with_options(seed, SimOptions::random()), config, shard: None }
    }

    /// The open shard.
    ///
    /// # Panics
    /// If it is not open.
    pub fn shard(&mut self) -> &mut OwnedShard {
        self.shard.as_mut().expect("the log is open")
    }

    /// Whether the shard is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shard.is_some()
    }

    /// Takes the shard away, to end it in the caller's own way.
    pub fn take(&mut self) -> Option<OwnedShard> {
        self.shard.take()
    }
}

impl Host for Sim {
    fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    async fn try_open(&mut self) -> Result<(), OpenError> {
        self.shard = Some(OwnedShard::open_on(self.disk.backend(), self.config.clone(), None)?);
        Ok(())
    }

    fn log(&self) -> Log {
        self.shard.as_ref().expect("the log is open").log().clone()
    }

    fn reports(&self) -> Vec<RecoveryReport> {
        self.shard.iter().map(|shard| shard.recovery().clone()).collect()
    }

    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        self.shard().block_on(future)
    }

    async fn pause(&mut self, ms: u64) {
        let disk = self.disk.clone();
        let end = disk.now().plus_us(ms * 1000);
        let shard = self.shard();
        let mut idle_us = IDLE_US;
        while disk.now() < end {
            let before = disk.now();
            if !shard.turn() {
                shard.park();
                // A shard that waits for nothing is looked at less and less often.
                if disk.now() == before {
                    disk.advance_us(idle_us);
                    idle_us *= 2;
                    continue;
                }
            }
            idle_us = IDLE_US;
        }
    }

    async fn close(&mut self) {
        if let Some(shard) = self.shard.take() {
            let _ = shard.close();
        }
    }

    async fn crash(&mut self) {
        self.disk.crash();
        self.shard = None;
    }

    fn files(&self) -> Vec<(String, u64)> {
        let files = self.disk.files().into_iter();
        files.map(|(path, len)| (path.to_string_lossy().into_owned(), len)).collect()
    }

    fn is_real(&self) -> bool {
        false
    }
}
