//! I6: what the log calls flushed is on the disk: the worst power cut now would leave it.

use thalweg_io::sim::SimOptions;

use crate::copy::{Contents, copy, look};
use crate::promises::keep;
use crate::world::World;

/// Cuts the power of a copy of the disk in the worst way, and looks for all that is known, and all that
/// the log itself calls flushed.
pub(crate) fn survives_the_worst(world: &mut World<'_>) {
    let ends = world.flushed_ends();
    let contents = survives_now(world);
    for (name, flushed) in ends {
        let end = contents.get(&name).map_or(0, |found| found.info.log_end.0);
        assert!(end >= flushed, "I6: {name} is flushed up to {flushed}, and would end at {end}");
    }
}

/// As [`survives_the_worst`], of what was promised up to this very moment.
pub(crate) fn survives_now(world: &mut World<'_>) -> Contents {
    let disk = copy(&world.host.disk);
    disk.set_options(SimOptions { capacity_bytes: 1 << 40, ..SimOptions::strict() });
    disk.crash();
    let (_, contents) = look(&disk, &world.config(), "I6: a power cut now");
    world.counted.copies += 1;
    for (name, truth) in &world.oracle.there {
        let found = contents.get(name).unwrap_or_else(|| panic!("I6: {name} would be gone"));
        let start = truth.log_start.max(found.info.log_start.0);
        keep("I6", truth.check_kept(name, start..u64::MAX, found.log_start, &found.found));
    }
    contents
}
