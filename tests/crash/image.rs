//! What a power cut leaves of a block device: its writes since the last flush, kept, lost or torn.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use thalweg_io::BLOCK;
use thalweg_io::sim::{SECTOR, SimRandom};

use crate::journal::{Change, Entry};

/// The bytes of a block.
pub(crate) type Block = Arc<[u8]>;

/// A block device at one moment of its journal.
#[derive(Clone, Default)]
pub(crate) struct Image {
    /// Flushed, by number; what is not there is zeros.
    flushed: BTreeMap<u64, Block>,
    /// Written since, in order.
    pending: Vec<(u64, Block)>,
    /// All of it, as the file system sees it.
    now: BTreeMap<u64, Block>,
}

/// What a power cut does to what is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    Nothing,
    All,
    /// Each write by this seed: whole, not at all, or some sectors of it. So any of them may be
    /// there without those before it.
    Some(u64),
}

impl Image {
    /// A device with these bytes on it.
    pub(crate) fn new(bytes: &[u8]) -> Image {
        let blocks = (0..).zip(bytes.chunks_exact(BLOCK));
        let used = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        let flushed: BTreeMap<_, Block> = used.map(|(at, block)| (at, Arc::from(block))).collect();
        Image { now: flushed.clone(), flushed, pending: Vec::new() }
    }

    /// Lets one request happen.
    pub(crate) fn step(&mut self, entry: &Entry) {
        match &entry.change {
            Change::Write { position, bytes, .. } => {
                let written: Vec<_> = blocks(*position, bytes).map(|(at, it)| (at, Arc::from(it))).collect();
                self.now.extend(written.iter().cloned());
                self.pending.extend(written);
            }
            Change::Sync { .. } => self.flushed.extend(self.pending.drain(..)),
            _ => {}
        }
    }

    /// Whether a request leaves other bytes than there are.
    pub(crate) fn changes(&self, entry: &Entry) -> bool {
        let Change::Write { position, bytes, .. } = &entry.change else { return false };
        blocks(*position, bytes).any(|(at, block)| match self.now.get(&at) {
            Some(now) => **now != *block,
            None => block.iter().any(|byte| *byte != 0),
        })
    }

    /// The blocks that are left, and those that a request in flight may have left.
    pub(crate) fn cut(&self, in_flight: Option<&Entry>, survival: Survival) -> BTreeMap<u64, Block> {
        let mut last = Image::default();
        if let Some(entry) = in_flight {
            last.step(entry);
        }
        let mut left = match survival {
            Survival::All => self.now.clone(),
            Survival::Nothing | Survival::Some(_) => self.flushed.clone(),
        };
        match survival {
            Survival::Nothing => {}
            Survival::All => left.extend(last.pending),
            Survival::Some(seed) => {
                let pending = self.pending.iter().chain(&last.pending);
                let mut random = SimRandom::new(seed, "image");
                let (keep, tear) = (random.unit(), random.unit() * 0.5);
                for (at, block) in pending {
                    if random.chance(tear) {
                        let before = left.get(at).cloned().unwrap_or_else(|| Arc::from([0; BLOCK]));
                        left.insert(*at, torn(&before, block, random.draw()));
                    } else if random.chance(keep) {
                        left.insert(*at, block.clone());
                    }
                }
            }
        }
        left
    }
}

/// The blocks of a write, by number.
fn blocks(position: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    (position / BLOCK as u64..).zip(bytes.chunks_exact(BLOCK))
}

/// Some sectors of a block, over what was there before.
fn torn(before: &[u8], after: &[u8], kept: u64) -> Block {
    let mut block = before.to_vec();
    for sector in (0..BLOCK / SECTOR).filter(|sector| kept & (1 << sector) != 0) {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        block[range.clone()].copy_from_slice(&after[range]);
    }
    Arc::from(block)
}

/// Makes `file` a device with these blocks.
///
/// # Errors
/// The host's.
pub(crate) fn store(file: &File, blocks: &BTreeMap<u64, Block>, len: u64) -> io::Result<()> {
    file.set_len(0)?;
    file.set_len(len)?;
    for (at, block) in blocks {
        file.write_all_at(block, at * BLOCK as u64)?;
    }
    Ok(())
}
