//! Compares an opened log with what was asked of it before a power cut.

use std::collections::BTreeMap;

use thalweg::{OwnedShard, ReadFrom};

use crate::history::{History, Moment, Part, id_of};
use thalweg_tests::Wrong;

/// A partition as it is read.
pub(crate) struct Found {
    log_start: u64,
    /// The id of the record at `log_start`, and so on.
    ids: Vec<u64>,
}

/// Reads all partitions. Offsets are dense, and values are whole.
pub(crate) fn read_all(shard: &mut OwnedShard) -> Result<BTreeMap<String, Found>, Wrong> {
    let mut all = BTreeMap::new();
    for partition in shard.log().partitions() {
        let name = partition.name().to_owned();
        let info = shard.block_on(partition.describe());
        let info = info.ok_or_else(|| Wrong::Broken(format!("{name} is listed and not there")))?;
        let mut found = Found { log_start: info.log_start.0, ids: Vec::new() };
        let mut reader = partition.read(ReadFrom::Earliest).to_end();
        while let Some(batch) = shard.block_on(reader.next_batch()) {
            let batch = batch.map_err(|error| Wrong::Unreadable(error.to_string()))?;
            for record in batch.records() {
                let record = record.map_err(|error| format!("{name}: {error}"))?;
                if record.offset < info.log_start {
                    continue;
                }
                let (at, next) = (record.offset.0, found.log_start + found.ids.len() as u64);
                if at != next {
                    return Err(format!("{name}: offset {at} is read where {next} should be").into());
                }
                let id = record.value().and_then(id_of);
                found.ids.push(id.ok_or_else(|| format!("{name}: offset {at} holds bytes nobody sent"))?);
            }
        }
        let end = found.log_start + found.ids.len() as u64;
        if (info.flushed.0, info.log_end.0) != (end, end) {
            return Err(format!("{name}: records up to {end}, {info:?}").into());
        }
        all.insert(name, found);
    }
    Ok(all)
}

/// Checks a log that lost its power at `cut`. Returns how many records it has.
///
/// # Errors
/// What is wrong first.
pub(crate) fn check(shard: &mut OwnedShard, history: &History, cut: Moment) -> Result<u64, Wrong> {
    let found = read_all(shard)?;
    check_names(history, &found, cut)?;
    for (name, log) in &found {
        check_records(history, name, log, cut)?;
    }
    check_acked(history, &found, cut)?;
    check_joints(history, &found)?;
    Ok(found.values().map(|log| log.ids.len() as u64).sum())
}

fn check_names(history: &History, found: &BTreeMap<String, Found>, cut: Moment) -> Result<(), String> {
    for (name, known) in &history.partitions {
        let may_be_gone = known.deleted.is_some_and(|deleted| deleted.may(cut));
        let must_be_gone = known.deleted.is_some_and(|deleted| deleted.must(cut));
        let Some(log) = found.get(name) else {
            match known.created.must(cut) && !may_be_gone {
                true => return Err(format!("{name} is gone")),
                false => continue,
            }
        };
        if must_be_gone || !known.created.may(cut) {
            return Err(format!("{name} is there, and should not be: {known:?}"));
        }
        let start = log.log_start;
        let allowed = start == 0 || known.trims.iter().any(|(to, trim)| *to == start && trim.may(cut));
        let wanted = known.trims.iter().filter(|(_, trim)| trim.must(cut)).map(|(to, _)| *to).max();
        if !allowed || wanted.is_some_and(|wanted| start < wanted) {
            return Err(format!("{name} starts at {start}: {:?}", known.trims));
        }
    }
    match found.keys().find(|name| !history.partitions.contains_key(*name)) {
        Some(name) => Err(format!("{name} was never created")),
        None => Ok(()),
    }
}

/// Every record was sent before the cut, in this order, in whole batches, and is where it was said to be.
fn check_records(history: &History, name: &str, log: &Found, cut: Moment) -> Result<(), String> {
    let end = log.log_start + log.ids.len() as u64;
    for (offset, id) in (log.log_start..).zip(&log.ids) {
        let sent = history.of(*id).filter(|(sent, part, _)| sent.parts[*part].name == name);
        let Some((sent, part, nth)) = sent.filter(|(sent, ..)| sent.asked <= cut) else {
            return Err(format!("{name}@{offset}: record {id} was never sent there"));
        };
        let base = offset.checked_sub(nth).ok_or_else(|| format!("{name}@{offset}: {id} is too early"))?;
        if let Some((_, bases)) = &sent.acked
            && bases[part] != base
        {
            return Err(format!("{name}@{offset}: record {id}, whose batch was given {}", bases[part]));
        }
        if base + sent.parts[part].count > end {
            return Err(format!("{name}@{offset}: the batch of {id} is cut in two"));
        }
    }
    match log.ids.windows(2).find(|pair| pair[1] <= pair[0]) {
        Some(pair) => Err(format!("{name}: {} follows {}", pair[1], pair[0])),
        None => Ok(()),
    }
}

/// Whether a part of an append is there, from the log start on.
fn is_there(log: &Found, first_id: u64, count: u64, base: u64) -> bool {
    (0..count).filter(|nth| base + nth >= log.log_start).all(|nth| {
        let at = (base + nth - log.log_start) as usize;
        log.ids.get(at) == Some(&(first_id + nth))
    })
}

fn check_acked(history: &History, found: &BTreeMap<String, Found>, cut: Moment) -> Result<(), String> {
    for (sent, bases) in history.acked(cut) {
        for (part, base) in sent.parts.iter().zip(bases) {
            // A partition that is gone may be gone: its name was looked at before.
            let Some(log) = found.get(&part.name) else { continue };
            if !is_there(log, part.first_id, part.count, *base) {
                let end = log.log_start + log.ids.len() as u64;
                let Found { log_start, .. } = log;
                return Err(format!("{part:?} was acknowledged at {base}, read were {log_start}..{end}"));
            }
        }
    }
    Ok(())
}

/// Joint appends are whole or not there at all.
fn check_joints(history: &History, found: &BTreeMap<String, Found>) -> Result<(), String> {
    for sent in history.sent.iter().filter(|sent| sent.parts.len() > 1) {
        let logs: Vec<_> =
            sent.parts.iter().filter_map(|part| Some((part, found.get(&part.name)?))).collect();
        let have = logs.iter().filter(|(part, log)| log.ids.binary_search(&part.first_id).is_ok()).count();
        // What is below the log start can't be told from what never was.
        let below = |part: &Part, log: &Found| log.ids.first().is_none_or(|id| *id > part.first_id);
        let trimmed = logs.iter().any(|(part, log)| log.log_start > 0 && below(part, log));
        if have != 0 && have != logs.len() && !trimmed {
            return Err(format!("a joint append is torn: {:?}", sent.parts));
        }
    }
    Ok(())
}
