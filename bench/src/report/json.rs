//! A report as JSON, and back. JSON has no NaN: what is not a number is `null` there.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use crate::Result;
use crate::result::{REPORT_VERSION, Report};

/// A report as it is kept.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn to_json(report: &Report) -> Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// The report in `path`, a file, or a folder that `save` wrote.
///
/// # Errors
/// Names the file and what is wrong with it: unreadable, not JSON, of another version, or not a report.
pub fn read(path: &Path) -> Result<Report> {
    let file = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn parse(text: &str) -> Result<Report> {
    /// All that every version has.
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    // Whether it is JSON is told apart from whether it is ours.
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let Ok(Head { version }) = Head::deserialize(&value) else {
        return Err("not a report of a benchmark: it has no version".into());
    };
    if version != REPORT_VERSION {
        let known = REPORT_VERSION;
        return Err(format!("version {version} of the report; this program knows version {known}").into());
    }
    serde_json::from_str(text).map_err(|error| format!("not a report of a benchmark: {error}").into())
}

/// Reads a number, or `null` as not a number.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Reads numbers, each as [`number`] does.
pub(crate) fn numbers<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<f64>, D::Error> {
    let all = Vec::<Option<f64>>::deserialize(from)?;
    Ok(all.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// Reads points of a line, each part as [`number`] does.
pub(crate) fn line_points<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Vec<(f64, f64)>, D::Error> {
    let all = Vec::<(Option<f64>, Option<f64>)>::deserialize(from)?;
    Ok(all.into_iter().map(|(x, y)| (x.unwrap_or(f64::NAN), y.unwrap_or(f64::NAN))).collect())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_report_comes_back_and_what_is_no_number_is_none_again() {
        let back = parse(&to_json(&sample::awkward()).unwrap()).unwrap();
        assert_eq!(back.machine, sample::awkward().machine);
        assert!(back.rows[0].value.is_nan() && back.rows[2].rounds.iter().all(|value| value.is_nan()));
        assert!(back.sweeps[0].lines[2].points[0].0.is_nan());
        let (usual, back) = (sample::report(), parse(&to_json(&sample::report()).unwrap()).unwrap());
        assert_eq!(back.machine, usual.machine);
        // The last bit of a number may differ.
        let close = |one: &f64, other: &f64| (one - other).abs() <= one.abs() * 1e-12;
        for (row, again) in usual.rows.iter().zip(&back.rows) {
            assert!(row.id == again.id && row.target == again.target && row.verdict == again.verdict);
            assert!(row.rounds.iter().zip(&again.rounds).all(|(one, other)| close(one, other)));
        }
        assert_eq!(back.curves[1].points.len(), usual.curves[1].points.len());
    }

    #[test]
    fn what_is_not_a_report_is_refused_with_its_file_and_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        let newer = to_json(&sample::report()).unwrap().replacen("\"version\": 1", "\"version\": 9", 1);
        let cases = [
            ("{", "not JSON"),
            ("[]", "not a report"),
            ("{\"version\": 1}", "missing field `machine`"),
            (newer.as_str(), "version 9 of the report; this program knows version 1"),
        ];
        for (text, want) in cases {
            fs::write(&file, text).unwrap();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains("a.json: ") && error.contains(want), "{error}");
        }
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("report.json: No such file"), "{error}");
    }
}
