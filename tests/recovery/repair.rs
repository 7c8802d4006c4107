//! What a repair keeps, what it says is lost, and that no offset is given out a second time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thalweg::inspect::{Lost, RepairReport, VerifyReport, repair_on, verify_on};
use thalweg::segment::decode_footer;
use thalweg::{Batch, Config, PartitionConfig, ReadFrom};
use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_io::{BLOCK, Reactor};

use crate::damage::Image;
use thalweg_tests::Wrong;

use crate::world::{Contents, Life, Model, config, open, read_all};

/// Offset and value of what was acknowledged, by partition.
type Acked = BTreeMap<String, BTreeMap<u64, u64>>;

fn acked(model: &Model) -> Acked {
    model.iter().map(|(name, promise)| (name.clone(), promise.acked.clone())).collect()
}

/// A log in groups of one append each, in one WAL file: `appends` names the partitions. It ends with
/// a marker.
fn image(appends: &[&str]) -> Image {
    let config = config();
    let disk = SimDisk::with_options(7, SimOptions::kind());
    let (mut model, mut next_id) = (Model::new(), 1);
    let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
    for name in ["a", "b"] {
        life.create(name, PartitionConfig::default());
        assert!(life.pump());
    }
    for name in appends {
        life.append(name, 1, 300);
        assert!(life.pump());
    }
    assert!(life.settle(20_000));
    disk.kill();
    drop(life);
    Image { disk, model, config }
}

fn report(disk: &SimDisk, apply: bool) -> RepairReport {
    let reactor = Reactor::new(disk.backend());
    reactor.block_on(repair_on(&reactor, apply)).unwrap()
}

/// Whether the report says that `offset` of `name` is, or may be, lost.
fn names(report: &RepairReport, name: &str, offset: u64) -> bool {
    let within = |lost: &Lost| lost.from.0 <= offset && lost.end.is_none_or(|end| offset < end.0);
    report.lost.iter().any(|lost| lost.name == name && within(lost))
}

/// Repairs a damaged copy of the image, and checks every promise of a repair: it opens; every
/// acknowledged record is there, at its offset, or named as lost; nothing else is there; the next
/// offset is above every one ever acknowledged. Returns the report, and what is left.
#[track_caller]
fn check(image: &Image, damage: impl FnOnce(&SimDisk)) -> (RepairReport, Contents) {
    let disk = image.disk.snapshot();
    damage(&disk);
    let planned = report(&disk, false);
    let done = report(&disk, true);
    assert_eq!((&planned.lost, &planned.repairs), (&done.lost, &done.repairs));
    let contents = check_repaired(&disk, &image.config, &acked(&image.model), &done);
    (done, contents)
}

#[track_caller]
fn check_repaired(disk: &SimDisk, config: &Config, acked: &Acked, report: &RepairReport) -> Contents {
    let reactor = Reactor::new(disk.backend());
    let verified = reactor.block_on(verify_on(&reactor, &mut |_| ())).unwrap();
    assert!(verified.is_clean(), "{verified:?}; {report:?}");
    drop(reactor);
    let mut shard = open(disk, config).unwrap_or_else(|error| panic!("{error}; {report:?}"));
    let contents = match read_all(&mut shard) {
        Ok(contents) => contents,
        Err(Wrong::Unreadable(why) | Wrong::Broken(why)) => panic!("{why}; {report:?}"),
    };
    for (name, acked) in acked {
        let found: BTreeMap<u64, u64> = contents.get(name).into_iter().flatten().copied().collect();
        for (offset, id) in acked {
            match found.get(offset) {
                Some(found) => assert_eq!(found, id, "{name}: offset {offset}; {report:?}"),
                None => assert!(names(report, name, *offset), "{name}: {offset} is gone; {report:?}"),
            }
        }
        let end = acked.last_key_value().map_or(0, |(offset, _)| offset + 1);
        let Ok(partition) = shard.log().partition(name) else {
            panic!("{name} is gone; {report:?}");
        };
        let appended = partition.append(Batch::One("after".into()));
        let appended = shard.block_on(appended).unwrap();
        assert!(appended.base_offset.0 >= end, "{name}: {} again, {report:?}", appended.base_offset);
        let mut reader = partition.read(ReadFrom::Offset(appended.base_offset)).to_end();
        let batch = shard.block_on(reader.next_batch()).unwrap().unwrap();
        assert_eq!(batch.records().next().unwrap().unwrap().value(), Some(&b"after"[..]));
    }
    disk.kill();
    drop(shard);
    drop(open(disk, config).unwrap_or_else(|error| panic!("opened again: {error}")));
    contents
}

