//! Compares an opened log with what was asked of it before a power cut.

use std::collections::BTreeMap;

use thalweg::{PartitionInfo, ReadFrom};
use thalweg_tests::{Found, Row, Wrong, in_order};

use crate::history::{History, Moment, Part, id_of};
use crate::opened::Opened;

/// A partition as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    info: PartitionInfo,
    found: Found,
    /// The ids of what was found.
    ids: Vec<u64>,
    /// Where it starts after it was read: retention may have trimmed it meanwhile.
    log_start: u64,
}

/// All partitions, by name.
pub(crate) type Contents = BTreeMap<String, Look>;

/// What was seen of a log that is right.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sight {
    pub(crate) records: u64,
    /// Whether retention has taken something, and compaction.
    pub(crate) retained: bool,
    pub(crate) compacted: bool,
}

/// Reads all partitions. Offsets ascend, and values are whole.
fn read_all(log: &mut Opened) -> Result<Contents, Wrong> {
    let mut all = Contents::new();
    for partition in log.log().partitions() {
        let name = partition.name().to_owned();
        let gone = || Wrong::Broken(format!("{name} is listed and not there"));
        let info = log.block_on(partition.describe()).ok_or_else(gone)?;
        let mut reader = partition.read(ReadFrom::Earliest).to_end();
        let (mut rows, mut ids) = (Vec::new(), Vec::new());
        while let Some(batch) = log.block_on(reader.next_batch()) {
            let batch = batch.map_err(|error| Wrong::Unreadable(error.to_string()))?;
            for record in batch.records() {
                let record = record.map_err(|error| format!("{name}: {error}"))?;
                if record.offset < info.log_start {
                    continue;
                }
                let (at, id) = (record.offset.0, record.value().and_then(id_of));
                ids.push(id.ok_or_else(|| format!("{name}: offset {at} holds bytes nobody sent"))?);
                rows.push(Row { offset: at, record: record.to_owned() });
            }
        }
        let log_start = log.block_on(partition.describe()).ok_or_else(gone)?.log_start.0;
        let found = in_order(&name, rows)?;
        all.insert(name, Look { info, found, ids, log_start });
    }
    Ok(all)
}

/// Checks a log that lost its power at `cut`.
///
/// # Errors
/// What is wrong first.
pub(crate) fn check(log: &mut Opened, history: &History, cut: Moment) -> Result<(Sight, Contents), Wrong> {
    let contents = read_all(log)?;
    check_names(history, &contents, cut)?;
    let mut sight = Sight::default();
    for (name, look) in &contents {
        check_records(history, name, look, cut)?;
        let config = look.info.config;
        sight.records += look.ids.len() as u64;
        sight.retained |= config.retention != Default::default() && look.log_start > 0;
        sight.compacted |= config.compact && (look.ids.len() as u64) < span(look);
    }
    check_joints(history, &contents)?;
    Ok((sight, contents))
}

/// Offsets of a partition that can be read.
fn span(look: &Look) -> u64 {
    look.info.log_end.0 - look.log_start.min(look.info.log_end.0)
}

fn check_names(history: &History, contents: &Contents, cut: Moment) -> Result<(), String> {
    for (name, known) in &history.partitions {
        let may_be_gone = known.deleted.is_some_and(|deleted| deleted.may(cut));
        let must_be_gone = known.deleted.is_some_and(|deleted| deleted.must(cut));
        match contents.contains_key(name) {
            false if known.created.must(cut) && !may_be_gone => return Err(format!("{name} is gone")),
            true if must_be_gone || !known.created.may(cut) => {
                return Err(format!("{name} is there, and should not be: {known:?}"));
            }
            _ => {}
        }
    }
    match contents.keys().find(|name| !history.partitions.contains_key(*name)) {
        Some(name) => Err(format!("{name} was never created")),
        None => Ok(()),
    }
}

