//! Two shards on one disk, turned in any order, that a crash ends at any moment: what either of them
//! acknowledged beside and behind parts of joint appends is there.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use thalweg_io::Reactor;
use thalweg_io::sim::{SimBackend, SimDisk, SimOptions, SimRandom};

use crate::ids::ShardId;
use crate::open::{JointsOfShard, decide_joints, next_joint, superblock};
use crate::shard::recover::{Recovering, ShardPlace};
use crate::shard::thread::finish_open;
use crate::shard::turn::Shard;
use crate::{AppendResult, Batch, Config, Log, Partition, PartitionConfig, Record, Ticket};

const SHARDS: u16 = 3;
const PARTITIONS: usize = 6;

/// A log of several shards on one thread.
struct Threadless {
    shards: Vec<Shard<SimBackend>>,
    log: Log,
}

impl Threadless {
    fn open(disk: &SimDisk) -> Threadless {
        let config = Arc::new(Config { shards: Some(SHARDS), ..super::config() });
        let reactor = Reactor::new(disk.backend());
        let superblock = reactor.block_on(superblock(&reactor, &config)).unwrap();
        drop(reactor);
        let read = |shard: u16| {
            let reactor = Reactor::new(disk.backend());
            let place = ShardPlace::new(ShardId(shard), superblock);
            let read = reactor.block_on(Recovering::read(&reactor, place, config.clone())).unwrap();
            (reactor, read)
        };
        let recovering: Vec<_> = (0..SHARDS).map(read).collect();
        let joints = |(_, recovering): &(_, Recovering<_>)| JointsOfShard {
            shard: recovering.shard(),
            found: recovering.joints(),
            resolved: recovering.joint_resolved(),
        };
        let joints: Vec<_> = recovering.iter().map(joints).collect();
        let cuts = decide_joints(&joints);
        let (mut shards, mut opened) = (Vec::new(), Vec::new());
        for (reactor, recovering) in recovering {
            let cut = cuts.get(&recovering.shard()).copied();
            let pace = crate::governor::Pace::new();
            let opening = finish_open(&reactor, recovering, cut, pace, &config);
            let (shard, of_shard) = reactor.block_on(opening).unwrap();
            shards.push(shard);
            opened.push(of_shard);
        }
        let log = crate::engine::make_log(&config, &opened, next_joint(&joints)).unwrap();
        Threadless { shards, log }
    }

    /// Turns all shards until `future` resolves.
    fn block_on<F: Future>(&mut self, disk: &SimDisk, future: F) -> F::Output {
        let mut future = pin!(future);
        for _ in 0..100_000 {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return value;
            }
            for shard in &mut self.shards {
                shard.turn();
            }
            disk.advance_us(5);
        }
        panic!("it never resolves");
    }
}

/// A life of random appends and turns; ends in the middle. Raises `acked` to the ends acknowledged.
fn live(disk: &SimDisk, dice: &mut SimRandom, acked: &mut [u64]) {
    let mut log = Threadless::open(disk);
    let mut partitions: Vec<Partition> = Vec::new();
    for (n, acked) in acked.iter_mut().enumerate() {
        let name = format!("p{n}");
        let partition = match log.log.partition(&name) {
            Ok(found) => found,
            Err(_) => {
                let creating = log.log.start_create(&name, PartitionConfig::default());
                log.block_on(disk, creating).unwrap()
            }
        };
        let info = log.block_on(disk, partition.describe()).unwrap();
        assert!(info.flushed.0 >= *acked, "{name}: {acked} were acknowledged, {} are there", info.flushed);
        *acked = info.flushed.0;
        partitions.push(partition);
    }
    let (mut singles, mut joints) = (Vec::<(usize, Ticket<AppendResult>)>::new(), Vec::new());
    for _ in 0..20 + dice.below(80) {
        let n = dice.below(PARTITIONS as u64) as usize;
        match dice.below(8) {
            0..=1 => singles.push((n, partitions[n].append("alone"))),
            2..=3 => {
                let both = [n, (n + 1 + dice.below(2) as usize) % PARTITIONS];
                let part = |n: usize| (partitions[n].clone(), Batch::from(Record::new("joint")));
                joints.push((both, log.log.append_atomic(both.map(part).into())));
            }
            // One of them much slower than the others.
            4 => disk.advance_us(dice.below(60)),
            _ => drop(log.shards[dice.below(u64::from(SHARDS)) as usize].turn()),
        }
    }
    for (n, ticket) in singles.into_iter().filter(|(_, ticket)| ticket.is_ready()) {
        acked[n] = acked[n].max(ticket.wait().unwrap().base_offset.0 + 1);
    }
    for (both, ticket) in joints.into_iter().filter(|(_, ticket)| ticket.is_ready()) {
        for (n, at) in both.into_iter().zip(ticket.wait().unwrap()) {
            acked[n] = acked[n].max(at.base_offset.0 + 1);
        }
    }
    disk.kill();
}

#[test]
fn what_is_acknowledged_beside_joint_appends_survives_a_crash() {
    for seed in 0..150 {
        println!("seed {seed}");
        let disk = SimDisk::with_options(seed, SimOptions::random());
        let mut dice = SimRandom::new(seed, "joints");
        let mut acked = [0; PARTITIONS];
        for _ in 0..4 {
            live(&disk, &mut dice, &mut acked);
            if dice.chance(0.5) {
                disk.crash();
            }
        }
    }
}
