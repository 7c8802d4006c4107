//! A power cut at every operation of a run, and again while recovering.

use thalweg::{Config, OwnedShard, PartitionConfig};
use thalweg_io::sim::{SimDisk, SimOptions};

use crate::world::{Life, Model, SURVIVALS, check, config, open};

/// A run that formats, seals, promotes, merges, trims, deletes, rolls the manifest over and reopens.
/// Ends early where the power goes.
pub(crate) fn run(disk: &SimDisk, model: &mut Model) {
    let mut next_id = 1;
    let config = config();
    for life in 0..3u64 {
        let Ok(mut shard) = Life::open(disk, &config, model, &mut next_id) else {
            assert!(disk.is_off(), "life {life} did not open: {:?}", open(disk, &config).err());
            return;
        };
        if !one_life(&mut shard, life) {
            return;
        }
        shard.close();
        if disk.is_off() {
            return;
        }
    }
}

/// Small records of several partitions, changes of the catalog in between.
fn mixed(shard: &mut Life<'_>, life: u64) -> bool {
    let settings = PartitionConfig::default();
    let short = format!("short-{life}");
    ["a", "b", &short].iter().for_each(|name| shard.create(name, settings));
    if !shard.pump() {
        return false;
    }
    for round in 0..12u64 {
        let mix = round * 7 + life * 3;
        shard.append("a", 1 + (mix % 4) as usize, 100 + (mix as usize * 611) % 1500);
        shard.append("b", 1, 50);
        if round < 5 {
            shard.append(&short, 2, 700);
        }
        match round {
            4 => shard.trim("a", life * 25 + 6),
            6 => shard.delete(&short),
            9 => shard.trim("b", life * 4 + 2),
            _ => {}
        }
        if round % 2 == 0 && !shard.pump() {
            return false;
        }
        if round % 5 == 3 && !shard.settle(3000) {
            return false;
        }
    }
    shard.pump()
}

/// Large batches of one partition, enough to fill files that are then promoted.
fn large(shard: &mut Life<'_>, batches: u64) -> bool {
    for batch in 0..batches {
        shard.append("a", 2, 3900);
        if batch % 3 == 0 && !shard.pump() {
            return false;
        }
    }
    shard.pump() && shard.settle(4000)
}

fn one_life(shard: &mut Life<'_>, life: u64) -> bool {
    match life {
        0 => mixed(shard, life) && large(shard, 21) && mixed(shard, life + 10),
        1 => large(shard, 21) && mixed(shard, life) && large(shard, 21),
        _ => mixed(shard, life),
    }
}

/// Settings under which two full files are sealed as one, and each is full soon.
fn joint_config() -> Config {
    let mut config = config();
    config.wal.file_bytes = 112 << 10;
    config.cache.bytes = 3 * config.wal.file_bytes;
    config.segment.seal_files_max = 2;
    config.segment.own_bytes_min = u64::MAX;
    config
}

/// Two lives in which files that many partitions share are sealed as one, and their segments merged.
/// Returns how many files, and in how many goes.
fn sealing(disk: &SimDisk, model: &mut Model) -> (u64, u64) {
    let (mut next_id, mut files, mut goes) = (1, 0, 0);
    for _ in 0..2 {
        let Ok(mut shard) = Life::open(disk, &joint_config(), model, &mut next_id) else { break };
        ["a", "b", "c"].iter().for_each(|name| shard.create(name, PartitionConfig::default()));
        let mut sealed = 0;
        for round in 0..24 {
            ["a", "b", "c"].iter().for_each(|name| shard.append(name, 2, 900));
            if !shard.pump() || (round % 4 == 3 && !shard.settle(3000)) {
                return (files, goes);
            }
            let stats = shard.shard.log().stats(0);
            let now = shard.shard.block_on(stats).map_or(0, |stats| stats.files_sealed);
            goes += u64::from(now > sealed);
            files += now - sealed;
            sealed = now;
        }
        shard.forget();
    }
    (files, goes)
}

/// Every file is one that the manifest knows. What is being made in the background is given time.
fn nothing_is_left_over(disk: &SimDisk, shard: &mut OwnedShard, what: &str) {
    let mut last = None;
    for _ in 0..20 {
        let stats = shard.log().stats(0);
        let Some(stats) = shard.block_on(stats) else { break };
        let files = disk.files().into_iter().filter(|(path, _)| {
            let name = path.to_string_lossy();
            !name.contains("quarantine") && (name.ends_with(".log") || name.ends_with(".tmp"))
        });
        let (files, known) = (files.count() as u64, stats.wal_files + stats.segments);
        if files == known {
            return;
        }
        last = Some((files, known));
        let until = disk.now().plus_us(5000);
        while disk.now() < until {
            if !shard.turn() {
                shard.park();
            }
        }
    }
    panic!("{what}: files in the directory and in the manifest: {last:?}");
}

