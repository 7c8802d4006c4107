//! What recovery drops or refuses rests on a read, and a read may come from another place or with a
//! wrong bit. Such a place is read again, until two answers are the same, or three of answers that differ.

use std::io;

use thalweg_io::{AlignedBuf, BLOCK, Backend, FileId, Reactor};

/// Answers after which a device without enough equal ones counts as one that can't be read.
pub(crate) const READS_MAX: usize = 8;
/// Equal answers that settle a place if there is no other answer, and if there is one: a device that has
/// misread a place may do so again, and zeros from elsewhere are like other zeros from elsewhere.
const EQUAL_MIN: usize = 2;
const EQUAL_IN_DOUBT_MIN: usize = 3;
/// Bytes of one request.
const REQUEST_BYTES: usize = 1 << 20;

/// Reads again what was `seen` from byte `position` on, a multiple of 4,096, until enough answers are the
/// same. Returns those bytes if they are others than what was seen. Past the end of the file there are zeros.
///
/// # Errors
/// The host's, and one that says what to do if [`READS_MAX`] answers settle nothing.
pub(crate) async fn settle<B: Backend>(
    reactor: &Reactor<B>,
    file: FileId,
    position: u64,
    seen: &[u8],
) -> io::Result<Option<Vec<u8>>> {
    let (mut seen_times, mut others) = (1, Vec::<(Vec<u8>, usize)>::new());
    for _ in 1..READS_MAX {
        let again = read(reactor, file, position, seen.len()).await?;
        if again == seen {
            seen_times += 1;
        } else if let Some((_, times)) = others.iter_mut().find(|(other, _)| *other == again) {
            *times += 1;
        } else {
            others.push((again, 1));
        }
        let least = if others.is_empty() { EQUAL_MIN } else { EQUAL_IN_DOUBT_MIN };
        let settled = others.iter().position(|(_, times)| *times >= least);
        if seen_times < least && settled.is_none() {
            continue;
        }
        if !others.is_empty() {
            tracing::warn!(position, len = seen.len(), "the device misread a place; read again");
        }
        return Ok(settled.map(|at| others.swap_remove(at).0));
    }
    Err(io::Error::other(format!(
        "{READS_MAX} reads of {} B from byte {position} on gave {} answers: the device or the way to it \
         misreads; look at the kernel's log and the device's health, then open again",
        seen.len(),
        others.len() + 1
    )))
}

/// Reads `len` bytes until enough answers are the same.
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
    fn the_answer_is_one_that_came_often_enough() {
        for misread in [0, 1, 2, 5] {
            assert_eq!(settled(misread).unwrap(), [7; BLOCK], "{misread}");
        }
        let error = settled(8).unwrap_err().to_string();
        assert!(error.contains("8 reads of 4096 B from byte 0 on gave 8 answers"), "{error}");
    }

    #[test]
    fn two_wrong_answers_that_are_the_same_are_not_the_answer() {
        let disk = SimDisk::new(7);
        disk.put("f", &[[7; BLOCK], [0; BLOCK], [0; BLOCK]].concat());
        // The first and the third read come from other places, which hold zeros.
        for skip in [0, 1] {
            disk.plan(FaultRule::new(OpKind::Read, Effect::Misdirect).skip(skip));
        }
        let reactor = Reactor::new(disk.backend());
        reactor.block_on(async {
            let (file, _) = reactor.open("f", OpenMode::Read).await.unwrap();
            assert_eq!(read_settled(&reactor, file, 0, BLOCK).await.unwrap(), [7; BLOCK]);
        });
        assert_eq!(disk.faults_fired(), 2);
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
