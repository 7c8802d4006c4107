//! The files of our file system, in memory, and the journal of what changed them.
//!
//! Each directory right below the root is a data directory: one at a time is written to, and what
//! happens in it is in the journal, the lock file apart.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use libc::{EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY};
use thalweg_io::BLOCK;
use thalweg_io::lock::LOCK_FILE;

use crate::fault::{Fault, Kind, Plan};
use crate::journal::{Change, Entry, NodeId};

/// The root directory, by FUSE's convention.
pub(crate) const ROOT: NodeId = 1;

/// A file or directory.
#[derive(Debug)]
pub(crate) enum Node {
    Dir {
        /// Below the data directory; none for the root.
        path: Option<PathBuf>,
        names: BTreeMap<OsString, NodeId>,
    },
    File {
        bytes: Vec<u8>,
        /// Whether its changes are in the journal.
        watched: bool,
        linked: bool,
    },
}

/// An `errno`.
pub(crate) type Errno = i32;

#[derive(Debug)]
pub(crate) struct Store {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
    journal: Vec<Entry>,
    plan: Option<Plan>,
    kinds: Vec<Kind>,
    hit: Option<(Kind, u64)>,
}

impl Store {
    pub(crate) fn new() -> Store {
        let root = Node::Dir { path: None, names: BTreeMap::new() };
        let nodes = BTreeMap::from([(ROOT, root)]);
        Store { nodes, next: ROOT + 1, journal: Vec::new(), plan: None, kinds: Vec::new(), hit: None }
    }

    /// Forgets every file, and begins a new journal.
    pub(crate) fn begin(&mut self, plan: Option<Plan>) {
        self.nodes.retain(|id, _| *id == ROOT);
        let Some(Node::Dir { names, .. }) = self.nodes.get_mut(&ROOT) else { unreachable!("the root stays") };
        names.clear();
        (self.plan, self.hit) = (plan, None);
        self.kinds.clear();
        self.journal.clear();
    }

    /// Nothing goes wrong from here on.
    pub(crate) fn calm(&mut self) {
        self.plan = None;
    }

    /// The next request gets this fault.
    pub(crate) fn fail_next(&mut self, fault: Fault) {
        self.plan = Some(Plan { after: self.kinds.len() as u64, fault });
    }

    /// How many changes there were.
    pub(crate) fn moment(&self) -> u64 {
        self.journal.len() as u64
    }

    /// Begins a new journal with the files there are, and gives the bytes of one of them.
    pub(crate) fn forget_journal(&mut self, path: &str) -> Option<&[u8]> {
        self.journal.clear();
        let node = path.split('/').try_fold(ROOT, |dir, name| self.find(dir, OsStr::new(name))).ok()?;
        self.read(node, 0, usize::MAX).ok()
    }

    pub(crate) fn journal(&self) -> &[Entry] {
        &self.journal
    }

    /// The requests so far that a fault may hit.
    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The request that the planned fault has hit, and how many changes there were before it.
    pub(crate) fn hit(&self) -> Option<(Kind, u64)> {
        self.hit
    }

    /// Counts a request on `node`, and says what goes wrong with it.
    pub(crate) fn fault(&mut self, node: NodeId, kind: Kind) -> Option<Fault> {
        let watched = match self.nodes.get(&node)? {
            Node::Dir { path, .. } => path.is_some(),
            Node::File { watched, .. } => *watched,
        };
        if !watched {
            return None;
        }
        let nth = self.kinds.len() as u64;
        self.kinds.push(kind);
        // What is due may be another request than in the run before: the first that fits is taken.
        let plan = self.plan.filter(|plan| nth >= plan.after && plan.fault.fits(kind))?;
        self.plan = None;
        self.hit = Some((kind, self.journal.len() as u64));
        Some(plan.fault)
    }

    fn note(&mut self, change: Change) {
        self.journal.push(Entry { change, failed: None });
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<&Node, Errno> {
        self.nodes.get(&id).ok_or(ENOENT)
    }

    /// The names in a directory.
    pub(crate) fn names(&self, dir: NodeId) -> Result<&BTreeMap<OsString, NodeId>, Errno> {
        match self.node(dir)? {
            Node::Dir { names, .. } => Ok(names),
            Node::File { .. } => Err(ENOTDIR),
        }
    }

    pub(crate) fn find(&self, dir: NodeId, name: &OsStr) -> Result<NodeId, Errno> {
        self.names(dir)?.get(name).copied().ok_or(ENOENT)
    }

    fn path(&self, dir: NodeId, name: &OsStr) -> Option<PathBuf> {
        match self.nodes.get(&dir) {
            Some(Node::Dir { path: Some(path), .. }) => Some(path.join(name)),
            _ => None,
        }
    }

    fn insert(&mut self, dir: NodeId, name: &OsStr, node: Node) -> Result<NodeId, Errno> {
        let id = self.next;
        match self.nodes.get_mut(&dir) {
            Some(Node::Dir { names, .. }) if !names.contains_key(name) => names.insert(name.to_owned(), id),
            Some(Node::Dir { .. }) => return Err(EEXIST),
            Some(Node::File { .. }) => return Err(ENOTDIR),
            None => return Err(ENOENT),
        };
        self.next += 1;
        self.nodes.insert(id, node);
        Ok(id)
    }

    pub(crate) fn create(&mut self, dir: NodeId, name: &OsStr) -> Result<NodeId, Errno> {
        let path = self.path(dir, name).filter(|_| name != LOCK_FILE);
        let file = Node::File { bytes: Vec::new(), watched: path.is_some(), linked: true };
        let node = self.insert(dir, name, file)?;
        if let Some(path) = path {
            self.note(Change::Create { path, node });
        }
        Ok(node)
    }

    pub(crate) fn create_dir(&mut self, dir: NodeId, name: &OsStr) -> Result<NodeId, Errno> {
        let path = if dir == ROOT { Some(PathBuf::new()) } else { self.path(dir, name) };
        let node = self.insert(dir, name, Node::Dir { path: path.clone(), names: BTreeMap::new() })?;
        if let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) {
            self.note(Change::CreateDir { path });
        }
        Ok(node)
    }

