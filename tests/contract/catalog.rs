//! Partitions coming and going.

use thalweg::{AppendError, ControlError, FetchError, Offset, PartitionConfig, ReadFrom, Retention};
use thalweg_tests::{Host, HostExt};

use crate::storing::fill;

fn names<H: Host>(host: &H) -> Vec<String> {
    host.log().partitions().iter().map(|partition| partition.name().to_owned()).collect()
}

pub(crate) async fn partitions_are_made_listed_and_deleted(mut host: impl Host) {
    host.open().await;
    assert_eq!(names(&host), [""; 0]);
    for name in ["b", "a", "größe", "c/d.e f"] {
        let made = host.create(name).await;
        assert_eq!(made.name(), name);
        assert_eq!(host.partition(name).id(), made.id());
    }
    assert_eq!(names(&host), ["a", "b", "c/d.e f", "größe"]);
    let taken = host.create_with("a", PartitionConfig::default()).await.unwrap_err();
    assert_eq!(taken, ControlError::NameTaken("a".into()));
    host.delete("b").await.unwrap();
    assert!(matches!(host.delete("b").await, Err(ControlError::NoSuchPartition(_))));
    assert!(host.log().partition("b").is_err());
    assert_eq!(names(&host), ["a", "c/d.e f", "größe"]);
    host.reopen().await;
    assert_eq!(names(&host), ["a", "c/d.e f", "größe"]);
    host.crash().await;
    host.open().await;
    assert_eq!(names(&host), ["a", "c/d.e f", "größe"]);
}

pub(crate) async fn a_name_can_be_used_again(mut host: impl Host) {
    host.open().await;
    let mut ids = Vec::new();
    for life in 0..5 {
        let p = host.create("p").await;
        assert!(!ids.contains(&p.id()), "an id is never used again");
        ids.push(p.id());
        assert_eq!(host.values(&p).await, (0, vec![]));
        assert_eq!(host.append(&p, format!("life {life}")).await, 0);
        if life % 2 == 0 {
            host.reopen().await;
            let p = host.partition("p");
            assert_eq!(host.values(&p).await.1, [format!("life {life}")]);
        }
        host.delete("p").await.unwrap();
        if life % 3 == 0 {
            host.reopen().await;
            assert_eq!(names(&host), [""; 0]);
        }
    }
}

pub(crate) async fn names_have_rules(mut host: impl Host) {
    host.config().limits.name_bytes_max = 20;
    host.open().await;
    for bad in ["", "a\nb", "\0", "twenty-one bytes long", "é\u{85}"] {
        let refused = host.create_with(bad, PartitionConfig::default()).await.unwrap_err();
        assert!(matches!(refused, ControlError::BadName { .. }), "{bad:?}: {refused}");
    }
    host.create("exactly twenty bytes").await;
    assert_eq!(names(&host).len(), 1);
}

pub(crate) async fn nothing_goes_to_a_deleted_partition(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    host.append(&p, "there").await;
    host.delete("p").await.unwrap();
    assert_eq!(host.try_append(&p, "gone").await, Err(AppendError::NoSuchPartition(p.id())));
    let read = host.try_read(&p, ReadFrom::Earliest).await;
    assert_eq!(read, Err(FetchError::NoSuchPartition(p.id())));
    assert!(host.drive(p.trim(Offset(0))).await.is_err());
    assert!(host.drive(p.configure(PartitionConfig::default())).await.is_err());
    assert_eq!(host.drive(p.describe()).await, None);
}

pub(crate) async fn deleting_ends_waiting_readers(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let mut reader = p.read(ReadFrom::Earliest);
    assert!(host.drive(futures_lite::future::poll_once(reader.next_batch())).await.is_none());
    host.describe(&p).await;
    host.delete("p").await.unwrap();
    assert_eq!(host.next(&mut reader).await.unwrap().unwrap_err(), FetchError::NoSuchPartition(p.id()));
    assert_eq!(host.stats().await.waiting_fetches, 0);
}

pub(crate) async fn settings_survive_and_can_be_changed(mut host: impl Host) {
    host.open().await;
    let config = PartitionConfig {
        compact: true,
        retention: Retention { bytes_max: Some(1 << 30), age_max_ms: None },
        tombstone_age_ms: 77,
    };
    let p = host.create_with("p", config).await.unwrap();
    assert_eq!(host.describe(&p).await.config, config);
    host.reopen().await;
    let p = host.partition("p");
    assert_eq!(host.describe(&p).await.config, config);
    let changed = PartitionConfig {
        retention: Retention { bytes_max: None, age_max_ms: Some(u64::MAX) },
        ..PartitionConfig::default()
    };
    host.drive(p.configure(changed)).await.unwrap();
    assert_eq!(host.describe(&p).await.config, changed);
    assert_eq!(host.append(&p, "no key is needed any more").await, 0);
    for clean in [true, false] {
        host.end_and_open(clean).await;
        let p = host.partition("p");
        assert_eq!(host.describe(&p).await.config, changed);
    }
}

pub(crate) async fn deleting_gives_the_space_back(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let q = host.create("q").await;
    fill(&mut host, std::slice::from_ref(&p), 0, 100).await;
    let full = host.until("sealed", |stats| stats.segments > 3).await;
    host.delete("p").await.unwrap();
    host.until("segments are gone", |stats| stats.segments == 0 || stats.segments < full.segments / 2).await;
    let stats = host.stats().await;
    assert!(stats.segments_removed + stats.files_recycled > 0);
    let logs = host.files().iter().filter(|(name, _)| name.ends_with(".log")).count() as u64;
    assert!(logs <= stats.segments + stats.wal_files + 1, "{logs} files for {stats:?}");
    host.append(&q, "goes on").await;
    host.reopen().await;
    assert_eq!(names(&host), ["q"]);
}
