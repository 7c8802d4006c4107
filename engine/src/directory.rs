//! Names to partitions, over all shards of an engine.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::append::request::ControlError;
use crate::ids::PartitionId;

/// A name that is taken, or is being given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// On this shard.
    Creating(usize),
    Known(PartitionId),
}

struct Names {
    by_name: BTreeMap<Arc<str>, Entry>,
    /// Names on each shard, those in the making included.
    on_shard: Vec<usize>,
}

impl Names {
    fn insert(&mut self, name: Arc<str>, entry: Entry) -> Option<Entry> {
        let shard = self.shard_of(entry);
        self.on_shard[shard] += 1;
        let before = self.by_name.insert(name, entry);
        self.let_go(before);
        before
    }

    fn remove(&mut self, name: &str) {
        let before = self.by_name.remove(name);
        self.let_go(before);
    }

    fn let_go(&mut self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            let shard = self.shard_of(entry);
            self.on_shard[shard] -= 1;
        }
    }

    fn shard_of(&self, entry: Entry) -> usize {
        match entry {
            Entry::Creating(shard) => shard,
            Entry::Known(id) => id.0 as usize % self.on_shard.len(),
        }
    }
}

/// The names of an engine's partitions.
pub(crate) struct Directory(RwLock<Names>);

impl Directory {
    /// Over so many shards, without names yet.
    pub(crate) fn new(shards: usize) -> Directory {
        Directory(RwLock::new(Names { by_name: BTreeMap::new(), on_shard: vec![0; shards] }))
    }

    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for a partition that is to be made, on the shard with the fewest.
    pub(crate) fn reserve(&self, name: &str) -> Result<(Arc<str>, usize), ControlError> {
        let mut names = self.write();
        if names.by_name.contains_key(name) {
            return Err(ControlError::NameTaken(name.to_owned()));
        }
        let fewest = (0..names.on_shard.len()).min_by_key(|shard| names.on_shard[*shard]);
        let shard = fewest.expect("a log has a shard");
        let name: Arc<str> = name.into();
        names.insert(name.clone(), Entry::Creating(shard));
        Ok((name, shard))
    }

    /// The partition was made, or was not.
    pub(crate) fn settle(&self, name: &Arc<str>, made: Option<PartitionId>) {
        let mut names = self.write();
        match made {
            Some(id) => drop(names.insert(name.clone(), Entry::Known(id))),
            None => names.remove(name),
        }
    }

    /// Adds a partition found when opening. Returns false if the name is known already.
    pub(crate) fn add(&self, name: Arc<str>, id: PartitionId) -> bool {
        self.write().insert(name, Entry::Known(id)).is_none()
    }

    pub(crate) fn remove(&self, name: &str) {
        self.write().remove(name);
    }

    pub(crate) fn find(&self, name: &str) -> Option<(Arc<str>, PartitionId)> {
        let names = self.read();
        match names.by_name.get_key_value(name)? {
            (name, Entry::Known(id)) => Some((name.clone(), *id)),
            (_, Entry::Creating(_)) => None,
        }
    }

    pub(crate) fn list(&self) -> Vec<(Arc<str>, PartitionId)> {
        let names = self.read();
        let known = names.by_name.iter().filter_map(|(name, entry)| match entry {
            Entry::Known(id) => Some((name.clone(), *id)),
            Entry::Creating(_) => None,
        });
        known.collect()
    }
}

/// Checks a partition's name: 1 to `bytes_max` bytes, no control characters.
pub(crate) fn check_name(name: &str, bytes_max: u32) -> Result<(), ControlError> {
    let refuse = |rule: String| Err(ControlError::BadName { name: name.to_owned(), rule });
    if name.is_empty() || name.len() > bytes_max as usize {
        return refuse(format!("it must have 1 to {bytes_max} bytes"));
    }
    if name.chars().any(char::is_control) {
        return refuse("it must have no control characters".into());
    }
    Ok(())
}
