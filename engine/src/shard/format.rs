//! Making the files of a new shard.

use std::io;
use std::path::PathBuf;

use thalweg_io::{AlignedBuf, Backend, Op, Reactor};

use crate::governor::Governor;
use crate::ids::{FileNumber, GroupNumber, PartitionId, WalSequence};
use crate::maintain::prepare::make_file;
use crate::manifest::{Change, Edit, Manifest, ManifestFile};
use crate::shard::core::file_path;
use crate::shard::recover::ShardPlace;

/// Files a fresh WAL ring has.
pub(crate) const WAL_FILES_FIRST: u64 = 2;

/// Makes the files of a new shard. Returns the speed at which a WAL file reads back, bytes/s.
pub(crate) async fn format<B: Backend>(reactor: &Reactor<B>, place: &ShardPlace) -> io::Result<u64> {
    reactor.run(Op::CreateDir { path: place.dir.clone() }).await?;
    reactor.run(Op::SyncDir { path: PathBuf::new() }).await?;
    let file_bytes = place.superblock.wal_file_bytes;
    let mut manifest = Manifest::default();
    let mut changes = vec![
        Change::NextFile(FileNumber(WAL_FILES_FIRST)),
        Change::NextPartition(PartitionId(u32::from(place.shard.0))),
        Change::Floor { sequence: WalSequence(1), group: GroupNumber(1) },
    ];
    let governor = Governor::alone(reactor.clone());
    let mut speed = 0;
    for number in 0..WAL_FILES_FIRST {
        let path = file_path(&place.dir, FileNumber(number));
        // A crash while formatting leaves files that nothing refers to.
        match reactor.run(Op::Remove { path: path.clone() }).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (file, _) = make_file(&governor, path, file_bytes, true).await?;
        if number == 0 {
            speed = measure_replay(reactor, file, file_bytes).await?;
        }
        reactor.run(Op::Close { file }).await?;
        changes.push(Change::WalFileAdded(FileNumber(number)));
    }
    let edit = Edit { revision: 1, snapshot: false, changes };
    manifest.apply(&edit).map_err(|conflict| io::Error::other(conflict.to_string()))?;
    let superblock = &place.superblock;
    ManifestFile::create(reactor, &place.dir, place.shard, superblock.directory, &manifest, 1)
        .await
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(speed)
}

/// Bytes per second at which recovery would read and check a WAL file.
async fn measure_replay<B: Backend>(
    reactor: &Reactor<B>,
    file: thalweg_io::FileId,
    len: u64,
) -> io::Result<u64> {
    let start = reactor.now();
    let mut at = 0;
    let mut buf = AlignedBuf::zeroed(1 << 20);
    let mut crc = 0;
    while at < len {
        let (back, read) = reactor.read(file, at, buf).await;
        buf = back;
        crc = crc32c::crc32c_append(crc, &buf[..read?]);
        at += buf.len() as u64;
    }
    std::hint::black_box(crc);
    let nanos = reactor.now().since(start).max(1);
    Ok((len as f64 * 1e9 / nanos as f64) as u64)
}
