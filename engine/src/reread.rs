//! What recovery drops or refuses rests on a read, and a read may come from another place or with a
//! wrong bit. Such a place is read again, until two answers are the same.

use std::io;

use thalweg_io::{AlignedBuf, BLOCK, Backend, FileId, Reactor};

/// Answers that may all differ before the device counts as one that can't be read.
pub(crate) const READS_MAX: usize = 4;
/// Bytes of one request.
const REQUEST_BYTES: usize = 1 << 20;

/// Reads again what was `seen` from byte `position` on, a multiple of 4,096. Returns the bytes that two
/// reads agree on, if they are others than those. Past the end of the file there are zeros.
///
/// # Errors
/// The host's, and one that says what to do if no two of [`READS_MAX`] answers are the same.
pub(crate) async fn settle<B: Backend>(
    reactor: &Reactor<B>,
    file: FileId,
    position: u64,
    seen: &[u8],
) -> io::Result<Option<Vec<u8>>> {
    let mut others: Vec<Vec<u8>> = Vec::new();
    while others.len() + 1 < READS_MAX {
        let again = read(reactor, file, position, seen.len()).await?;
        let is_first = again == seen;
        if is_first || others.contains(&again) {
            if !others.is_empty() {
                tracing::warn!(position, len = seen.len(), "the device misread a place; read again");
            }
            return Ok((!is_first).then_some(again));
        }
        others.push(again);
    }
    Err(io::Error::other(format!(
        "{READS_MAX} reads of {} B from byte {position} on gave {READS_MAX} answers: the device or the way \
         to it misreads; look at the kernel's log and the device's health, then open again",
        seen.len()
    )))
}

/// Reads `len` bytes until two answers are the same.
///
/// # Errors
/// As [`settle`].
pub(crate) async fn read_settled<B: Backend>(
    reactor: &Reactor<B>,
    file: FileId,
    position: u64,
    len: usize,
) -> io::Result<Vec<u8>> {
    let seen = read(reactor, file, position, len).await?;
    Ok(settle(reactor, file, position, &seen).await?.unwrap_or(seen))
}

/// Reads `len` bytes from byte `position` on, a multiple of 4,096; zeros past the end of the file.
///
/// # Errors
/// The host's.
pub(crate) async fn read<B: Backend>(
    reactor: &Reactor<B>,
    file: FileId,
    position: u64,
    len: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let want = (len - bytes.len()).min(REQUEST_BYTES).next_multiple_of(BLOCK);
        let at = position + bytes.len() as u64;
        let (buf, got) = reactor.read(file, at, AlignedBuf::zeroed(want)).await;
        let got = got?;
        let end = bytes.len() + want;
        bytes.extend_from_slice(&buf[..got]);
        bytes.resize(end, 0);
    }
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use thalweg_io::OpenMode;
    use thalweg_io::sim::{Effect, FaultRule, OpKind, SimDisk};

    use super::*;

    /// Reads a block of sevens of which `misread` reads in a row get a bit wrong.
    fn settled(misread: u64) -> io::Result<Vec<u8>> {
        let disk = SimDisk::new(7);
        disk.put("f", &[7; BLOCK]);
        disk.plan(FaultRule::new(OpKind::Read, Effect::FlipBit).times(misread));
        let reactor = Reactor::new(disk.backend());
        reactor.block_on(async {
            let (file, _) = reactor.open("f", OpenMode::Read).await?;
            read_settled(&reactor, file, 0, BLOCK).await
        })
    }

    #[test]
    fn the_answer_is_one_that_came_twice() {
        for misread in [0, 1, 2] {
            assert_eq!(settled(misread).unwrap(), [7; BLOCK], "{misread}");
        }
        let error = settled(4).unwrap_err().to_string();
        assert!(error.contains("4 reads of 4096 B from byte 0 on gave 4 answers"), "{error}");
    }

    #[test]
    fn what_was_seen_counts_as_an_answer() {
        let disk = SimDisk::new(7);
        disk.put("f", &[7; 2 * BLOCK]);
        let reactor = Reactor::new(disk.backend());
        reactor.block_on(async {
            let (file, _) = reactor.open("f", OpenMode::Read).await.unwrap();
            let at = BLOCK as u64;
            assert_eq!(settle(&reactor, file, at, &[7; BLOCK]).await.unwrap(), None);
            assert_eq!(settle(&reactor, file, at, &[0; BLOCK]).await.unwrap(), Some(vec![7; BLOCK]));
            let beyond = [vec![7; BLOCK], vec![0; BLOCK]].concat();
            assert_eq!(settle(&reactor, file, at, &vec![1; 2 * BLOCK]).await.unwrap(), Some(beyond));
        });
    }
}