/// The only WAL file, and where its groups start.
fn groups(image: &Image) -> (PathBuf, Vec<u64>) {
    let (path, groups) = image.wal().pop().unwrap();
    (path, groups.iter().map(|group| group.position).collect())
}

fn zero(disk: &SimDisk, path: &Path, from: u64, to: u64) {
    disk.patch(path, from, &vec![0; (to - from) as usize]);
}

#[test]
fn the_last_batch_says_itself_what_is_lost() {
    let image = image(&["a", "b", "a", "a", "a"]);
    let (path, at) = groups(&image);
    let last = at[at.len() - 2]; // the marker is behind it
    for byte in [180, 300, 64 + 96 + 5] {
        let (report, _) = check(&image, |disk| disk.flip_bit(&path, (last + byte) * 8));
        let [lost] = &report.lost[..] else { panic!("{report:?}") };
        assert_eq!((lost.name.as_str(), lost.from.0, lost.end.map(|end| end.0)), ("a", 3, Some(4)));
        assert!(!report.is_lossless() && report.missing_bytes == 0, "{report:?}");
    }
}

#[test]
fn a_batch_whose_header_is_damaged_is_never_believed() {
    let image = image(&["a", "b", "a", "b", "a"]);
    let (path, at) = groups(&image);
    let last = at[at.len() - 2];
    for bit in 0..64 * 8 {
        check(&image, |disk| disk.flip_bit(&path, (last + 96) * 8 + bit));
    }
    // A name that fits as well as the right one: both partitions are at 2 when the batch comes.
    let (report, _) = check(&image, |disk| disk.flip_bit(&path, (last + 96 + 8) * 8));
    assert!(names(&report, "a", 2) && report.lost.len() == 1, "{report:?}");
}

#[test]
fn zeroed_groups_in_the_middle_are_gaps_or_open_ends() {
    let image = image(&["a", "b", "a", "b", "a", "a", "a"]);
    let (path, at) = groups(&image);
    // Groups: two creations, a0 b0 a1 b1 a2 a3 a4, a marker.
    assert_eq!(at.len(), 10);
    let (report, contents) = check(&image, |disk| zero(disk, &path, at[4], at[7]));
    // The rest of `a` tells its gap; nothing of `b` comes later.
    let lost: Vec<_> = report.lost.iter().map(|lost| (&*lost.name, lost.from.0, lost.end)).collect();
    assert_eq!(lost, [("a", 1, Some(thalweg::Offset(3))), ("b", 1, None)], "{report:?}");
    assert!(report.lost[1].next_offset.unwrap().0 > 3 * BLOCK as u64 / 64, "{report:?}");
    assert_eq!(contents["a"].iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [0, 3, 4]);
    // All but the marker: not even the partitions' names are left.
    let disk = image.disk.snapshot();
    zero(&disk, &path, at[0], at[9]);
    let report = report_of_nameless(&disk);
    assert!(!report.is_lossless() && report.missing_bytes > 0, "{report:?}");
}

fn report_of_nameless(disk: &SimDisk) -> RepairReport {
    let done = report(disk, true);
    drop(open(disk, &config()).unwrap());
    done
}

#[test]
fn a_truncated_wal_leaves_the_end_open() {
    let image = image(&["a", "b", "a", "b", "a", "a", "a"]);
    let (path, at) = groups(&image);
    for keep in [at[5], at[5] + 512, at[8], at[9], at[9] + BLOCK as u64] {
        let (report, _) = check(&image, |disk| disk.truncate(&path, keep));
        let open_ends = report.lost.iter().filter(|lost| lost.end.is_none()).count();
        assert_eq!(open_ends, 2, "cut to {keep}: {report:?}");
    }
    let disk = image.disk.snapshot();
    disk.truncate(&path, 0);
    assert!(!report_of_nameless(&disk).is_lossless());
    let disk = image.disk.snapshot();
    disk.remove(&path);
    assert!(!report_of_nameless(&disk).is_lossless());
}