/// What was acknowledged is there, unless it may have been trimmed or compacted; everything else was
/// sent before the cut, in this order, and is there in whole batches.
fn check_records(history: &History, name: &str, look: &Look, cut: Moment) -> Result<(), String> {
    let (info, truth) = (&look.info, history.truth(name, cut)?);
    let (start, end) = (info.log_start.0, info.log_end.0);
    if info.flushed != info.log_end || info.config != truth.config {
        return Err(format!("{name}: {info:?}"));
    }
    truth.check_start(name, start)?;
    if end < truth.end() {
        return Err(format!("{name} ends at {end}, {} is acknowledged", truth.end()));
    }
    truth.check_kept(name, start..u64::MAX, look.log_start, &look.found)?;
    truth.place(name, start, &look.found)?;
    let from = start.max(look.log_start);
    if !truth.compacted && look.found.range(from..).count() as u64 != end - from.min(end) {
        return Err(format!("{name}: {} records, {info:?}", look.found.len()));
    }
    if let Some(pair) = look.ids.windows(2).find(|pair| pair[1] <= pair[0]) {
        return Err(format!("{name}: {} follows {}", pair[1], pair[0]));
    }
    check_retained(name, look)
}

/// Retention by bytes leaves at least what it was told to keep.
fn check_retained(name: &str, look: &Look) -> Result<(), String> {
    let Some(kept_min) = look.info.config.retention.bytes_max.filter(|_| look.log_start > 0) else {
        return Ok(());
    };
    if look.info.config.retention.age_max_ms.is_none() && look.info.bytes < kept_min {
        return Err(format!("{name}: retention was to keep {kept_min} B: {:?}", look.info));
    }
    Ok(())
}

/// Joint appends are whole or not there at all.
fn check_joints(history: &History, contents: &Contents) -> Result<(), String> {
    for sent in history.sent.iter().filter(|sent| sent.parts.len() > 1) {
        let looks = sent.parts.iter().filter_map(|part| Some((part, contents.get(&part.name)?)));
        // Of what compaction left out nobody knows whether it was there.
        let looks: Vec<_> = looks.filter(|(_, look)| !look.info.config.compact).collect();
        let has = |part: &Part, look: &Look| look.ids.binary_search(&part.first_id).is_ok();
        let have = looks.iter().filter(|(part, look)| has(part, look)).count();
        // What is below the log start can't be told from what never was.
        let below = |part: &Part, look: &Look| look.ids.first().is_none_or(|id| *id > part.first_id);
        let trimmed = looks.iter().any(|(part, look)| look.log_start > 0 && below(part, look));
        if have != 0 && have != looks.len() && !trimmed {
            return Err(format!("a joint append is torn: {:?}", sent.parts));
        }
    }
    Ok(())
}

/// Checks that a log gives the same answer when it is opened again. Retention and compaction may have
/// gone on, in either.
///
/// # Errors
/// The first difference.
pub(crate) fn same(first: &Contents, second: &Contents) -> Result<(), String> {
    if !first.keys().eq(second.keys()) {
        return Err(format!("{:?}, then {:?}", first.keys(), second.keys()));
    }
    for (name, look) in first {
        let other = &second[name];
        let (config, end) = (look.info.config, look.info.log_end);
        let retains = config.retention != Default::default();
        if end != other.info.log_end || (!retains && look.info.log_start != other.info.log_start) {
            return Err(format!("{name}: {:?}, then {:?}", look.info, other.info));
        }
        let start = look.log_start.max(other.log_start);
        let offsets = look.found.range(start..).chain(other.found.range(start..)).map(|(offset, _)| *offset);
        for offset in offsets {
            let (before, after) = (look.found.get(&offset), other.found.get(&offset));
            let compacted = config.compact && (before.is_none() || after.is_none());
            if before != after && !compacted {
                return Err(format!("{name}@{offset}: {before:?}, then {after:?}"));
            }
        }
    }
    Ok(())
}
