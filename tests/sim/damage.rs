//! Damage to a disk at rest: what no disk should do to a file, at a place that matters.

use std::ops::Range;
use std::path::{Path, PathBuf};

use thalweg::segment::{ENTRY_BYTES, TRAILER_BYTES, Trailer};
use thalweg::wal::file_header::FileHeader;
use thalweg::wal::group::GroupHeader;
use thalweg_io::BLOCK;
use thalweg_io::sim::{Effect, FaultRule, OpKind, SECTOR, SimDisk, SimRandom};

/// The WAL file that was begun last, with the positions of its groups.
fn newest(disk: &SimDisk) -> Option<(PathBuf, Vec<u64>)> {
    let header = |path: PathBuf| Some((FileHeader::read(&disk.contents(&path)?).ok()?, path));
    let (_, path) = logs(disk).into_iter().filter_map(header).max_by_key(|(header, _)| header.sequence)?;
    let groups = groups(&disk.contents(&path)?).into_iter().map(|group| group.start as u64).collect();
    Some((path, groups))
}

/// Where the groups of a file's present life lie.
fn groups(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut groups, mut at, mut sequence) = (Vec::new(), BLOCK, None);
    while let Some(Ok(group)) = bytes.get(at..).map(GroupHeader::read)
        && *sequence.get_or_insert(group.sequence) == group.sequence
    {
        groups.push(at..at + group.len as usize);
        at += (group.len as usize).next_multiple_of(BLOCK);
    }
    groups
}

/// Files in use: not those kept aside.
fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter().filter(|(_, len)| *len > 0).map(|(path, _)| path);
    files.filter(|path| !path.to_string_lossy().contains("quarantine")).collect()
}

fn logs(disk: &SimDisk) -> Vec<PathBuf> {
    files(disk)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect()
}

/// Blocks with something in them.
fn written(bytes: &[u8]) -> Vec<u64> {
    let blocks = bytes.chunks(BLOCK).enumerate();
    let written = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
    written.map(|(index, _)| (index * BLOCK) as u64).collect()
}

fn pick<T: Clone>(random: &mut SimRandom, choices: &[T]) -> Option<T> {
    choices.get(random.below(choices.len().max(1) as u64) as usize).cloned()
}

/// A file, and a block of it that matters: one of the last groups, or any that something is in.
fn place(disk: &SimDisk, random: &mut SimRandom) -> Option<(PathBuf, u64)> {
    if random.chance(0.4)
        && let Some((path, groups)) = newest(disk)
        && !groups.is_empty()
    {
        let back = if random.chance(0.6) { random.below(3) } else { random.below(groups.len() as u64) };
        let at = groups[groups.len() - 1 - (back as usize).min(groups.len() - 1)];
        return Some((path, if random.chance(0.1) { 0 } else { at }));
    }
    let mut files = files(disk);
    if random.chance(0.4) {
        files.retain(|path| path.to_string_lossy().contains("MANIFEST"));
    }
    let path = pick(random, &files)?;
    let blocks = written(&disk.contents(&path)?);
    // What was written last to a manifest has the fewest traces elsewhere.
    let last = path.to_string_lossy().contains("MANIFEST") && random.chance(0.5);
    let at = if last { *blocks.last()? } else { pick(random, &blocks)? };
    Some((path, at))
}

/// Flips a bit of a segment's index, if there is a segment.
fn harm_index(disk: &SimDisk, random: &mut SimRandom) -> Option<String> {
    let trailer = |path: PathBuf| {
        let bytes = disk.contents(&path)?;
        let trailer = Trailer::read(bytes.get(bytes.len().checked_sub(TRAILER_BYTES)?..)?).ok()?;
        Some((path, trailer))
    };
    let segments: Vec<_> = logs(disk).into_iter().filter_map(trailer).collect();
    let (path, trailer) = pick(random, &segments)?;
    let entry = random.below(u64::from(trailer.entry_count).max(1)) * ENTRY_BYTES as u64;
    // The lowest byte of where the entry ends, or anything else in it.
    let bit = if random.chance(0.5) { 8 * 8 + random.below(8) } else { random.below(ENTRY_BYTES as u64 * 8) };
    let bit = (trailer.footer_position + entry) * 8 + bit;
    disk.flip_bit(&path, bit);
    Some(format!("{}: bit {bit} of the index flipped", path.display()))
}

