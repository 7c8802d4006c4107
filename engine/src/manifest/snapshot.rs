//! The snapshot that a generation of the manifest begins with: written beside the old one, then named.

use std::io;
use std::path::Path;

use thalweg_io::{AlignedBuf, Backend, Durability, FileId, Op, OpenMode, Reactor};

use crate::governor::{Governor, Work};
use crate::ids::ShardId;
use crate::manifest::codec::encode_edit;
use crate::manifest::state::Manifest;
use crate::names;
use crate::planted::{Planted, planted};

/// Whether a failed snapshot may be found under its final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    No,
    Perhaps,
}

/// Writes `buf`, at the governor's pace where there is one.
pub(super) async fn write<B: Backend>(
    reactor: &Reactor<B>,
    governor: Option<&Governor<B>>,
    file: FileId,
    position: u64,
    buf: AlignedBuf,
) -> io::Result<()> {
    match governor {
        Some(governor) => governor.write(Work::Upkeep, file, position, &buf).await,
        None => reactor.write(file, position, buf, Durability::Volatile).await.1,
    }
}

/// Writes the first edit of a generation, durable under `name` when this returns: its file, its end, and
/// its checksum.
///
/// # Errors
/// The host's, and whether the name may be there.
pub(super) async fn write_snapshot<B: Backend>(
    reactor: &Reactor<B>,
    governor: Option<&Governor<B>>,
    dir: &Path,
    name: &str,
    shard: ShardId,
    directory: u128,
    manifest: &Manifest,
) -> Result<(FileId, u64, u32), (Named, io::Error)> {
    let temporary = dir.join(format!("{name}.tmp"));
    match reactor.run(Op::Remove { path: temporary.clone() }).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((Named::No, error)),
        _ => {}
    }
    let (bytes, crc) = encode_edit(&manifest.snapshot(), shard, directory, 0);
    let opened = reactor.open(&temporary, OpenMode::CreateNew).await;
    let (file, _) = opened.map_err(|error| (Named::No, error))?;
    let buf = AlignedBuf::padded(&bytes);
    let end = buf.len() as u64;
    let written = async {
        write(reactor, governor, file, 0, buf).await.map_err(|error| (Named::No, error))?;
        reactor.run(Op::Sync { file }).await.map_err(|error| (Named::No, error))?;
        let perhaps = |error| (Named::Perhaps, error);
        match governor {
            _ if planted(Planted::NoDirectorySyncOfManifest) => {
                reactor.run(Op::Rename { from: temporary, to: dir.join(name) }).await.map_err(perhaps)
            }
            Some(governor) => governor.put(temporary, dir.join(name)).await.map_err(perhaps),
            None => names::put(reactor, temporary, dir.join(name)).await.map_err(perhaps),
        }
    };
    if let Err(error) = written.await {
        let _ = reactor.run(Op::Close { file }).await;
        if error.0 == Named::No {
            let _ = reactor.run(Op::Remove { path: dir.join(format!("{name}.tmp")) }).await;
        }
        return Err(error);
    }
    Ok((file, end, crc))
}
