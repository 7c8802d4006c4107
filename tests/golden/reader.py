#!/usr/bin/env python3
"""Reads the files of a Thalweg data directory, written from docs/format.md alone: WAL and segments here,
the rest in manifest.py.

Usage: reader.py FILE...   Prints one JSON object per line; ends with status 1 at the first damage.
"""

import struct
import sys

from fields import BLOCK, Damage, Fields, check, crc32c, padded, settings, show, text
from device import device
from manifest import manifest, superblock


def control(partition, body):
    fields = Fields(body)
    kind = fields.number("B")
    check(1 <= kind <= 5, "control kind")
    name = ["create", "delete", "trim", "configure", "joint"][kind - 1]
    said = {}
    if name in ("create", "configure"):
        said = settings(fields)
    if name == "create":
        said["name"] = fields.prefixed().decode("utf-8")
    elif name == "trim":
        said["log_start"] = fields.number("Q")
    elif name == "joint":
        said["transaction"] = fields.number("Q")
        said["shards"] = [fields.uvarint() for _ in range(fields.uvarint())]
    fields.end()
    show("control", change=name, partition=partition, **said)


def records(body, base_offset, span, count, base_timestamp):
    fields, least = Fields(body), 0
    for _ in range(count):
        record = Fields(fields.prefixed())
        delta = record.uvarint()
        check(least <= delta < span, "offset delta")
        least = delta + 1
        timestamp = base_timestamp + record.zigzag()
        key, value = record.optional(), record.optional()
        headers = [[text(record.prefixed()), text(record.optional())] for _ in range(record.uvarint())]
        record.end()
        show("record", offset=base_offset + delta, timestamp=timestamp, key=text(key), value=text(value),
             headers=headers)
    fields.end()


def batch(data, at):
    """Shows the batch at `at`; returns its place's end, checksum and header."""
    fields = Fields(data[at : at + 64])
    crc, length, partition, epoch, base, span, count, base_ms, max_ms, kind = fields.numbers("IIIIQIIqqB")
    fields.reserved(15)
    check(length >= 64 and at + length <= len(data), "batch len")
    check(crc == crc32c(data[at + 4 : at + length]), f"batch checksum at byte {at}")
    check(kind < 3, "batch kind")
    show("batch", position=at, len=length, partition=partition, leader_epoch=epoch, base_offset=base,
         offset_span=span, record_count=count, base_timestamp=base_ms, max_timestamp=max_ms,
         holds=["records", "opaque", "control"][kind])
    body = data[at + 64 : at + length]
    if kind == 0:
        records(body, base, span, count, base_ms)
    elif kind == 1:
        show("opaque", body=text(body))
    else:
        control(partition, body)
    header = {"partition": partition, "base": base, "end": base + span, "max_ms": max_ms, "base_ms": base_ms,
              "count": count}
    return at + padded(length, 8), crc, header


def group(data, at, life, previous):
    """Shows the group at `at`; returns where the next one starts and this header's checksum."""
    fields = Fields(data[at : at + 96])
    fields.magic(b"TLWGRP")
    crc, length, number, sequence, position, durable = fields.numbers("IIQQQQ")
    shard, batches, digest, linked, written_ms, salt, directory, revision = fields.numbers("IIIIqQQQ")
    check(crc == crc32c(struct.pack("<Q", salt) + data[at + 12 : at + 96]), f"group checksum at byte {at}")
    check((shard, salt, sequence, position) == (life["shard"], life["salt"], life["sequence"], at), "identity")
    check(directory == life["directory"] & (1 << 64) - 1, "group directory")
    check(number == life["next"] and linked == previous, "group chain")
    show("group", position=at, len=length, number=number, sequence=sequence, durable=durable, shard=shard,
         batch_count=batches, batch_digest=digest, previous=linked, written_ms=written_ms, salt=salt,
         directory=f"{directory:016x}", revision=revision)
    inside, crcs = at + 96, b""
    for _ in range(batches):
        inside, batch_crc, _ = batch(data[: at + length], inside)
        crcs += struct.pack("<I", batch_crc)
    check(digest == crc32c(crcs), "batch digest")
    check(inside == at + length, "group len")
    return padded(inside, BLOCK), crc


