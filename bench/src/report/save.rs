//! A report in a folder: `report.json`, `report.html` and a `.hgrm` for each histogram.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use super::hgrm::{curve, write_hgrm};
use super::html::html;
use super::json::to_json;
use crate::Result;
use crate::result::{Curve, Loop, Report};

/// A curve with all that it was drawn from.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What the report holds of it.
    pub curve: Curve,
    /// Nanoseconds.
    pub histogram: Histogram<u64>,
}

impl Recorded {
    /// Of a histogram of nanoseconds.
    #[must_use]
    pub fn new(id: &str, what: &str, group: &str, load: Loop, histogram: Histogram<u64>) -> Recorded {
        Recorded { curve: curve(id, what, group, load, &histogram), histogram }
    }
}

/// Writes a report into `dir`, which is made if it is missing; what was there under the same names is
/// replaced, each file at once. Gives what was written, `report.html` first.
///
/// # Errors
/// If `dir` is a file, if two histograms would share a file, or if writing fails: with the path.
pub fn save(report: &Report, recorded: &[Recorded], dir: &Path) -> Result<Vec<PathBuf>> {
    if dir.exists() && !dir.is_dir() {
        return Err(format!("{}: a report needs a folder, and this is a file", dir.display()).into());
    }
    let mut files = vec![
        ("report.html".to_owned(), html(report).into_bytes()),
        ("report.json".to_owned(), to_json(report)?.into_bytes()),
    ];
    for Recorded { curve, histogram } in recorded {
        let mut text = Vec::new();
        write_hgrm(histogram, &mut text)?;
        files.push((file_name(&curve.id), text));
    }
    let mut names = BTreeSet::new();
    if let Some((name, _)) = files.iter().find(|(name, _)| !names.insert(name.as_str())) {
        return Err(format!("{name}: two histograms would be written there").into());
    }
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let written = files.iter().map(|(name, bytes)| {
        let path = dir.join(name);
        replace(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    });
    written.collect()
}

/// The file of a histogram: an id without what a path could take for more than a name.
fn file_name(id: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let name: String = id.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect();
    let hidden = if name.is_empty() || name.starts_with('.') { "_" } else { "" };
    format!("{hidden}{name}.hgrm")
}

/// Writes beside `path`, then renames: a reader sees the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| {
        // It is the error of writing that matters.
        let _ = fs::remove_file(&beside);
    })
}

#[cfg(test)]
mod tests {
    use super::super::{read, sample};
    use super::*;

    #[test]
    fn a_report_is_a_page_a_json_and_a_percentile_file_for_each_histogram() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("new/folder");
        let recorded = sample::recorded();
        for _ in 0..2 {
            let written = save(&sample::report(), &recorded, &place).unwrap();
            assert_eq!(written.len(), 2 + recorded.len());
            assert_eq!(written[0], place.join("report.html"));
        }
        assert_eq!(read(&place).unwrap().rows.len(), sample::report().rows.len());
        let percentiles = fs::read_to_string(place.join("append.turn.hgrm")).unwrap();
        assert!(percentiles.contains("1/(1-Percentile)"));
        let names = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().ends_with(".part")));
    }

    #[test]
    fn a_file_in_the_folders_place_and_two_of_a_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "mine").unwrap();
        let error = save(&sample::report(), &[], &file).unwrap_err().to_string();
        assert!(error.contains("needs a folder"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        let mut two = sample::recorded()[..1].to_vec();
        two.extend(two.clone());
        let error = save(&sample::report(), &two, dir.path()).unwrap_err().to_string();
        assert!(error.contains("two histograms"), "{error}");
        assert!(!dir.path().join("report.json").exists());
    }

    #[test]
    fn no_id_leads_out_of_the_folder() {
        assert_eq!(file_name("append.turn"), "append.turn.hgrm");
        assert_eq!(file_name("../a/b"), "_.._a_b.hgrm");
        assert_eq!(file_name(""), "_.hgrm");
    }
}
