//! One file: what is stored, and what a power cut may still take away.

use std::collections::VecDeque;
use std::path::Path;

use crate::backend::BLOCK;

use super::crash::Judge;
use super::pages::{Pages, Written};

/// A file's key. Never used again on the same disk.
pub(super) type FileKey = u64;

/// What happened to a file, in order of completion.
#[derive(Clone, Debug)]
enum Change {
    /// Pages from page `first` on.
    Write { first: u64, pages: Vec<Written> },
    /// The file is at least `len` bytes long.
    Grow { len: u64 },
    /// The file is exactly `len` bytes long; what was beyond reads as zeros from now on.
    Truncate { len: u64 },
}

/// A change that is not folded into what is stored.
#[derive(Clone, Debug)]
struct Pending {
    /// When it completed, in the disk's count of changes.
    seq: u64,
    /// Whether it survives a power cut. It waits only for an earlier change that may not.
    certain: bool,
    change: Change,
}

/// A file's content as it reads now, as it is stored for certain, and the changes between them.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    len: u64,
    current: Pages,
    stored_len: u64,
    stored: Pages,
    pending: VecDeque<Pending>,
    /// Names that lead here in the current view.
    pub(super) links: u32,
    /// Open handles.
    pub(super) opens: u32,
}

impl File {
    /// An empty file with one name.
    pub(super) fn named() -> File {
        File { links: 1, ..File::default() }
    }

    /// A copy that nobody has open.
    pub(super) fn unopened(&self) -> File {
        File { opens: 0, ..self.clone() }
    }

    /// Length in bytes, in the current view.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes the file takes of the disk's capacity.
    pub(super) fn charged(&self) -> u64 {
        if self.links == 0 && self.opens == 0 { 0 } else { self.len.next_multiple_of(BLOCK as u64) }
    }

    /// Fills `out` with the current content from `position` on, zeros past the end.
    pub(super) fn read(&self, position: u64, out: &mut [u8]) {
        self.current.read(position, out);
    }

    /// The current content.
    pub(super) fn contents(&self) -> Vec<u8> {
        self.current.to_vec(self.len)
    }

    /// What is certain to survive: the content after a power cut that loses all it may.
    pub(super) fn durable(&self) -> Vec<u8> {
        let mut strict = self.clone();
        strict.pending.retain(|pending| pending.certain);
        strict.fold();
        strict.stored.to_vec(strict.stored_len)
    }

    /// Writes `pages` from page `first` on.
    pub(super) fn write(&mut self, seq: u64, first: u64, pages: Vec<Written>, certain: bool) {
        for (index, written) in (first..).zip(&pages) {
            self.current.put(index, written);
        }
        let end = (first + pages.len() as u64) * BLOCK as u64;
        let grows = end > self.len || end > self.stored_len;
        self.len = self.len.max(end);
        self.push(seq, certain, Change::Write { first, pages });
        // A durable write is of no use without the length that reaches it.
        if grows || certain {
            self.push(seq, certain, Change::Grow { len: end });
        }
    }

    /// Makes the file at least `len` bytes long.
    pub(super) fn grow(&mut self, seq: u64, len: u64) {
        if len > self.len {
            self.len = len;
            self.push(seq, false, Change::Grow { len });
        }
    }

    /// Makes the file `len` bytes long.
    pub(super) fn truncate(&mut self, seq: u64, len: u64) {
        self.len = len;
        self.current.cut(len);
        self.push(seq, false, Change::Truncate { len });
    }

    fn push(&mut self, seq: u64, certain: bool, change: Change) {
        self.pending.push_back(Pending { seq, certain, change });
        self.fold();
    }

    /// Makes certain what completed up to `seq`.
    pub(super) fn sync(&mut self, seq: u64) {
        for pending in self.pending.iter_mut().take_while(|pending| pending.seq <= seq) {
            pending.certain = true;
        }
        self.fold();
    }

    /// A failed sync: what completed up to `seq` will never be stored, though it is still read. Returns
    /// whether there is any of that.
    pub(super) fn doom(&mut self, seq: u64) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| pending.certain || pending.seq > seq);
        let lost = self.pending.len() < before;
        self.fold();
        lost
    }

    /// Stores the certain changes that wait for nothing.
    fn fold(&mut self) {
        while self.pending.front().is_some_and(|pending| pending.certain) {
            if let Some(pending) = self.pending.pop_front() {
                self.store(&pending.change);
            }
        }
    }

    fn store(&mut self, change: &Change) {
        match change {
            Change::Write { first, pages } => {
                for (index, written) in (*first..).zip(pages) {
                    self.stored.put(index, written);
                }
            }
            Change::Grow { len } => self.stored_len = self.stored_len.max(*len),
            Change::Truncate { len } => {
                self.stored_len = *len;
                self.stored.cut(*len);
            }
        }
    }

    /// A power cut: `judge` says what is left of each change that is not certain.
    pub(super) fn crash(&mut self, path: &Path, judge: &mut Judge<'_>) {
        for mut pending in std::mem::take(&mut self.pending) {
            let kept = pending.certain
                || match &mut pending.change {
                    Change::Write { first, pages } => {
                        judge.tear(path, *first, pages);
                        true
                    }
                    Change::Grow { len } | Change::Truncate { len } => judge.keeps_length(path, *len),
                };
            if kept {
                self.store(&pending.change);
            }
        }
        self.stored.cut(self.stored_len);
        self.len = self.stored_len;
        self.current = self.stored.clone();
        self.opens = 0;
    }

    /// Changes stored bytes behind everybody's back, in every version of them.
    pub(super) fn patch(&mut self, position: u64, bytes: &[u8]) {
        self.current.patch(position, bytes);
        self.stored.patch(position, bytes);
        for (index, within, range) in super::pages::pieces(position, bytes.len()) {
            for pending in &mut self.pending {
                if let Change::Write { first, pages } = &mut pending.change
                    && let Some(written) =
                        index.checked_sub(*first).and_then(|nth| pages.get_mut(usize::try_from(nth).ok()?))
                {
                    let page = std::rc::Rc::make_mut(&mut written.page);
                    page[within..within + range.len()].copy_from_slice(&bytes[range.clone()]);
                }
            }
        }
    }

    /// Makes the current content, cut or grown to `len`, the stored one.
    pub(super) fn settle(&mut self, len: u64) {
        self.current.cut(len);
        self.len = len;
        self.pending.clear();
        self.stored = self.current.clone();
        self.stored_len = len;
    }
}
