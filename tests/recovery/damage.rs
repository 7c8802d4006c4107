//! Damage to what was durable: opening refuses and says where, or a read does, or nothing is
//! missing. Wrong bytes are never served and the log is never shorter, but for its very last group
//! when no marker follows it.

use std::path::{Path, PathBuf};

use thalweg::inspect::repair_on;
use thalweg::manifest::{Change, SegmentKind, decode_edit};
use thalweg::segment::{TRAILER_BYTES, Trailer};
use thalweg::wal::file_header::{FILE_HEADER_BYTES, FileHeader};
use thalweg::wal::group::{GROUP_HEADER_BYTES, GroupHeader};
use thalweg::{Config, PartitionConfig};
use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_io::{BLOCK, Reactor};

use thalweg_tests::Wrong;

use crate::world::{Life, Model, check, config, open, read_all};

/// A disk, what it promises, and where its structures are.
pub(crate) struct Image {
    pub(crate) disk: SimDisk,
    pub(crate) model: Model,
    pub(crate) config: Config,
}

/// What came of opening a damaged image and reading all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is missing.
    Whole,
    /// Did not open; the reason.
    Refused(String),
    /// Opened; a read failed and said so.
    Unreadable(String),
    /// Opened, and something is missing or wrong.
    Broken(String),
}

impl Image {
    /// Segments of every kind, a WAL with several groups in two files. `marked` ends it with a
    /// marker; else it ends with the last acknowledged group.
    pub(crate) fn new(marked: bool) -> Image {
        let mut config = config();
        if !marked {
            config.wal.witness_after_us = u32::MAX;
        }
        let disk = SimDisk::with_options(3, SimOptions::kind());
        let (mut model, mut next_id) = (Model::new(), 1);
        let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
        life.create("a", PartitionConfig::default());
        life.create("b", PartitionConfig::default());
        assert!(life.pump());
        for _ in 0..20 {
            life.append("a", 2, 3900);
            assert!(life.pump());
        }
        for _ in 0..10 {
            life.append("a", 3, 600);
            life.append("b", 2, 300);
            assert!(life.pump());
        }
        life.trim("b", 4);
        for _ in 0..8 {
            life.append("a", 2, 3900);
            life.append("b", 1, 40);
            assert!(life.pump());
        }
        if marked {
            assert!(life.settle(20_000));
        }
        disk.kill();
        drop(life);
        Image { disk, model, config }
    }

    /// Opens a copy of the image after `damage`, and reads it.
    pub(crate) fn after(&self, damage: impl FnOnce(&SimDisk)) -> Outcome {
        let disk = self.disk.snapshot();
        damage(&disk);
        let before = disk.files();
        let mut shard = match open(&disk, &self.config) {
            Ok(shard) => shard,
            Err(error) => {
                assert_eq!(disk.files(), before, "refused ({error}), and changed the files");
                return Outcome::Refused(error.to_string());
            }
        };
        match check(&mut shard, &mut self.model.clone()) {
            Ok(()) => Outcome::Whole,
            Err(Wrong::Unreadable(why)) => Outcome::Unreadable(why),
            Err(Wrong::Broken(why)) => Outcome::Broken(why),
        }
    }

    fn paths(&self, part: &str) -> Vec<PathBuf> {
        let files = self.disk.files().into_iter().map(|(path, _)| path);
        files.filter(|path| path.to_string_lossy().contains(part)).collect()
    }

    fn bytes(&self, path: &Path) -> Vec<u8> {
        self.disk.contents(path).unwrap()
    }

    /// WAL files in use, in order of use, with the groups of each.
    pub(crate) fn wal(&self) -> Vec<(PathBuf, Vec<GroupHeader>)> {
        let mut found: Vec<(FileHeader, PathBuf, Vec<GroupHeader>)> = Vec::new();
        for path in self.paths(".log") {
            let bytes = self.bytes(&path);
            let segment = Trailer::read(&bytes[bytes.len() - TRAILER_BYTES..]).is_ok();
            let Ok(header) = FileHeader::read(&bytes) else { continue };
            let mut groups = Vec::new();
            let mut at = BLOCK;
            while let Some(Ok(group)) = bytes.get(at..).map(GroupHeader::read)
                && group.sequence == header.sequence
            {
                at += (group.len as usize).next_multiple_of(BLOCK);
                groups.push(group);
            }
            if !segment && !groups.is_empty() {
                found.push((header, path, groups));
            }
        }
        found.sort_by_key(|(header, ..)| header.sequence);
        found.into_iter().map(|(_, path, groups)| (path, groups)).collect()
    }

    pub(crate) fn segments(&self) -> Vec<(PathBuf, Trailer)> {
        let read = |path: PathBuf| {
            let bytes = self.bytes(&path);
            Trailer::read(&bytes[bytes.len() - TRAILER_BYTES..]).ok().map(|trailer| (path, trailer))
        };
        self.paths(".log").into_iter().filter_map(read).collect()
    }
}

