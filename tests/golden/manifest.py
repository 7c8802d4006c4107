"""Reads the superblock and the manifest, from docs/format.md alone."""

from fields import BLOCK, Fields, check, crc32c, padded, settings, show


def superblock(data):
    fields = Fields(data[:64])
    fields.magic(b"TLWDIR")
    check(fields.number("I") == crc32c(data[12:64]), "superblock checksum")
    shards, directory = fields.number("I"), fields.u128()
    file_bytes, speed, created_ms = fields.numbers("QQq")
    fields.reserved(8)
    show("superblock", shards=shards, directory=f"{directory:032x}", wal_file_bytes=file_bytes,
         replay_speed=speed, created_ms=created_ms)


def change(fields):
    tag, first = fields.number("B"), fields.number("Q")
    names = ["wal_file_added", "wal_file_removed", "floor", "segment_added", "segment_removed",
             "partition_created", "partition_deleted", "trimmed", "configured", "next_partition", "next_file",
             "joint_resolved", "durable"]
    subjects = ["file", "file", "sequence", "file", "file", "partition", "partition", "partition",
                "partition", "partition", "file", "transaction", "group"]
    check(1 <= tag <= 13, "manifest change")
    said = {subjects[tag - 1]: first}
    if tag == 3:
        said["group"] = fields.number("Q")
    elif tag == 4:
        keys = ["file_bytes", "batch_bytes", "footer_crc", "runs", "holds"]
        said.update(zip(keys, fields.numbers("QQIIB")))
        said["holds"] = ["promoted", "shared", "own", "merged"][said["holds"]]
    elif tag in (6, 9):
        said.update(settings(fields))
    if tag in (6, 8):
        said["log_start"] = fields.number("Q")
    if tag == 6:
        said["name"] = fields.prefixed().decode("utf-8")
    show("change", change=names[tag - 1], **said)


def manifest(data):
    at, before = 0, None
    while at < len(data) and any(data[at : at + BLOCK]):
        header = Fields(data[at : at + 52])
        header.magic(b"TLWMAN")
        crc, length, revision, previous, shard, snapshot = header.numbers("IIQIHB")
        header.reserved(1)
        directory, count = header.u128(), header.number("I")
        check(52 <= length <= len(data) - at, "edit len")
        check(crc == crc32c(data[at + 12 : at + length]), f"edit checksum at byte {at}")
        check(snapshot == (before is None), "a snapshot is first, and only that")
        check(previous == (before[0] if before else 0), "edit chain")
        check(before is None or revision == before[1] + 1, "revision")
        show("edit", position=at, len=length, revision=revision, previous=previous, shard=shard,
             snapshot=bool(snapshot), directory=f"{directory:032x}", changes=count)
        fields = Fields(data[at + 52 : at + length])
        for _ in range(count):
            change(fields)
        fields.end()
        at, before = at + padded(length, BLOCK), (crc, revision)
