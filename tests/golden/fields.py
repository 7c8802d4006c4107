"""What every format of docs/format.md is made of."""

import json
import struct

BLOCK = 4096
TABLE = []
for index in range(256):
    for _ in range(8):
        index = (index >> 1) ^ (0x82F63B78 if index & 1 else 0)
    TABLE.append(index)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


class Damage(Exception):
    pass


def check(holds, what):
    if not holds:
        raise Damage(what)


def padded(length, to):
    return (length + to - 1) // to * to


def show(kind, **fields):
    print(json.dumps({"kind": kind, **fields}, ensure_ascii=False))


def text(data):
    """Bytes for people: as they are if plain ASCII, else in hex."""
    if data is None or all(0x20 <= byte < 0x7F and byte not in b'"\\' for byte in data):
        return None if data is None else data.decode("ascii")
    return "0x" + data.hex()


class Fields:
    """Takes fields from the front of bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        check(self.at + length <= len(self.data), "cut short")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def numbers(self, codes):
        return struct.unpack("<" + codes, self.take(struct.calcsize("<" + codes)))

    def u128(self):
        return int.from_bytes(self.take(16), "little")

    def uvarint(self):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.number("B")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                check(value < 1 << 64, "a varint of more than 64 bits")
                return value
        raise Damage("a varint of more than ten bytes")

    def zigzag(self):
        value = self.uvarint()
        return (value >> 1) ^ -(value & 1)

    def prefixed(self):
        return self.take(self.uvarint())

    def optional(self):
        length = self.uvarint()
        return self.take(length - 1) if length else None

    def reserved(self, length):
        check(not any(self.take(length)), "reserved bytes are not zero")

    def magic(self, name):
        found = self.take(8)
        check(found[:7] == name + b"\0", f"magic {found!r}")
        check(found[7] == 1, f"version {found[7]}")

    def end(self):
        check(self.at == len(self.data), "bytes left over")


def settings(fields):
    flags = fields.number("B")
    check(flags < 8, "settings flags")
    return {
        "compact": bool(flags & 1),
        "bytes_max": fields.number("Q") if flags & 2 else None,
        "age_max_ms": fields.number("Q") if flags & 4 else None,
        "tombstone_age_ms": fields.number("Q"),
    }