/// Flips one bit of each of these bytes, another one each time; every bit if the environment says
/// `THALWEG_EXHAUSTIVE=1`. Returns how many outcomes were refusals, and panics at a broken one.
#[track_caller]
fn flip(image: &Image, path: &Path, bytes: impl Iterator<Item = u64>, what: &str) -> [u64; 3] {
    let all = std::env::var_os("THALWEG_EXHAUSTIVE").is_some();
    let mut counts = [0; 3];
    for byte in bytes {
        let bits = if all { 0..8 } else { byte * 5 % 8..byte * 5 % 8 + 1 };
        for bit in bits {
            let bit = byte * 8 + bit;
            match image.after(|disk| disk.flip_bit(path, bit)) {
                Outcome::Whole => counts[0] += 1,
                Outcome::Refused(_) => counts[1] += 1,
                Outcome::Unreadable(_) => counts[2] += 1,
                Outcome::Broken(why) => panic!("{what}, {}, bit {bit}: {why}", path.display()),
            }
        }
    }
    println!("{what}: {} whole, {} refused, {} unreadable", counts[0], counts[1], counts[2]);
    counts
}

#[test]
fn the_image_has_everything() {
    let image = Image::new(true);
    assert_eq!(image.after(|_| ()), Outcome::Whole);
    let live = image.wal();
    assert!(live.len() >= 2 && live.iter().map(|(_, groups)| groups.len()).sum::<usize>() > 10, "{live:?}");
    let kinds: Vec<_> = image.segments().into_iter().map(|(_, trailer)| trailer.kind).collect();
    assert!(kinds.contains(&SegmentKind::Promoted) && kinds.len() > 1, "{kinds:?}");
}

/// The manifest's last edit, lost: the file it added is in use, and nothing else says so.
#[test]
fn a_lost_edit_of_the_manifest_is_noticed() {
    let mut config = config();
    config.segment.check_interval_ms = 10_000;
    let disk = SimDisk::with_options(5, SimOptions::kind());
    let (mut model, mut next_id) = (Model::new(), 1);
    let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
    life.create("a", PartitionConfig::default());
    assert!(life.pump());
    for _ in 0..60 {
        life.append("a", 2, 3900);
        assert!(life.pump());
    }
    assert!(life.settle(20_000));
    disk.kill();
    drop(life);
    let image = Image { disk, model, config };
    let path = image.paths("MANIFEST-").pop().unwrap();
    let bytes = image.bytes(&path);
    let mut edits = Vec::new();
    let mut at = 0;
    while let Some(Ok((frame, _))) = bytes.get(at..).map(decode_edit) {
        edits.push(at as u64);
        at += (frame.len as usize).next_multiple_of(BLOCK);
    }
    assert!(edits.len() > 3, "{edits:?}");
    // An edit with no group behind it is torn for all that is known; nothing depends on it yet.
    let noticed = |outcome: &Outcome, from: &u64, what: &str| {
        let refused = matches!(outcome, Outcome::Refused(_));
        assert!(refused || *outcome == Outcome::Whole, "edit at {from} {what}: {outcome:?}");
        usize::from(refused)
    };
    let mut refused = 0;
    for from in &edits[1..] {
        // The edit and all behind it were lost, then only the edit.
        for size in [at as u64 - from, BLOCK as u64] {
            let outcome = image.after(|disk| disk.patch(&path, *from, &vec![0; size as usize]));
            refused += noticed(&outcome, from, "zeroed");
        }
        refused += noticed(&image.after(|disk| disk.flip_bit(&path, (from + 20) * 8)), from, "flipped");
        refused += noticed(&image.after(|disk| disk.truncate(&path, *from)), from, "cut off");
    }
    assert!(refused >= 4 * (edits.len() - 3), "{refused} of {edits:?}");
}

/// What a repair leaves opens, and reads without an error, whatever the damage.
#[test]
fn a_repair_lets_the_log_open_again() {
    let image = Image::new(true);
    let mut repaired = 0;
    let damages = image.disk.files().into_iter().flat_map(|(path, len)| {
        let points = (0..len).step_by(if len > 60_000 { 7 * BLOCK } else { BLOCK });
        points.map(move |at| (path.clone(), at, len))
    });
    for (path, at, len) in damages {
        for cut in [false, true] {
            let disk = image.disk.snapshot();
            if cut {
                disk.truncate(&path, at);
            } else {
                disk.patch(&path, at, &vec![0xa5; (len - at).min(BLOCK as u64) as usize]);
            }
            let Err(refused) = open(&disk, &image.config).map(drop) else { continue };
            let reactor = Reactor::new(disk.backend());
            let report = match reactor.block_on(repair_on(&reactor, true)) {
                Ok(report) => report,
                // Nothing else says what the directory is, or which partitions there are.
                Err(_) if path.ends_with("SUPERBLOCK") || path.to_string_lossy().contains("MANIFEST") => {
                    continue;
                }
                Err(error) => panic!("{} at {at}: {refused}: {error}", path.display()),
            };
            drop(reactor);
            let what = format!("{} at {at} of {len}, cut {cut}: {refused}; {report:?}", path.display());
            let mut shard = open(&disk, &image.config).unwrap_or_else(|error| panic!("{what}: {error}"));
            read_all(&mut shard).unwrap_or_else(|error| panic!("{what}: {error}"));
            repaired += 1;
        }
    }
    assert!(repaired > 20, "{repaired} repairs");
}

