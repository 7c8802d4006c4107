//! What was asked of a log and what it answered, each with its moment: what may be there, and what
//! must be, after a power cut at any moment.

use std::collections::BTreeMap;

use thalweg::{PartitionConfig, Record};
use thalweg_tests::Truth;

/// A point in a run: how much the disk had been asked to change by then.
pub(crate) type Moment = u64;

/// Keys that the records of a compacted partition have.
const KEYS: u64 = 7;

/// A part of an append: records of one partition, with ids in sequence.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) first_id: u64,
    pub(crate) records: Vec<Record>,
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
    pub(crate) config: PartitionConfig,
    pub(crate) created: Asked,
    pub(crate) deleted: Option<Asked>,
    /// The log start offsets asked for.
    pub(crate) trims: Vec<(u64, Asked)>,
}

impl Known {
    /// A partition that was asked for.
    pub(crate) fn new(config: PartitionConfig, asked: Moment) -> Known {
        Known { config, created: Asked { asked, acked: None }, deleted: None, trims: Vec::new() }
    }
}

/// Everything that was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) partitions: BTreeMap<String, Known>,
    pub(crate) sent: Vec<Sent>,
    next_id: u64,
}

impl History {
    /// Begins an append of `count` records of `len` bytes to each of these partitions. Returns its index.
    pub(crate) fn send(&mut self, names: &[&str], count: u64, len: usize, asked: Moment) -> usize {
        let mut parts = Vec::new();
        for name in names {
            let keyed = self.partitions.get(*name).is_some_and(|known| known.config.compact);
            let record = |id: u64| {
                let record = Record::new(value(id, len));
                if keyed { record.with_key(format!("key {}", id % KEYS)) } else { record }
            };
            let first_id = self.next_id;
            self.next_id += count;
            let records = (first_id..self.next_id).map(record).collect();
            parts.push(Part { name: (*name).to_owned(), first_id, records });
        }
        self.sent.push(Sent { parts, asked, acked: None });
        self.sent.len() - 1
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
            parts.map(|(part, base)| base + part.records.len() as u64)
        });
        ends.max().unwrap_or(0)
    }

    /// What is promised of a partition to somebody who loses the power at `cut`.
    ///
    /// # Errors
    /// If an offset was given twice.
    pub(crate) fn truth(&self, name: &str, cut: Moment) -> Result<Truth, String> {
        let known = self.partitions.get(name).ok_or_else(|| format!("{name} was never created"))?;
        let mut truth = Truth::new(known.config);
        for (to, trim) in &known.trims {
            match trim.must(cut) {
                true => truth.log_start = truth.log_start.max(*to),
                false if trim.may(cut) => truth.trims.push(*to),
                false => {}
            }
        }
        for (nth, sent) in self.sent.iter().enumerate().filter(|(_, sent)| sent.asked <= cut) {
            for (index, part) in sent.parts.iter().enumerate().filter(|(_, part)| part.name == name) {
                match &sent.acked {
                    Some((acked, bases)) if *acked <= cut => {
                        truth.acknowledge(bases[index], &part.records)?;
                    }
                    acked => truth.sent.push(thalweg_tests::Sent {
                        records: part.records.clone(),
                        joint: (sent.parts.len() > 1).then_some(nth as u64),
                        at: acked.as_ref().map(|(_, bases)| bases[index]),
                    }),
                }
            }
        }
        Ok(truth)
    }
}

/// A value of at least 12 bytes that says which record it is and how long, and can't be mistaken for another.
fn value(id: u64, len: usize) -> Vec<u8> {
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

/// The id that a value begins with. The rest of it is compared by whoever knows what was sent.
pub(crate) fn id_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
}
