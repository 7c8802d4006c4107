//! What the log has promised, over all partitions: the one place that says what must be there, what may
//! be there, and what must not.
//!
//! An append is *acknowledged at offset o* (it must be there), *unknown* (the shard ended first: it may
//! be there, once and whole), or *refused* (it must not be there).

use std::collections::{BTreeMap, BTreeSet};

use thalweg::{AppendError, ControlError, PartitionConfig, Record};
use thalweg_tests::{Sent, Truth};

use crate::copy::Contents;
use crate::promises::{self, keep};

/// What was promised, by partition.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Partitions that are there.
    pub(crate) there: BTreeMap<String, Truth>,
    /// Those that may be there: being made, being deleted, or the shard ended first.
    pub(crate) limbo: BTreeMap<String, Truth>,
    pub(crate) acked: u64,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
    /// Whether the wall clock jumps.
    pub(crate) clock_jumps: bool,
}

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Acked(u64),
    /// In the tail cache at this offset: a crash may lose it.
    Accepted(u64),
    Unknown,
    Refused,
}

/// Whether what was asked for may have happened though it was answered with an error.
pub(crate) fn is_unknown(error: &AppendError) -> bool {
    error.needs_reopen()
}

/// As [`is_unknown`], for a change of the catalog.
pub(crate) fn is_unknown_change(error: &ControlError) -> bool {
    matches!(error, ControlError::Append(error) if is_unknown(error))
}

impl Oracle {
    fn truth(&mut self, name: &str) -> Option<&mut Truth> {
        self.there.get_mut(name).or(self.limbo.get_mut(name))
    }

    pub(crate) fn sent(&mut self, name: &str, records: &[Record], joint: Option<u64>) {
        if let Some(truth) = self.there.get_mut(name) {
            truth.sent.push(Sent { records: records.to_vec(), joint, at: None });
        }
    }

    pub(crate) fn answered(&mut self, name: &str, records: &[Record], answer: Answer) {
        match answer {
            Answer::Acked(_) => self.acked += records.len() as u64,
            Answer::Unknown => self.unknown += records.len() as u64,
            Answer::Refused => self.refused += records.len() as u64,
            Answer::Accepted(_) => {}
        }
        // A partition of that name may have come and gone since.
        let Some(truth) = self.truth(name) else { return };
        let Some(index) = truth.sent.iter().position(|sent| sent.records == records) else { return };
        let read_at = truth.sent[index].at;
        match answer {
            Answer::Unknown => {}
            Answer::Refused => {
                assert_eq!(read_at, None, "I3: {name}: what was refused has been read");
                truth.sent.remove(index);
            }
            Answer::Accepted(at) => {
                assert!(read_at.is_none_or(|read| read == at), "I4: {name}: read at {read_at:?}, is at {at}");
                truth.sent[index].at = Some(at);
            }
            Answer::Acked(at) => {
                assert!(read_at.is_none_or(|read| read == at), "I4: {name}: read at {read_at:?}, is at {at}");
                truth.sent.remove(index);
                keep("I2", truth.acknowledge(at, records).map_err(|wrong| format!("{name}: {wrong}")));
            }
        }
    }

    /// What the log says is flushed below `flushed` is as good as acknowledged.
    pub(crate) fn flushed(&mut self, name: &str, flushed: u64) {
        let Some(truth) = self.there.get_mut(name) else { return };
        let sent = std::mem::take(&mut truth.sent);
        for sent in &sent {
            // It stays among what is sent: its answer may still be on its way.
            if let Some(at) = sent.at.filter(|at| at + sent.records.len() as u64 <= flushed) {
                keep("I2", truth.acknowledge(at, &sent.records));
            }
        }
        truth.sent = sent;
    }

    /// The log was closed in good order: what was accepted is stored.
    pub(crate) fn closed(&mut self) {
        for name in self.there.keys().cloned().collect::<Vec<_>>() {
            self.flushed(&name, u64::MAX);
        }
    }

    pub(crate) fn creating(&mut self, name: &str, config: PartitionConfig) {
        let truth = Truth { tombstones_age: self.clock_jumps, ..Truth::new(config) };
        self.limbo.insert(name.to_owned(), truth);
    }

    /// `made` is none if it is not known.
    pub(crate) fn created(&mut self, name: &str, made: Option<bool>) {
        let Some(made) = made else { return };
        if let Some(truth) = self.limbo.remove(name).filter(|_| made) {
            self.there.insert(name.to_owned(), truth);
        }
    }

    pub(crate) fn deleting(&mut self, name: &str) {
        if let Some(truth) = self.there.remove(name) {
            self.limbo.insert(name.to_owned(), truth);
        }
    }

    /// `gone` is none if it is not known.
    pub(crate) fn deleted(&mut self, name: &str, gone: Option<bool>) {
        let Some(gone) = gone else { return };
        if let Some(truth) = self.limbo.remove(name).filter(|_| !gone) {
            self.there.insert(name.to_owned(), truth);
        }
    }

    /// `trimmed` is none if it is not known.
    pub(crate) fn trimmed(&mut self, name: &str, to: u64, trimmed: Option<bool>) {
        let (Some(truth), Some(trimmed)) = (self.truth(name), trimmed) else { return };
        if let Some(at) = truth.trims.iter().position(|trim| *trim == to) {
            truth.trims.remove(at);
        }
        if trimmed {
            truth.log_start = truth.log_start.max(to);
            truth.known = truth.known.split_off(&truth.log_start);
        }
    }

    /// `done` is none if it is not known.
    pub(crate) fn configured(&mut self, name: &str, config: PartitionConfig, done: Option<bool>) {
        let (Some(truth), Some(done)) = (self.truth(name), done) else { return };
        if let Some(at) = truth.asked.iter().position(|asked| *asked == config) {
            truth.asked.remove(at);
        }
        if done {
            truth.config = config;
        }
    }

    /// Compares all there is after a restart with what was promised. What was unknown is known from here
    /// on: it is there, or it never will be.
    pub(crate) fn restarted(&mut self, contents: &Contents) {
        promises::phantom::only_known_partitions(self, contents);
        promises::kept::every_partition(self, contents);
        let limbo = std::mem::take(&mut self.limbo);
        self.there.extend(limbo.into_iter().filter(|(name, _)| contents.contains_key(name)));
        let (mut whole, mut lost) = (BTreeSet::new(), BTreeSet::new());
        for (name, look) in contents {
            let truth = self.there.get_mut(name).expect("only known partitions are there");
            promises::kept::settings(truth, look);
            promises::kept::records(truth, look);
            promises::dense::after_restart(truth, look);
            let placed = promises::phantom::placed(truth, look);
            promises::unread::see(truth, &look.found, &placed);
            let (there, gone) = keep("I2", truth.settle(look.info.log_start.0, &placed));
            whole.extend(there);
            lost.extend(gone);
        }
        promises::whole::joints(&whole, &lost);
    }
}