/// A partition that has nothing in the WAL any more, so that a segment has its last run.
fn sealed() -> Image {
    let config = config();
    let disk = SimDisk::with_options(9, SimOptions::kind());
    let (mut model, mut next_id) = (Model::new(), 1);
    let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
    for name in ["a", "b"] {
        life.create(name, PartitionConfig::default());
        assert!(life.pump());
    }
    for _ in 0..6 {
        life.append("b", 2, 700);
        assert!(life.pump());
    }
    for _ in 0..60 {
        life.append("a", 2, 3900);
        assert!(life.pump());
    }
    assert!(life.settle(20_000));
    disk.kill();
    drop(life);
    Image { disk, model, config }
}

#[test]
fn a_deleted_segment_with_the_last_run_leaves_the_end_open() {
    let image = sealed();
    let mut open_ends = 0;
    for (path, _) in image.segments() {
        let (report, contents) = check(&image, |disk| assert!(disk.remove(&path)));
        assert!(!report.is_lossless(), "{}: {report:?}", path.display());
        if contents["b"].is_empty() {
            let lost = report.lost.iter().find(|lost| lost.name == "b").unwrap();
            assert_eq!((lost.from.0, lost.end), (0, None), "{report:?}");
            open_ends += 1;
        }
    }
    assert_eq!(open_ends, 1);
}

#[test]
fn a_segment_that_lost_only_its_index_loses_nothing() {
    let image = sealed();
    for (path, trailer) in image.segments() {
        let (report, _) = check(&image, |disk| disk.flip_bit(&path, (trailer.footer_position + 9) * 8));
        assert!(report.is_lossless(), "{}: {report:?}", path.display());
    }
}

/// Every block of every file of a log with everything in it, flipped, zeroed, and cut off.
#[test]
fn whatever_the_damage_no_offset_is_given_out_again() {
    let image = Image::new(true);
    let mut repaired = 0;
    for (path, len) in image.disk.files().into_iter().filter(|(path, _)| path.extension().is_some()) {
        for at in (0..len).step_by(if len > 60_000 { 5 * BLOCK } else { BLOCK }) {
            for how in 0..3 {
                let damage = |disk: &SimDisk| match how {
                    0 => disk.flip_bit(&path, (at + 177) * 8 + 3),
                    1 => zero(disk, &path, at, (at + 3 * BLOCK as u64).min(len)),
                    _ => disk.truncate(&path, at),
                };
                let disk = image.disk.snapshot();
                damage(&disk);
                if open(&disk, &image.config).is_err() {
                    check_left(&image, damage);
                    repaired += 1;
                }
            }
        }
    }
    assert!(repaired > 30, "{repaired} repairs");
}

/// As [`check`], for partitions whose making may be lost: then they need another name.
#[track_caller]
fn check_left(image: &Image, damage: impl FnOnce(&SimDisk)) {
    let disk = image.disk.snapshot();
    damage(&disk);
    let done = report(&disk, true);
    let shard = open(&disk, &image.config).unwrap();
    let mut acked = acked(&image.model);
    acked.retain(|name, _| shard.log().partition(name).is_ok());
    disk.kill();
    drop(shard);
    assert!(acked.len() == image.model.len() || done.missing_bytes > 0, "{done:?}");
    for (name, promise) in &image.model {
        let start = promise.trimmed.0;
        acked.entry(name.clone()).and_modify(|acked| acked.retain(|offset, _| *offset >= start));
    }
    check_repaired(&disk, &image.config, &acked, &done);
}

fn verified(disk: &SimDisk) -> VerifyReport {
    let reactor = Reactor::new(disk.backend());
    reactor.block_on(verify_on(&reactor, &mut |_| ())).unwrap()
}

#[test]
fn verifying_goes_on_behind_damage_and_counts_what_is_there() {
    let image = Image::new(true);
    let clean = verified(&image.disk);
    assert!(clean.is_clean() && clean.segments > 1 && clean.partitions == 2, "{clean:?}");
    // Three batches of one segment, two of the WAL, and a group's header there.
    let disk = image.disk.snapshot();
    let (path, trailer) =
        image.segments().into_iter().max_by_key(|(_, trailer)| trailer.entry_count).unwrap();
    let bytes = disk.contents(&path).unwrap();
    let footer = decode_footer(&bytes[trailer.footer_position as usize..], &trailer).unwrap();
    let mut want = 0;
    for entry in footer.entries.iter().take(3) {
        disk.flip_bit(&path, (entry.position + 70) * 8);
        want += 1;
    }
    let (wal, groups) = image.wal().pop().unwrap();
    let full: Vec<_> = groups.iter().filter(|group| !group.is_marker()).collect();
    assert!(full.len() > 4, "{groups:?}");
    for (group, byte) in [(full[0], 200), (full[2], 200), (full[4], 30)] {
        disk.flip_bit(&wal, (group.position + byte) * 8);
        want += 1;
    }
    let report = verified(&disk);
    assert_eq!(report.damage.len(), want, "{report:?}");
    assert_eq!((report.partitions, report.segments), (clean.partitions, clean.segments), "{report:?}");
    assert_eq!(report.groups, clean.groups - 3, "{report:?}");
    assert!(report.batches < clean.batches && report.batches > clean.batches - 12, "{report:?}, {clean:?}");
    assert!(report.damage.iter().all(|damage| !damage.copy_needed));
}

