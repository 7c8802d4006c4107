//! Reads, writes and what happens to their buffers.

use std::io;

use thalweg_io::{
    AlignedBuf, BLOCK, Backend, Buffer, Completion, Durability, Op, OpenMode, Reactor, Region, Reply, Tag,
};

use super::{create, pattern, read_back};

const B: u64 = BLOCK as u64;

/// Both kinds of writes, out of order, over holes and over each other.
pub async fn blocks_are_read_back_where_they_were_written<T: Backend>(reactor: Reactor<T>) {
    let file = create(&reactor, "data").await;
    let writes = [(3, 2, Durability::Durable), (0, 1, Durability::Volatile), (4, 5, Durability::Durable)];
    for (at, blocks, durability) in writes {
        let (buf, result) = reactor.write(file, at * B, pattern(at, blocks), durability).await;
        result.unwrap();
        assert_eq!(*buf, *pattern(at, blocks));
    }
    reactor.run(Op::Sync { file }).await.unwrap();
    let all = read_back(&reactor, file, 0, 9).await;
    assert_eq!(all[..BLOCK], *pattern(0, 1));
    assert_eq!(all[BLOCK..3 * BLOCK], vec![0; 2 * BLOCK]);
    assert_eq!(all[3 * BLOCK..4 * BLOCK], pattern(3, 2)[..BLOCK]);
    assert_eq!(all[4 * BLOCK..], *pattern(4, 5));
    assert_eq!(read_back(&reactor, file, 5 * B, 2).await, pattern(4, 5)[BLOCK..3 * BLOCK]);
}

/// Whole, partly and not at all inside the file.
pub async fn a_read_past_the_end_is_short<T: Backend>(reactor: Reactor<T>) {
    let file = create(&reactor, "data").await;
    assert!(read_back(&reactor, file, 0, 1).await.is_empty());
    reactor.write(file, 0, pattern(1, 3), Durability::Durable).await.1.unwrap();
    assert_eq!(read_back(&reactor, file, B, 8).await, pattern(1, 3)[BLOCK..]);
    assert!(read_back(&reactor, file, 3 * B, 1).await.is_empty());
    assert!(read_back(&reactor, file, 1000 * B, 1).await.is_empty());
    let odd = 2 * BLOCK + 700;
    reactor.run(Op::Truncate { file, len: odd as u64 }).await.unwrap();
    assert_eq!(read_back(&reactor, file, 0, 4).await, pattern(1, 3)[..odd]);
    assert_eq!(read_back(&reactor, file, 2 * B, 1).await, pattern(1, 3)[2 * BLOCK..odd]);
}

async fn write_views<T: Backend>(reactor: &Reactor<T>, region: &std::sync::Arc<Region>) {
    let file = create(reactor, "views").await;
    let blocks = region.chunk_bytes() / BLOCK;
    let mut pending = Vec::new();
    for chunk in 0..region.chunks() as u64 {
        let mut writer = region.take().unwrap();
        writer.spare().copy_from_slice(&pattern(chunk, blocks));
        let view = writer.publish(region.chunk_bytes());
        let start = chunk * region.chunk_bytes() as u64;
        for (part, durability) in [(0..BLOCK, Durability::Durable), (BLOCK..view.len(), Durability::Volatile)]
        {
            let position = start + part.start as u64;
            let buf = Buffer::View(view.slice(part));
            pending.push(reactor.start(Op::Write { file, position, buf, durability }));
        }
    }
    for write in pending {
        let done = write.await;
        done.result.unwrap();
        assert!(matches!(done.buffer, Some(Buffer::View(_))));
    }
    assert_eq!(region.free_chunks(), region.chunks(), "a view stayed behind");
    for chunk in 0..region.chunks() as u64 {
        let start = chunk * region.chunk_bytes() as u64;
        assert_eq!(read_back(reactor, file, start, blocks).await, *pattern(chunk, blocks));
    }
}

