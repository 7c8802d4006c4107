//! The end of the WAL: a write that the power cut caught is dropped, and only that.

use std::path::PathBuf;

use thalweg::inspect::verify_on;
use thalweg::wal::group::GroupHeader;
use thalweg::{Config, PartitionConfig};
use thalweg_io::sim::{SECTOR, SimDisk, SimOptions, Undecided};
use thalweg_io::{BLOCK, Reactor};

use crate::damage::{Image, Outcome};
use crate::world::{Known, Life, Model, SURVIVALS, check, config, open};

/// What may become of an image without a marker when its last group is damaged: all of it there,
/// or all but that group.
#[track_caller]
fn only_the_last_group(lost: u64, outcome: &Outcome, what: &str) -> bool {
    let Outcome::Broken(why) = outcome else { return false };
    assert!(
        why.contains(&format!("acknowledged at {lost}")) || why.contains(&format!("{lost} was")),
        "{what}: {why}"
    );
    true
}

/// An image whose last acknowledged group has one record of `b`; its offset, the file, the group.
fn unmarked() -> (Image, u64, PathBuf, GroupHeader) {
    let image = Image::new(false);
    let (path, groups) = image.wal().pop().unwrap();
    let last = *groups.last().unwrap();
    assert!(!last.is_marker());
    let lost = *image.model["b"].acked.last_key_value().unwrap().0;
    (image, lost, path, last)
}

#[test]
fn the_last_group_torn_at_any_byte_is_dropped_and_nothing_else() {
    let (image, lost, path, last) = unmarked();
    let old = vec![0u8; (last.len as usize).next_multiple_of(BLOCK)];
    for kept in 0..u64::from(last.len) {
        let outcome = image.after(|disk| disk.patch(&path, last.position + kept, &old[kept as usize..]));
        let what = format!("{kept} of {} B kept", last.len);
        // The last bytes may have been zeros anyway.
        let dropped = only_the_last_group(lost, &outcome, &what);
        assert!(dropped || outcome == Outcome::Whole, "{what}: {outcome:?}");
    }
}

#[test]
fn the_last_group_torn_into_any_sectors_is_dropped_or_whole() {
    let (image, lost, path, last) = unmarked();
    let sectors = (last.len as usize).div_ceil(SECTOR);
    assert!(sectors <= 16, "{sectors}");
    for subset in 0..1u32 << sectors {
        let outcome = image.after(|disk| {
            for sector in (0..sectors).filter(|sector| subset & 1 << sector == 0) {
                disk.patch(&path, last.position + (sector * SECTOR) as u64, &[0; SECTOR]);
            }
        });
        let dropped = only_the_last_group(lost, &outcome, &format!("sectors {subset:b}"));
        assert!(dropped || outcome == Outcome::Whole, "sectors {subset:b}: {outcome:?}");
    }
}

#[test]
fn what_opening_drops_is_what_verify_calls_unfinished() {
    let (image, _, path, last) = unmarked();
    for torn in [false, true] {
        let disk = image.disk.snapshot();
        if torn {
            disk.flip_bit(&path, (last.position + 100) * 8);
        }
        let reactor = Reactor::new(disk.backend());
        let report = reactor.block_on(verify_on(&reactor, &mut |_| ())).unwrap();
        drop(reactor);
        // A spare file may have been in the making.
        let in_wal = report.unfinished.iter().filter(|it| it.path.extension() == path.extension());
        let unfinished: Vec<_> = in_wal.map(|it| (&it.path, it.position)).collect();
        assert_eq!(unfinished, vec![(&path, last.position); usize::from(torn)], "{report:?}");
        assert!(report.is_clean(), "{report:?}");
        let shard = open(&disk, &image.config).unwrap();
        assert_eq!(shard.recovery().dropped.is_some(), torn);
    }
}

#[test]
fn damage_below_the_last_group_is_refused_with_its_place() {
    let (image, _, path, last) = unmarked();
    for (file, groups) in image.wal() {
        for group in groups.iter().filter(|group| (&file, group.number) != (&path, last.number)) {
            let outcome = image.after(|disk| disk.flip_bit(&file, (group.position + 100) * 8));
            match outcome {
                // A file that is sealed already.
                Outcome::Whole => {}
                Outcome::Refused(why) => {
                    let name = file.file_name().unwrap().to_string_lossy().into_owned();
                    assert!(why.contains(&name), "{why}");
                    assert!(why.contains(&format!("byte {}", group.position)), "{why}");
                }
                other => panic!("{} at {}: {other:?}", file.display(), group.position),
            }
        }
    }
}

