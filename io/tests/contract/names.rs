//! Files and directories by name, and their lengths.

use std::io;

use thalweg_io::{BLOCK, Backend, Durability, Entry, Op, OpenMode, Reactor};

use super::{create, pattern, read_back};

fn file(name: &str, len: u64) -> Entry {
    Entry { name: name.to_owned(), len, is_dir: false }
}

fn dir(name: &str) -> Entry {
    Entry { name: name.to_owned(), len: 0, is_dir: true }
}

async fn kind_of_open<B: Backend>(reactor: &Reactor<B>, path: &str, mode: OpenMode) -> io::ErrorKind {
    reactor.open(path, mode).await.unwrap_err().kind()
}

/// What must exist and what must not.
pub async fn open_modes_are_kept_apart<B: Backend>(reactor: Reactor<B>) {
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(kind_of_open(&reactor, "a", mode).await, io::ErrorKind::NotFound);
    }
    assert_eq!(kind_of_open(&reactor, "d/a", OpenMode::CreateNew).await, io::ErrorKind::NotFound);
    let first = create(&reactor, "a").await;
    assert_eq!(kind_of_open(&reactor, "a", OpenMode::CreateNew).await, io::ErrorKind::AlreadyExists);
    reactor.write(first, 0, pattern(1, 1), Durability::Durable).await.1.unwrap();
    let (second, len) = reactor.open("a", OpenMode::ReadWrite).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(len, BLOCK as u64);
    reactor.write(second, 0, pattern(2, 1), Durability::Durable).await.1.unwrap();
    assert_eq!(read_back(&reactor, first, 0, 1).await, *pattern(2, 1));
}

/// Files closed and opened many times over do not use anything up.
pub async fn an_id_is_free_after_close<B: Backend>(reactor: Reactor<B>) {
    create(&reactor, "a").await;
    let mut highest = 0;
    for _ in 0..200 {
        let (file, _) = reactor.open("a", OpenMode::ReadWrite).await.unwrap();
        highest = highest.max(file.0);
        reactor.write(file, 0, pattern(1, 1), Durability::Volatile).await.1.unwrap();
        reactor.run(Op::Close { file }).await.unwrap();
    }
    assert!(highest < 10, "ids are not used again: {highest}");
}

/// And an open file does not care.
pub async fn renames_replace_and_removes_remove<B: Backend>(reactor: Reactor<B>) {
    let old = create(&reactor, "old").await;
    let new = create(&reactor, "new").await;
    reactor.write(old, 0, pattern(1, 1), Durability::Durable).await.1.unwrap();
    reactor.write(new, 0, pattern(2, 2), Durability::Durable).await.1.unwrap();
    reactor.run(Op::Rename { from: "old".into(), to: "new".into() }).await.unwrap();
    reactor.run(Op::SyncDir { path: "".into() }).await.unwrap();
    assert_eq!(reactor.list("").await.unwrap(), [file("new", BLOCK as u64)]);
    let (found, _) = reactor.open("new", OpenMode::Read).await.unwrap();
    assert_eq!(read_back(&reactor, found, 0, 2).await, *pattern(1, 1));
    assert_eq!(read_back(&reactor, new, 0, 2).await, *pattern(2, 2));

    reactor.run(Op::Remove { path: "new".into() }).await.unwrap();
    reactor.run(Op::SyncDir { path: "".into() }).await.unwrap();
    assert!(reactor.list("").await.unwrap().is_empty());
    assert_eq!(read_back(&reactor, found, 0, 1).await, *pattern(1, 1));
    for op in [
        Op::Remove { path: "new".into() },
        Op::Rename { from: "new".into(), to: "old".into() },
        Op::SyncDir { path: "none".into() },
        Op::List { path: "none".into() },
    ] {
        assert_eq!(reactor.run(op).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

/// Files and directories in one order, at both levels.
pub async fn directories_are_made_once_and_listed_in_order<B: Backend>(reactor: Reactor<B>) {
    for _ in 0..2 {
        reactor.run(Op::CreateDir { path: "d".into() }).await.unwrap();
    }
    for name in ["d/10", "d/9", "z", "d/1", "a"] {
        create(&reactor, name).await;
    }
    reactor.run(Op::CreateDir { path: "d/sub".into() }).await.unwrap();
    for path in ["d/sub", "d", ""] {
        reactor.run(Op::SyncDir { path: path.into() }).await.unwrap();
    }
    assert_eq!(reactor.list("").await.unwrap(), [file("a", 0), dir("d"), file("z", 0)]);
    assert_eq!(reactor.list("d").await.unwrap(), [file("1", 0), file("10", 0), file("9", 0), dir("sub")]);
    assert!(reactor.list("d/sub").await.unwrap().is_empty());
    assert!(reactor.list("none").await.unwrap().is_empty());
    reactor.run(Op::Rename { from: "d/10".into(), to: "d/sub/10".into() }).await.unwrap();
    assert_eq!(reactor.list("d/sub").await.unwrap(), [file("10", 0)]);
    let taken = reactor.run(Op::CreateDir { path: "a".into() }).await.unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
}

/// Allocate only ever grows a file, truncate does both; what was not written reads as zeros.
pub async fn lengths_follow_allocate_and_truncate<B: Backend>(reactor: Reactor<B>) {
    let block = BLOCK as u64;
    let file = create(&reactor, "data").await;
    let len = async || reactor.list("").await.unwrap()[0].len;
    reactor.run(Op::Allocate { file, len: 4 * block }).await.unwrap();
    assert_eq!(len().await, 4 * block);
    assert_eq!(read_back(&reactor, file, 0, 8).await, vec![0; 4 * BLOCK]);
    reactor.write(file, 0, pattern(1, 2), Durability::Durable).await.1.unwrap();
    reactor.run(Op::Allocate { file, len: block }).await.unwrap();
    reactor.run(Op::Allocate { file, len: 0 }).await.unwrap();
    assert_eq!(len().await, 4 * block);
    assert_eq!(read_back(&reactor, file, 0, 2).await, *pattern(1, 2));

    reactor.run(Op::Truncate { file, len: block }).await.unwrap();
    reactor.run(Op::Sync { file }).await.unwrap();
    assert_eq!(len().await, block);
    reactor.run(Op::Truncate { file, len: 3 * block }).await.unwrap();
    let all = read_back(&reactor, file, 0, 4).await;
    assert_eq!(all[..BLOCK], pattern(1, 2)[..BLOCK]);
    assert_eq!(all[BLOCK..], vec![0; 2 * BLOCK]);
}

/// The data directory is all that a backend can reach.
pub async fn paths_outside_the_data_directory_are_refused<B: Backend>(reactor: Reactor<B>) {
    for path in ["/etc", "..", "../x", "a/../../b"] {
        for op in [
            Op::Open { path: path.into(), mode: OpenMode::Read },
            Op::Remove { path: path.into() },
            Op::Rename { from: path.into(), to: "a".into() },
            Op::Rename { from: "a".into(), to: path.into() },
            Op::CreateDir { path: path.into() },
            Op::SyncDir { path: path.into() },
            Op::List { path: path.into() },
        ] {
            let error = reactor.run(op).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }
}
