//! The targets, one for each decoder.

use std::path::PathBuf;
use std::sync::OnceLock;

use thalweg::inspect::{repair_on, verify_on};
use thalweg::manifest::{Manifest, decode_edit};
use thalweg::probe::{DeviceProfile, PROFILE_BYTES};
use thalweg::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind, RecordRefs, check_batch};
use thalweg::segment::{IndexEntry, TRAILER_BYTES, Trailer, decode_footer};
use thalweg::superblock::Superblock;
use thalweg::wal::control::{Control, read_settings};
use thalweg::wal::file_header::FileHeader;
use thalweg::wal::group::{GroupHeader, check_batches};
use thalweg::wire::Fields;
use thalweg::{Config, OwnedShard, ReadFrom};
use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_io::{BLOCK, Op, Reactor};
use thalweg_tests::specimen;

use crate::fuzz;
use crate::mutate::{Dice, length_at, seal};

/// A whole file of that kind.
fn whole(name: &str) -> Vec<u8> {
    static FILES: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    let files = FILES.get_or_init(specimen::all);
    files.iter().find(|(known, _)| *known == name).expect("one of the files").1.clone()
}

/// Batches of every kind, from the WAL files.
fn batches() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for file in [whole("wal"), whole("promoted")] {
        let mut at = BLOCK;
        while let Some(Ok(group)) = file.get(at..).map(GroupHeader::read) {
            check_batches(&group, &file[at..], |position, batch| {
                found.push(file[at + position..at + position + batch.len as usize].to_vec());
            })
            .unwrap();
            at += (group.len as usize).next_multiple_of(BLOCK);
        }
    }
    assert!(found.len() > 8);
    found
}

fn look_into(header: &BatchHeader, bytes: &[u8]) {
    let body = &bytes[BATCH_HEADER_BYTES..header.len as usize];
    match header.kind {
        BatchKind::Control => drop(Control::decode(header, bytes)),
        BatchKind::Opaque => {}
        BatchKind::Records => walk(body, header.record_count, header.offset_span),
    }
    let _ = (header.end_offset(), header.stride());
}

fn walk(body: &[u8], count: u32, span: u32) {
    let mut seen = 0;
    for record in RecordRefs::new(body, count, span) {
        let Ok(record) = record else { break };
        seen += 1 + record.headers().count();
    }
    assert!(seen <= body.len());
}

#[test]
fn record_bodies() {
    fuzz("record_bodies", |dice| {
        let batches = batches();
        let batch = &batches[dice.below(batches.len())];
        let mut body = batch[BATCH_HEADER_BYTES..].to_vec();
        if dice.below(4) == 0 {
            body = dice.bytes(200);
        }
        let len = body.len();
        dice.mutate(&mut body, len);
        let count = if dice.coin() { length_at(batch, 28) as u32 } else { dice.draw() as u32 };
        let span = if dice.coin() { count } else { dice.draw() as u32 };
        walk(&body, count, span);
    });
}

#[test]
fn whole_batches() {
    fuzz("whole_batches", |dice| {
        let batches = batches();
        let mut batch = batches[dice.below(batches.len())].clone();
        let len = batch.len();
        dice.mutate(&mut batch, len);
        if dice.coin() {
            let len = length_at(&batch, 4);
            seal(&mut batch, 0, 4, len);
        }
        let _ = BatchHeader::read(&batch);
        if let Ok(header) = check_batch(&batch) {
            look_into(&header, &batch);
        }
    });
}

