//! Which life a WAL file is in: spare, in use, or in use with its header lost.

use std::io;
use std::path::Path;

use thalweg_io::{BLOCK, Backend, FileId, Reactor};

use crate::ids::{FileNumber, GroupNumber, ShardId, WalSequence};
use crate::planted::{Planted, planted};
use crate::reread::read_settled;
use crate::segment::{TRAILER_BYTES, Trailer};
use crate::shard::core::file_number;
use crate::wal::file_header::FileHeader;
use crate::wal::group::GroupHeader;
use crate::wal::sweep::{FileBytes, Piece, Sweep};

/// Which WAL to read.
#[derive(Clone, Copy, Debug)]
pub struct WalIdentity {
    /// The shard.
    pub shard: ShardId,
    /// Identity of the data directory.
    pub directory: u128,
    /// Length of a WAL file.
    pub file_bytes: u64,
    /// The first WAL file that is still needed.
    pub floor: WalSequence,
    /// The first group of that file.
    pub floor_group: GroupNumber,
}

impl WalIdentity {
    /// Whether files with this sequence still count, and positions in them are numbers.
    fn takes(&self, sequence: WalSequence) -> bool {
        let beyond = sequence.0.checked_add(1 << 32).and_then(|end| end.checked_mul(self.file_bytes));
        sequence >= self.floor && beyond.is_some()
    }
}

/// A WAL file as found.
#[derive(Clone, Debug)]
pub struct FoundFile {
    /// The file.
    pub number: FileNumber,
    /// As opened.
    pub id: FileId,
    /// Its length.
    pub len: u64,
    /// What it is.
    pub life: Life,
    /// Where a segment's footer starts, if the file ends with one: it was being promoted.
    pub footer: Option<u64>,
    /// Why what the file holds may not be all it held: it is shorter than it was made, or one without a
    /// header can't be read.
    pub flaw: Option<String>,
}

/// The present life of a WAL file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// Zeros, or a life that was sealed: free for use.
    Spare,
    /// In use.
    Live(FileHeader),
    /// Its header is damaged or was never written, and a group says which life it is: header
    /// rebuilt from there.
    Headless(FileHeader),
}

impl Life {
    pub(super) fn header(&self) -> Option<&FileHeader> {
        match self {
            Life::Spare => None,
            Life::Live(header) | Life::Headless(header) => Some(header),
        }
    }
}

/// Files in `dir` with the name of a shard's file that `known` does not have.
///
/// # Errors
/// The host's.
pub async fn strays<B: Backend>(
    reactor: &Reactor<B>,
    dir: &Path,
    known: impl Fn(FileNumber) -> bool,
) -> io::Result<Vec<FileNumber>> {
    let entries = reactor.list(dir).await?;
    Ok(entries.iter().filter_map(|entry| file_number(&entry.name)).filter(|file| !known(*file)).collect())
}

/// The life of a file, and for one without a header why it may be more than that.
pub(super) async fn read_life<B: Backend>(
    reactor: &Reactor<B>,
    id: FileId,
    len: u64,
    identity: &WalIdentity,
) -> (Life, Option<String>) {
    // The file counts by its header, or does not: it is read twice.
    let read = read_settled(reactor, id, 0, BLOCK.min(len as usize)).await;
    let mut flaw = read.as_ref().err().map(|error| format!("byte 0: {error}"));
    if let Ok(bytes) = read
        && let Ok(header) = FileHeader::read(&bytes)
        && header.shard == identity.shard
        && header.directory == identity.directory
        && header.file_bytes == identity.file_bytes
        && identity.takes(header.sequence)
    {
        return (Life::Live(header), None);
    }
    // No header of a life that counts. If groups of one are there all the same, it got lost: the
    // groups behind the first were written when it was durable.
    let mut sweep = Sweep::new(reactor, id, BLOCK as u64, len);
    while let Some(Piece { at, buf, read }) = sweep.next().await {
        let read = read.unwrap_or_else(|error| {
            flaw.get_or_insert_with(|| format!("byte {at}: {error}"));
            0
        });
        for (index, block) in buf[..read].chunks_exact(BLOCK).enumerate() {
            if let Some(header) = headless(block, at + (index * BLOCK) as u64, identity) {
                sweep.stop().await;
                return (Life::Headless(header), flaw);
            }
        }
        sweep.give_back(buf).await;
    }
    (Life::Spare, flaw)
}

/// Rebuilds a file's header from a group, which carries the salt itself.
fn headless(block: &[u8], position: u64, identity: &WalIdentity) -> Option<FileHeader> {
    let group = GroupHeader::read(block).ok()?;
    let ours = group.position == position
        && group.shard == identity.shard
        && group.directory == identity.directory as u64
        && identity.takes(group.sequence);
    (ours && !planted(Planted::LostHeaderIsSpare)).then_some(FileHeader {
        shard: identity.shard,
        sequence: group.sequence,
        salt: group.salt,
        first_group: group.number,
        previous: group.previous,
        directory: identity.directory,
        started_ms: group.written_ms,
        file_bytes: identity.file_bytes,
    })
}

/// Where the footer starts of a file that ends as a segment.
pub(super) async fn read_footer_position<B: Backend>(
    reactor: &Reactor<B>,
    id: FileId,
    len: u64,
    number: FileNumber,
    identity: &WalIdentity,
) -> Option<u64> {
    if len == identity.file_bytes || len < BLOCK as u64 || !len.is_multiple_of(BLOCK as u64) {
        return None;
    }
    let bytes = read_settled(reactor, id, len - BLOCK as u64, BLOCK).await.ok()?;
    let trailer = Trailer::read(&bytes[BLOCK - TRAILER_BYTES..]).ok()?;
    let ours =
        trailer.file == number && trailer.directory == identity.directory && trailer.file_bytes() == len;
    ours.then_some(trailer.footer_position)
}

/// Reads a file. What can't be read is zeros, with the first place and error beside it.
pub(crate) async fn read_file<B: Backend>(
    reactor: &Reactor<B>,
    id: FileId,
    len: u64,
) -> (Vec<u8>, Option<(u64, io::Error)>) {
    FileBytes::new(reactor, id, len).into_all().await
}