/// The commit path: published parts of the tail cache.
pub async fn views_of_registered_memory_are_written<T: Backend>(reactor: Reactor<T>) {
    let region = Region::new(16 * BLOCK, 8).unwrap();
    reactor.with_backend(|backend| backend.register(&region));
    reactor.with_backend(|backend| backend.register(&region));
    write_views(&reactor, &region).await;
}

/// With a region registered that is not the one written from.
pub async fn views_of_other_memory_are_written_too<T: Backend>(reactor: Reactor<T>) {
    let known = Region::new(BLOCK, 2).unwrap();
    reactor.with_backend(|backend| backend.register(&known));
    write_views(&reactor, &Region::new(4 * BLOCK, 3).unwrap()).await;
}

/// An error gives the buffer back with its bytes.
pub async fn buffers_come_back_with_errors<T: Backend>(reactor: Reactor<T>) {
    let file = create(&reactor, "data").await;
    reactor.write(file, 0, pattern(1, 2), Durability::Durable).await.1.unwrap();
    reactor.run(Op::Close { file }).await.unwrap();
    let (file, len) = reactor.open("data", OpenMode::Read).await.unwrap();
    assert_eq!(len, 2 * B);

    // Open only for reading.
    for durability in [Durability::Volatile, Durability::Durable] {
        let (buf, result) = reactor.write(file, 0, pattern(2, 2), durability).await;
        assert!(result.is_err());
        assert_eq!(*buf, *pattern(2, 2));
    }
    let region = Region::new(BLOCK, 1).unwrap();
    reactor.with_backend(|backend| backend.register(&region));
    let view = region.take().unwrap().publish(BLOCK);
    let write = Op::Write { file, position: 0, buf: Buffer::View(view), durability: Durability::Durable };
    let done = reactor.start(write).await;
    assert!(done.result.is_err());
    assert!(matches!(done.buffer, Some(Buffer::View(_))));
    assert_eq!(read_back(&reactor, file, 0, 2).await, *pattern(1, 2));

    // Closed.
    reactor.run(Op::Close { file }).await.unwrap();
    let (buf, result) = reactor.write(file, 0, pattern(3, 1), Durability::Durable).await;
    assert!(result.is_err());
    assert_eq!(*buf, *pattern(3, 1));
    let (buf, result) = reactor.read(file, 0, AlignedBuf::zeroed(3 * BLOCK)).await;
    assert!(result.is_err());
    assert_eq!(buf.len(), 3 * BLOCK);
    for op in
        [Op::Sync { file }, Op::Allocate { file, len: B }, Op::Truncate { file, len: 0 }, Op::Close { file }]
    {
        assert!(reactor.run(op).await.is_err());
    }
}

/// A thousand writes, then a thousand reads, submitted at once.
pub async fn more_operations_than_any_queue_holds<T: Backend>(reactor: Reactor<T>) {
    const COUNT: u64 = 1000;
    let file = create(&reactor, "data").await;
    reactor.run(Op::Allocate { file, len: COUNT * B }).await.unwrap();
    let write = |at| Op::Write {
        file,
        position: at * B,
        buf: Buffer::Aligned(pattern(at, 1)),
        durability: Durability::Volatile,
    };
    let writes: Vec<_> = (0..COUNT).map(|at| reactor.start(write(at))).collect();
    for write in writes {
        write.await.result.unwrap();
    }
    reactor.run(Op::Sync { file }).await.unwrap();
    let read = |at| Op::Read { file, position: at * B, buf: AlignedBuf::zeroed(BLOCK) };
    let reads: Vec<_> = (0..COUNT).map(|at| reactor.start(read(at))).collect();
    for (at, read) in reads.into_iter().enumerate() {
        let done = read.await;
        assert!(matches!(done.result, Ok(Reply::Read(BLOCK))));
        assert_eq!(done.buffer.unwrap().as_slice(), &*pattern(at as u64, 1));
    }
}

