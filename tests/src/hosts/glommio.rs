//! A shard inside a glommio executor.

use std::future::Future;
use std::time::Duration;

use thalweg::{Config, Log, OpenError, OwnedShard, RecoveryReport};
use thalweg_io::glommio::runtime::{LocalExecutorBuilder, Placement, timer};
use thalweg_io::{GlommioBackend, boot};

use super::Directory;
use crate::Host;

/// A shard that shares an executor's thread and rings.
pub struct Glommio {
    directory: Directory,
    config: Config,
    shard: Option<OwnedShard>,
}

impl Glommio {
    /// In a directory of its own.
    #[must_use]
    pub fn new(mut config: Config) -> Glommio {
        let directory = Directory::new();
        config.data_dir = directory.path();
        Glommio { directory, config, shard: None }
    }

    /// Runs a case in an executor that fits into the memory an ordinary user may lock.
    ///
    /// # Panics
    /// If the host has no executor for it.
    pub fn run(case: impl Future<Output = ()>) {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).ring_depth(64).make();
        executor.expect("an executor").run(case);
    }

    fn shard(&mut self) -> &mut OwnedShard {
        self.shard.as_mut().expect("the log is open")
    }
}

impl Host for Glommio {
    fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    async fn try_open(&mut self) -> Result<(), OpenError> {
        let root = self.config.data_dir.clone();
        let io = |source| OpenError::Io { path: root.clone(), source };
        boot::create_data_dir(&root).map_err(io)?;
        let backend = GlommioBackend::open(&root).await.map_err(io)?;
        self.shard = Some(OwnedShard::open_within(backend, self.config.clone()).await?);
        Ok(())
    }

    fn log(&self) -> Log {
        self.shard.as_ref().expect("the log is open").log().clone()
    }

    fn reports(&self) -> Vec<RecoveryReport> {
        self.shard.iter().map(|shard| shard.recovery().clone()).collect()
    }

    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        self.shard().drive(future).await
    }

    async fn pause(&mut self, ms: u64) {
        self.shard().drive(timer::sleep(Duration::from_millis(ms))).await;
    }

    async fn close(&mut self) {
        if let Some(shard) = self.shard.take() {
            shard.close_within().await.unwrap();
        }
    }

    async fn crash(&mut self) {
        self.shard = None;
        // What was in flight lands while the executor goes on.
        timer::sleep(Duration::from_millis(50)).await;
    }

    fn files(&self) -> Vec<(String, u64)> {
        self.directory.files()
    }
}
