//! What only blocking programs do: threads that sleep until they are answered.

use std::collections::BTreeSet;

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg::{
    ControlError, Engine, LockError, Offset, OpenError, OwnedShard, PartitionConfig, ReadFrom, Record,
};
use thalweg_tests::{Directory, Host, HostExt, Owned, Threads, block_on, small};

fn engine(directory: &Directory, shards: u16, backend: BackendSetting) -> Engine {
    let mut config = small();
    config.data_dir = directory.path();
    config.shards = Some(shards);
    config.threads.backend = backend;
    Engine::open(config).unwrap()
}

fn appenders(backend: BackendSetting) {
    let directory = Directory::new();
    let engine = engine(&directory, 3, backend);
    let partitions: Vec<_> =
        (0..4).map(|n| engine.create(&format!("p{n}"), PartitionConfig::default()).unwrap()).collect();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let partitions = &partitions;
            scope.spawn(move || {
                let mut last = [None; 4];
                for n in 0..200usize {
                    let to = (n + thread) % 4;
                    let at = partitions[to].append(Record::new(format!("{thread}.{n}"))).wait().unwrap();
                    assert!(last[to] < Some(at.base_offset), "a thread's appends are in order");
                    last[to] = Some(at.base_offset);
                }
            });
        }
    });
    let mut seen = BTreeSet::new();
    for partition in &partitions {
        for (expected, row) in (0..).zip(partition.read(ReadFrom::Earliest).to_end().records()) {
            let (offset, record) = row.unwrap();
            assert_eq!(offset, Offset(expected));
            assert!(seen.insert(record.value.unwrap()), "every record is there once");
        }
    }
    assert_eq!(seen.len(), 1200);
}

#[test]
fn threads_append_at_once() {
    appenders(BackendSetting::Auto);
    appenders(BackendSetting::Blocking);
}

#[test]
fn a_reading_thread_sleeps_until_there_is_more() {
    let directory = Directory::new();
    let engine = engine(&directory, 1, BackendSetting::Auto);
    let p = engine.create("p", PartitionConfig::default()).unwrap();
    let records = p.read(ReadFrom::Earliest).records();
    let reading = std::thread::spawn(move || {
        let rows = records.take(100).map(|row| row.unwrap().0.0);
        rows.collect::<Vec<_>>()
    });
    for n in 0..100 {
        p.append(format!("{n}")).wait().unwrap();
        if n % 10 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    }
    assert_eq!(reading.join().unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_reader_is_an_iterator_over_batches_and_records() {
    let directory = Directory::new();
    let engine = engine(&directory, 2, BackendSetting::Auto);
    let p = engine.create("p", PartitionConfig::default()).unwrap();
    p.append((0..50).map(|n| Record::new(format!("{n}"))).collect::<Vec<_>>()).wait().unwrap();
    let batches: Vec<_> = p.read(ReadFrom::Offset(Offset(20))).to_end().collect::<Result<_, _>>().unwrap();
    assert_eq!(batches[0].base_offset(), Offset(0), "a batch is whole");
    let rows: Vec<_> =
        p.read(ReadFrom::Offset(Offset(20))).to_end().records().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows[0].0, Offset(20), "records begin where they were asked for");
    assert_eq!(rows.len(), 30);
    let spun = p.append("spun").spin().unwrap();
    assert_eq!(spun.base_offset, Offset(50));
}

#[test]
fn closing_wakes_a_waiting_reader() {
    let directory = Directory::new();
    let engine = engine(&directory, 2, BackendSetting::Auto);
    let p = engine.create("p", PartitionConfig::default()).unwrap();
    let mut reader = p.read(ReadFrom::Earliest);
    let reading = std::thread::spawn(move || reader.next());
    std::thread::sleep(std::time::Duration::from_millis(50));
    engine.close().unwrap();
    let answer = reading.join().unwrap();
    assert!(answer.unwrap().is_err(), "a waiting reader hears that the log is closed");
    assert!(p.append("late").wait().is_err());
}

#[test]
fn a_directory_has_one_owner_and_others_are_told_who() {
    let told = |error: OpenError| {
        assert!(matches!(error, OpenError::Lock(LockError::Held { .. })), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(&std::process::id().to_string()), "{message}");
    };
    let mut host = Owned::new(small(), BackendSetting::Auto, CommitSetting::Dsync);
    block_on(host.open());
    let mut config = host.config().clone();
    std::thread::scope(|scope| {
        let other = config.clone();
        scope.spawn(|| told(Engine::open(other).err().expect("the directory is taken")));
        config.threads.backend = BackendSetting::Blocking;
        told(OwnedShard::open(config).err().expect("the directory is taken"));
    });
    block_on(async {
        let p = host.create("p").await;
        host.append(&p, "undisturbed").await;
        host.reopen().await;
    });
}

#[test]
fn shards_are_fixed_when_the_directory_is_made() {
    let mut host = Threads::new(small(), 3, BackendSetting::Auto);
    block_on(async {
        host.open().await;
        let p = host.create("p").await;
        host.append(&p, "here").await;
        host.close().await;
        host.config().shards = Some(2);
        let refused = host.try_open().await.unwrap_err();
        assert!(matches!(refused, OpenError::Shards { wanted: 2, found: 3, .. }), "{refused}");
        host.config().shards = None;
        host.open().await;
        assert_eq!(host.log().shards(), 3);
        let p = host.partition("p");
        assert_eq!(host.values(&p).await.1, ["here"]);
    });
}

#[test]
fn a_log_moves_between_backends_and_ways_to_run_it() {
    let directory = Directory::new();
    let mut config = small();
    config.data_dir = directory.path();
    for life in 0..6u64 {
        config.threads.backend = if life % 2 == 0 { BackendSetting::Auto } else { BackendSetting::Blocking };
        if life % 3 == 0 {
            let engine = Engine::open(config.clone()).unwrap();
            if life == 0 {
                engine.create("p", PartitionConfig::default()).unwrap();
            }
            let p = engine.partition("p").unwrap();
            assert_eq!(p.append(format!("{life}")).wait().unwrap().base_offset, Offset(life));
        } else {
            let mut shard = OwnedShard::open(config.clone()).unwrap();
            let p = shard.log().partition("p").unwrap();
            assert_eq!(shard.block_on(p.append(format!("{life}"))).unwrap().base_offset, Offset(life));
            shard.close().unwrap();
        }
    }
}

#[test]
fn the_thread_that_turns_a_shard_does_not_wait_for_itself() {
    let directory = Directory::new();
    let mut config = small();
    config.data_dir = directory.path();
    let mut shard = OwnedShard::open(config).unwrap();
    let log = shard.log().clone();
    assert_eq!(log.create("p", PartitionConfig::default()).err(), Some(ControlError::WouldWaitForItself));
    let creating = log.start_create("p", PartitionConfig::default());
    shard.block_on(creating).unwrap();
    assert_eq!(log.delete("p").err(), Some(ControlError::WouldWaitForItself));
    let elsewhere = std::thread::spawn(move || log.create("q", PartitionConfig::default()).is_ok());
    while !elsewhere.is_finished() {
        shard.turn();
    }
    assert!(elsewhere.join().unwrap());
}
