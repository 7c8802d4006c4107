//! Finding whole batches in damaged files.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::ids::{Offset, PartitionId};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind, check_batch};
use crate::wal::control::Control;
use crate::wal::group::{GROUP_HEADER_BYTES, GroupHeader};
use thalweg_io::BLOCK;

/// Batches found whole, by partition and offset.
#[derive(Default)]
pub(super) struct Pool {
    batches: BTreeMap<PartitionId, BTreeMap<Offset, Saved>>,
}

/// A whole batch, and the bytes it is in.
#[derive(Clone)]
pub(super) struct Saved {
    pub header: BatchHeader,
    bytes: Rc<[u8]>,
    at: usize,
}

impl Saved {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.at..self.at + self.header.len as usize]
    }
}

impl Pool {
    fn add(&mut self, header: BatchHeader, bytes: &Rc<[u8]>, at: usize) {
        if header.kind == BatchKind::Control {
            return;
        }
        let saved = Saved { header, bytes: bytes.clone(), at };
        self.batches.entry(header.partition).or_default().entry(header.base_offset).or_insert(saved);
    }

    /// Batches of a partition that start in `[from, end)`, in order, none over another.
    pub(super) fn between(&self, partition: PartitionId, from: Offset, end: Offset) -> Vec<Saved> {
        let Some(batches) = self.batches.get(&partition) else { return Vec::new() };
        let mut next = from;
        let mut found = Vec::new();
        for saved in batches.range(from..end).map(|(_, saved)| saved) {
            if saved.header.base_offset >= next && saved.header.end_offset() <= end {
                next = saved.header.end_offset();
                found.push(saved.clone());
            }
        }
        found
    }

    /// The offset after the last batch of each partition.
    pub(super) fn ends(&self) -> BTreeMap<PartitionId, Offset> {
        let last = self.batches.iter().filter_map(|(id, batches)| {
            batches.last_key_value().map(|(_, saved)| (*id, saved.header.end_offset()))
        });
        last.collect()
    }

    /// Looks for batches anywhere in the bytes of a segment.
    pub(super) fn search_segment(&mut self, bytes: Vec<u8>) {
        let bytes: Rc<[u8]> = bytes.into();
        let mut at = 0;
        while at + BATCH_HEADER_BYTES <= bytes.len() {
            match check_batch(&bytes[at..]) {
                Ok(header) => {
                    self.add(header, &bytes, at);
                    at += header.stride();
                }
                Err(_) => at += 8,
            }
        }
    }

    /// Looks for groups of one life of a WAL file. Batches count up to the first broken one of a
    /// group: what follows may be of an earlier life. Returns changes of the catalog, with the
    /// number of their group.
    pub(super) fn search_wal(&mut self, bytes: Vec<u8>, salt: u64) -> Vec<(u64, Control)> {
        let bytes: Rc<[u8]> = bytes.into();
        let mut controls = Vec::new();
        for start in (BLOCK..bytes.len().saturating_sub(BLOCK - 1)).step_by(BLOCK) {
            let Ok(group) = GroupHeader::read(&bytes[start..start + BLOCK]) else { continue };
            if group.salt != salt || group.position != start as u64 {
                continue;
            }
            let end = (start + group.len as usize).min(bytes.len());
            let mut at = start + GROUP_HEADER_BYTES;
            for _ in 0..group.batch_count {
                let Ok(header) = check_batch(&bytes[at.min(end)..end]) else { break };
                if header.kind == BatchKind::Control
                    && let Ok(control) = Control::decode(&header, &bytes[at..at + header.len as usize])
                {
                    controls.push((group.number.0, control));
                }
                self.add(header, &bytes, at);
                at += header.stride();
            }
        }
        controls
    }
}