#[test]
fn a_damaged_superblock_or_manifest_is_reported_and_needs_a_copy() {
    let image = Image::new(true);
    let paths = image.disk.files().into_iter().map(|(path, _)| path);
    for path in paths.filter(|path| path.extension().is_none() && !path.ends_with("LOCK")) {
        let disk = image.disk.snapshot();
        disk.flip_bit(&path, 20 * 8);
        let report = verified(&disk);
        assert_eq!(report.damage.len(), 1, "{report:?}");
        assert!(report.damage[0].copy_needed && report.damage[0].path == path, "{report:?}");
        assert_eq!(report.segments > 0, !path.ends_with("SUPERBLOCK"), "{report:?}");
        let reactor = Reactor::new(disk.backend());
        let error = reactor.block_on(repair_on(&reactor, true)).unwrap_err().to_string();
        assert!(error.contains("copy"), "{error}");
    }
}

/// An opaque batch takes as many offsets as its caller likes, however small it is.
#[test]
fn offsets_that_an_opaque_batch_took_are_not_given_out_again() {
    let image = image(&["a", "b"]);
    let disk = image.disk.snapshot();
    let mut shard = open(&disk, &image.config).unwrap();
    let partition = shard.log().partition("b").unwrap();
    let opaque = || Batch::Opaque { bytes: b"x".as_slice().into(), count: u32::MAX, max_timestamp_ms: 0 };
    let appended: Vec<_> = (0..3).map(|_| partition.append(opaque())).collect();
    let end = appended.into_iter().map(|ticket| shard.block_on(ticket).unwrap()).last().unwrap();
    let end = end.base_offset.0 + u64::from(end.count);
    let until = disk.now().plus_us(20_000);
    while disk.now() < until {
        if !shard.turn() {
            shard.park();
        }
    }
    disk.kill();
    drop(shard);
    let image = Image { disk, model: image.model, config: image.config };
    let (path, groups) = image.wal().pop().unwrap();
    let first = groups.iter().rposition(|group| group.batch_count > 0 && group.number.0 <= 6).unwrap();
    let (from, to) = (groups[first].position, groups[groups.len() - 1].position);
    zero(&image.disk, &path, from, to);
    let report = report(&image.disk, true);
    let lost = report.lost.iter().find(|lost| lost.name == "b").unwrap();
    assert!(lost.end.is_none() && lost.next_offset.unwrap().0 >= end, "{end}: {report:?}");
    let mut shard = open(&image.disk, &image.config).unwrap();
    let appended = shard.log().partition("b").unwrap().append(Batch::One("after".into()));
    assert!(shard.block_on(appended).unwrap().base_offset.0 >= end);
}

/// What an earlier repair left empty is not lost once more.
#[test]
fn a_second_repair_counts_only_new_losses() {
    let image = image(&["a", "b", "a", "b", "a", "a", "a"]);
    let (path, at) = groups(&image);
    zero(&image.disk, &path, at[4], at[7]);
    let first = report(&image.disk, true);
    let next = first.lost.iter().find_map(|lost| lost.next_offset).unwrap();
    drop(open(&image.disk, &image.config).unwrap());
    image.disk.kill();
    let (segment, _) = image.segments().pop().unwrap();
    image.disk.flip_bit(&segment, 80 * 8); // in the first batch, which is of `a`
    let second = report(&image.disk, true);
    let lost: Vec<_> = second.lost.iter().map(|lost| (&*lost.name, lost.from.0, lost.end)).collect();
    assert_eq!(lost, [("a", 0, Some(thalweg::Offset(3)))], "{second:?}");
    let mut shard = open(&image.disk, &image.config).unwrap();
    let appended = shard.log().partition("b").unwrap().append(Batch::One("after".into()));
    assert_eq!(shard.block_on(appended).unwrap().base_offset, next);
}
