//! What the ring knows beforehand: open files, so that a request need not look up and count a
//! descriptor, and the tail cache's memory, so that a write need not pin pages.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use io_uring::{Submitter, types};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::backend::{Buffer, FileId};
use crate::memory::Region;

/// Sizes of the file table that are tried; the limit on open files also limits the table.
const SLOTS: [usize; 3] = [1024, 256, 64];
/// Slots at the end of the table for descriptors that the ring only holds.
const HELD_MAX: usize = 8;
/// Most bytes in one registered buffer, by the kernel's limit.
const PIECE_BYTES_MAX: usize = 1 << 30;
/// Registered buffers of one ring.
const PIECES_MAX: u32 = 1024;

/// How a request names its file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Slot(types::Fixed),
    Descriptor(types::Fd),
}

/// The ring's file table: a file's slot is its [`FileId`], as far as the table goes.
pub(super) struct FileTable {
    slots: usize,
    used: Vec<bool>,
    held: usize,
}

impl FileTable {
    /// Registers an empty table, as large as the host allows.
    pub(super) fn register(submitter: &Submitter<'_>) -> FileTable {
        let mut refused = None;
        for slots in SLOTS {
            match submitter.register_files(&vec![-1; slots]) {
                Ok(()) => return FileTable { slots, used: vec![false; slots - HELD_MAX], held: 0 },
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            let limit = limit_words(Resource::Nofile);
            tracing::warn!(
                %error,
                "the ring took no file table: the limit on open files (RLIMIT_NOFILE, `ulimit -n`) is {limit}"
            );
        }
        FileTable { slots: 0, used: Vec::new(), held: 0 }
    }

    /// Slots of the table, 0 if there is none.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Gives a newly opened file its slot, if there is one.
    pub(super) fn add(&mut self, submitter: &Submitter<'_>, file: FileId, fd: BorrowedFd<'_>) {
        if let Some(used) = self.used.get_mut(file.0 as usize) {
            *used = update(submitter, file.0, fd.as_raw_fd()).is_ok();
        }
    }

    /// Empties a file's slot. Requests in flight keep the file open until they end.
    pub(super) fn clear(&mut self, submitter: &Submitter<'_>, file: FileId) {
        let Some(used) = self.used.get_mut(file.0 as usize) else { return };
        if std::mem::take(used)
            && let Err(error) = update(submitter, file.0, -1)
        {
            tracing::warn!(%error, slot = file.0, "a closed file stays in the ring until its slot is used");
        }
    }

    /// The name of an open file in a request.
    pub(super) fn target(&self, file: FileId, fd: BorrowedFd<'_>) -> Target {
        match self.used.get(file.0 as usize) {
            Some(true) => Target::Slot(types::Fixed(file.0)),
            _ => Target::Descriptor(types::Fd(fd.as_raw_fd())),
        }
    }

    /// Makes the ring keep `fd` open until it has ended, with everything in flight in it.
    pub(super) fn hold(&mut self, submitter: &Submitter<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
        if self.slots == 0 || self.held == HELD_MAX {
            let limit = limit_words(Resource::Nofile);
            let what = format!(
                "the ring's table of {} files has no room to hold one more: raise the limit on open files \
                 (RLIMIT_NOFILE, `ulimit -n`), now {limit}, to {} or more",
                self.slots, SLOTS[0]
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let slot = u32::try_from(self.slots - HELD_MAX + self.held).map_err(|_| Errno::INVAL)?;
        update(submitter, slot, fd.as_raw_fd())?;
        self.held += 1;
        Ok(())
    }
}

/// A limit of this process, as people say it.
pub(super) fn limit_words(resource: Resource) -> String {
    getrlimit(resource).current.map_or("unlimited".to_owned(), |limit| limit.to_string())
}

fn update(submitter: &Submitter<'_>, slot: u32, fd: RawFd) -> io::Result<()> {
    match submitter.register_files_update(slot, &[fd])? {
        1 => Ok(()),
        _ => Err(Errno::AGAIN.into()),
    }
}

/// Memory registered with the ring, whole or its first pieces.
struct Registered {
    /// Keeps the addresses from meaning anything else while the ring knows them.
    region: Arc<Region>,
    first: u32,
    pieces: u32,
    piece_bytes: usize,
}

/// The ring's buffer table.
pub(super) struct BufferTable {
    piece_bytes_max: usize,
    regions: Vec<Registered>,
    /// Next free entry, once there is a table.
    next: Option<u32>,
}

impl BufferTable {
    pub(super) fn new() -> BufferTable {
        BufferTable { piece_bytes_max: PIECE_BYTES_MAX, regions: Vec::new(), next: None }
    }

    /// Registers `region` in pieces of whole chunks. What the kernel refuses is written from
    /// unregistered.
    ///
    /// # Errors
    /// The kernel took not all of it. Writes from the rest work, and cost more.
    pub(super) fn register(&mut self, submitter: &Submitter<'_>, region: &Arc<Region>) -> io::Result<()> {
        if self.regions.iter().any(|known| Arc::ptr_eq(&known.region, region)) {
            return Ok(());
        }
        let first = match self.next {
            Some(next) => next,
            None => {
                submitter.register_buffers_sparse(PIECES_MAX)?;
                0
            }
        };
        self.next = Some(first);
        let (base, len) = region.span();
        let chunk = region.chunk_bytes();
        let piece_bytes = self.piece_bytes_max / chunk * chunk;
        if piece_bytes == 0 {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("a chunk of {chunk} B is over 1 GiB"),
            ));
        }
        let mut known = Registered { region: region.clone(), first, pieces: 0, piece_bytes };
        let mut result = Ok(());
        for start in (0..len).step_by(piece_bytes) {
            let at = first + known.pieces;
            let piece = libc::iovec {
                iov_base: base.wrapping_add(start).cast(),
                iov_len: piece_bytes.min(len - start),
            };
            result = match at {
                PIECES_MAX.. => Err(Errno::NOSPC.into()),
                // SAFETY: the piece is inside the region's map, which `known` keeps alive until the
                // ring is gone: the backend drops its ring before this table.
                _ => unsafe { submitter.register_buffers_update(at, &[piece], None) },
            };
            if result.is_err() {
                break;
            }
            known.pieces += 1;
        }
        self.next = Some(first + known.pieces);
        if known.pieces > 0 {
            self.regions.push(known);
        }
        result
    }

    /// The registered buffer that holds all of `buffer`, if there is one.
    pub(super) fn find(&self, buffer: &Buffer) -> Option<u16> {
        let Buffer::View(view) = buffer else { return None };
        let region = view.chunk().region();
        let known = self.regions.iter().find(|known| Arc::ptr_eq(&known.region, region))?;
        // A view is inside one chunk, and a piece is whole chunks.
        let offset = view.as_ptr() as usize - region.span().0 as usize;
        let piece = u32::try_from(offset / known.piece_bytes).ok()?;
        if piece >= known.pieces {
            return None;
        }
        u16::try_from(known.first + piece).ok()
    }

    /// Bytes of memory the ring knows.
    pub(super) fn bytes(&self) -> usize {
        let bytes =
            |known: &Registered| (known.pieces as usize * known.piece_bytes).min(known.region.span().1);
        self.regions.iter().map(bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use io_uring::IoUring;

    use super::*;
    use crate::backend::BLOCK;

    /// The buffers that the chunks of `region` are found in.
    fn found(table: &BufferTable, region: &Arc<Region>) -> Vec<Option<u16>> {
        let mut writers: Vec<_> = (0..region.chunks()).map(|_| region.take().unwrap()).collect();
        let view =
            |writer: &mut crate::ChunkWriter| writer.publish(region.chunk_bytes()).slice(BLOCK..2 * BLOCK);
        let mut views: Vec<_> = writers.iter_mut().map(view).collect();
        views.sort_by_key(|view| view.as_ptr());
        views.into_iter().map(|view| table.find(&Buffer::View(view))).collect()
    }

    #[test]
    fn a_large_region_is_registered_in_pieces_of_whole_chunks() {
        let ring = IoUring::new(4).unwrap();
        let mut table = BufferTable::new();
        table.piece_bytes_max = 5 * BLOCK;
        let (first, second) = (Region::new(2 * BLOCK, 5).unwrap(), Region::new(4 * BLOCK, 2).unwrap());
        table.register(&ring.submitter(), &first).unwrap();
        table.register(&ring.submitter(), &second).unwrap();
        assert_eq!(found(&table, &first), [Some(0), Some(0), Some(1), Some(1), Some(2)]);
        assert_eq!(found(&table, &second), [Some(3), Some(4)]);
        assert_eq!(table.bytes(), 18 * BLOCK);
        assert_eq!(found(&table, &Region::new(2 * BLOCK, 1).unwrap()), [None]);
        assert!(table.register(&ring.submitter(), &Region::new(6 * BLOCK, 1).unwrap()).is_err());
    }

    #[test]
    fn a_full_table_registers_what_it_has_room_for() {
        let ring = IoUring::new(4).unwrap();
        let mut table = BufferTable::new();
        table.piece_bytes_max = 2 * BLOCK;
        let region = Region::new(2 * BLOCK, PIECES_MAX as usize + 3).unwrap();
        assert!(table.register(&ring.submitter(), &region).is_err());
        let found = found(&table, &region);
        assert_eq!(found.iter().filter(|place| place.is_some()).count(), PIECES_MAX as usize);
        assert_eq!(found.last(), Some(&None));
    }
}
