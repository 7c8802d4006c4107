//! A footer as it is written: in steps, for that of 100,000 partitions is 10 MB, and making it in one
//! go would hold commits up for 20 ms.

use thalweg_io::BLOCK;

use crate::segment::footer::{ENTRY_BYTES, Footer, IndexEntry, RUN_BYTES, Run, TRAILER_BYTES, Trailer};

/// Bytes of one step.
const STEP_BYTES: usize = 128 << 10;

/// Encodes footer and trailer: whole blocks, one behind the other, to be written from
/// `trailer.footer_position` on. The last one has the trailer; its counts and checksum are set from the
/// footer then.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    entries: std::slice::Iter<'a, IndexEntry>,
    runs: std::slice::Iter<'a, Run>,
    trailer: &'a mut Trailer,
    /// What did not fit into whole steps.
    rest: Vec<u8>,
    crc: u32,
    ended: bool,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(footer: &'a Footer, trailer: &'a mut Trailer) -> Steps<'a> {
        trailer.entry_count = footer.entries.len() as u32;
        trailer.run_count = footer.runs.len() as u32;
        let (entries, runs) = (footer.entries.iter(), footer.runs.iter());
        Steps { entries, runs, trailer, rest: Vec::new(), crc: 0, ended: false }
    }

    /// Appends the next entry or run. Returns false if there is none.
    fn push_next(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(entry) = self.entries.next() {
            entry.push(out);
        } else if let Some(run) = self.runs.next() {
            run.push(out);
        } else {
            return false;
        }
        true
    }
}

impl Iterator for Steps<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut out = Vec::with_capacity(STEP_BYTES + ENTRY_BYTES.max(RUN_BYTES));
        out.append(&mut self.rest);
        while out.len() < STEP_BYTES && self.push_next(&mut out) {}
        if out.len() >= STEP_BYTES {
            self.rest = out.split_off(STEP_BYTES);
            self.crc = crc32c::crc32c_append(self.crc, &out);
            return Some(out);
        }
        self.ended = true;
        self.trailer.footer_crc = crc32c::crc32c_append(self.crc, &out);
        out.resize((out.len() + TRAILER_BYTES).next_multiple_of(BLOCK), 0);
        let at = out.len() - TRAILER_BYTES;
        self.trailer.seal(&mut out[at..]);
        Some(out)
    }
}

/// Encodes footer and trailer, to be written at `trailer.footer_position`. `trailer`'s counts and
/// checksum are set from the footer. Returns whole blocks.
pub fn encode_footer(footer: &Footer, trailer: &mut Trailer) -> Vec<u8> {
    Steps::new(footer, trailer).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Offset, PartitionId};
    use crate::segment::footer::decode_footer;
    use crate::segment::footer::tests::trailer;

    /// A footer of so many runs with an entry each.
    fn check(runs: u32) {
        let run = |n: u32| Run {
            partition: PartitionId(n),
            entry_count: 1,
            first_entry: n,
            compacted: false,
            base_offset: Offset(0),
            end_offset: Offset(1),
            min_timestamp_ms: 0,
            max_timestamp_ms: 0,
            bytes: 8,
            records: 1,
        };
        let entry = |_| IndexEntry {
            base_offset: Offset(0),
            end_offset: Offset(1),
            position: 0,
            max_timestamp_ms: 0,
            bytes: 8,
            batches: 1,
        };
        let footer = Footer { runs: (0..runs).map(run).collect(), entries: (0..runs).map(entry).collect() };
        let mut trailer = trailer();
        let steps: Vec<_> = Steps::new(&footer, &mut trailer).collect();
        let (last, whole) = steps.split_last().unwrap();
        assert!(whole.iter().all(|step| step.len() == STEP_BYTES) && last.len().is_multiple_of(BLOCK));
        let bytes = steps.concat();
        assert_eq!(bytes.len() as u64 + trailer.footer_position, trailer.file_bytes(), "{runs} runs");
        assert_eq!(Trailer::read(&bytes[bytes.len() - TRAILER_BYTES..]), Ok(trailer));
        assert_eq!(decode_footer(&bytes, &trailer), Ok(footer));
    }

    #[test]
    fn a_footer_of_any_size_is_made_of_whole_steps_and_an_end() {
        let whole = STEP_BYTES / (ENTRY_BYTES + RUN_BYTES);
        for runs in [0, 1, whole - 1, whole, whole + 1, 3 * whole] {
            check(runs as u32);
        }
        // Entries and runs that fill whole steps exactly.
        check((STEP_BYTES * 3) as u32 / (ENTRY_BYTES + RUN_BYTES) as u32);
        check(STEP_BYTES as u32);
    }
}
