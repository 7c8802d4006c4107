//! File content: sparse pages that copies share.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::backend::BLOCK;

/// What a disk writes whole or not at all, bytes.
pub const SECTOR: usize = 512;

/// One page of content.
pub(super) type Page = [u8; BLOCK];

const _: () = assert!(BLOCK / SECTOR == 8, "a page's sectors are the bits of a `u8`");

/// All sectors of a page.
pub(super) const WHOLE: u8 = 0xFF;

/// A page with the sectors of it that count: bit 0 is the first.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) page: Rc<Page>,
    pub(super) sectors: u8,
}

/// Cuts `bytes` (whole blocks) into pages. Pages of zeros share their memory.
pub(super) fn cut_into_pages(bytes: &[u8]) -> Vec<Written> {
    let mut zeros: Option<Rc<Page>> = None;
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "writes are whole blocks");
    let page = |block: &Page| {
        if block.iter().all(|byte| *byte == 0) {
            return zeros.get_or_insert_with(|| Rc::new(*block)).clone();
        }
        Rc::new(*block)
    };
    blocks.iter().map(page).map(|page| Written { page, sectors: WHOLE }).collect()
}

/// The bytes of a file by page; a page that is not there reads as zeros. Cloning shares all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages(Rc<BTreeMap<u64, Rc<Page>>>);

impl Pages {
    /// Replaces the sectors of page `index` that `written` holds.
    pub(super) fn put(&mut self, index: u64, written: &Written) {
        match written.sectors {
            0 => {}
            WHOLE => {
                Rc::make_mut(&mut self.0).insert(index, written.page.clone());
            }
            sectors => {
                let page = self.page_mut(index);
                for sector in (0..8).filter(|sector| sectors & (1 << sector) != 0) {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    page[range.clone()].copy_from_slice(&written.page[range]);
                }
            }
        }
    }

    fn page_mut(&mut self, index: u64) -> &mut Page {
        let pages = Rc::make_mut(&mut self.0);
        Rc::make_mut(pages.entry(index).or_insert_with(|| Rc::new([0; BLOCK])))
    }

    /// Zeros everything from byte `len` on.
    pub(super) fn cut(&mut self, len: u64) {
        let (page, within) = (len / BLOCK as u64, (len % BLOCK as u64) as usize);
        let end = len.div_ceil(BLOCK as u64);
        if self.0.range(end..).next().is_some() {
            drop(Rc::make_mut(&mut self.0).split_off(&end));
        }
        if within > 0 && self.0.contains_key(&page) {
            self.page_mut(page)[within..].fill(0);
        }
    }

    /// Fills `out` from byte `position` on.
    pub(super) fn read(&self, position: u64, out: &mut [u8]) {
        for (index, within, range) in pieces(position, out.len()) {
            match self.0.get(&index) {
                Some(page) => {
                    let len = range.len();
                    out[range].copy_from_slice(&page[within..within + len]);
                }
                None => out[range].fill(0),
            }
        }
    }

    /// Replaces `bytes.len()` bytes from byte `position` on.
    pub(super) fn patch(&mut self, position: u64, bytes: &[u8]) {
        for (index, within, range) in pieces(position, bytes.len()) {
            let len = range.len();
            self.page_mut(index)[within..within + len].copy_from_slice(&bytes[range]);
        }
    }

    /// The first `len` bytes.
    pub(super) fn to_vec(&self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(len).expect("a simulated file fits in memory")];
        for (index, page) in &*self.0 {
            let start = *index as usize * BLOCK;
            let Some(room) = bytes.len().checked_sub(start) else { break };
            let end = room.min(BLOCK);
            bytes[start..start + end].copy_from_slice(&page[..end]);
        }
        bytes
    }
}

/// The pages that `len` bytes from `position` touch: page, first byte in it, range of the bytes.
pub(super) fn pieces(
    position: u64,
    len: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = position + done as u64;
        let within = (at % BLOCK as u64) as usize;
        let end = len.min(done + BLOCK - within);
        let piece = (at / BLOCK as u64, within, done..end);
        done = end;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_were_never_written_read_as_zeros() {
        let mut pages = Pages::default();
        pages.patch(BLOCK as u64 - 2, b"abcd");
        let mut out = [9; 8];
        pages.read(BLOCK as u64 - 4, &mut out);
        assert_eq!(&out, b"\0\0abcd\0\0");
        pages.cut(BLOCK as u64 + 1);
        assert_eq!(pages.to_vec(BLOCK as u64 + 4)[BLOCK - 2..], *b"abc\0\0\0");
    }

    #[test]
    fn only_the_named_sectors_of_a_page_are_replaced() {
        let mut pages = Pages::default();
        let ones = cut_into_pages(&[1; BLOCK]).remove(0);
        pages.put(0, &Written { sectors: 0b1000_0001, ..ones });
        let bytes = pages.to_vec(BLOCK as u64);
        let first: Vec<u8> = bytes.iter().step_by(SECTOR).copied().collect();
        assert_eq!(first, [1, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn copies_share_pages_until_one_changes() {
        let mut first = Pages::default();
        first.patch(0, &[1; BLOCK]);
        let second = first.clone();
        first.patch(0, &[2]);
        assert_eq!((first.to_vec(1), second.to_vec(1)), (vec![2], vec![1]));
    }
}
