//! Files come to their names one at a time.
//!
//! Tasks of a shard share its directory. A failed sync of it may lose every name that is pending there,
//! and the next one then succeeds: whoever had renamed a file meanwhile would take it for durable.

use std::io;
use std::path::PathBuf;

use thalweg_io::{Backend, Op, Reactor};

use crate::governor::Governor;
use crate::planted::{Planted, planted};

/// Renames `from` to `to`, in the same directory, and makes that durable.
///
/// # Errors
/// The host's; whether the file has its new name after a power cut is then not known.
pub(crate) async fn put<B: Backend>(reactor: &Reactor<B>, from: PathBuf, to: PathBuf) -> io::Result<()> {
    let dir = to.parent().map(PathBuf::from).unwrap_or_default();
    reactor.run(Op::Rename { from, to }).await?;
    let synced = reactor.run(Op::SyncDir { path: dir.clone() }).await;
    if synced.is_err() && planted(Planted::DirectorySyncRetried) {
        return reactor.run(Op::SyncDir { path: dir }).await;
    }
    synced
}

impl<B: Backend> Governor<B> {
    /// As [`put`], while no other name of the shard is on its way.
    ///
    /// # Errors
    /// As [`put`].
    pub(crate) async fn put(&self, from: PathBuf, to: PathBuf) -> io::Result<()> {
        let _alone = match planted(Planted::NamesTogether) {
            true => None,
            false => Some(self.naming().lock().await),
        };
        put(self.reactor(), from, to).await
    }
}

#[cfg(test)]
mod tests {
    use thalweg_io::OpenMode;
    use thalweg_io::sim::{OpKind, SimDisk, SimOptions};

    use super::*;

    #[test]
    fn a_failed_sync_of_one_name_takes_no_other_with_it() {
        for seed in 0..40 {
            let disk = SimDisk::with_options(seed, SimOptions::strict());
            let reactor = Reactor::new(disk.backend());
            let governor = Governor::alone(reactor.clone());
            let both = async {
                for name in ["a.tmp", "b.tmp"] {
                    reactor.open(name, OpenMode::CreateNew).await.unwrap();
                }
                disk.fail_next(OpKind::SyncDir, "", 5);
                let a = governor.put("a.tmp".into(), "a".into());
                let b = governor.put("b.tmp".into(), "b".into());
                futures_lite::future::zip(a, b).await
            };
            let (a, b) = reactor.block_on(both);
            assert_ne!(a.is_ok(), b.is_ok(), "seed {seed}");
            disk.crash();
            assert_eq!(disk.contents("a").is_some(), a.is_ok(), "seed {seed}: a");
            assert_eq!(disk.contents("b").is_some(), b.is_ok(), "seed {seed}: b");
        }
    }
}
