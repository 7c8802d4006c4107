"""Reads the device profile, from docs/format.md alone."""

from fields import Fields, check, crc32c, show, text

STRATEGIES = [None, "dsync", "write_then_sync", "hybrid", "blocking"]


def strategy(fields):
    code = fields.number("B")
    check(1 <= code <= 4, "strategy")
    return STRATEGIES[code]


def device(data):
    fields = Fields(data[:192])
    fields.magic(b"TLWDEV")
    check(fields.number("I") == crc32c(data[12:192]), "device profile checksum")
    major, minor, file_system = fields.numbers("IIQ")
    backend, cache, fua = fields.numbers("BBB")
    check(1 <= backend <= 2 and cache <= 2 and fua <= 2, "backend, write cache or FUA")
    chosen = strategy(fields)
    polls, in_flight, count = fields.numbers("BBB")
    check(polls <= 1 and 1 <= count <= 4, "polling or count of entries")
    fields.reserved(1)
    poll_us, measured_ms = fields.numbers("Iq")
    kernel = fields.take(64).rstrip(b"\0")
    show("device", major=major, minor=minor, file_system=file_system, backend=["uring", "blocking"][backend - 1],
         write_cache=["unknown", "write through", "write back"][cache], fua=[None, False, True][fua],
         strategy=chosen, polls=bool(polls), in_flight=in_flight, poll_us=poll_us, measured_ms=measured_ms,
         kernel=text(kernel))
    for _ in range(count):
        name, flags = strategy(fields), fields.number("B")
        check(flags <= 3, "flags of an entry")
        fields.reserved(2)
        p50, p99, p999 = fields.numbers("III")
        show("commit", strategy=name, polls=bool(flags & 1), starved=bool(flags & 2), p50_ns=p50, p99_ns=p99,
             p999_ns=p999)
    fields.reserved(16 * (4 - count) + 16)
