//! I14: damage to what was durable is told: the log does not open, or a read fails, or nothing is
//! missing. Nothing wrong is served, and no log is shorter than it was.

use thalweg_io::sim::SimRandom;
use thalweg_io::sim::{SECTOR, SimDisk};

use crate::copy::{Contents, Trouble, contents, copy, open};
use crate::world::World;

/// Damages a copy of the disk of a shard that has nothing to do, and reads it.
pub(crate) fn told(world: &mut World<'_>, sound: &Contents) {
    // A marker makes the last group provably durable: before it, damage there looks like a torn write.
    let witness_ms = u64::from(world.config().wal.witness_after_us) / 1000;
    world.pause(witness_ms + 10);
    let disk = copy(&world.host.disk);
    let what = damage(&disk, &mut world.random);
    world.counted.damaged += 1;
    let mut shard = match open(&disk, &world.config()) {
        Ok(shard) => shard,
        Err(_) => return world.counted.detected += 1,
    };
    let read = match contents(&mut shard) {
        Ok(read) => read,
        Err(Trouble::Unreadable(_) | Trouble::Ended(_)) => return world.counted.detected += 1,
    };
    for (name, look) in sound {
        let Some(damaged) = read.get(name) else { panic!("I14: {what}: {name} is gone") };
        let start = look.log_start.max(damaged.log_start);
        let known = look.found.range(start..);
        let truth = &world.oracle.there.get(name);
        for (offset, record) in known {
            let found = damaged.found.get(offset);
            let compacted = found.is_none() && truth.is_some_and(|truth| truth.compacted);
            assert!(found == Some(record) || compacted, "I14: {what}: {name}@{offset} is {found:?}");
        }
        let end = damaged.info.log_end;
        assert!(end >= look.info.log_end, "I14: {what}: {name} ends at {end}, not {}", look.info.log_end);
    }
}

/// Flips a bit, zeroes a sector, or makes a file shorter. Returns what it did.
fn damage(disk: &SimDisk, random: &mut SimRandom) -> String {
    let quarantined = |path: &std::path::Path| path.to_string_lossy().contains("quarantine");
    let files: Vec<_> =
        disk.files().into_iter().filter(|(path, len)| *len > 0 && !quarantined(path)).collect();
    let (path, len) = &files[random.below(files.len() as u64) as usize];
    let at = random.below(*len);
    match random.below(3) {
        0 => {
            let bit = at * 8 + random.below(8);
            disk.flip_bit(path, bit);
            format!("bit {bit} of {} flipped", path.display())
        }
        1 => {
            let sector = at / SECTOR as u64 * SECTOR as u64;
            let bytes = vec![0; SECTOR.min((*len - sector) as usize)];
            disk.patch(path, sector, &bytes);
            format!("sector at {sector} of {} zeroed", path.display())
        }
        _ => {
            let bytes: Vec<u8> = (0..SECTOR.min((*len - at) as usize)).map(|_| random.draw() as u8).collect();
            disk.patch(path, at, &bytes);
            format!("{} bytes at {at} of {} overwritten", bytes.len(), path.display())
        }
    }
}