/// `in_flight` falls only when a completion is handed over, and tags come back as given.
pub async fn operations_are_counted_until_they_are_reaped<T: Backend>(reactor: Reactor<T>) {
    let file = create(&reactor, "data").await;
    reactor.with_backend(|backend| {
        assert_eq!(backend.in_flight(), 0);
        for at in 0..5 {
            let buf = Buffer::Aligned(pattern(at, 1));
            let write = Op::Write { file, position: at * B, buf, durability: Durability::Durable };
            backend.submit(write, Tag(u64::MAX - at));
        }
        assert_eq!(backend.in_flight(), 5);
    });
    let mut reaped: Vec<Completion> = Vec::new();
    while reaped.len() < 5 {
        let count = reactor.with_backend(|backend| {
            let count = backend.poll(&mut reaped);
            assert_eq!(backend.in_flight(), 5 - reaped.len());
            count
        });
        if count == 0 {
            let soon = reactor.now().plus_us(10_000);
            reactor.idle(Some(soon)).await;
        }
    }
    let mut tags: Vec<u64> = reaped.iter().map(|done| u64::MAX - done.tag.0).collect();
    tags.sort_unstable();
    assert_eq!(tags, [0, 1, 2, 3, 4]);
    assert!(reaped.iter().all(|done| done.result.is_ok() && done.buffer.is_some()));
}

/// Nobody waits for the write, and nobody else may get its memory meanwhile.
pub async fn an_abandoned_write_still_happens<T: Backend>(reactor: Reactor<T>) {
    let file = create(&reactor, "data").await;
    let buf = Buffer::Aligned(pattern(9, 4));
    drop(reactor.start(Op::Write { file, position: 0, buf, durability: Durability::Volatile }));
    while reactor.with_backend(|backend| backend.in_flight()) > 0 {
        reactor.poll_io();
        reactor.yield_now().await;
    }
    assert_eq!(read_back(&reactor, file, 0, 4).await, *pattern(9, 4));
}

/// Reads and writes that are not in whole blocks never reach the file.
pub async fn requests_that_are_not_in_blocks_are_refused<T: Backend>(reactor: Reactor<T>) {
    let file = create(&reactor, "data").await;
    let (buf, result) = reactor.write(file, 512, pattern(1, 1), Durability::Durable).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(*buf, *pattern(1, 1));
    let (_, result) = reactor.read(file, 1, buf).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let mut writer = Region::new(BLOCK, 1).unwrap().take().unwrap();
    let buf = Buffer::View(writer.publish(100));
    let write = Op::Write { file, position: 0, buf, durability: Durability::Durable };
    let done = reactor.start(write).await;
    assert_eq!(done.result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(done.buffer.is_some());
    assert!(read_back(&reactor, file, 0, 1).await.is_empty());
}

/// Drops a backend that has writes in flight: it waits for them and lets go of every buffer.
pub fn dropped_with_writes_in_flight<T: Backend>(mut backend: T) {
    const BLOCKS: usize = 64;
    let region = Region::new(BLOCKS * BLOCK, 4).unwrap();
    backend.register(&region);
    let mut reaped = Vec::new();
    backend.submit(Op::Open { path: "data".into(), mode: OpenMode::CreateNew }, Tag(0));
    while backend.poll(&mut reaped) == 0 {
        let soon = backend.now().plus_us(10_000);
        backend.park(Some(soon));
    }
    let Ok(Reply::Opened { file, .. }) = reaped[0].result else { panic!("{reaped:?}") };
    for chunk in 0..region.chunks() as u64 {
        let mut writer = region.take().unwrap();
        writer.spare().fill(7);
        let buf = Buffer::View(writer.publish(BLOCKS * BLOCK));
        let position = chunk * (BLOCKS * BLOCK) as u64;
        backend.submit(Op::Write { file, position, buf, durability: Durability::Durable }, Tag(1 + chunk));
        let (position, buf) = (position + (1 << 30), Buffer::Aligned(pattern(chunk, BLOCKS)));
        backend.submit(Op::Write { file, position, buf, durability: Durability::Volatile }, Tag(100 + chunk));
        backend.submit(Op::Open { path: "data".into(), mode: OpenMode::Read }, Tag(200 + chunk));
    }
    backend.poll(&mut Vec::new());
    drop(backend);
    assert_eq!(region.free_chunks(), region.chunks(), "a buffer outlived its backend");
}
