//! A shard that the case turns itself.

use std::future::Future;
use std::time::{Duration, Instant};

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg::{Config, Log, OpenError, OwnedShard, RecoveryReport};

use super::Directory;
use crate::Host;

/// A shard in the case's own loop, on the file system.
pub struct Owned {
    directory: Directory,
    config: Config,
    shard: Option<OwnedShard>,
}

impl Owned {
    /// On a backend, with a way to make groups durable.
    #[must_use]
    pub fn new(mut config: Config, backend: BackendSetting, commit: CommitSetting) -> Owned {
        let directory = Directory::new();
        config.data_dir = directory.path();
        config.threads.backend = backend;
        config.commit.strategy = commit;
        Owned { directory, config, shard: None }
    }

    fn shard(&mut self) -> &mut OwnedShard {
        self.shard.as_mut().expect("the log is open")
    }
}

impl Host for Owned {
    fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    async fn try_open(&mut self) -> Result<(), OpenError> {
        self.shard = Some(OwnedShard::open(self.config.clone())?);
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
        let end = Instant::now() + Duration::from_millis(ms);
        let shard = self.shard();
        while Instant::now() < end {
            if !shard.turn() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    async fn close(&mut self) {
        if let Some(shard) = self.shard.take() {
            shard.close().unwrap();
        }
    }

    async fn crash(&mut self) {
        self.shard = None;
    }

    fn files(&self) -> Vec<(String, u64)> {
        self.directory.files()
    }
}
