//! Background reads and writes of any length, in requests of the size the governor allows.

use std::io;

use thalweg_io::{AlignedBuf, Backend, Durability, FileId};

use crate::governor::{Governor, REQUEST_BYTES_MAX, Work};

impl<B: Backend> Governor<B> {
    /// Fills `buf` from `position` in `file`.
    ///
    /// # Errors
    /// The byte, and what the host said there; [`io::ErrorKind::UnexpectedEof`] if the file ends.
    pub(crate) async fn read(
        &self,
        work: Work,
        file: FileId,
        position: u64,
        buf: AlignedBuf,
    ) -> Result<AlignedBuf, (u64, io::Error)> {
        let total = buf.len();
        let permit = self.permit(work, total).await;
        if permit.bytes() == total {
            let read = self.reactor().read(file, position, buf).await;
            return whole(position, read);
        }
        drop(permit);
        let (mut buf, mut at) = (buf, 0);
        let mut piece = AlignedBuf::zeroed(REQUEST_BYTES_MAX.min(total));
        while at < total {
            let permit = self.permit(work, total - at).await;
            let here = position + at as u64;
            piece.set_len(permit.bytes().min(total - at));
            piece = whole(here, self.reactor().read(file, here, piece).await)?;
            drop(permit);
            buf[at..at + piece.len()].copy_from_slice(&piece);
            at += piece.len();
        }
        Ok(buf)
    }

    /// Writes `bytes` at `position` in `file`, padded with zeros to a whole block. They may be lost
    /// until the file is synced.
    ///
    /// # Errors
    /// The host's.
    pub(crate) async fn write(
        &self,
        work: Work,
        file: FileId,
        position: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let permit = self.permit(work, bytes.len() - at).await;
            let piece = &bytes[at..at + permit.bytes()];
            let buf = AlignedBuf::padded(piece);
            self.reactor().write(file, position + at as u64, buf, Durability::Volatile).await.1?;
            at += piece.len();
        }
        Ok(())
    }
}

fn whole(
    position: u64,
    (buf, read): (AlignedBuf, io::Result<usize>),
) -> Result<AlignedBuf, (u64, io::Error)> {
    let read = read.map_err(|error| (position, error))?;
    if read < buf.len() {
        let reason = format!("the file ends after {read} of {} B", buf.len());
        return Err((position, io::Error::new(io::ErrorKind::UnexpectedEof, reason)));
    }
    Ok(buf)
}