#[test]
fn a_marker_makes_damage_to_the_last_group_visible() {
    let image = Image::new(true);
    let (path, groups) = image.wal().pop().unwrap();
    let [.., last, marker] = groups[..] else { panic!("{groups:?}") };
    assert!(marker.is_marker() && marker.durable == last.number);
    for byte in 0..u64::from(last.len) {
        let outcome = image.after(|disk| disk.flip_bit(&path, (last.position + byte) * 8 + 3));
        let padding = outcome == Outcome::Whole;
        assert!(matches!(outcome, Outcome::Refused(_)) || padding, "byte {byte}: {outcome:?}");
    }
}

/// Closing, and a file begun anew, leave a marker too.
#[test]
fn a_marker_follows_also_into_a_fresh_file() {
    let mut config = config();
    config.segment.seal_age_max_ms = 1;
    let disk = SimDisk::with_options(9, SimOptions::kind());
    let (mut model, mut next_id) = (Model::new(), 1);
    let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
    life.create("a", PartitionConfig::default());
    life.append("a", 1, 100);
    assert!(life.pump() && life.settle(50_000));
    disk.kill();
    drop(life);
    let image = Image { disk, model, config };
    for (path, groups) in image.wal() {
        for group in groups.iter().filter(|group| !group.is_marker()) {
            let outcome = image.after(|disk| disk.flip_bit(&path, (group.position + 20) * 8));
            assert!(!matches!(outcome, Outcome::Broken(_)), "{}: {outcome:?}", path.display());
        }
    }
}

/// Settings with which several large groups are in flight.
fn pipelined() -> Config {
    let mut config = config();
    config.group.bytes_max = 64 << 10;
    config.limits.queue_bytes_max = 4 << 20;
    config.group.in_flight_max = 4;
    config.wal.file_bytes = 1 << 20;
    config.cache.bytes = 4 << 20;
    config
}

/// Several groups in flight, each sector of each write kept or lost on its own.
#[test]
fn groups_in_flight_are_kept_in_order_or_not_at_all() {
    for seed in 0..400 {
        let config = pipelined();
        let disk = SimDisk::with_options(seed, SimOptions::random());
        let (mut model, mut next_id) = (Model::new(), 1);
        let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
        life.create("a", PartitionConfig::default());
        life.create("b", PartitionConfig::default());
        assert!(life.pump());
        disk.crash_after(seed % 40);
        for _ in 0..40 {
            life.append("a", 2, 3800);
            life.append("b", 1, 3000);
        }
        for turn in 0..30 {
            life.append("b", 1, 200 * turn);
            life.shard.turn();
        }
        life.pump();
        drop(life);
        disk.crash();
        for round in 0..3 {
            let mut shard = open(&disk, &config).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            check(&mut shard, &mut model).unwrap_or_else(|error| panic!("seed {seed}, {round}: {error}"));
            disk.kill();
        }
    }
}

/// The first of several groups in flight is lost, those behind it are kept: none of them counts,
/// and what is appended afterwards takes their offsets.
#[test]
fn the_first_of_several_in_flight_missing_drops_the_rest() {
    let mut found = 0;
    for seed in 0..60 {
        let config = pipelined();
        let disk = SimDisk::with_options(seed, SimOptions::strict());
        let (mut model, mut next_id) = (Model::new(), 1);
        let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
        life.create("a", PartitionConfig::default());
        life.append("a", 1, 100);
        assert!(life.pump());
        disk.crash_after(2 + seed % 4);
        (0..60).for_each(|_| life.append("a", 2, 3800));
        life.pump();
        drop(life);
        let mut first = true;
        disk.crash_choosing(|what| match what {
            Undecided::InFlight(_) => !std::mem::take(&mut first),
            _ => true,
        });
        for round in 0..2 {
            let mut shard = open(&disk, &config).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            found += usize::from(shard.recovery().dropped.is_some());
            check(&mut shard, &mut model).unwrap_or_else(|error| panic!("seed {seed}, {round}: {error}"));
            disk.kill();
            drop(shard);
            let mut next_id = 10_000 + round * 1000;
            let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
            life.append("a", 3, 1000);
            assert!(life.pump());
            disk.kill();
        }
    }
    assert!(found > 0, "no run dropped anything");
}

