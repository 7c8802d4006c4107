//! I13: recovery gives the same answer however often it runs and wherever it is cut short, and costs no
//! more than what is to be recovered.

use thalweg_io::BLOCK;

use crate::copy::{Contents, copy, look, open};
use crate::swarm::Kind;
use crate::world::World;

/// Operations that opening takes beside those for each file, and for each piece of the WAL.
const OPS_FIXED: u64 = 120;
const OPS_PER_FILE: u64 = 24;

/// What does not change by opening: where each partition starts and ends, and what is in it.
fn same(first: &Contents, second: &Contents, compacts: bool, what: &str) {
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>(), "I13: {what}");
    for (name, look) in first {
        let other = &second[name];
        assert_eq!(look.info.log_end, other.info.log_end, "I13: {what}: {name} ends elsewhere");
        let start = look.log_start.max(other.log_start);
        for (offset, record) in other.found.range(start..) {
            // One of them may have compacted more meanwhile.
            let found = look.found.get(offset);
            let compacted = found.is_none() && record.key.is_some() && compacts;
            assert!(found == Some(record) || compacted, "I13: {what}: {name}@{offset}: {found:?}");
        }
    }
}

/// Opens copies of the disk: twice, and once more after an opening that was cut in the middle.
pub(crate) fn opens_alike(world: &mut World<'_>) {
    let config = world.config();
    // What a kill leaves is not on the disk yet, and a power cut while opening may take it.
    let left = copy(&world.host.disk);
    left.crash();
    let disk = left.snapshot();
    let before = disk.op_count();
    let shard = open(&disk, &config).unwrap_or_else(|error| panic!("I16: does not open: {error}"));
    let ops = disk.op_count() - before;
    let files = disk.files().len() as u64;
    let blocks = shard.recovery().wal_bytes / BLOCK as u64;
    let most = OPS_FIXED + OPS_PER_FILE * files + blocks;
    assert!(ops <= most, "I13: opening took {ops} operations for {files} files, {blocks} blocks of WAL");
    world.counted.open_ops_max = world.counted.open_ops_max.max(ops);
    disk.kill();
    drop(shard);
    let (_, first) = look(&disk, &config, "I13: opened again");
    let (_, second) = look(&disk, &config, "I13: opened a third time");
    let compacts = world.swarm.has(Kind::Compaction);
    same(&first, &second, compacts, "opened twice");

    let cut = left;
    let after = world.random.below(ops + 1);
    cut.crash_after(after);
    drop(open(&cut, &config));
    cut.crash();
    let (_, third) = look(&cut, &config, "I13: opened after an opening that was cut");
    same(&first, &third, compacts, &format!("opening was cut after {after} of {ops} operations"));
    world.counted.copies += 2;
    world.counted.crash_points += 1;
}
