//! Directories: names that are certain, and facts about names that are not yet.
//!
//! Every operation on a name is a *fact*: it sets one name, clears one, or does both at once (a
//! rename inside one directory, which is atomic). [`Op::SyncDir`] makes certain the facts of its
//! directory that had completed when it was submitted. At a power cut any *subset* of the other
//! facts survives, with two rules a journaling file system also keeps:
//!
//! * facts about the same name survive in order: the later only if the earlier did;
//! * a rename into another directory sets the new name first: the old name is cleared only if the
//!   new one survives. Both may be there, never neither.
//!
//! Syncing a file says nothing about its name; syncing a directory says nothing about the
//! directory's own name. Real file systems are kinder than that, in ways they do not promise.
//!
//! [`Op::SyncDir`]: crate::Op::SyncDir

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::crash::Judge;
use super::file::FileKey;

/// A directory's place in the list of directories. Never used again on the same disk.
type DirKey = usize;

/// The data directory.
const ROOT: DirKey = 0;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    File(FileKey),
    Dir(DirKey),
}

/// A place for a name: the directory, and the name in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    dir: DirKey,
    name: String,
}

#[derive(Clone, Debug, Default)]
struct Dir {
    current: BTreeMap<String, Target>,
    stored: BTreeMap<String, Target>,
}

/// One change of names that a power cut keeps or loses whole.
#[derive(Clone, Debug)]
struct Fact {
    seq: u64,
    /// New targets; `None` clears the name.
    edits: Vec<(Place, Option<Target>)>,
    /// The fact with the same `seq` right before this one has to survive too.
    follows: bool,
    certain: bool,
}

impl Fact {
    fn touches(&self, other: &Fact) -> bool {
        self.edits.iter().any(|(place, _)| other.edits.iter().any(|(theirs, _)| place == theirs))
    }

    fn needs(&self, earlier: &Fact) -> bool {
        (self.follows && self.seq == earlier.seq) || self.touches(earlier)
    }
}

/// All directories of a disk.
#[derive(Clone, Debug)]
pub(super) struct Names {
    dirs: Vec<Dir>,
    facts: Vec<Fact>,
}

/// The parts of a relative path.
fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str().ok_or(Errno::INVAL)?),
            _ => return Err(Errno::INVAL.into()),
        }
    }
    Ok(parts)
}

impl Names {
    /// An empty data directory.
    pub(super) fn new() -> Names {
        Names { dirs: vec![Dir::default()], facts: Vec::new() }
    }

    fn lookup(&self, path: &Path) -> io::Result<Target> {
        let mut at = Target::Dir(ROOT);
        for part in parts(path)? {
            let Target::Dir(dir) = at else { return Err(Errno::NOTDIR.into()) };
            at = *self.dirs[dir].current.get(part).ok_or(Errno::NOENT)?;
        }
        Ok(at)
    }

    /// Where the last part of `path` stands, whether or not there is such a name.
    fn place(&self, path: &Path) -> io::Result<Place> {
        let mut parts = parts(path)?;
        let name = parts.pop().ok_or(Errno::INVAL)?.to_owned();
        let mut dir = ROOT;
        for part in parts {
            match self.dirs[dir].current.get(part) {
                Some(Target::Dir(next)) => dir = *next,
                Some(Target::File(_)) => return Err(Errno::NOTDIR.into()),
                None => return Err(Errno::NOENT.into()),
            }
        }
        Ok(Place { dir, name })
    }

    fn at(&self, place: &Place) -> Option<Target> {
        self.dirs[place.dir].current.get(&place.name).copied()
    }

