//! An open log, in the caller's own loop or on threads of its own.

use std::future::Future;
use std::time::Duration;

use thalweg::{AppendError, Config, Engine, Log, OpenError, OwnedShard, ShardStats};
use thalweg_io::sim::SimDisk;
use thalweg_tests::block_on;

/// How long a loop sleeps while the shards' own threads work.
const NAP: Duration = Duration::from_micros(30);

/// An open log.
pub(crate) enum Opened {
    /// One shard, turned by whoever has it.
    Here(Box<OwnedShard>),
    /// A thread for each shard.
    Threads(Box<Engine>),
}

impl Opened {
    /// Opens the log in `config.data_dir`: one shard here, several on threads.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn open(config: Config) -> Result<Opened, OpenError> {
        match config.shards {
            Some(2..) => Engine::open(config).map(|engine| Opened::Threads(Box::new(engine))),
            _ => OwnedShard::open(config).map(|shard| Opened::Here(Box::new(shard))),
        }
    }

    /// Opens the one shard of a simulated disk.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn on(disk: &SimDisk, config: Config) -> Result<Opened, OpenError> {
        OwnedShard::open_on(disk.backend(), config, None).map(|shard| Opened::Here(Box::new(shard)))
    }

    pub(crate) fn log(&self) -> &Log {
        match self {
            Opened::Here(shard) => shard.log(),
            Opened::Threads(engine) => engine.log(),
        }
    }

    /// What opening dropped from the ends of WALs.
    pub(crate) fn dropped(&self) -> Vec<String> {
        match self {
            Opened::Here(shard) => shard.recovery().dropped.iter().cloned().collect(),
            Opened::Threads(engine) => engine.recovery().iter().filter_map(|it| it.dropped.clone()).collect(),
        }
    }

    pub(crate) fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Opened::Here(shard) => shard.block_on(future),
            Opened::Threads(_) => block_on(future),
        }
    }

    /// Lets it work a little. Sleeps where there is nothing to do.
    pub(crate) fn work(&mut self) {
        if !self.turned() {
            match self {
                Opened::Here(shard) => shard.park(),
                Opened::Threads(_) => std::thread::sleep(NAP),
            }
        }
    }

    /// As [`work`](Self::work), for whoever waits for a moment and not for the log.
    pub(crate) fn work_or_nap(&mut self) {
        if !self.turned() {
            std::thread::sleep(3 * NAP);
        }
    }

    /// Whether a turn here had something to do.
    fn turned(&mut self) -> bool {
        match self {
            Opened::Here(shard) => shard.turn(),
            Opened::Threads(_) => false,
        }
    }

    /// The counters of every shard that answers.
    pub(crate) fn stats(&mut self) -> Vec<ShardStats> {
        let log = self.log().clone();
        (0..log.shards()).filter_map(|shard| self.block_on(log.stats(shard))).collect()
    }

    /// Closes it in good order.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn close(self) -> Result<(), AppendError> {
        match self {
            Opened::Here(shard) => shard.close(),
            Opened::Threads(engine) => engine.close(),
        }
    }
}
