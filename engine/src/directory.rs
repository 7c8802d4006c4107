//! Names to partitions, over all shards of an engine.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::append::request::ControlError;
use crate::ids::PartitionId;

/// A name that is taken, or is being given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Creating,
    Known(PartitionId),
}

/// The names of an engine's partitions.
#[derive(Default)]
pub(crate) struct Directory(RwLock<BTreeMap<Arc<str>, Entry>>);

impl Directory {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Arc<str>, Entry>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Arc<str>, Entry>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for a partition that is to be made. Returns how many names there were.
    pub(crate) fn reserve(&self, name: &str) -> Result<(Arc<str>, usize), ControlError> {
        let mut names = self.write();
        if names.contains_key(name) {
            return Err(ControlError::NameTaken(name.to_owned()));
        }
        let count = names.len();
        let name: Arc<str> = name.into();
        names.insert(name.clone(), Entry::Creating);
        Ok((name, count))
    }

    /// The partition was made, or was not.
    pub(crate) fn settle(&self, name: &Arc<str>, made: Option<PartitionId>) {
        let mut names = self.write();
        match made {
            Some(id) => drop(names.insert(name.clone(), Entry::Known(id))),
            None => drop(names.remove(name)),
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
        match names.get_key_value(name)? {
            (name, Entry::Known(id)) => Some((name.clone(), *id)),
            (_, Entry::Creating) => None,
        }
    }

    pub(crate) fn list(&self) -> Vec<(Arc<str>, PartitionId)> {
        let names = self.read();
        let known = names.iter().filter_map(|(name, entry)| match entry {
            Entry::Known(id) => Some((name.clone(), *id)),
            Entry::Creating => None,
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
