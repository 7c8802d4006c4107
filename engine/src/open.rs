//! Opening a data directory: identity, shards, and joint appends that a crash cut in two.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thalweg_io::lock::LockError;
use thalweg_io::{Backend, Op, OpenMode, Reactor};

use crate::config::{Config, ConfigError, WalConfig};
use crate::ids::{GroupNumber, ShardId};
use crate::planted::{Planted, planted};
use crate::shard::format::{WAL_FILES_FIRST, format};
use crate::shard::recover::{FoundJoint, RecoverError, ShardPlace};
use crate::superblock::{self, SUPERBLOCK_NAME, Superblock};

/// Why an engine did not open. Nothing was changed, unless the reason is an I/O error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody else has the data directory open, or it can't be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The backend asked for can't be had here.
    #[error(transparent)]
    Backend(#[from] thalweg_io::boot::Unavailable),
    /// The host refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The directory was made with another number of shards.
    #[error("shards={wanted}: {path} was made with {found} shards, which is fixed; leave `shards` unset")]
    Shards {
        /// The directory.
        path: PathBuf,
        /// As configured.
        wanted: u16,
        /// As made.
        found: u16,
    },
    /// The directory was made with another length of WAL files.
    #[error(
        "wal.file_bytes={wanted}: {path} was made with {found}, which is fixed; leave `wal.file_bytes` unset"
    )]
    WalFileBytes {
        /// The directory.
        path: PathBuf,
        /// As configured.
        wanted: u64,
        /// As made.
        found: u64,
    },
    /// There is no room for a new directory. What was made of it is gone.
    #[error("{path}: no space left: a new directory needs {needed} B (`shards` times two of wal.file_bytes)")]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// Bytes of the files a new directory has.
        needed: u64,
        /// What the host said.
        source: io::Error,
    },
    /// The directory holds shards, and nothing that says whose they are.
    #[error("{path}: {SUPERBLOCK_NAME} is missing, but there are shards; restore it from a copy")]
    NoSuperblock {
        /// The directory.
        path: PathBuf,
    },
    /// A shard did not open.
    #[error("shard {shard}: {source}")]
    Shard {
        /// The shard.
        shard: ShardId,
        /// Why.
        source: RecoverError,
    },
    /// Two shards have partitions of one name.
    #[error("two partitions are named {name:?}; the data directory is mixed up")]
    TwoOfAName {
        /// The name.
        name: String,
    },
    /// A shard's thread could not be started, or ended.
    #[error("shard {shard}: its thread ended before the shard was open")]
    Thread {
        /// The shard.
        shard: ShardId,
    },
}

/// Marks a directory whose making has not finished.
const FORMATTING: &str = "FORMATTING";