/// Files used many times over: bytes of earlier lives are never taken for groups.
#[test]
fn a_recycled_file_never_shows_what_it_held_before() {
    for (index, options) in SURVIVALS.iter().enumerate() {
        for seed in 0..40 {
            let config = config();
            let disk = SimDisk::with_options(seed, options());
            let (mut model, mut next_id) = (Model::new(), 1);
            let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
            for name in ["a", "b", "c"] {
                life.create(name, PartitionConfig::default());
            }
            assert!(life.pump());
            disk.crash_after(400 + seed * 13);
            for round in 0..400usize {
                for name in ["a", "b", "c"] {
                    life.append(name, 1 + round % 3, 100 + round * 37 % 2200);
                }
                if round % 4 == 0 && !life.pump() || round % 16 == 0 && !life.settle(1500) {
                    break;
                }
            }
            life.pump();
            drop(life);
            disk.crash();
            let what = format!("survival {index}, seed {seed}");
            let mut shard = open(&disk, &config).unwrap_or_else(|error| panic!("{what}: {error}"));
            check(&mut shard, &mut model).unwrap_or_else(|error| panic!("{what}: {error}"));
            let promise = &model["a"];
            assert_eq!((promise.created, promise.acked.is_empty()), (Known::Yes, false), "{what}");
        }
    }
}

/// A power cut while recovering from a power cut while recovering from a power cut.
#[test]
fn a_cut_while_recovering_changes_nothing() {
    let mut nested = 0;
    for (index, options) in SURVIVALS.iter().enumerate() {
        for first in (60..700).step_by(43) {
            let disk = SimDisk::with_options(7, options());
            let mut model = Model::new();
            disk.crash_after(first);
            crate::crash::run(&disk, &mut model);
            if !disk.is_off() {
                continue;
            }
            disk.crash();
            for second in 0.. {
                let disk = disk.snapshot();
                disk.reseed(second * 31 + first);
                disk.crash_after(second);
                let opened = open(&disk, &config()).is_ok();
                if opened && !disk.is_off() {
                    break;
                }
                nested += 1;
                disk.crash();
                let third = disk.snapshot();
                third.crash_after(second * 7 % 23);
                drop(open(&third, &config()));
                third.crash();
                for (disk, depth) in [(disk, 2), (third, 3)] {
                    let what = format!("survival {index}, cuts after {first} and {second}, depth {depth}");
                    let mut model = model.clone();
                    for _ in 0..2 {
                        let mut shard =
                            open(&disk, &config()).unwrap_or_else(|error| panic!("{what}: {error}"));
                        check(&mut shard, &mut model).unwrap_or_else(|error| panic!("{what}: {error}"));
                        disk.kill();
                    }
                }
            }
        }
    }
    assert!(nested > 500, "{nested} cuts while recovering");
}

/// A block that can't be read proves no tear: opening refuses, and so does a spare file's.
#[test]
fn an_unreadable_block_is_refused() {
    use thalweg_io::sim::{Effect, FaultRule, OpKind};
    let image = Image::new(true);
    for (path, groups) in image.wal() {
        let disk = image.disk.snapshot();
        let name = path.to_string_lossy().into_owned();
        disk.plan(FaultRule::new(OpKind::Read, Effect::Error(5)).on(name.clone()).always());
        let outcome = open(&disk, &image.config).map(|_| ());
        assert!(outcome.is_err(), "{name}: {} groups could not be read", groups.len());
    }
}

#[test]
fn a_closed_log_that_lost_its_end_is_refused() {
    let config = config();
    let disk = SimDisk::with_options(7, SimOptions::strict());
    let (mut model, mut next_id) = (Model::new(), 1);
    let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
    life.create("a", PartitionConfig::default());
    assert!(life.pump());
    for _ in 0..4 {
        life.append("a", 1, 500);
        assert!(life.pump());
    }
    life.close();
    disk.kill();
    let image = Image { disk, model, config };
    let (path, groups) = image.wal().pop().unwrap();
    assert!(groups.last().unwrap().is_marker());
    // The last group and the marker behind it share a flash page, say.
    for lost in 1..groups.len() - 1 {
        let from = groups[groups.len() - lost].position;
        let outcome = image.after(|disk| disk.patch(&path, from, &vec![0; lost * 8192]));
        assert!(matches!(outcome, Outcome::Refused(_)), "{lost} groups lost: {outcome:?}");
    }
}
