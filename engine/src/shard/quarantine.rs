//! Quarantine: where opening and repair put bytes that they neither use nor want to lose. Bounded:
//! the newest files stay, older ones as long as all of them together are small.

use std::io;
use std::path::{Path, PathBuf};

use thalweg_io::{AlignedBuf, Backend, Durability, Op, OpenMode, Reactor};

/// So many of the newest files stay whatever their size.
const KEPT_FILES_MIN: usize = 5;
/// Older ones stay while all together are no larger.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// The quarantine folder of a shard.
pub(crate) struct Quarantine<'a, B: Backend> {
    reactor: &'a Reactor<B>,
    shard_dir: &'a Path,
    dir: PathBuf,
}

impl<'a, B: Backend> Quarantine<'a, B> {
    pub(crate) fn new(reactor: &'a Reactor<B>, shard_dir: &'a Path) -> Self {
        Quarantine { reactor, shard_dir, dir: shard_dir.join("quarantine") }
    }

    /// Makes the folder, if there is none.
    pub(crate) async fn make(&self) -> io::Result<()> {
        self.reactor.run(Op::CreateDir { path: self.dir.clone() }).await?;
        self.reactor.run(Op::SyncDir { path: self.shard_dir.to_path_buf() }).await?;
        Ok(())
    }

    /// Names sort by the time of their arrival.
    fn place(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{:013}-{name}", self.reactor.wall_ms()))
    }

    /// Moves a file of the shard here.
    pub(crate) async fn take(&self, name: &str) -> io::Result<()> {
        self.reactor.run(Op::Rename { from: self.shard_dir.join(name), to: self.place(name) }).await?;
        Ok(())
    }

    /// Keeps a copy of `bytes`, durable when this returns.
    pub(crate) async fn keep(&self, name: &str, bytes: AlignedBuf) -> io::Result<()> {
        let (file, _) = self.reactor.open(&self.place(name), OpenMode::CreateNew).await?;
        let written = self.reactor.write(file, 0, bytes, Durability::Durable).await.1;
        self.reactor.run(Op::Close { file }).await?;
        written?;
        self.reactor.run(Op::SyncDir { path: self.dir.clone() }).await?;
        Ok(())
    }

    /// Removes the oldest files that are over the bound.
    pub(crate) async fn prune(&self) -> io::Result<()> {
        let mut entries = match self.reactor.list(&self.dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        entries.retain(|entry| !entry.is_dir);
        entries.sort_by(|a, b| b.name.cmp(&a.name));
        let mut bytes = 0;
        for (index, entry) in entries.iter().enumerate() {
            bytes += entry.len;
            if index >= KEPT_FILES_MIN && bytes > KEPT_BYTES_MAX {
                tracing::info!(file = entry.name, bytes = entry.len, "an old file leaves quarantine");
                self.reactor.run(Op::Remove { path: self.dir.join(&entry.name) }).await?;
            }
        }
        Ok(())
    }
}
