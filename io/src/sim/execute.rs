//! Operations taking effect, at the moment they complete.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::backend::{BLOCK, Buffer, Completion, Durability, Entry, FileId, Op, OpenMode, Reply};
use crate::memory::AlignedBuf;
use crate::planted::{Planted, planted};

use super::client::{ClientKey, Flight, Handle};
use super::crash::tear_in_flight;
use super::fault::Effect;
use super::file::{File, FileKey};
use super::names::Target;
use super::pages::{SECTOR, cut_into_pages};
use super::state::State;
use super::trace::{Event, content_hash};

/// What the trace says of an operation beside its result.
#[derive(Default)]
struct Seen {
    position: u64,
    len: u64,
    content: u64,
}

impl State {
    /// Lets an operation take effect.
    pub(super) fn execute(&mut self, flight: Flight) -> Completion {
        let Flight { client, op, tag, kind, handle, covers, effect } = flight;
        let mut seen = Seen::default();
        let (buffer, result) = match op {
            Op::Read { position, mut buf, .. } => {
                let result = self.read(handle, position, &mut buf, effect, &mut seen);
                (Some(Buffer::Aligned(buf)), result.map(Reply::Read))
            }
            Op::Write { position, buf, durability, .. } => {
                let result = self.write(handle, position, &buf, durability, effect, &mut seen);
                (Some(buf), result.map(|()| Reply::Done))
            }
            Op::Sync { .. } => (None, self.sync(handle, covers, effect).map(|()| Reply::Done)),
            Op::SyncDir { path } => (None, self.sync_dir(&path, covers, effect).map(|()| Reply::Done)),
            op => match effect {
                Some(Effect::Error(errno)) => (None, Err(io::Error::from_raw_os_error(errno))),
                _ => (None, self.change(client, op, handle, &mut seen)),
            },
        };
        self.trace.event(Event {
            at: self.now,
            kind,
            file: handle.map_or(0, |handle| handle.file),
            position: seen.position,
            len: seen.len,
            error: result.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0),
            content: seen.content,
        });
        Completion { tag, buffer, result }
    }

    /// Operations that are neither reads, writes nor syncs.
    fn change(
        &mut self,
        client: ClientKey,
        op: Op,
        handle: Option<Handle>,
        seen: &mut Seen,
    ) -> io::Result<Reply> {
        match op {
            Op::Open { path, mode } => return self.open(client, &path, mode, seen),
            Op::Close { file } => self.close(client, file)?,
            Op::Allocate { len, .. } => self.set_len(writable(handle)?, len, true, seen)?,
            Op::Truncate { len, .. } => self.set_len(writable(handle)?, len, false, seen)?,
            Op::Rename { from, to } => self.rename(&from, &to, seen)?,
            Op::Remove { path } => {
                seen.content = path_hash(&path);
                let seq = self.next_seq();
                let file = self.names.remove(seq, &path)?;
                self.file_mut(file).links -= 1;
            }
            Op::CreateDir { path } => {
                seen.content = path_hash(&path);
                let seq = self.next_seq();
                self.names.create_dir(seq, &path)?;
            }
            Op::List { path } => return self.list(&path, seen),
            Op::Read { .. } | Op::Write { .. } | Op::Sync { .. } | Op::SyncDir { .. } => {
                unreachable!("has a step of its own")
            }
        }
        Ok(Reply::Done)
    }

    fn open(&mut self, client: ClientKey, path: &Path, mode: OpenMode, seen: &mut Seen) -> io::Result<Reply> {
        seen.content = path_hash(path);
        let file = match mode {
            OpenMode::Read | OpenMode::ReadWrite => self.names.file(path)?,
            OpenMode::CreateNew => self.create(path)?,
        };
        let opened = self.file_mut(file);
        let len = opened.len();
        opened.opens += 1;
        let handle = Handle { file, writable: mode != OpenMode::Read };
        let client = self.clients.get_mut(&client).ok_or(Errno::BADF)?;
        Ok(Reply::Opened { file: client.open(handle), len })
    }

    /// Creates an empty file; its name is not durable.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<FileKey> {
        let seq = self.next_seq();
        self.names.create(seq, path, self.next_file)?;
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, File::named());
        Ok(file)
    }

    fn close(&mut self, client: ClientKey, file: FileId) -> io::Result<()> {
        let handle = self.clients.get_mut(&client).and_then(|client| client.close(file));
        let closed = self.file_mut(handle.ok_or(Errno::BADF)?.file);
        closed.opens -= 1;
        if closed.links == 0 {
            self.forget_unreachable();
        }
        Ok(())
    }

    fn set_len(&mut self, file: FileKey, len: u64, only_grow: bool, seen: &mut Seen) -> io::Result<()> {
        seen.len = len;
        self.room_for(file, len)?;
        let seq = self.next_seq();
        if only_grow {
            self.file_mut(file).grow(seq, len);
        } else {
            self.file_mut(file).truncate(seq, len);
        }
        Ok(())
    }

    /// Fails if making `file` `len` bytes long does not fit on the disk.
    fn room_for(&self, file: FileKey, len: u64) -> io::Result<()> {
        let more = len.next_multiple_of(BLOCK as u64).saturating_sub(self.file(file).charged());
        if more > 0 && more > self.free_bytes() { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }

    fn rename(&mut self, from: &Path, to: &Path, seen: &mut Seen) -> io::Result<()> {
        seen.content = path_hash(from) ^ path_hash(to).rotate_left(1);
        let seq = self.next_seq();
        if let Some(replaced) = self.names.rename(seq, from, to)? {
            self.file_mut(replaced).links -= 1;
        }
        Ok(())
    }

    fn list(&mut self, path: &Path, seen: &mut Seen) -> io::Result<Reply> {
        let entry = |(name, target): (&str, Target)| match target {
            Target::File(file) => Entry { name: name.to_owned(), len: self.file(file).len(), is_dir: false },
            Target::Dir(_) => Entry { name: name.to_owned(), len: 0, is_dir: true },
        };
        let entries: Vec<Entry> = self.names.list(path)?.map(entry).collect();
        seen.len = entries.len() as u64;
        seen.content = entries
            .iter()
            .fold(0u64, |hash, entry| hash.rotate_left(7) ^ content_hash(entry.name.as_bytes()) ^ entry.len);
        Ok(Reply::Listed(entries))
    }

    fn read(
        &mut self,
        handle: Option<Handle>,
        position: u64,
        buf: &mut AlignedBuf,
        effect: Option<Effect>,
        seen: &mut Seen,
    ) -> io::Result<usize> {
        let asked = handle.ok_or(Errno::BADF)?.file;
        aligned(position, buf)?;
        if let Some(Effect::Error(errno)) = effect {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let available = self.file(asked).len().saturating_sub(position);
        let mut len = usize::try_from(available).unwrap_or(usize::MAX).min(buf.len());
        let (file, from) = self.redirected(asked, position, effect.as_ref());
        self.file(file).read(from, &mut buf[..len]);
        self.mix_in_flight(file, from, &mut buf[..len]);
        match effect {
            Some(Effect::FlipBit) if len > 0 => flip_bit(&mut buf[..len], self.fault_random.draw()),
            Some(Effect::Short) if len > 0 => len = self.fault_random.below(len as u64) as usize,
            _ => {}
        }
        *seen = Seen { position, len: len as u64, content: content_hash(&buf[..len]) };
        Ok(len)
    }

    /// Overlays a read with what writes in flight may have stored already, sector by sector.
    fn mix_in_flight(&mut self, file: FileKey, position: u64, out: &mut [u8]) {
        let random = &mut self.read_random;
        let flights = self.clients.values().flat_map(|client| client.flights.values());
        for (_, start, bytes) in flights.filter_map(Flight::written).filter(|(to, ..)| *to == file) {
            for (nth, sector) in bytes.chunks(SECTOR).enumerate() {
                let at = start + (nth * SECTOR) as u64;
                let Some(into) = at.checked_sub(position).and_then(|at| usize::try_from(at).ok()) else {
                    continue;
                };
                if into < out.len() && random.chance(0.5) {
                    let len = sector.len().min(out.len() - into);
                    out[into..into + len].copy_from_slice(&sector[..len]);
                }
            }
        }
    }

    fn write(
        &mut self,
        handle: Option<Handle>,
        position: u64,
        buf: &Buffer,
        durability: Durability,
        effect: Option<Effect>,
        seen: &mut Seen,
    ) -> io::Result<()> {
        let bytes = buf.as_slice();
        *seen = Seen { position, len: bytes.len() as u64, content: content_hash(bytes) };
        let file = writable(handle)?;
        aligned(position, bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = position.checked_add(bytes.len() as u64).ok_or(Errno::FBIG)?;
        self.room_for(file, end)?;
        let mut pages = cut_into_pages(bytes);
        let (file, position) = self.redirected(file, position, effect.as_ref());
        let first = position / BLOCK as u64;
        let mut certain = durability == Durability::Durable;
        let mut failure = None;
        match effect {
            Some(Effect::Drop) => return Ok(()),
            Some(Effect::Lie) => certain = false,
            Some(Effect::FlipBit) => {
                let bit = self.fault_random.draw();
                let nth = (bit >> 32) as usize % pages.len();
                flip_bit(&mut std::rc::Rc::make_mut(&mut pages[nth].page)[..], bit);
            }
            Some(Effect::Error(errno)) => {
                tear_in_flight(&mut self.fault_random, &mut pages);
                failure = Some(io::Error::from_raw_os_error(errno));
            }
            Some(Effect::Short) => {
                let kept = self.fault_random.below((bytes.len() / SECTOR) as u64) as usize;
                pages.truncate(kept.div_ceil(8));
                if let Some(last) = pages.last_mut().filter(|_| !kept.is_multiple_of(8)) {
                    last.sectors = (1 << (kept % 8)) - 1;
                }
                failure = (!planted(Planted::ShortWriteIgnored)).then(|| Errno::IO.into());
            }
            Some(Effect::Delay(_) | Effect::Misdirect | Effect::MisdirectTo(_)) | None => {}
        }
        if !pages.is_empty() {
            let seq = self.next_seq();
            self.file_mut(file).write(seq, first, pages, certain && failure.is_none());
        }
        failure.map_or(Ok(()), Err)
    }

    /// Where a read or write really goes.
    fn redirected(&mut self, file: FileKey, position: u64, effect: Option<&Effect>) -> (FileKey, u64) {
        match effect {
            Some(Effect::Misdirect) => {
                let blocks = self.file(file).len().div_ceil(BLOCK as u64).max(2);
                let from = position / BLOCK as u64 % blocks;
                let block = (from + 1 + self.fault_random.below(blocks - 1)) % blocks;
                (file, block * BLOCK as u64)
            }
            Some(Effect::MisdirectTo(path)) => (self.names.file(path).unwrap_or(file), position),
            _ => (file, position),
        }
    }

    fn sync(&mut self, handle: Option<Handle>, covers: u64, effect: Option<Effect>) -> io::Result<()> {
        let file = self.file_mut(handle.ok_or(Errno::BADF)?.file);
        match effect {
            Some(Effect::Lie) => {}
            Some(Effect::Error(errno)) => {
                self.syncs_lost += u64::from(file.doom(covers));
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => file.sync(covers),
        }
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path, covers: u64, effect: Option<Effect>) -> io::Result<()> {
        match effect {
            Some(Effect::Lie) => self.names.list(path).map(drop),
            Some(Effect::Error(errno)) => {
                self.syncs_lost += u64::from(self.names.doom(path, covers));
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => {
                self.names.sync(path, covers)?;
                self.forget_unreachable();
                Ok(())
            }
        }
    }
}

/// The file of a handle that may be written to.
fn writable(handle: Option<Handle>) -> io::Result<FileKey> {
    match handle {
        Some(handle) if handle.writable => Ok(handle.file),
        _ => Err(Errno::BADF.into()),
    }
}

/// What direct I/O asks of positions and memory.
fn aligned(position: u64, bytes: &[u8]) -> io::Result<()> {
    let whole = position.is_multiple_of(BLOCK as u64) && bytes.len().is_multiple_of(BLOCK);
    let address = bytes.is_empty() || (bytes.as_ptr() as usize).is_multiple_of(BLOCK);
    if whole && address { Ok(()) } else { Err(Errno::INVAL.into()) }
}

fn flip_bit(bytes: &mut [u8], bit: u64) {
    let bit = bit as usize % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

fn path_hash(path: &Path) -> u64 {
    content_hash(path.as_os_str().as_encoded_bytes())
}
