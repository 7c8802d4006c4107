//! `thalweg dump`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use serde::Serialize;
use serde_json::{Map, Value};
use thalweg::inspect::{self, Dumped};
use thalweg::superblock::SUPERBLOCK_NAME;

use crate::Global;
use crate::errors::WithHint;
use crate::open;
use crate::output::Out;
use crate::times::rfc3339;
use crate::verify::{explain, look};

/// Arguments of `thalweg dump`.
#[derive(Debug, clap::Args)]
pub(crate) struct DumpArgs {
    /// A data directory, a shard's directory in one, or a file [default: the data directory]
    path: Option<PathBuf>,
    /// Show single records too
    #[arg(long)]
    records: bool,
}

/// What to dump: files of a data directory, relative to it, or all of them.
struct What {
    data_dir: PathBuf,
    files: Option<Vec<PathBuf>>,
}

/// Shows what is in the files.
pub(crate) fn run(global: &Global, args: &DumpArgs) -> anyhow::Result<ExitCode> {
    let what = match &args.path {
        Some(path) => find(path)?,
        None => What { data_dir: open::existing_dir(global)?, files: None },
    };
    let _lock = look(&what.data_dir)?;
    let mut printer = Printer { out: Out::new()?, json: global.json, file: PathBuf::new(), pieces: 0 };
    let mut failed: io::Result<()> = Ok(());
    let mut visit = |path: &Path, piece: &Dumped| {
        if failed.is_ok() {
            failed = printer.print(path, piece);
            if failed.is_err() {
                stop_if_reader_gone(&failed);
            }
        }
    };
    match &what.files {
        None => inspect::dump(&what.data_dir, args.records, &mut visit).map_err(explain)?,
        Some(files) => {
            for file in files {
                inspect::dump_file(&what.data_dir, file, args.records, &mut visit).map_err(explain)?;
            }
        }
    }
    failed?;
    printer.out.flush()?;
    if printer.pieces == 0 {
        eprintln!("nothing to show: no superblock, manifest, WAL file or segment");
    }
    Ok(ExitCode::SUCCESS)
}

/// A dump can't be stopped from inside, and reading the rest for nobody may take long. It changes
/// nothing, so the process may end there and then.
fn stop_if_reader_gone(failed: &io::Result<()>) {
    if let Err(error) = failed
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}

/// Finds the data directory that `path` is, or is in.
fn find(path: &Path) -> anyhow::Result<What> {
    let path = fs::canonicalize(path).with_context(|| path.display().to_string())?;
    let data_dir = path.ancestors().find(|dir| dir.join(SUPERBLOCK_NAME).is_file());
    let Some(data_dir) = data_dir.map(Path::to_owned) else {
        return Err(anyhow!("{} is in no data directory", path.display())).hint(format!(
            "a data directory has a file {SUPERBLOCK_NAME}; nothing says what files elsewhere are"
        ));
    };
    let inside = path.strip_prefix(&data_dir).expect("it is an ancestor").to_owned();
    if inside.as_os_str().is_empty() {
        return Ok(What { data_dir, files: None });
    }
    if path.is_file() {
        return Ok(What { data_dir, files: Some(vec![inside]) });
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(inside.join(entry.file_name()));
        }
    }
    names.sort_unstable();
    Ok(What { data_dir, files: Some(names) })
}

#[derive(Serialize)]
struct JsonPiece<'a> {
    file: std::borrow::Cow<'a, str>,
    #[serde(flatten)]
    piece: &'a Dumped,
}

struct Printer {
    out: Out,
    json: bool,
    /// The file whose pieces are being printed.
    file: PathBuf,
    pieces: u64,
}

impl Printer {
    fn print(&mut self, file: &Path, piece: &Dumped) -> io::Result<()> {
        self.pieces += 1;
        if self.json {
            return self.out.json(&JsonPiece { file: file.to_string_lossy(), piece });
        }
        if self.file.as_os_str() != OsStr::new(file) {
            self.out.line(file.display())?;
            self.file = file.to_owned();
        }
        self.out.write_all(text(piece)?.as_bytes())
    }
}

/// A piece as a line of text: its kind and its fields, as far in as it is deep in its file.
fn text(piece: &Dumped) -> io::Result<String> {
    let depth = match piece {
        Dumped::Group { .. } | Dumped::Run { .. } | Dumped::Damage { .. } => 2,
        Dumped::Batch { .. } | Dumped::Entry { .. } | Dumped::Control { .. } => 3,
        Dumped::Record { .. } => 4,
        Dumped::Superblock { .. }
        | Dumped::Device { .. }
        | Dumped::WalFile { .. }
        | Dumped::Segment { .. }
        | Dumped::Edit { .. } => 1,
    };
    let indent = "  ".repeat(depth);
    let mut line = indent.clone();
    let mut below = String::new();
    if let Value::Object(mut fields) = serde_json::to_value(piece)? {
        let kind = fields.shift_remove("kind").unwrap_or_default();
        let pieces = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_object));
        for (name, items) in fields.iter().filter(|(_, value)| pieces(value)) {
            for item in items.as_array().into_iter().flatten() {
                below += &format!("{indent}  {}\n", plain(name, item));
            }
        }
        fields.retain(|_, value| !pieces(value));
        line += &format!("{} {}", plain("kind", &kind), named(&fields));
    }
    Ok(format!("{line}\n{below}"))
}

/// Fields as `name=value`; which change it is comes first, without a name.
fn named(fields: &Map<String, Value>) -> String {
    let each = fields.iter().map(|(name, value)| match (name.as_str(), value) {
        ("change", value) => plain(name, value),
        (name, Value::Object(fields)) => format!("{name}=({})", named(fields)),
        (name, value) => format!("{name}={}", plain(name, value)),
    });
    each.collect::<Vec<_>>().join(" ")
}

fn plain(name: &str, value: &Value) -> String {
    // Times, not ages.
    let time = value.as_i64().filter(|_| name.ends_with("_ms") && !name.contains("age"));
    match (time.and_then(rfc3339), value) {
        (Some(time), _) => time,
        (None, Value::String(text)) => text.clone(),
        (None, Value::Null) => "none".to_owned(),
        (None, Value::Object(fields)) => named(fields),
        (None, other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use thalweg::inspect::{DumpedChange, DumpedControl, DumpedSettings};

    use super::*;

    #[test]
    fn a_piece_is_a_line_of_its_fields() {
        let piece = Dumped::Record { offset: 7, timestamp_ms: 0, key_bytes: None, value_bytes: Some(3) };
        let want =
            "        record offset=7 timestamp_ms=1970-01-01T00:00:00.000Z key_bytes=none value_bytes=3\n";
        assert_eq!(text(&piece).unwrap(), want);
        let change = DumpedChange::Floor { sequence: 3, group: 4 };
        let piece = Dumped::Edit { position: 0, revision: 2, snapshot: false, changes: vec![change] };
        let want = "  edit position=0 revision=2 snapshot=false\n    floor sequence=3 group=4\n";
        assert_eq!(text(&piece).unwrap(), want);
        let settings =
            DumpedSettings { compact: true, bytes_max: None, age_max_ms: None, tombstone_age_ms: 5 };
        let change = DumpedControl::Configure { partition: 1, settings };
        let want = "      control position=8 configure partition=1 \
                    settings=(compact=true bytes_max=none age_max_ms=none tombstone_age_ms=5)\n";
        assert_eq!(text(&Dumped::Control { position: 8, change }).unwrap(), want);
    }
}