def wal(data, end):
    fields = Fields(data[:80])
    fields.magic(b"TLWWAL")
    check(fields.number("I") == crc32c(data[12:80]), "WAL file header checksum")
    shard, sequence, salt, first, previous = fields.numbers("IQQQI")
    fields.reserved(4)
    directory = fields.u128()
    started_ms, file_bytes = fields.numbers("qQ")
    show("wal_file", shard=shard, sequence=sequence, salt=salt, first_group=first, previous=previous,
         directory=f"{directory:032x}", started_ms=started_ms, file_bytes=file_bytes)
    life = {"shard": shard, "sequence": sequence, "salt": salt, "directory": directory, "next": first}
    at = BLOCK
    while at < end and any(data[at : at + BLOCK]):
        at, previous = group(data, at, life, previous)
        life["next"] += 1


def segment(data):
    end = len(data) - 128
    fields = Fields(data[end:])
    fields.magic(b"TLWSEG")
    check(fields.number("I") == crc32c(data[end + 12 :]), "trailer checksum")
    footer_crc, start, entry_count, run_count, file = fields.numbers("IQIIQ")
    directory, (shard, kind) = fields.u128(), fields.numbers("HB")
    fields.reserved(5)
    created_ms, batch_bytes, sequence_end = fields.numbers("qQQ")
    fields.reserved(40)
    check(kind < 4 and start % BLOCK == 0, "trailer")
    length = 48 * entry_count + 64 * run_count
    check(padded(start + length + 128, BLOCK) == len(data), "length of the segment")
    check(footer_crc == crc32c(data[start : start + length]), "footer checksum")
    show("segment", file=file, shard=shard, holds=["promoted", "shared", "own", "merged"][kind],
         directory=f"{directory:032x}", created_ms=created_ms, batch_bytes=batch_bytes,
         sequence_end=sequence_end, footer_position=start, footer_crc=footer_crc)
    footer = Fields(data[start : start + length])
    entries = []
    for _ in range(entry_count):
        raw = footer.take(48)
        check(struct.unpack("<I", raw[40:44])[0] == crc32c(raw[:40]), "entry checksum")
        check(not any(raw[44:]), "entry reserved")
        entries.append(struct.unpack("<QQQqII", raw[:40]))
    runs = [footer.numbers("IIIIQQqqQQ") for _ in range(run_count)]
    check(runs == sorted(runs), "order of the runs")
    check(sum(run[8] for run in runs) == batch_bytes, "batch bytes")
    for run in runs:
        show_run(data, run, entries)
    if kind == 0:
        wal(data, start)


def show_run(data, run, entries):
    partition, count, first, flags, base, end, min_ms, max_ms, size, held = run
    check(flags < 2, "run flags")
    show("run", partition=partition, entry_count=count, first_entry=first, compacted=flags == 1,
         base_offset=base, end_offset=end, min_timestamp=min_ms, max_timestamp=max_ms, bytes=size,
         records=held)
    headers, total = [], 0
    for entry in entries[first : first + count]:
        from_offset, to_offset, at, upto_ms, length, batches = entry
        show("entry", base_offset=from_offset, end_offset=to_offset, position=at, max_timestamp=upto_ms,
             bytes=length, batches=batches)
        next_at, mine = at, []
        for _ in range(batches):
            next_at, _, header = batch(data, next_at)
            mine.append(header)
        check(next_at == at + length, "bytes of the entry")
        check((mine[0]["base"], mine[-1]["end"]) == (from_offset, to_offset), "offsets of the entry")
        headers += mine
        total += length
        check(upto_ms == max(header["max_ms"] for header in headers), "largest timestamp of the entry")
    check(total == size and held == sum(header["count"] for header in headers), "sums of the run")
    check(all(header["partition"] == partition for header in headers), "partition of the run")
    check(min_ms == min(header["base_ms"] for header in headers), "smallest timestamp of the run")


def read(data):
    check(data and len(data) % BLOCK == 0, "not a whole number of blocks")
    if data[-128:-121] == b"TLWSEG\0":
        segment(data)
    elif data[:7] == b"TLWDIR\0":
        superblock(data)
    elif data[:7] == b"TLWDEV\0":
        device(data)
    elif data[:7] == b"TLWMAN\0":
        manifest(data)
    else:
        wal(data, len(data))


for path in sys.argv[1:]:
    sys.stdout.reconfigure(encoding="utf-8")
    with open(path, "rb") as file:
        content = file.read()
    try:
        read(content)
    except Damage as damage:
        sys.exit(f"{path}: {damage}")
