//! Whole batches found in damaged files.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use thalweg_io::BLOCK;

use crate::ids::{Offset, PartitionId};
use crate::inspect::remains::Remains;
use crate::inspect::segments::{Range, entries, walk_entry};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind, check_batch};
use crate::segment::Footer;
use crate::wal::group::{GroupHeader, check_batches};

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

    /// Takes over what another pool has and this one lacks.
    pub(super) fn absorb(&mut self, other: Pool) {
        for (partition, batches) in other.batches {
            let known = self.batches.entry(partition).or_default();
            for (base, saved) in batches {
                known.entry(base).or_insert(saved);
            }
        }
    }

    /// Batches of a partition that start in `[from, end)`, in order, none over another. If `from` is
    /// where its log starts, that may be inside the first of them.
    pub(super) fn between(
        &self,
        partition: PartitionId,
        from: Offset,
        end: Offset,
        log_start: Offset,
    ) -> Vec<Saved> {
        let Some(batches) = self.batches.get(&partition) else { return Vec::new() };
        let mut next = from;
        let mut found: Vec<Saved> = Vec::new();
        if from >= end {
            return found;
        }
        let around = batches.range(..from).next_back().map(|(_, saved)| saved);
        let around = around.filter(|saved| from == log_start && saved.header.end_offset() > from);
        for saved in around.into_iter().chain(batches.range(from..end).map(|(_, saved)| saved)) {
            let starts = saved.header.base_offset >= next || found.is_empty() && next == log_start;
            if starts && saved.header.end_offset() <= end {
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

    /// Partitions with a batch here.
    pub(super) fn partitions(&self) -> BTreeSet<PartitionId> {
        self.batches.keys().copied().collect()
    }

    /// Everything whole in a WAL.
    pub(super) fn add_wal(&mut self, remains: &Remains) {
        for (group, at, header) in remains.groups().flat_map(|group| group.whole()) {
            self.add(*header, &group.bytes, at);
        }
    }

    /// Everything whole that the index of a segment leads to. Returns what its runs cover without what
    /// damaged entries hold.
    pub(super) fn search_entries(&mut self, bytes: Vec<u8>, footer: &Footer) -> Vec<Range> {
        let bytes: Rc<[u8]> = bytes.into();
        let mut accounted = Vec::new();
        for run in &footer.runs {
            let mut next = run.base_offset;
            for entry in entries(footer, run) {
                let start = usize::try_from(entry.position).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(entry.bytes as usize).min(bytes.len());
                let mut whole = |at: usize, header: &BatchHeader| self.add(*header, &bytes, start + at);
                if !walk_entry(&bytes[start..end], run, entry, &mut whole).is_empty() {
                    accounted.push((run.partition, next, entry.base_offset));
                    next = entry.end_offset;
                }
            }
            accounted.push((run.partition, next, run.end_offset));
        }
        accounted
    }

    /// Looks for batches anywhere in the bytes of a segment; returns the bytes they take.
    pub(super) fn search_segment(&mut self, bytes: Vec<u8>) -> u64 {
        let bytes: Rc<[u8]> = bytes.into();
        let (mut at, mut found) = (0, 0);
        while at + BATCH_HEADER_BYTES <= bytes.len() {
            match check_batch(&bytes[at..]) {
                Ok(header) => {
                    self.add(header, &bytes, at);
                    found += header.stride() as u64;
                    at += header.stride();
                }
                Err(_) => at += 8,
            }
        }
        found
    }

    /// Looks for groups in a segment that was a WAL file; returns the bytes that whole ones take.
    pub(super) fn search_promoted(&mut self, bytes: Vec<u8>) -> u64 {
        let bytes: Rc<[u8]> = bytes.into();
        let (mut at, mut found) = (BLOCK, 0);
        let mut salt = None;
        while at + BLOCK <= bytes.len() {
            let group = GroupHeader::read(&bytes[at..]).ok().filter(|group| group.position == at as u64);
            let Some(group) = group.filter(|group| salt.is_none_or(|salt| salt == group.salt)) else {
                at += BLOCK;
                continue;
            };
            salt = Some(group.salt);
            let len = (group.len as usize).next_multiple_of(BLOCK);
            let whole = check_batches(&group, &bytes[at..], |position, batch| {
                self.add(*batch, &bytes, at + position);
            });
            found += if whole.is_ok() { len as u64 } else { 0 };
            at += len;
        }
        found
    }
}