/// Writes the last group of the WAL, which is often a marker and holds nothing, over another one; or one
/// group of a segment that was a WAL file over another of the same length.
fn harm_group(disk: &SimDisk, random: &mut SimRandom) -> Option<String> {
    let (path, last) = match random.chance(0.4) {
        true => (newest(disk)?.0, true),
        false => (pick(random, &logs(disk))?, false),
    };
    let bytes = disk.contents(&path)?;
    let groups = groups(&bytes);
    let from = if last { groups.last()?.clone() } else { pick(random, &groups)? };
    let blocks = |group: &Range<usize>| group.len().div_ceil(BLOCK);
    let alike = |group: &Range<usize>| group.len() == from.len() || last && blocks(group) == blocks(&from);
    let marker = |group: &Range<usize>| {
        !GroupHeader::read(&bytes[group.start..]).is_ok_and(|group| group.batch_count > 0)
    };
    let others = groups.iter().filter(|group| **group != from && alike(group) && !marker(group));
    let others: Vec<_> = others.collect();
    let to = pick(random, &others)?.start;
    disk.patch(&path, to as u64, &bytes[from.start..][..blocks(&from) * BLOCK]);
    Some(format!("{}: the group at {} written to {to}", path.display(), from.start))
}

/// Does something to one file, and says what. Losing several groups at the end together with the marker
/// behind them leaves no trace, but for the manifest's note of a log that was `closed`.
pub(crate) fn harm(disk: &SimDisk, closed: bool, random: &mut SimRandom) -> String {
    if random.chance(0.25)
        && let Some(what) = harm_index(disk, random)
    {
        return what;
    }
    if random.chance(0.2)
        && let Some(what) = harm_group(disk, random)
    {
        return what;
    }
    let Some((path, at)) = place(disk, random) else { return "nothing".to_owned() };
    let bytes = disk.contents(&path).unwrap_or_default();
    let block = BLOCK.min(bytes.len() - at as usize);
    let what = match random.below(8) {
        0 => {
            // Most bytes of a block are zeros that nobody looks at.
            let used = (at..).zip(&bytes[at as usize..][..block]).filter(|(_, byte)| **byte != 0);
            let used: Vec<u64> = used.map(|(at, _)| at).collect();
            let bit = pick(random, &used).unwrap_or(at) * 8 + random.below(8);
            disk.flip_bit(&path, bit);
            format!("bit {bit} flipped")
        }
        1 => {
            let sector = at + random.below(block.div_ceil(SECTOR) as u64) * SECTOR as u64;
            let len = SECTOR.min(bytes.len() - sector as usize);
            let garbage: Vec<u8> = (0..len).map(|_| random.draw() as u8).collect();
            let zeros = random.chance(0.5);
            disk.patch(&path, sector, if zeros { &[0; SECTOR][..len] } else { &garbage });
            format!("sector at {sector} overwritten, with zeros: {zeros}")
        }
        2 if closed => {
            disk.patch(&path, at, &vec![0; bytes.len() - at as usize]);
            format!("everything from {at} on lost")
        }
        2 | 3 => {
            disk.patch(&path, at, &vec![0; block]);
            format!("block at {at} lost")
        }
        4 => {
            let groups = newest(disk).filter(|(newest, groups)| *newest == path && !groups.is_empty());
            let from =
                pick(random, &groups.map_or_else(|| written(&bytes), |(_, groups)| groups)).unwrap_or(at);
            let blocks = if closed { 1 + random.below(3) } else { 1 };
            let len = (blocks * BLOCK as u64).min(bytes.len() as u64 - at.max(from));
            disk.patch(&path, at, &bytes[from as usize..(from + len) as usize]);
            format!("{len} B from {from} written to {at}")
        }
        5 => {
            disk.truncate(&path, at);
            format!("cut off at {at}")
        }
        6 => {
            disk.remove(&path);
            "removed".to_owned()
        }
        _ => {
            let name = path.to_string_lossy().into_owned();
            disk.plan(FaultRule::new(OpKind::Read, Effect::Error(5)).on(name).always());
            "can't be read".to_owned()
        }
    };
    format!("{}: {what}", Path::new(&path).display())
}