    fn directory(&self, path: &Path) -> io::Result<DirKey> {
        match self.lookup(path)? {
            Target::Dir(dir) => Ok(dir),
            Target::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    /// The file that `path` names.
    pub(super) fn file(&self, path: &Path) -> io::Result<FileKey> {
        match self.lookup(path)? {
            Target::File(file) => Ok(file),
            Target::Dir(_) => Err(Errno::ISDIR.into()),
        }
    }

    /// The file that `path` names after a power cut that loses all it may.
    pub(super) fn durable_file(&self, path: &Path) -> Option<FileKey> {
        let mut at = Target::Dir(ROOT);
        for part in parts(path).ok()? {
            let Target::Dir(dir) = at else { return None };
            at = *self.dirs[dir].stored.get(part)?;
        }
        match at {
            Target::File(file) => Some(file),
            Target::Dir(_) => None,
        }
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, path: &Path) -> io::Result<impl Iterator<Item = (&str, Target)>> {
        let dir = self.directory(path)?;
        Ok(self.dirs[dir].current.iter().map(|(name, target)| (name.as_str(), *target)))
    }

    fn record(&mut self, seq: u64, edits: Vec<(Place, Option<Target>)>, follows: bool) {
        for (place, target) in &edits {
            set(&mut self.dirs[place.dir].current, &place.name, *target);
        }
        self.facts.push(Fact { seq, edits, follows, certain: false });
    }

    /// Gives a new file its name.
    pub(super) fn create(&mut self, seq: u64, path: &Path, file: FileKey) -> io::Result<()> {
        let place = self.place(path)?;
        if self.at(&place).is_some() {
            return Err(Errno::EXIST.into());
        }
        self.record(seq, vec![(place, Some(Target::File(file)))], false);
        Ok(())
    }

    /// Creates a directory, unless there is one. Its parent has to exist.
    pub(super) fn create_dir(&mut self, seq: u64, path: &Path) -> io::Result<()> {
        match self.lookup(path) {
            Ok(Target::Dir(_)) => return Ok(()),
            Ok(Target::File(_)) => return Err(Errno::EXIST.into()),
            Err(_) => {}
        }
        let place = self.place(path)?;
        self.dirs.push(Dir::default());
        let dir = Target::Dir(self.dirs.len() - 1);
        self.record(seq, vec![(place, Some(dir))], false);
        Ok(())
    }

    /// Removes a file's name. Returns the file.
    pub(super) fn remove(&mut self, seq: u64, path: &Path) -> io::Result<FileKey> {
        let file = self.file(path)?;
        let place = self.place(path)?;
        self.record(seq, vec![(place, None)], false);
        Ok(file)
    }

    /// Renames a file or directory. Returns the file whose name it took.
    pub(super) fn rename(&mut self, seq: u64, from: &Path, to: &Path) -> io::Result<Option<FileKey>> {
        parts(to)?;
        let target = self.lookup(from)?;
        let (old, new) = (self.place(from)?, self.place(to)?);
        if old == new {
            return Ok(None);
        }
        if matches!(target, Target::Dir(_)) && to.starts_with(from) {
            return Err(Errno::INVAL.into());
        }
        let replaced = match (target, self.at(&new)) {
            (_, None) => None,
            (Target::File(_), Some(Target::File(replaced))) => Some(replaced),
            (Target::File(_), Some(Target::Dir(_))) => return Err(Errno::ISDIR.into()),
            (Target::Dir(_), Some(Target::File(_))) => return Err(Errno::NOTDIR.into()),
            (Target::Dir(_), Some(Target::Dir(dir))) if self.dirs[dir].current.is_empty() => None,
            (Target::Dir(_), Some(Target::Dir(_))) => return Err(Errno::NOTEMPTY.into()),
        };
        let (set, clear) = ((new, Some(target)), (old, None));
        if set.0.dir == clear.0.dir {
            self.record(seq, vec![set, clear], false);
        } else {
            self.record(seq, vec![set], false);
            self.record(seq, vec![clear], true);
        }
        Ok(replaced)
    }

    /// Makes certain the facts of a directory up to `seq`, and what they depend on.
    pub(super) fn sync(&mut self, path: &Path, seq: u64) -> io::Result<()> {
        let dir = self.directory(path)?;
        for at in (0..self.facts.len()).rev() {
            let (earlier, later) = self.facts.split_at_mut(at + 1);
            let Some(fact) = earlier.last_mut() else { break };
            let synced = fact.seq <= seq && fact.edits.iter().any(|(place, _)| place.dir == dir);
            fact.certain |= synced || later.iter().any(|other| other.certain && other.needs(fact));
        }
        for fact in self.facts.extract_if(.., |fact| fact.certain) {
            store(&mut self.dirs, &fact);
        }
        Ok(())
    }

    /// A failed sync: the facts of a directory up to `seq` will never be stored. Returns whether there are
    /// any.
    pub(super) fn doom(&mut self, path: &Path, seq: u64) -> bool {
        let Ok(dir) = self.directory(path) else { return false };
        let before = self.facts.len();
        let doomed = |fact: &Fact| fact.seq <= seq && fact.edits.iter().any(|(place, _)| place.dir == dir);
        let renames: BTreeSet<u64> =
            self.facts.iter().filter(|fact| doomed(fact)).map(|fact| fact.seq).collect();
        // The second half of a rename goes with the first: a file never loses both its names.
        self.facts.retain(|fact| !(doomed(fact) || fact.follows && renames.contains(&fact.seq)));
        self.facts.len() < before
    }

    /// A power cut: `judge` says which facts survive.
    pub(super) fn crash(&mut self, judge: &mut Judge<'_>) {
        let mut lost: Vec<Fact> = Vec::new();
        for fact in std::mem::take(&mut self.facts) {
            let possible = !lost.iter().any(|earlier| fact.needs(earlier));
            if possible && judge.keeps_name(&self.path_of(&fact.edits[0].0)) {
                store(&mut self.dirs, &fact);
            } else {
                lost.push(fact);
            }
        }
        let kept = self.stored_dirs();
        for (key, dir) in self.dirs.iter_mut().enumerate() {
            if !kept.contains(&key) {
                dir.stored.clear();
            }
            dir.current = dir.stored.clone();
        }
    }

    /// The directories whose own names are stored, all the way up.
    fn stored_dirs(&self) -> BTreeSet<DirKey> {
        let mut found = BTreeSet::new();
        let mut next = vec![ROOT];
        while let Some(dir) = next.pop() {
            found.insert(dir);
            next.extend(self.dirs[dir].stored.values().filter_map(|target| match target {
                Target::Dir(dir) => Some(*dir),
                Target::File(_) => None,
            }));
        }
        found
    }

    fn path_of(&self, place: &Place) -> PathBuf {
        let mut path = PathBuf::from(&place.name);
        let mut dir = place.dir;
        while dir != ROOT {
            let above = self.dirs.iter().enumerate().find_map(|(key, above)| {
                let (name, _) = above.current.iter().find(|(_, target)| **target == Target::Dir(dir))?;
                Some((key, name))
            });
            let Some((key, name)) = above else { break };
            path = Path::new(name).join(path);
            dir = key;
        }
        path
    }

    /// Every file with its path, in path order.
    pub(super) fn walk(&self) -> Vec<(PathBuf, FileKey)> {
        let mut files = Vec::new();
        let mut dirs = vec![(PathBuf::new(), ROOT)];
        while let Some((path, dir)) = dirs.pop() {
            for (name, target) in &self.dirs[dir].current {
                match target {
                    Target::File(file) => files.push((path.join(name), *file)),
                    Target::Dir(dir) => dirs.push((path.join(name), *dir)),
                }
            }
        }
        files.sort();
        files
    }

    /// Every file that has a name, or may have one after a power cut.
    pub(super) fn reachable(&self) -> BTreeSet<FileKey> {
        let named = self.dirs.iter().flat_map(|dir| dir.current.values().chain(dir.stored.values()));
        let pending =
            self.facts.iter().flat_map(|fact| &fact.edits).filter_map(|(_, target)| target.as_ref());
        let file = |target: &Target| match target {
            Target::File(file) => Some(*file),
            Target::Dir(_) => None,
        };
        named.chain(pending).filter_map(file).collect()
    }

    /// Sets or clears a name for certain, behind everybody's back.
    pub(super) fn force(&mut self, path: &Path, file: Option<FileKey>) -> io::Result<()> {
        let place = self.place(path)?;
        self.facts.retain(|fact| fact.edits.iter().all(|(edited, _)| *edited != place));
        let dir = &mut self.dirs[place.dir];
        set(&mut dir.current, &place.name, file.map(Target::File));
        set(&mut dir.stored, &place.name, file.map(Target::File));
        Ok(())
    }
}

fn set(names: &mut BTreeMap<String, Target>, name: &str, target: Option<Target>) {
    match target {
        Some(target) => names.insert(name.to_owned(), target),
        None => names.remove(name),
    };
}

fn store(dirs: &mut [Dir], fact: &Fact) {
    for (place, target) in &fact.edits {
        set(&mut dirs[place.dir].stored, &place.name, *target);
    }
}
