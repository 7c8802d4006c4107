//! A joint append that is cut when WAL files behind it were begun already.

mod joints;

use std::sync::Arc;

use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_io::{BLOCK, Reactor};

use crate::ids::{GroupNumber, ShardId};
use crate::shard::owned::OwnedShard;
use crate::shard::recover::{Recovering, ShardPlace};
use crate::shard::thread::finish_open;
use crate::wal::group::GroupHeader;
use crate::{Config, PartitionConfig};

fn config() -> Config {
    let mut config = Config::new("data");
    config.shards = Some(1);
    config.wal.file_bytes = 512 << 10;
    config.group.bytes_max = 32 << 10;
    config.limits.batch_bytes_max = 32 << 10;
    config.limits.queue_bytes_max = 8 << 20;
    config.cache.bytes = 1 << 20;
    config.segment.check_interval_ms = 20;
    config
}

/// Groups in each file.
fn groups(disk: &SimDisk) -> Vec<usize> {
    let wal = disk.files().into_iter().filter(|(name, _)| name.extension().is_some_and(|end| end == "log"));
    let count = |bytes: Vec<u8>| bytes.chunks(BLOCK).filter(|block| GroupHeader::read(block).is_ok()).count();
    wal.map(|(name, _)| count(disk.contents(name).unwrap())).collect()
}

/// A disk after a crash with groups in two files, none of them sealed.
fn crashed() -> SimDisk {
    let disk = SimDisk::with_options(3, SimOptions::kind());
    let mut shard = OwnedShard::open_on(disk.backend(), config(), None).unwrap();
    let creating = shard.log().start_create("p", PartitionConfig::default());
    let p = shard.block_on(creating).unwrap();
    let _tickets: Vec<_> = (0..900u64).map(|n| p.append(format!("{n:0>1000}"))).collect();
    while groups(&disk).into_iter().filter(|count| *count > 1).count() < 2 {
        shard.turn();
        disk.advance_us(1);
        shard.park();
    }
    disk.crash();
    disk
}

/// Opens the crashed disk with a cut in its first file, appends `more` records and turns for a
/// while. Returns the offsets that were acknowledged.
fn cut_and_go_on(disk: &SimDisk, more: u64) -> Vec<u64> {
    let reactor = Reactor::new(disk.backend());
    let config = Arc::new(config());
    let superblock = reactor.block_on(crate::open::superblock(&reactor, &config)).unwrap();
    let place = ShardPlace::new(ShardId(0), superblock);
    let recovering = reactor.block_on(Recovering::read(&reactor, place, config.clone())).unwrap();
    let first_groups = recovering.first_groups();
    let cut = GroupNumber(first_groups[1].0 - 3);
    let opening = finish_open(&reactor, recovering, Some(cut), crate::governor::Pace::new(), &config);
    let (mut shard, opened) = reactor.block_on(opening).unwrap();
    drop(reactor);
    let log = crate::engine::make_log(&config, std::slice::from_ref(&opened), 1).unwrap();
    let p = log.partition("p").unwrap();
    let mut acked = Vec::new();
    for n in 0..more {
        let ticket = p.append(format!("after {n}"));
        while !ticket.is_ready() {
            if !shard.turn() {
                shard.park();
            }
        }
        acked.push(ticket.wait().unwrap().base_offset.0);
    }
    for _ in 0..2000 {
        if !shard.turn() {
            shard.park();
        }
    }
    assert_eq!(shard.core.state().halted, None);
    acked
}

#[test]
fn what_is_acknowledged_after_a_cut_below_a_later_file_is_kept() {
    for more in [0, 1, 2, 8] {
        let disk = crashed();
        let acked = cut_and_go_on(&disk, more);
        for _ in 0..3 {
            let mut shard = OwnedShard::open_on(disk.backend(), config(), None).unwrap();
            let describing = shard.log().partition("p").unwrap().describe();
            let end = shard.block_on(describing).unwrap().log_end.0;
            assert!(acked.last().is_none_or(|last| end == last + 1), "{acked:?}, the log ends at {end}");
            disk.kill();
            drop(shard);
        }
    }
}