#[test]
fn a_flipped_bit_of_the_wal_is_noticed() {
    let image = Image::new(true);
    for (path, groups) in image.wal() {
        flip(&image, &path, 0..FILE_HEADER_BYTES as u64, "WAL file header");
        for group in &groups {
            let start = group.position;
            flip(&image, &path, start..start + GROUP_HEADER_BYTES as u64, "group header");
            flip(&image, &path, start + 96..start + 96 + 64.min(u64::from(group.len) - 96), "batch header");
            flip(&image, &path, (start + 160..start + u64::from(group.len)).step_by(97), "payload");
        }
    }
}

#[test]
fn a_flipped_bit_of_a_segment_is_noticed() {
    let image = Image::new(true);
    let mut segments = image.segments();
    segments.dedup_by_key(|(_, trailer)| trailer.kind as u8);
    for (path, trailer) in segments {
        let footer = trailer.footer_position;
        let len = trailer.file_bytes();
        flip(&image, &path, footer..footer + trailer.footer_bytes(), "entries and runs");
        flip(&image, &path, len - TRAILER_BYTES as u64..len, "trailer");
        flip(&image, &path, 0..300, "first batches");
        flip(&image, &path, (300..footer).step_by(499), "batches");
    }
}

#[test]
fn a_flipped_bit_of_manifest_or_superblock_is_noticed() {
    let image = Image::new(true);
    flip(&image, Path::new("SUPERBLOCK"), 0..64, "superblock");
    for path in image.paths("MANIFEST-") {
        let bytes = image.bytes(&path);
        let mut at = 0;
        while let Some(Ok((frame, edit))) = bytes.get(at..).map(decode_edit) {
            let adds = edit.changes.iter().filter(|change| matches!(change, Change::WalFileAdded(_)));
            let what = format!("edit at {at}, {} WAL files added", adds.count());
            flip(&image, &path, at as u64..at as u64 + u64::from(frame.len), &what);
            at += (frame.len as usize).next_multiple_of(BLOCK);
        }
    }
}

#[test]
fn a_missing_file_is_refused() {
    let image = Image::new(true);
    for (path, _) in image.disk.files() {
        let outcome = image.after(|disk| assert!(disk.remove(&path)));
        println!("{}: {outcome:?}", path.display());
        let Outcome::Refused(why) = outcome else { panic!("{}: {outcome:?}", path.display()) };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(why.contains(&name) || why.contains("manifest"), "{name}: {why}");
    }
}

#[test]
fn a_file_cut_short_is_noticed() {
    let image = Image::new(true);
    for (path, len) in image.disk.files() {
        let mut lengths: Vec<u64> = (0..len).step_by(BLOCK).chain([1, 511, len - 1, len - 512]).collect();
        lengths.dedup();
        for to in lengths {
            if let Outcome::Broken(why) = image.after(|disk| disk.truncate(&path, to)) {
                panic!("{} cut to {to} of {len}: {why}", path.display());
            }
        }
    }
}

#[test]
fn a_zeroed_block_is_noticed() {
    let image = Image::new(true);
    let (last_file, marker) =
        image.wal().last().map(|(path, groups)| (path.clone(), groups[groups.len() - 1])).unwrap();
    assert!(marker.is_marker());
    for (path, len) in image.disk.files() {
        for (unit, size) in [(512, 512), (BLOCK, BLOCK), (BLOCK, 2 * BLOCK), (BLOCK, 5 * BLOCK)] {
            for at in (0..len).step_by(unit) {
                let size = (size as u64).min(len - at);
                // The last group and its marker zeroed together look like neither ever written.
                let both = path == last_file && at < marker.position && at + size > marker.position;
                match image.after(|disk| disk.patch(&path, at, &vec![0; size as usize])) {
                    Outcome::Broken(why) if !both => {
                        panic!("{}: {size} B at {at} zeroed: {why}", path.display())
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_file_that_nobody_knows_is_put_aside_and_quarantine_is_bounded() {
    let image = Image::new(true);
    let disk = image.disk.snapshot();
    let aside = |disk: &SimDisk| {
        let in_quarantine = |path: &Path| path.parent().is_some_and(|dir| dir.ends_with("quarantine"));
        let files = disk.files().into_iter().filter(|(path, _)| in_quarantine(path));
        files.map(|(_, bytes)| bytes).collect::<Vec<_>>()
    };
    let large = vec![7; 12 << 20];
    for round in 1..=8usize {
        disk.put("shard-0/00000000ffffff00.log", &large);
        disk.advance_us(5_000);
        let mut shard = open(&disk, &image.config).unwrap();
        check(&mut shard, &mut image.model.clone()).unwrap();
        disk.kill();
        drop(shard);
        let kept = aside(&disk);
        assert_eq!(kept.len(), round.min(5), "five of 12 MiB each fit in 64 MiB");
        assert!(kept.iter().all(|bytes| *bytes == large.len() as u64));
    }
}