#[test]
fn control_changes() {
    fuzz("control_changes", |dice| {
        let batches: Vec<_> = batches().into_iter().filter(|batch| batch[48] == 2).collect();
        let mut batch = batches[dice.below(batches.len())].clone();
        let mut body = batch.split_off(BATCH_HEADER_BYTES);
        let len = body.len();
        dice.mutate(&mut body, len);
        batch.extend_from_slice(&body);
        let len = batch.len();
        batch[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        seal(&mut batch, 0, 4, len);
        let header = check_batch(&batch).unwrap();
        if let Ok(control) = Control::decode(&header, &batch) {
            let again = control.encode();
            assert_eq!(Control::decode(&check_batch(&again).unwrap(), &again), Ok(control));
        }
    });
}

#[test]
fn settings() {
    fuzz("settings", |dice| {
        let bytes = dice.bytes(40);
        let _ = read_settings(&mut Fields::new(&bytes));
        let mut fields = Fields::new(&bytes);
        while fields.remaining() > 0 {
            let read = match dice.below(4) {
                0 => fields.uvarint("number").map(drop),
                1 => fields.ivarint("number").map(drop),
                2 => fields.prefixed("bytes").map(drop),
                _ => fields.optional("bytes").map(drop),
            };
            if read.is_err() {
                break;
            }
        }
    });
}

fn seal_group(group: &mut [u8]) {
    if group.len() >= 96 {
        let salt: [u8; 8] = group[72..80].try_into().unwrap();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&salt), &group[12..96]);
        group[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn groups() {
    fuzz("groups", |dice| {
        let wal = whole("wal");
        let at = BLOCK * (1 + dice.below(4));
        let mut group = wal[at..].to_vec();
        let within = if dice.coin() { 96 } else { 700 };
        dice.mutate(&mut group, within);
        if dice.coin() {
            seal_group(&mut group);
        }
        if let Ok(header) = GroupHeader::read(&group) {
            let _ = check_batches(&header, &group, |position, batch| look_into(batch, &group[position..]));
        }
    });
}

#[test]
fn file_headers_superblocks_and_device_profiles() {
    fuzz("file_headers_superblocks_and_device_profiles", |dice| {
        let mut file = whole("wal")[..BLOCK].to_vec();
        dice.mutate(&mut file, 90);
        if dice.coin() {
            seal(&mut file, 8, 12, 80);
        }
        let _ = FileHeader::read(&file[..dice.below(file.len())]);
        let _ = FileHeader::read(&file);
        let mut block = whole("superblock");
        dice.mutate(&mut block, 70);
        if dice.coin() {
            seal(&mut block, 8, 12, 64);
        }
        let _ = Superblock::decode(&block[..dice.below(block.len())]);
        let _ = Superblock::decode(&block);
        let mut profile = whole("device");
        dice.mutate(&mut profile, 200);
        if dice.coin() {
            seal(&mut profile, 8, 12, PROFILE_BYTES);
        }
        let _ = DeviceProfile::decode(&profile[..dice.below(profile.len())]);
        if let Ok(decoded) = DeviceProfile::decode(&profile) {
            assert_eq!(DeviceProfile::decode(&decoded.encode()), Ok(decoded));
        }
    });
}

/// Makes the checksums of a segment's footer right again.
fn seal_segment(bytes: &mut [u8]) {
    let Some(at) = bytes.len().checked_sub(TRAILER_BYTES) else { return };
    let position = length_at(bytes, at + 16);
    let entries = length_at(bytes, at + 24).min(1 << 16);
    let end = position + entries * 48 + length_at(bytes, at + 28).min(1 << 16) * 64;
    for entry in 0..entries {
        let entry = position + entry * 48;
        seal(bytes, entry + 40, entry, entry + 40);
    }
    seal(bytes, at + 12, position, end);
    seal(bytes, at + 8, at + 12, at + TRAILER_BYTES);
}

#[test]
fn segment_footers() {
    fuzz("segment_footers", |dice| {
        let mut bytes = whole(if dice.coin() { "segment" } else { "promoted" });
        let footer = bytes.len() - BLOCK;
        let mut end = bytes.split_off(footer);
        match dice.below(3) {
            0 => dice.mutate(&mut end, 300),
            1 => {
                let at = end.len() - TRAILER_BYTES;
                let mut trailer = end.split_off(at);
                dice.mutate(&mut trailer, TRAILER_BYTES);
                end.extend_from_slice(&trailer);
            }
            _ => dice.mutate(&mut end, BLOCK),
        }
        bytes.extend_from_slice(&end);
        if dice.coin() {
            seal_segment(&mut bytes);
        }
        let entry = &bytes[footer.min(bytes.len())..];
        let _ = IndexEntry::read(entry);
        let Some(at) = bytes.len().checked_sub(TRAILER_BYTES) else { return };
        let Ok(trailer) = Trailer::read(&bytes[at..]) else { return };
        let _ = (trailer.file_bytes(), trailer.footer_bytes());
        let from = usize::try_from(trailer.footer_position).unwrap_or(usize::MAX).min(bytes.len());
        if let Ok(footer) = decode_footer(&bytes[from..], &trailer) {
            assert!(footer.entries.len() * 48 + footer.runs.len() * 64 <= bytes.len());
        }
    });
}

#[test]
fn manifest_edits() {
    fuzz("manifest_edits", |dice| {
        let mut bytes = whole("manifest");
        dice.mutate(&mut bytes, 400);
        if dice.below(4) > 0 {
            let len = length_at(&bytes, 12);
            seal(&mut bytes, 8, 12, len);
        }
        let Ok((_, edit)) = decode_edit(&bytes) else { return };
        assert!(edit.changes.len() * 9 <= bytes.len());
        let mut manifest = Manifest::default();
        if manifest.apply(&edit).is_ok() && edit.snapshot {
            let mut again = Manifest::default();
            again.apply(&manifest.snapshot()).unwrap();
            assert_eq!(again, manifest);
        }
    });
}

fn config() -> Config {
    let mut config = Config::new("sim");
    config.wal.file_bytes = specimen::WAL_FILE_BYTES;
    config.group.bytes_max = 8 << 10;
    config.limits.batch_bytes_max = 8 << 10;
    config.cache.bytes = 128 << 10;
    config.segment.check_interval_ms = 1;
    config
}

/// A file with something changed, and its checksums right again perhaps.
fn changed(dice: &mut Dice, name: &str) -> Vec<u8> {
    let mut bytes = whole(name);
    let len = bytes.len();
    if dice.below(20) == 0 {
        bytes.truncate(dice.below(len));
        return bytes;
    }
    // Most of a file is padding: aim at the front of a block.
    let block = dice.below(len / BLOCK) * BLOCK;
    let mut rest = bytes.split_off(block);
    let within = [64, 160, 700, BLOCK][dice.below(4)];
    dice.mutate(&mut rest, within);
    bytes.extend_from_slice(&rest);
    bytes.resize(len, 0);
    if dice.coin() {
        match name {
            "superblock" => seal(&mut bytes, 8, 12, 64),
            "segment" => seal_segment(&mut bytes),
            "manifest" => {
                for at in [0, BLOCK] {
                    let len = length_at(&bytes, at + 12);
                    seal(&mut bytes, at + 8, at + 12, at.saturating_add(len));
                }
            }
            _ => {
                seal(&mut bytes, 8, 12, 80);
                for at in (BLOCK..len).step_by(BLOCK) {
                    if bytes[at..].starts_with(b"TLWGRP") {
                        seal_group(&mut bytes[at..at + BLOCK]);
                    }
                }
            }
        }
    }
    bytes
}

const FILES: [(&str, &str); 5] = [
    ("superblock", "SUPERBLOCK"),
    ("manifest", "shard-0/MANIFEST-0000000000000007"),
    ("promoted", "shard-0/0000000000000000.log"),
    ("wal", "shard-0/0000000000000001.log"),
    ("segment", "shard-0/0000000000000002.log"),
];

/// Whole directories: opening, reading all, verifying, repairing.
#[test]
fn data_directories() {
    fuzz("data_directories", |dice| {
        let disk = SimDisk::with_options(1, SimOptions::kind());
        let reactor = Reactor::new(disk.backend());
        reactor.block_on(reactor.run(Op::CreateDir { path: "shard-0".into() })).unwrap();
        reactor.block_on(reactor.run(Op::SyncDir { path: PathBuf::new() })).unwrap();
        let damaged = [1, 2, 3, 3, 3, 4][dice.below(6)];
        for (index, (name, path)) in FILES.iter().enumerate() {
            let hit = index == damaged || dice.below(12) == 0;
            let mut bytes = if hit { changed(dice, name) } else { whole(name) };
            if path.ends_with("1.log") && bytes.len() > BLOCK && !dice.bytes(20).is_empty() {
                bytes.resize(specimen::WAL_FILE_BYTES as usize, 0);
            }
            disk.put(path, &bytes);
        }
        let _ = reactor.block_on(verify_on(&reactor, &mut |_| ()));
        drop(reactor);
        if open_and_read(&disk) {
            return;
        }
        let reactor = Reactor::new(disk.backend());
        let repaired = reactor.block_on(repair_on(&reactor, true));
        drop(reactor);
        if repaired.is_ok() {
            open_and_read(&disk);
        }
    });
}

/// Whether it opened.
fn open_and_read(disk: &SimDisk) -> bool {
    let Ok(mut shard) = OwnedShard::open_on(disk.backend(), config(), None) else { return false };
    for partition in shard.log().partitions() {
        let mut reader = partition.read(ReadFrom::Earliest).to_end();
        while let Some(Ok(batch)) = shard.block_on(reader.next_batch()) {
            batch.records().for_each(drop);
        }
    }
    for _ in 0..50 {
        if !shard.turn() {
            shard.park();
        }
    }
    true
}
