//! Where an export goes: a file that appears whole or not at all, or a stream.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::output::Out;

/// Bytes gathered before they are written.
const SINK_BUFFER_BYTES: usize = 256 << 10;

/// The destination of an export.
pub(crate) enum Sink {
    /// Standard output.
    Stdout(Out),
    /// A device or a pipe, written as it is.
    Stream(BufWriter<File>),
    /// A file, under another name until it is whole.
    File(PartialFile),
}

impl Sink {
    /// Opens a file, or standard output for `-`.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Sink> {
        if path == Path::new("-") {
            return Ok(Sink::Stdout(Out::new()?));
        }
        // Behind a symbolic link it is the file that is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let what = || format!("can't write {}", path.display());
        match fs::metadata(&path) {
            Ok(found) if !found.is_file() => {
                let stream = OpenOptions::new().write(true).open(&path).with_context(what)?;
                Ok(Sink::Stream(BufWriter::with_capacity(SINK_BUFFER_BYTES, stream)))
            }
            _ => PartialFile::create(path.clone()).map(Sink::File).with_context(what),
        }
    }

    /// Whether what is written goes to standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Sink::Stdout(_))
    }

    /// Whether it is a file that appears whole or not at all.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Sink::File(_))
    }

    /// Writes the rest, and gives a file its name when its bytes are on the disk.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        match self {
            Sink::File(file) => file.publish(),
            Sink::Stdout(_) | Sink::Stream(_) => Ok(()),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout(out) => out.write(bytes),
            Sink::Stream(stream) => stream.write(bytes),
            Sink::File(partial) => partial.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(out) => out.flush(),
            Sink::Stream(stream) => stream.flush(),
            Sink::File(partial) => partial.file.flush(),
        }
    }
}

/// A file that has another name until it is whole, and goes away if it never is.
pub(crate) struct PartialFile {
    file: BufWriter<File>,
    partial: PathBuf,
    path: PathBuf,
    published: bool,
}

impl PartialFile {
    fn create(path: PathBuf) -> io::Result<PartialFile> {
        let mut partial = path.clone().into_os_string();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new().write(true).create_new(true).open(&partial)?;
        let file = BufWriter::with_capacity(SINK_BUFFER_BYTES, file);
        Ok(PartialFile { file, partial, path, published: false })
    }

    fn publish(mut self) -> io::Result<()> {
        self.file.get_ref().sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.published = true;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.published {
            // If this fails too, what is left has a name that says what it is.
            let _ = fs::remove_file(&self.partial);
        }
    }
}
