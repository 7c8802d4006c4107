//! What a log promised: one partition as its callers know it. What is read is compared with it.

use std::collections::BTreeMap;
use std::ops::Range;

use thalweg::{PartitionConfig, Record, Retention};

use crate::Row;

/// Records by offset, as they were read.
pub type Found = BTreeMap<u64, Record>;

/// A batch that was sent and not answered for good.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its records; a timestamp only where the caller gave one.
    pub records: Vec<Record>,
    /// The joint append it is part of.
    pub joint: Option<u64>,
    /// The offset of the first record: it was accepted there, or was read there.
    pub at: Option<u64>,
}

/// A partition as promised.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// The last settings that are known to hold.
    pub config: PartitionConfig,
    /// Settings asked for since, without an answer.
    pub asked: Vec<PartitionConfig>,
    /// Records by offset: acknowledged, or read.
    pub known: BTreeMap<u64, Record>,
    /// Offsets below it may be gone; an acknowledged trim, or where the log was seen to start.
    pub log_start: u64,
    /// Trims without an answer.
    pub trims: Vec<u64>,
    /// In the order they were sent.
    pub sent: Vec<Sent>,
    /// Whether retention may have trimmed it at any time.
    pub retained: bool,
    /// The fewest bytes that retention had to leave at any time; 0 if it had to leave none.
    pub retained_bytes_min: Option<u64>,
    /// Whether it may have been compacted at any time.
    pub compacted: bool,
    /// Whether tombstones may have come of age: the wall clock jumps.
    pub tombstones_age: bool,
}

impl Truth {
    /// A new partition.
    #[must_use]
    pub fn new(config: PartitionConfig) -> Truth {
        let mut truth = Truth { config, ..Truth::default() };
        truth.foresee(&config);
        truth
    }

    /// Other settings were asked for: they may hold from now on.
    pub fn ask(&mut self, config: PartitionConfig) {
        self.asked.push(config);
        self.foresee(&config);
    }

    fn foresee(&mut self, config: &PartitionConfig) {
        self.retained |= config.retention != Retention::default();
        let Retention { bytes_max, age_max_ms } = config.retention;
        let least = if age_max_ms.is_some() { Some(0) } else { bytes_max };
        self.retained_bytes_min = self.retained_bytes_min.into_iter().chain(least).min();
        self.compacted |= config.compact;
    }

