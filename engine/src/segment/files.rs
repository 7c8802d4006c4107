//! Segment files kept open, at most `read.open_files_max` of them.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use thalweg_io::{Backend, FileId, Op, OpenMode, Reactor};

use crate::ids::FileNumber;
use crate::segment::footer::Trailer;
use crate::segment::read::{ReadError, read_trailer};

/// An open segment; closed when nobody uses it and others are wanted more.
pub(crate) struct OpenSegment<B: Backend> {
    reactor: Reactor<B>,
    id: FileId,
    len: u64,
    trailer: Trailer,
    used: Cell<u64>,
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

    async fn open_file(&self, path: PathBuf) -> Result<OpenSegment<B>, ReadError> {
        let (id, len) = self.reactor.open(path, OpenMode::Read).await.map_err(|e| ReadError::new(0, e))?;
        let trailer = match read_trailer(&self.reactor, id, len).await {
            Ok(trailer) => trailer,
            Err(error) => {
                let _ = self.reactor.run(Op::Close { file: id }).await;
                return Err(error);
            }
        };
        let used = Cell::new(self.clock.get());
        Ok(OpenSegment { reactor: self.reactor.clone(), id, len, trailer, used })
    }

    fn make_room(&self) {
        let mut open = self.open.borrow_mut();
        while open.len() >= self.open_max {
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