    pub(crate) fn remove(&mut self, dir: NodeId, name: &OsStr) -> Result<(), Errno> {
        let id = self.find(dir, name)?;
        match self.nodes.get_mut(&id) {
            Some(Node::Dir { names, .. }) if !names.is_empty() => return Err(ENOTEMPTY),
            Some(Node::Dir { .. }) => drop(self.nodes.remove(&id)),
            Some(Node::File { linked, watched, .. }) => {
                *linked = false;
                if *watched && let Some(path) = self.path(dir, name) {
                    self.note(Change::Remove { path });
                }
            }
            None => return Err(ENOENT),
        }
        if let Some(Node::Dir { names, .. }) = self.nodes.get_mut(&dir) {
            names.remove(name);
        }
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        (dir, name): (NodeId, &OsStr),
        (new_dir, new_name): (NodeId, &OsStr),
    ) -> Result<(), Errno> {
        let id = self.find(dir, name)?;
        let replaced = self.find(new_dir, new_name).ok();
        if let Some(Node::Dir { .. }) = replaced.and_then(|id| self.nodes.get(&id)) {
            return Err(EISDIR);
        }
        if let Some(Node::File { linked, .. }) = replaced.and_then(|id| self.nodes.get_mut(&id)) {
            *linked = false;
        }
        if let Some(Node::Dir { names, .. }) = self.nodes.get_mut(&dir) {
            names.remove(name);
        }
        if let Some(Node::Dir { names, .. }) = self.nodes.get_mut(&new_dir) {
            names.insert(new_name.to_owned(), id);
        }
        if let (Some(from), Some(to)) = (self.path(dir, name), self.path(new_dir, new_name)) {
            self.note(Change::Rename { from, to });
        }
        Ok(())
    }

    /// Lets go of a file that has no name.
    pub(crate) fn forget(&mut self, id: NodeId) {
        if let Some(Node::File { linked: false, .. }) = self.nodes.get(&id) {
            self.nodes.remove(&id);
        }
    }

    pub(crate) fn read(&self, id: NodeId, position: u64, len: usize) -> Result<&[u8], Errno> {
        let Node::File { bytes, .. } = self.node(id)? else { return Err(EISDIR) };
        let start = bytes.len().min(position as usize);
        Ok(&bytes[start..bytes.len().min(start.saturating_add(len))])
    }

    /// Stores bytes, and notes the blocks they are in.
    pub(crate) fn write(&mut self, id: NodeId, at: u64, data: &[u8], durable: bool) -> Result<(), Errno> {
        let Some(Node::File { bytes, watched, .. }) = self.nodes.get_mut(&id) else { return Err(ENOENT) };
        let (start, end) = (at as usize, at as usize + data.len());
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(data);
        if *watched {
            let blocks = start / BLOCK * BLOCK..end.next_multiple_of(BLOCK);
            let mut whole = bytes[blocks.start..blocks.end.min(bytes.len())].to_vec();
            whole.resize(blocks.len(), 0);
            let (position, bytes) = (blocks.start as u64, Arc::from(whole));
            self.note(Change::Write { node: id, position, bytes, durable });
        }
        Ok(())
    }

    /// A write fails: what it leaves is decided by the power cut.
    pub(crate) fn write_failed(&mut self, node: NodeId, position: u64, data: &[u8], errno: Errno) {
        let change = Change::Write { node, position, bytes: Arc::from(data), durable: false };
        self.journal.push(Entry { change, failed: Some(errno) });
    }

    /// A sync of a file or directory, that may fail.
    pub(crate) fn sync(&mut self, id: NodeId, failed: Option<Errno>) -> Result<(), Errno> {
        let change = match self.node(id)? {
            Node::Dir { path: Some(path), .. } => Change::SyncDir { path: path.clone() },
            Node::File { watched: true, .. } => Change::Sync { node: id },
            _ => return Ok(()),
        };
        self.journal.push(Entry { change, failed });
        Ok(())
    }

    pub(crate) fn set_len(&mut self, id: NodeId, len: u64, only_grow: bool) -> Result<(), Errno> {
        let Some(Node::File { bytes, watched, .. }) = self.nodes.get_mut(&id) else { return Err(ENOENT) };
        if !only_grow || bytes.len() < len as usize {
            bytes.resize(len as usize, 0);
        }
        if *watched {
            let change = match only_grow {
                true => Change::Allocate { node: id, len },
                false => Change::Truncate { node: id, len },
            };
            self.note(change);
        }
        Ok(())
    }

    /// Bytes of all files.
    pub(crate) fn used_bytes(&self) -> u64 {
        let bytes = |node: &Node| if let Node::File { bytes, .. } = node { bytes.len() as u64 } else { 0 };
        self.nodes.values().map(bytes).sum()
    }
}