    /// The offset after the last known one.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.known.last_key_value().map_or(self.log_start, |(offset, _)| offset + 1).max(self.log_start)
    }

    /// A batch is at `base` for good.
    ///
    /// # Errors
    /// If another record was there.
    pub fn acknowledge(&mut self, base: u64, records: &[Record]) -> Result<(), String> {
        for (offset, record) in (base..).zip(records) {
            match self.known.get(&offset) {
                Some(before) if !is_as(record, before) => {
                    return Err(format!("offset {offset} was given twice: {before:?}, {record:?}"));
                }
                Some(_) => {}
                None if offset >= self.log_start => drop(self.known.insert(offset, record.clone())),
                None => {}
            }
        }
        Ok(())
    }

    /// Checks where the log starts.
    ///
    /// # Errors
    /// If it went back, or nobody trimmed that far.
    pub fn check_start(&self, name: &str, log_start: u64) -> Result<(), String> {
        if log_start < self.log_start {
            return Err(format!("{name}: the log start went back to {log_start}"));
        }
        let asked = log_start == self.log_start || self.trims.contains(&log_start);
        if asked || self.retained { Ok(()) } else { Err(format!("{name}: nobody trimmed to {log_start}")) }
    }

    /// Checks that retention, if it was what moved the log start here, left as much as it had to.
    ///
    /// # Errors
    /// If it did not.
    pub fn check_retained(&self, name: &str, log_start: u64, found: &Found) -> Result<(), String> {
        let trimmed = log_start == self.log_start || self.trims.contains(&log_start);
        if trimmed || self.compacted {
            return Ok(());
        }
        let left: u64 = found.range(log_start..).map(|(_, record)| stored_bytes_max(record)).sum();
        let least = self.retained_bytes_min.unwrap_or(0);
        if left >= least {
            return Ok(());
        }
        Err(format!("{name}: retention went to {log_start} and left {left} B, of {least} at least"))
    }

    /// Whether a record may be missing: a later one of its key is known.
    fn may_be_compacted(&self, offset: u64, record: &Record) -> bool {
        if !self.compacted || record.key.is_none() {
            return false;
        }
        let sent = self.sent.iter().flat_map(|sent| &sent.records);
        let mut later = self.known.range(offset + 1..).map(|(_, later)| later).chain(sent);
        (record.value.is_none() && self.tombstones_age) || later.any(|later| later.key == record.key)
    }

    /// Checks that what is known of `asked` is in `found`, unchanged.
    ///
    /// Retention may have trimmed up to `log_start` while it was read.
    ///
    /// # Errors
    /// The first record that is gone or has changed.
    pub fn check_kept(
        &self,
        name: &str,
        asked: Range<u64>,
        log_start: u64,
        found: &Found,
    ) -> Result<(), String> {
        for (offset, record) in self.known.range(asked.clone()) {
            match found.get(offset) {
                Some(seen) if is_as(record, seen) => {}
                Some(seen) => return Err(format!("{name}@{offset} was {record:?} and is {seen:?}")),
                None => {
                    let trimmed = *offset < log_start && (self.retained || !self.trims.is_empty());
                    if !trimmed && !self.may_be_compacted(*offset, record) {
                        let (first, last) = (found.keys().next(), found.keys().next_back());
                        return Err(format!(
                            "{name}@{offset} is gone: {record:?}, {:?}; {asked:?} was {first:?} to {last:?}",
                            self.config
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds the batches sent and not answered among what was read from `from` on and is not known: index
    /// in `sent`, and first offset.
    ///
    /// # Errors
    /// If something was never sent, or is in another order, or is there only in part.
    pub fn place(&self, name: &str, from: u64, found: &Found) -> Result<Vec<(usize, u64)>, String> {
        let mut unknown = found.iter().filter(|(offset, _)| !self.known.contains_key(offset)).peekable();
        let mut placed = Vec::new();
        let mut next = 0;
        while let Some((offset, seen)) = unknown.peek().copied() {
            let place = |sent: &Sent| sent.records.iter().position(|record| is_as(record, seen));
            let here = (next..self.sent.len()).find_map(|index| Some((index, place(&self.sent[index])?)));
            let Some((index, nth)) = here else {
                return Err(format!("{name}@{offset}: nobody sent {seen:?} behind what is before it"));
            };
            let sent = &self.sent[index];
            let base = offset.wrapping_sub(nth as u64);
            if sent.at.is_some_and(|at| at != base) {
                return Err(format!("{name}@{base}: the batch was accepted at {:?}", sent.at));
            }
            for (offset, record) in (base..).zip(&sent.records) {
                match unknown.next_if(|(there, _)| **there == offset) {
                    Some((_, seen)) if is_as(record, seen) => {}
                    None if self.compacted || offset < from => {}
                    other => return Err(format!("{name}@{offset}: a batch was torn apart, {other:?}")),
                }
            }
            placed.push((index, base));
            next = index + 1;
        }
        Ok(placed)
    }

    /// What was read is never un-read: it is as good as acknowledged. `placed` is what [`place`](Self::place)
    /// found.
    ///
    /// # Errors
    /// As [`acknowledge`](Self::acknowledge).
    pub fn see(&mut self, found: &Found, placed: &[(usize, u64)]) -> Result<(), String> {
        for (index, base) in placed {
            self.sent[*index].at = Some(*base);
            let records = std::mem::take(&mut self.sent[*index].records);
            let acknowledged = self.acknowledge(*base, &records);
            self.sent[*index].records = records;
            acknowledged?;
        }
        for (offset, seen) in found {
            if let Some(known) = self.known.get_mut(offset).filter(|known| known.timestamp_ms.is_none()) {
                known.timestamp_ms = seen.timestamp_ms;
            }
        }
        Ok(())
    }

    /// A restart has shown which of the unanswered batches are there; the others never will be.
    /// Returns the joint appends of both.
    ///
    /// # Errors
    /// As [`acknowledge`](Self::acknowledge).
    pub fn settle(
        &mut self,
        log_start: u64,
        placed: &[(usize, u64)],
    ) -> Result<(Vec<u64>, Vec<u64>), String> {
        let (mut there, mut lost) = (Vec::new(), Vec::new());
        for (index, sent) in std::mem::take(&mut self.sent).into_iter().enumerate() {
            let read_before = sent.at.filter(|at| {
                let mut offsets = (*at..).zip(&sent.records);
                offsets
                    .any(|(offset, record)| self.known.get(&offset).is_some_and(|seen| is_as(record, seen)))
            });
            let found = placed.iter().find(|(found, _)| *found == index).map(|(_, base)| *base);
            match found.or(read_before) {
                Some(base) => {
                    self.acknowledge(base, &sent.records)?;
                    there.extend(sent.joint);
                }
                None => lost.extend(sent.joint),
            }
        }
        self.trims.clear();
        self.log_start = log_start;
        self.known = self.known.split_off(&log_start);
        Ok((there, lost))
    }
}

/// The most bytes that a record takes in a segment, in a batch of its own.
fn stored_bytes_max(record: &Record) -> u64 {
    let headers = record.headers.iter().flat_map(|header| [Some(&header.name), header.value.as_ref()]);
    let parts = record.key.iter().chain(&record.value).chain(headers.flatten());
    parts.map(|part| part.len() as u64 + 16).sum::<u64>() + 128
}

/// Whether `seen` is the record that was sent: with its timestamp, if it was given one.
#[must_use]
pub fn is_as(sent: &Record, seen: &Record) -> bool {
    let time = sent.timestamp_ms.is_none() || seen.timestamp_ms.is_none();
    (time || sent.timestamp_ms == seen.timestamp_ms)
        && sent.value == seen.value
        && sent.key == seen.key
        && sent.headers == seen.headers
}

/// Rows by offset.
///
/// # Errors
/// If they are not in offset order, or an offset comes twice.
pub fn in_order(name: &str, rows: Vec<Row>) -> Result<Found, String> {
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].offset >= pair[1].offset) {
        return Err(format!("{name}: offset {} comes before {}", pair[0].offset, pair[1].offset));
    }
    Ok(rows.into_iter().map(|row| (row.offset, row.record)).collect())
}