/// Opens, checks, and opens again: the answer is the same.
fn recovered(disk: &SimDisk, model: &mut Model, what: &str) {
    recovered_with(&config(), disk, model, what);
}

fn recovered_with(config: &Config, disk: &SimDisk, model: &mut Model, what: &str) {
    for round in ["opened", "opened again"] {
        let mut shard = match open(disk, config) {
            Ok(shard) => shard,
            Err(error) => panic!("{what}, {round}: {error}"),
        };
        if let Err(error) = check(&mut shard, model) {
            panic!("{what}, {round}: {error}");
        }
        if round == "opened" {
            disk.kill();
            drop(shard);
        } else {
            let mut next_id = 1_000_000;
            drop(shard);
            let mut life = Life::open(disk, config, model, &mut next_id)
                .unwrap_or_else(|error| panic!("{what}, a third time: {error}"));
            life.append("a", 2, 3000);
            life.append("b", 1, 100);
            assert!(life.pump() && life.settle(5000), "{what}");
            life.close();
        }
    }
    let mut shard = open(disk, config).unwrap_or_else(|error| panic!("{what}, at the end: {error}"));
    if let Err(error) = check(&mut shard, model) {
        panic!("{what}, at the end: {error}");
    }
    nothing_is_left_over(disk, &mut shard, what);
}

/// Operations of a whole run.
fn length(options: SimOptions) -> u64 {
    let disk = SimDisk::with_options(1, options);
    let mut model = Model::new();
    run(&disk, &mut model);
    let ops = disk.op_count();
    assert!(ops > 200, "{ops} operations is no run");
    ops
}

#[test]
fn a_run_without_a_power_cut_keeps_its_promises() {
    for options in SURVIVALS {
        let disk = SimDisk::with_options(1, options());
        let mut model = Model::new();
        run(&disk, &mut model);
        println!("{} ops {:?}", disk.op_count(), disk.files());
        recovered(&disk, &mut model, "no cut");
        println!("{} ops {:?}", disk.op_count(), disk.files());
    }
}

#[test]
fn a_cut_at_every_operation_loses_nothing_acknowledged() {
    for (index, options) in SURVIVALS.iter().enumerate() {
        let ops = length(options());
        for cut in 0..ops {
            let disk = SimDisk::with_options(1, options());
            let mut model = Model::new();
            disk.crash_after(cut);
            run(&disk, &mut model);
            disk.crash();
            recovered(&disk, &mut model, &format!("survival {index}, cut after {cut} of {ops}"));
        }
    }
}

/// A run in which promoted segments die and become WAL files again. Returns how many did.
fn recycling(disk: &SimDisk, model: &mut Model) -> u64 {
    let mut next_id = 1;
    let Ok(mut shard) = Life::open(disk, &config(), model, &mut next_id) else { return 0 };
    shard.create("a", PartitionConfig::default());
    let mut recycled = 0;
    for _ in 0..2 {
        if !shard.pump() || !large(&mut shard, 40) {
            return recycled;
        }
        let end = shard.acked_end("a");
        shard.trim("a", end - end % 2);
        if !shard.pump() || !shard.settle(20_000) {
            return recycled;
        }
        let stats = shard.shard.log().stats(0);
        recycled = shard.shard.block_on(stats).map_or(0, |stats| stats.files_recycled);
    }
    if large(&mut shard, 10) {
        shard.close();
    }
    recycled
}

#[test]
fn a_cut_while_a_segment_becomes_a_wal_file_again_loses_nothing_acknowledged() {
    for (index, options) in SURVIVALS.iter().enumerate() {
        let disk = SimDisk::with_options(1, options());
        assert!(recycling(&disk, &mut Model::new()) > 0, "nothing is recycled");
        let ops = disk.op_count();
        for cut in 0..ops {
            let disk = SimDisk::with_options(1, options());
            let mut model = Model::new();
            disk.crash_after(cut);
            recycling(&disk, &mut model);
            disk.crash();
            recovered(&disk, &mut model, &format!("survival {index}, cut after {cut} of {ops}"));
        }
    }
}

#[test]
fn a_cut_while_files_are_sealed_as_one_loses_nothing_and_leaves_nothing_over() {
    for (index, options) in SURVIVALS.iter().enumerate() {
        let disk = SimDisk::with_options(1, options());
        let (files, goes) = sealing(&disk, &mut Model::new());
        assert!(files >= goes + 3, "{files} files sealed in {goes} goes");
        let ops = disk.op_count();
        for cut in 0..ops {
            let disk = SimDisk::with_options(1, options());
            let mut model = Model::new();
            disk.crash_after(cut);
            sealing(&disk, &mut model);
            disk.crash();
            let what = format!("survival {index}, cut after {cut} of {ops}");
            recovered_with(&joint_config(), &disk, &mut model, &what);
        }
    }
}
