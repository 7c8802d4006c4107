//! Holding on to what was read.

use thalweg::{Offset, ReadFrom};
use thalweg_tests::{Host, HostExt};

use crate::storing::{fill, value};

pub(crate) async fn a_reader_that_holds_every_view_never_stalls_appends(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let mut reader = p.read(ReadFrom::Earliest);
    let mut held = Vec::new();
    let mut next = 0;
    for round in 0..30 {
        fill(&mut host, std::slice::from_ref(&p), round * 50, 5).await;
        while next < (round + 1) * 50 {
            let batch = host.next(&mut reader).await.unwrap().unwrap();
            next = batch.end_offset().0;
            held.push(batch);
        }
    }
    assert!(held.iter().any(thalweg::BatchView::is_cached));
    let mut at = 0;
    for record in held.iter().flat_map(|batch| batch.records()).map(Result::unwrap) {
        assert_eq!(record.offset, Offset(at));
        assert_eq!(record.value(), Some(value("p", at).as_bytes()), "a view does not change");
        at += 1;
    }
    assert_eq!(at, 1500);
    // Views outlive the log.
    host.close().await;
    assert_eq!(held[0].records().next().unwrap().unwrap().value(), Some(value("p", 0).as_bytes()));
}
