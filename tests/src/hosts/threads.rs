//! An engine with a thread for each shard.

use std::future::Future;
use std::time::Duration;

use thalweg::config::BackendSetting;
use thalweg::{Config, Engine, Log, OpenError, RecoveryReport};

use super::Directory;
use crate::Host;

/// An engine on the file system.
pub struct Threads {
    directory: Directory,
    config: Config,
    engine: Option<Engine>,
}

impl Threads {
    /// With so many shards.
    #[must_use]
    pub fn new(mut config: Config, shards: u16, backend: BackendSetting) -> Threads {
        let directory = Directory::new();
        config.data_dir = directory.path();
        config.shards = Some(shards);
        config.threads.backend = backend;
        Threads { directory, config, engine: None }
    }

    /// The open engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the log is open")
    }
}

impl Host for Threads {
    fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    async fn try_open(&mut self) -> Result<(), OpenError> {
        self.engine = Some(Engine::open(self.config.clone())?);
        Ok(())
    }

    fn log(&self) -> Log {
        self.engine().log().clone()
    }

    fn reports(&self) -> Vec<RecoveryReport> {
        self.engine().recovery().to_vec()
    }

    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        future.await
    }

    async fn pause(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }

    async fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close().unwrap();
        }
    }

    async fn crash(&mut self) {
        self.engine = None;
    }

    fn files(&self) -> Vec<(String, u64)> {
        self.directory.files()
    }
}
