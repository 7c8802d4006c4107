//! I14: damage to what was durable is told: the log does not open, or a read fails, or nothing is
//! missing. Nothing wrong is served, and no log is shorter than it was.

use thalweg::{Offset, OwnedShard, ReadFrom, Record};
use thalweg_io::sim::SimDisk;

use crate::copy::{Contents, Look, Trouble, contents, copy, look, open};
use crate::damage::harm;
use crate::world::World;

/// Damaged copies of a disk at rest.
const COPIES: u32 = 2;
/// Places in the middle of a damaged log where reading begins.
const PLACES: u64 = 6;
/// Appends to a damaged log that has opened, and bytes of each: enough for other WAL files.
const APPENDS: usize = 40;
const APPEND_BYTES: usize = 7000;

/// Damages copies of the disk of a shard that has nothing to do, and reads them.
pub(crate) fn told(world: &mut World<'_>, sound: &Contents) {
    // A marker makes the last group provably durable: before it, damage there looks like a torn write.
    let witness_ms = u64::from(world.config().wal.witness_after_us) / 1000;
    world.pause(witness_ms + 10);
    let disk = copy(&world.host.disk);
    (0..COPIES).for_each(|_| told_of(world, &disk, sound, false));
}

/// As [`told`], of a log that was closed in good order.
pub(crate) fn told_when_closed(world: &mut World<'_>) {
    let disk = copy(&world.host.disk);
    let (_, sound) = look(&disk.snapshot(), &world.config(), "I20: a log that was closed");
    (0..COPIES).for_each(|_| told_of(world, &disk, &sound, true));
}

fn told_of(world: &mut World<'_>, disk: &SimDisk, sound: &Contents, closed: bool) {
    let disk = disk.snapshot();
    let what = harm(&disk, closed, &mut world.random);
    world.counted.damaged += 1;
    let mut shard = match open(&disk, &world.config()) {
        Ok(shard) => shard,
        Err(_) => return world.counted.detected += 1,
    };
    let read = match contents(&mut shard) {
        Ok(read) => read,
        Err(Trouble::Unreadable(_) | Trouble::Ended(_)) => {
            world.counted.detected += 1;
            return middle(world, &mut shard, sound, &what);
        }
    };
    let stranger = read.keys().find(|name| !sound.contains_key(*name));
    assert_eq!(stranger, None, "I14: {what}: nobody made it");
    for (name, look) in sound {
        let Some(damaged) = read.get(name) else { panic!("I14: {what}: {name} is gone") };
        assert_eq!(damaged.info.config, look.info.config, "I14: {what}: settings of {name}");
        let retained = world.oracle.there.get(name).is_none_or(|truth| truth.retained);
        let (from, to) = (look.info.log_start, damaged.info.log_start);
        assert!(from == to || retained && to > from, "I14: {what}: {name} starts at {to}, not {from}");
        kept(world, name, look, damaged, &what);
    }
    middle(world, &mut shard, sound, &what);
    if world.random.chance(0.3) {
        lives_on(world, &disk, shard, sound, &what);
    }
}

/// What nobody noticed does no harm later either: the log goes on, opens again, and has everything still.
fn lives_on(world: &mut World<'_>, disk: &SimDisk, mut shard: OwnedShard, sound: &Contents, what: &str) {
    for name in sound.keys().cycle().take(APPENDS) {
        let Ok(partition) = shard.log().partition(name) else { return };
        let value = Some(vec![0; APPEND_BYTES].into());
        let key = Some(what.to_owned().into_bytes().into());
        let ticket = partition.append(Record { key, value, ..Record::default() });
        if shard.block_on(ticket).is_err() {
            return;
        }
    }
    disk.clear_faults();
    disk.kill();
    drop(shard);
    let (_, again) = look(disk, &world.config(), &format!("I14: {what}, and opened again"));
    for (name, look) in sound {
        let Some(damaged) = again.get(name) else { panic!("I14: {what}: {name} is gone later") };
        kept(world, name, look, damaged, what);
    }
}

/// Nothing of `look` has changed in `damaged`, or is gone.
fn kept(world: &World<'_>, name: &str, look: &Look, damaged: &Look, what: &str) {
    let start = look.log_start.max(damaged.log_start);
    let truth = &world.oracle.there.get(name);
    for (offset, record) in look.found.range(start..) {
        let found = damaged.found.get(offset);
        let compacted = found.is_none() && truth.is_some_and(|truth| truth.compacted);
        assert!(found == Some(record) || compacted, "I14: {what}: {name}@{offset} is {found:?}");
    }
    let (end, least) = (damaged.info.log_end, look.info.log_end);
    assert!(end >= least, "I14: {what}: {name} ends at {end}, not {least}");
}

/// Reads from somewhere in the middle: what is known there comes first, or an error.
fn middle(world: &mut World<'_>, shard: &mut OwnedShard, sound: &Contents, what: &str) {
    for (name, look) in sound {
        let compacted = world.oracle.there.get(name).is_none_or(|truth| truth.compacted);
        let Ok(partition) = shard.log().partition(name) else { continue };
        for _ in 0..PLACES {
            let nth = world.random.below(look.found.len().max(1) as u64) as usize;
            let Some((offset, record)) = look.found.iter().nth(nth) else { continue };
            let mut reader = partition.read(ReadFrom::Offset(Offset(*offset))).to_end();
            let batch = match shard.block_on(reader.next_batch()) {
                Some(Ok(batch)) => Some(batch),
                Some(Err(_)) => continue,
                None => None,
            };
            let describe = partition.describe();
            let Some(info) = shard.block_on(describe) else { return };
            if compacted || info.log_start.0 > *offset {
                continue;
            }
            let records = batch.iter().flat_map(|batch| batch.records()).flatten();
            let found = records.map(|seen| (seen.offset.0, seen.to_owned())).find(|(at, _)| at >= offset);
            assert_eq!(found, Some((*offset, record.clone())), "I14: {what}: {name} from {offset}");
        }
    }
}
