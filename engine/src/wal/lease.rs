//! Who reads from WAL files just now: a file is not closed under them, as its id may then be another's.

use std::cell::RefCell;

use thalweg_io::FileId;

/// The files that are being read, each as often as it is.
#[derive(Debug, Default)]
pub(crate) struct Leases(RefCell<Vec<FileId>>);

/// A read under way; it ends when dropped.
pub(crate) struct Lease<'a> {
    leases: &'a Leases,
    file: FileId,
}

impl Leases {
    /// A read of `file` begins.
    pub(crate) fn take(&self, file: FileId) -> Lease<'_> {
        self.0.borrow_mut().push(file);
        Lease { leases: self, file }
    }

    /// Whether somebody reads `file`.
    pub(crate) fn has(&self, file: FileId) -> bool {
        self.0.borrow().contains(&file)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut files = self.leases.0.borrow_mut();
        if let Some(at) = files.iter().position(|file| *file == self.file) {
            files.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_leased_until_its_last_reader_ends() {
        let leases = Leases::default();
        let (first, second) = (leases.take(FileId(7)), leases.take(FileId(7)));
        assert!(leases.has(FileId(7)) && !leases.has(FileId(8)));
        drop(first);
        assert!(leases.has(FileId(7)));
        drop(second);
        assert!(!leases.has(FileId(7)));
    }
}
