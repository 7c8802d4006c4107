//! What was asked of a log and what it answered, each with its moment: what may be there, and what
//! must be, after a power cut at any moment.

use std::collections::BTreeMap;

/// A point in a run: how much the disk had been asked to change by then.
pub(crate) type Moment = u64;

/// A part of an append: records of one partition, with ids in sequence.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) first_id: u64,
    pub(crate) count: u64,
}

/// One append, or one joint append of several parts.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) parts: Vec<Part>,
    pub(crate) asked: Moment,
    /// When it was acknowledged, and the first offset of each part.
    pub(crate) acked: Option<(Moment, Vec<u64>)>,
}

/// A change of the catalog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) asked: Moment,
    pub(crate) acked: Option<Moment>,
}

impl Asked {
    /// Whether it may have happened by `cut`.
    pub(crate) fn may(&self, cut: Moment) -> bool {
        self.asked <= cut
    }

    /// Whether it must have happened by `cut`.
    pub(crate) fn must(&self, cut: Moment) -> bool {
        self.acked.is_some_and(|acked| acked <= cut)
    }
}

/// What is known of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) created: Asked,
    pub(crate) deleted: Option<Asked>,
    /// The log start offsets asked for.
    pub(crate) trims: Vec<(u64, Asked)>,
}

/// Everything that was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) partitions: BTreeMap<String, Known>,
    pub(crate) sent: Vec<Sent>,
    /// Which append a record belongs to, and which part of it: by the part's first id.
    parts: BTreeMap<u64, (usize, usize)>,
    next_id: u64,
}

impl History {
    /// Begins an append of so many records to each of these partitions. Returns its index.
    pub(crate) fn send(&mut self, names: &[(&str, u64)], asked: Moment) -> usize {
        let index = self.sent.len();
        let mut parts = Vec::new();
        for (name, count) in names {
            self.parts.insert(self.next_id, (index, parts.len()));
            parts.push(Part { name: (*name).to_owned(), first_id: self.next_id, count: *count });
            self.next_id += count;
        }
        self.sent.push(Sent { parts, asked, acked: None });
        index
    }

    /// The append and the part of it that a record belongs to, and which record of the part it is.
    pub(crate) fn of(&self, id: u64) -> Option<(&Sent, usize, u64)> {
        let (first, (sent, part)) = self.parts.range(..=id).next_back()?;
        let sent = &self.sent[*sent];
        (id - first < sent.parts[*part].count).then_some((sent, *part, id - first))
    }

    /// Appends acknowledged by `cut`.
    pub(crate) fn acked(&self, cut: Moment) -> impl Iterator<Item = (&Sent, &Vec<u64>)> {
        let by = move |sent: &'_ Sent| sent.acked.as_ref().is_some_and(|(at, _)| *at <= cut);
        self.sent.iter().filter(move |sent| by(sent)).filter_map(|sent| Some((sent, &sent.acked.as_ref()?.1)))
    }

    /// The offset after the last acknowledged record of a partition.
    pub(crate) fn acked_end(&self, name: &str) -> u64 {
        let ends = self.acked(Moment::MAX).flat_map(|(sent, bases)| {
            let parts = sent.parts.iter().zip(bases).filter(|(part, _)| part.name == name);
            parts.map(|(part, base)| base + part.count)
        });
        ends.max().unwrap_or(0)
    }
}

/// A value of at least 12 bytes that says which record it is and how long, and can't be mistaken for another.
pub(crate) fn value(id: u64, len: usize) -> Vec<u8> {
    let len = len.max(12);
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend_from_slice(&(len as u32).to_le_bytes());
    let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The id of a value, if it is one.
pub(crate) fn id_of(bytes: &[u8]) -> Option<u64> {
    let id = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (bytes == value(id, bytes.len())).then_some(id)
}
