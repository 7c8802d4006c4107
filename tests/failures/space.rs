//! Out of space.

use thalweg::{AppendError, Offset, Partition, PartitionConfig, ShardId};
use thalweg_tests::{Host, HostExt, Sim};

use crate::{append_until_refused, check, fill, on_disks};

const FULL: AppendError = AppendError::OutOfSpace { shard: ShardId(0) };

/// Opens a log on a disk with room for `more` bytes beside it, and fills it.
async fn filled(host: &mut Sim, more: u64) -> u64 {
    host.open().await;
    let p = host.create("p").await;
    let used = (1 << 40) - host.disk.free_bytes();
    host.disk.set_capacity(used + more);
    let (end, error) = append_until_refused(host, &p, 0).await;
    assert_eq!(error, FULL);
    end
}

async fn goes_on(host: &mut Sim, end: u64) {
    let p = host.partition("p");
    append_when_there_is_room(host, &p, end).await;
}

async fn append_when_there_is_room(host: &mut Sim, p: &Partition, end: u64) {
    for _ in 0..1000 {
        match host.try_append(p, crate::value(end)).await {
            Ok(at) => return assert_eq!(at.base_offset.0, end),
            Err(error) => assert_eq!(error, FULL),
        }
        host.pause(10).await;
    }
    panic!("appends do not go on");
}

#[test]
fn a_full_disk_refuses_appends_and_serves_reads_until_there_is_room() {
    on_disks(async |mut host| {
        for more in [0, 100 << 10, 1 << 20, 3 << 20] {
            let mut host_here = Sim::new(host.config().clone(), more);
            let end = filled(&mut host_here, more).await;
            check(&mut host_here, 0, end).await;
            host_here.pause(2000).await;
            let p = host_here.partition("p");
            assert_eq!(host_here.try_append(&p, "still full").await, Err(FULL));
            check(&mut host_here, 0, end).await;
            host_here.disk.set_capacity(1 << 40);
            goes_on(&mut host_here, end).await;
            check(&mut host_here, 0, end + 1).await;
            host_here.reopen().await;
            check(&mut host_here, 0, end + 1).await;
        }
    });
}

#[test]
fn a_log_on_a_full_disk_opens_and_is_read() {
    on_disks(async |mut host| {
        let end = filled(&mut host, 1 << 20).await;
        for clean in [true, false] {
            if clean {
                host.close().await
            } else {
                host.crash().await
            }
            for more in [0, 4 << 10, 16 << 10, 64 << 10, 200 << 10] {
                host.disk.set_capacity(1 << 40);
                let used = (1 << 40) - host.disk.free_bytes();
                host.disk.set_capacity(used + more);
                host.open().await;
                check(&mut host, 0, end).await;
                host.crash().await;
            }
            host.open().await;
        }
        host.disk.set_capacity(1 << 40);
        goes_on(&mut host, end).await;
    });
}

#[test]
fn trimming_and_deleting_make_room_on_a_full_disk() {
    on_disks(async |mut host| {
        host.config().segment.promote_partitions_max = 0;
        let end = filled(&mut host, 4 << 20).await;
        let p = host.partition("p");
        let half = Offset(end / 2);
        host.drive(p.trim(half)).await.unwrap();
        goes_on(&mut host, end).await;
        check(&mut host, half.0, end + 1).await;
        let (end, error) = append_until_refused(&mut host, &p, end + 1).await;
        assert_eq!(error, FULL);
        check(&mut host, half.0, end).await;
        host.delete("p").await.unwrap();
        let mut made = host.create_with("q", PartitionConfig::default()).await;
        for _ in 0..1000 {
            if made.is_ok() {
                break;
            }
            host.pause(10).await;
            made = host.create_with("q", PartitionConfig::default()).await;
        }
        let q = made.unwrap();
        for offset in 0..100 {
            append_when_there_is_room(&mut host, &q, offset).await;
        }
        host.reopen().await;
        assert_eq!(host.log().partitions().len(), 1);
    });
}

#[test]
fn space_that_comes_and_goes_loses_nothing() {
    on_disks(async |mut host| {
        host.open().await;
        let p = host.create("p").await;
        let mut end = fill(&mut host, &p, 0, 10).await;
        for round in 0..10 {
            let free = host.disk.free_bytes();
            let used = (1u64 << 40).saturating_sub(free);
            host.disk.set_capacity(used + (round % 4) * (300 << 10));
            let (stopped, error) = append_until_refused(&mut host, &p, end).await;
            assert_eq!(error, FULL);
            host.disk.set_capacity(1 << 40);
            goes_on(&mut host, stopped).await;
            end = stopped + 1;
        }
        check(&mut host, 0, end).await;
        host.crash().await;
        host.open().await;
        check(&mut host, 0, end).await;
    });
}

#[test]
fn a_trim_behind_a_refused_append_makes_room() {
    on_disks(async |mut host| {
        host.config().segment.promote_partitions_max = 0;
        let end = filled(&mut host, 4 << 20).await;
        let p = host.partition("p");
        let append = p.append(crate::value(end));
        let trim = p.trim(Offset(end / 2));
        assert_eq!(host.drive(append).await, Err(FULL));
        host.drive(trim).await.unwrap();
        goes_on(&mut host, end).await;
        check(&mut host, end / 2, end + 1).await;
    });
}