/// Reads the superblock, or makes the directory if it is new.
pub(crate) async fn superblock<B: Backend>(
    reactor: &Reactor<B>,
    config: &Config,
) -> Result<Superblock, OpenError> {
    let root = &config.data_dir;
    let io = |source| OpenError::Io { path: root.clone(), source };
    let named = |source| OpenError::Io { path: root.join(SUPERBLOCK_NAME), source };
    if let Some(found) = superblock::read(reactor).await.map_err(named)? {
        if let Some(wanted) = config.shards
            && wanted != found.shards
        {
            return Err(OpenError::Shards { path: root.clone(), wanted, found: found.shards });
        }
        let (wanted, made) = (config.wal.file_bytes, found.wal_file_bytes);
        // Nobody can tell the default from a setting left out: it takes what the directory has.
        if wanted != made && wanted != WalConfig::default().file_bytes {
            return Err(OpenError::WalFileBytes { path: root.clone(), wanted, found: made });
        }
        remove_mark(reactor).await.map_err(io)?;
        return Ok(found);
    }
    let names = reactor.list(PathBuf::new()).await.map_err(io)?;
    let unfinished = names.iter().any(|entry| entry.name == FORMATTING);
    if !unfinished && names.iter().any(|entry| is_shard_name(&entry.name)) {
        return Err(OpenError::NoSuperblock { path: root.clone() });
    }
    match make(reactor, config).await {
        Ok(made) => Ok(made),
        // With its superblock the directory is whole, or will be made anew if that name gets lost:
        // the next try needs the files.
        Err(source) if is_full(&source) && !superblock::read(reactor).await.is_ok_and(|it| it.is_none()) => {
            Err(io(source))
        }
        Err(source) if is_full(&source) => {
            // What remains is the mark, and folders without files: the next try begins anew.
            remove_files(reactor, config).await.map_err(io)?;
            let shards = u64::from(config.shards.unwrap_or(1));
            let needed = shards * WAL_FILES_FIRST * config.wal.file_bytes;
            Err(OpenError::NoSpace { path: root.clone(), needed, source })
        }
        Err(source) => Err(io(source)),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Removes the files of an unfinished making: none of them was ever used.
async fn remove_files<B: Backend>(reactor: &Reactor<B>, config: &Config) -> io::Result<()> {
    for shard in 0..config.shards.unwrap_or(1) {
        let dir = PathBuf::from(format!("shard-{shard}"));
        for entry in reactor.list(&dir).await?.into_iter().filter(|entry| !entry.is_dir) {
            reactor.run(Op::Remove { path: dir.join(entry.name) }).await?;
        }
    }
    Ok(())
}

fn is_shard_name(name: &str) -> bool {
    name.strip_prefix("shard-").is_some_and(|id| id.parse::<u16>().is_ok())
}

async fn make<B: Backend>(reactor: &Reactor<B>, config: &Config) -> io::Result<Superblock> {
    match reactor.open(FORMATTING, OpenMode::CreateNew).await {
        Ok((file, _)) => reactor.run(Op::Close { file }).await?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    reactor.run(Op::SyncDir { path: PathBuf::new() }).await?;
    let mut made = Superblock {
        shards: config.shards.unwrap_or(1),
        directory: u128::from(reactor.random()) << 64 | u128::from(reactor.random()),
        wal_file_bytes: config.wal.file_bytes,
        replay_speed: u64::MAX,
        created_ms: reactor.wall_ms(),
    };
    for shard in 0..made.shards {
        let place = ShardPlace::new(ShardId(shard), made);
        remove_manifests(reactor, &place.dir).await?;
        let speed = format(reactor, &place).await?;
        made.replay_speed = made.replay_speed.min(speed);
    }
    superblock::write(reactor, &made).await?;
    remove_mark(reactor).await?;
    tracing::info!(?made, "made a data directory");
    Ok(made)
}

/// Takes the mark away, durably: with it, a directory whose superblock gets lost later would be
/// made anew, over its records.
async fn remove_mark<B: Backend>(reactor: &Reactor<B>) -> io::Result<()> {
    match reactor.run(Op::Remove { path: FORMATTING.into() }).await {
        Ok(()) => reactor.run(Op::SyncDir { path: PathBuf::new() }).await,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What an unfinished making left: none of it was ever used.
async fn remove_manifests<B: Backend>(reactor: &Reactor<B>, dir: &Path) -> io::Result<()> {
    for entry in reactor.list(dir).await? {
        if entry.name.starts_with("MANIFEST-") {
            reactor.run(Op::Remove { path: dir.join(entry.name) }).await?;
        }
    }
    Ok(())
}

/// What one shard's WAL says about joint appends.
pub(crate) struct JointsOfShard {
    pub shard: ShardId,
    pub found: Vec<FoundJoint>,
    /// Joint appends up to this one are decided there.
    pub resolved: u64,
}

/// Decides which joint appends are whole. For each shard that has a part of one that is not, gives
/// the group to cut before.
pub(crate) fn decide_joints(shards: &[JointsOfShard]) -> BTreeMap<ShardId, GroupNumber> {
    let mut cuts: BTreeMap<ShardId, GroupNumber> = BTreeMap::new();
    loop {
        let standing = |shard: &JointsOfShard, joint: &FoundJoint| {
            cuts.get(&shard.shard).is_none_or(|cut| joint.group < *cut)
        };
        let has_part = |id: ShardId, transaction: u64| {
            shards.iter().filter(|shard| shard.shard == id).any(|shard| {
                let mut found = shard.found.iter().filter(|joint| standing(shard, joint));
                transaction <= shard.resolved || found.any(|joint| joint.transaction == transaction)
            })
        };
        // A cut may take a later append with it, whose other parts must then go too.
        let broken = shards.iter().find_map(|shard| {
            let mut standing = shard.found.iter().filter(|joint| standing(shard, joint));
            let broken =
                standing.find(|joint| !joint.shards.iter().all(|id| has_part(*id, joint.transaction)));
            broken.map(|joint| (shard.shard, joint.group))
        });
        let Some((shard, group)) = broken.filter(|_| !planted(Planted::BrokenJointKept)) else { return cuts };
        cuts.insert(shard, group);
    }
}

/// The number of the next joint append: larger than any before.
pub(crate) fn next_joint(shards: &[JointsOfShard]) -> u64 {
    let found = shards.iter().flat_map(|shard| shard.found.iter().map(|joint| joint.transaction));
    found.chain(shards.iter().map(|shard| shard.resolved)).max().unwrap_or(0) + 1
}

/// The configuration with what the directory fixed.
pub(crate) fn fixed_config(config: &Config, superblock: &Superblock) -> Result<Arc<Config>, ConfigError> {
    let mut config = config.clone();
    config.wal.file_bytes = superblock.wal_file_bytes;
    config.shards = Some(superblock.shards);
    config.validate()?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use thalweg_io::sim::{Effect, FaultRule, OpKind, SimDisk, SimOptions};

    use super::*;
    use crate::OwnedShard;

    fn config(file_bytes: u64) -> Config {
        let mut config = Config::new("x");
        config.wal.file_bytes = file_bytes;
        config
    }

    #[test]
    fn a_directory_that_does_not_fit_says_what_it_needs_and_leaves_nothing() {
        let disk = SimDisk::new(1);
        let empty = disk.free_bytes();
        disk.set_capacity(6 << 20);
        let error = OwnedShard::open_on(disk.backend(), config(4 << 20), None).err().unwrap();
        assert!(matches!(error, OpenError::NoSpace { needed, .. } if needed == 8 << 20), "{error}");
        disk.set_capacity(1 << 40);
        assert!(empty - disk.free_bytes() < 1 << 20, "files were left");
        OwnedShard::open_on(disk.backend(), config(4 << 20), None).unwrap();
    }

    #[test]
    fn a_directory_whose_making_finds_no_space_anywhere_opens_at_the_next_try() {
        for power_cut in [false, true] {
            let mut whole = 0;
            for nth in 0.. {
                let disk = SimDisk::with_options(1, SimOptions::kind());
                disk.plan(FaultRule::new(OpKind::Any, Effect::Error(28)).skip(nth));
                let failed = OwnedShard::open_on(disk.backend(), config(4 << 20), None).err();
                if disk.faults_fired() == 0 {
                    break;
                }
                whole += u64::from(failed.is_some() && disk.contents(SUPERBLOCK_NAME).is_some());
                if power_cut {
                    disk.crash();
                }
                disk.clear_faults();
                let opened = OwnedShard::open_on(disk.backend(), config(4 << 20), None);
                assert!(opened.is_ok(), "operation {nth}, {failed:?}, then {:?}", opened.err());
            }
            assert!(whole > 2, "{whole} failed with a superblock");
        }
    }

    #[test]
    fn the_length_of_wal_files_is_that_of_the_directory() {
        let disk = SimDisk::new(1);
        drop(OwnedShard::open_on(disk.backend(), config(4 << 20), None).unwrap());
        let error = OwnedShard::open_on(disk.backend(), config(8 << 20), None).err().unwrap();
        assert!(matches!(error, OpenError::WalFileBytes { found, .. } if found == 4 << 20), "{error}");
        for allowed in [4 << 20, WalConfig::default().file_bytes] {
            drop(OwnedShard::open_on(disk.backend(), config(allowed), None).unwrap());
        }
    }

    fn shard(id: u16, resolved: u64, found: &[(u64, &[u16], u64)]) -> JointsOfShard {
        let found = found.iter().map(|(transaction, shards, group)| FoundJoint {
            transaction: *transaction,
            shards: shards.iter().map(|id| ShardId(*id)).collect(),
            group: GroupNumber(*group),
        });
        JointsOfShard { shard: ShardId(id), found: found.collect(), resolved }
    }

    #[track_caller]
    fn check(shards: &[JointsOfShard], want: &[(u16, u64)]) {
        let want = want.iter().map(|(shard, group)| (ShardId(*shard), GroupNumber(*group))).collect();
        assert_eq!(decide_joints(shards), want);
    }

    #[test]
    fn an_append_stands_when_every_shard_has_its_part() {
        check(&[shard(0, 0, &[(1, &[0, 1], 5)]), shard(1, 0, &[(1, &[0, 1], 9)])], &[]);
        check(&[shard(0, 0, &[(1, &[0, 1], 5)]), shard(1, 1, &[])], &[]); // sealed there
    }

    #[test]
    fn an_append_with_a_missing_part_is_cut_everywhere() {
        check(&[shard(0, 0, &[(1, &[0, 1], 5)]), shard(1, 0, &[])], &[(0, 5)]);
    }

    #[test]
    fn a_cut_takes_later_appends_with_it() {
        let first = shard(0, 0, &[(1, &[0, 2], 5), (2, &[0, 1], 6)]);
        let second = shard(1, 0, &[(2, &[0, 1], 3)]);
        check(&[first, second, shard(2, 0, &[])], &[(0, 5), (1, 3)]);
    }
}
