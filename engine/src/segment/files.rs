//! Segment files kept open, at most `read.open_files_max` of them.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use thalweg_io::{Backend, FileId, Op, OpenMode, Reactor};

use crate::ids::FileNumber;
use crate::partitions::RunRef;
use crate::planted::{Planted, planted};
use crate::segment::footer::{IndexEntry, Trailer};
use crate::segment::read::{ReadError, SegmentReader, read_trailer};

/// Index entries kept with open files before all are let go: 40 B each.
const INDEX_ENTRIES_MAX: usize = 100_000;

/// An open segment; closed when nobody uses it and others are wanted more.
pub(crate) struct OpenSegment<B: Backend> {
    reactor: Reactor<B>,
    id: FileId,
    len: u64,
    trailer: Trailer,
    used: Cell<u64>,
    /// The index of the run that was read last, by its first entry.
    index: RefCell<Option<(u32, Rc<[IndexEntry]>)>>,
}

impl<B: Backend> OpenSegment<B> {
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn trailer(&self) -> &Trailer {
        &self.trailer
    }
}

impl<B: Backend> Drop for OpenSegment<B> {
    fn drop(&mut self) {
        // A reactor that is shut down closes everything itself, when its reads have ended.
        if !self.reactor.is_shut_down() {
            drop(self.reactor.start(Op::Close { file: self.id }));
        }
    }
}

/// The open segments of a shard, the least recently used let go first.
pub(crate) struct SegmentFiles<B: Backend> {
    reactor: Reactor<B>,
    open_max: usize,
    open: RefCell<FxHashMap<FileNumber, Rc<OpenSegment<B>>>>,
    /// Being opened, once for each who does.
    opening: RefCell<Vec<FileNumber>>,
    clock: Cell<u64>,
}

impl<B: Backend> SegmentFiles<B> {
    pub(crate) fn new(reactor: Reactor<B>, open_max: usize) -> SegmentFiles<B> {
        SegmentFiles {
            reactor,
            open_max,
            open: RefCell::default(),
            opening: RefCell::default(),
            clock: Cell::new(0),
        }
    }

    /// The segment `number`, opened if it is not open yet.
    pub(crate) async fn open(
        &self,
        path: PathBuf,
        number: FileNumber,
    ) -> Result<Rc<OpenSegment<B>>, ReadError> {
        self.clock.set(self.clock.get() + 1);
        if let Some(open) = self.open.borrow().get(&number) {
            open.used.set(self.clock.get());
            return Ok(open.clone());
        }
        self.make_room();
        self.opening.borrow_mut().push(number);
        let opened = self.open_file(path).await;
        let at = self.opening.borrow().iter().position(|opening| *opening == number);
        // A segment that was forgotten meanwhile may have become another under the same number.
        let is_kept = at.map(|at| self.opening.borrow_mut().swap_remove(at)).is_some();
        let opened = Rc::new(opened?);
        if is_kept {
            // Two fetches may have opened it at once; the one that comes later is used by itself.
            self.open.borrow_mut().entry(number).or_insert_with(|| opened.clone());
        }
        Ok(opened)
    }

    /// The index entries of `run`: read once for as long as the run is read from.
    pub(crate) async fn index(
        &self,
        opened: &OpenSegment<B>,
        reader: &SegmentReader<'_, B>,
        run: &RunRef,
    ) -> Result<Rc<[IndexEntry]>, ReadError> {
        if let Some((first, entries)) = &*opened.index.borrow()
            && (*first, entries.len()) == (run.first_entry, run.entry_count as usize)
        {
            return Ok(entries.clone());
        }
        let entries = reader.entries(&opened.trailer, run.first_entry, run.entry_count).await?;
        let entries: Rc<[IndexEntry]> = entries.into();
        let held = |file: &OpenSegment<B>| file.index.borrow().as_ref().map_or(0, |(_, held)| held.len());
        if self.open.borrow().values().map(|file| held(file)).sum::<usize>() > INDEX_ENTRIES_MAX {
            self.open.borrow().values().for_each(|file| drop(file.index.take()));
        }
        opened.index.replace(Some((run.first_entry, entries.clone())));
        Ok(entries)
    }

    async fn open_file(&self, path: PathBuf) -> Result<OpenSegment<B>, ReadError> {
        let (id, len) = self.reactor.open(path, OpenMode::Read).await.map_err(|e| ReadError::new(0, e))?;
        let trailer = match read_trailer(&self.reactor, id, len).await {
            Ok(trailer) => trailer,
            Err(error) => {
                let _ = self.reactor.run(Op::Close { file: id }).await;
                return Err(error);
            }
        };
        let (used, index) = (Cell::new(self.clock.get()), RefCell::default());
        Ok(OpenSegment { reactor: self.reactor.clone(), id, len, trailer, used, index })
    }

    fn make_room(&self) {
        let mut open = self.open.borrow_mut();
        while open.len() >= self.open_max && !planted(Planted::SegmentsStayOpen) {
            let oldest = open.iter().filter(|(_, file)| Rc::strong_count(file) == 1);
            let Some(number) = oldest.min_by_key(|(_, file)| file.used.get()).map(|(number, _)| *number)
            else {
                break;
            };
            open.remove(&number);
        }
    }

    /// Forgets a segment that is no longer part of the log. Returns whether nobody reads it.
    pub(crate) fn forget(&self, number: FileNumber) -> bool {
        let mut opening = self.opening.borrow_mut();
        let before = opening.len();
        opening.retain(|opening| *opening != number);
        let idle = self.open.borrow_mut().remove(&number).is_none_or(|file| Rc::strong_count(&file) == 1);
        idle && opening.len() == before
    }

    /// Files open at present.
    pub(crate) fn len(&self) -> usize {
        self.open.borrow().len()
    }
}
