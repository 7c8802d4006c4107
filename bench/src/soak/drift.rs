//! What a run looks like over time, and whether that changes.

use std::fmt::Write as _;
use std::fs;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::machine::Machine;

/// The process and the log, over one part of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// When it was taken, seconds since the run began.
    pub at_s: f64,
    /// Memory of the process that is resident, bytes.
    pub resident_bytes: u64,
    /// Descriptors that are open.
    pub descriptors: u64,
    /// Records appended in this part.
    pub appended: u64,
    /// Of their latencies, from when they were due: the median, µs.
    pub p50_us: f64,
    /// The 99th percentile, µs.
    pub p99_us: f64,
    /// The 99.9th percentile, µs.
    pub p999_us: f64,
}

impl Sample {
    /// The process as it is now, with the latencies of a part, ns.
    pub(super) fn take(at_s: f64, latency: &Histogram<u64>) -> Sample {
        let us = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1000.0;
        Sample {
            at_s,
            resident_bytes: resident_bytes(),
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64),
            appended: latency.len(),
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
        }
    }
}

/// From `/proc/self/status`; 0 where there is none.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// A figure in the first and in the last quarter of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Drift {
    /// Median of the first quarter's samples, the very first left out if there are others.
    pub first: f64,
    /// Median of the last quarter's.
    pub last: f64,
}

impl Drift {
    fn of(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> Drift {
        // What a process fills once is no drift.
        let samples = if samples.len() > 4 { &samples[1..] } else { samples };
        let quarter = samples.len().div_ceil(4);
        let median = |part: &[Sample]| {
            let mut values: Vec<f64> = part.iter().map(&value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(0.0)
        };
        Drift { first: median(&samples[..quarter]), last: median(&samples[samples.len() - quarter..]) }
    }

    /// Change from the first to the last, percent.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.first == 0.0 { 0.0 } else { (self.last / self.first - 1.0) * 100.0 }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct SoakReport {
    /// Where it ran.
    pub machine: Machine,
    /// How long it ran, seconds.
    pub seconds: f64,
    /// Records appended and acknowledged.
    pub appended: u64,
    /// Records read and compared with what was appended.
    pub checked: u64,
    /// Trims.
    pub trims: u64,
    /// Times that the log was closed, opened, and checked from end to end.
    pub restarts: u64,
    /// Segments that were rewritten by merging or compaction.
    pub segments_rewritten: u64,
    /// Memory, bytes.
    pub resident_bytes: Drift,
    /// Open descriptors.
    pub descriptors: Drift,
    /// 99.9th percentile of the latency of an append, µs.
    pub p999_us: Drift,
    /// How it went on, part by part.
    pub samples: Vec<Sample>,
    /// What the checker found, if it did: the run ended there.
    pub found: Option<String>,
}

impl SoakReport {
    /// Fills in what follows from the samples.
    pub(super) fn judge(&mut self) {
        self.resident_bytes = Drift::of(&self.samples, |sample| sample.resident_bytes as f64);
        self.descriptors = Drift::of(&self.samples, |sample| sample.descriptors as f64);
        self.p999_us = Drift::of(&self.samples, |sample| sample.p999_us);
    }

    /// The report for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out =
            String::from("    TIME  MEMORY MiB  DESCRIPTORS  RECORDS/S   P50 µs   P99 µs  P99.9 µs\n");
        let mut before = 0.0;
        for sample in &self.samples {
            let per_s = sample.appended as f64 / (sample.at_s - before).max(f64::EPSILON);
            before = sample.at_s;
            // A string takes everything.
            let _ = writeln!(
                out,
                "{:>6.0} s  {:>10.1}  {:>11}  {per_s:>9.0}  {:>7.0}  {:>7.0}  {:>8.0}",
                sample.at_s,
                sample.resident_bytes as f64 / f64::from(1 << 20),
                sample.descriptors,
                sample.p50_us,
                sample.p99_us,
                sample.p999_us
            );
        }
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let Drift { first, last } = self.resident_bytes;
        let _ = writeln!(
            out,
            "memory {:.1} MiB in the first quarter, {:.1} MiB in the last: {:+.1} %\n\
             descriptors {:.0}, {:.0}: {:+.1} %\n\
             p99.9 {:.0} µs, {:.0} µs: {:+.1} %",
            mib(first),
            mib(last),
            self.resident_bytes.percent(),
            self.descriptors.first,
            self.descriptors.last,
            self.descriptors.percent(),
            self.p999_us.first,
            self.p999_us.last,
            self.p999_us.percent()
        );
        let _ = write!(
            out,
            "{} records appended, {} compared, {} trims, {} restarts, {} segments rewritten; {:.0} s",
            self.appended, self.checked, self.trims, self.restarts, self.segments_rewritten, self.seconds
        );
        if self.found.is_none() {
            out += "\nnothing is wrong";
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_from_the_first_quarter_to_the_last() {
        let samples = |values: &[f64]| {
            values.iter().map(|p999_us| Sample { p999_us: *p999_us, ..Sample::default() }).collect::<Vec<_>>()
        };
        let drift =
            Drift::of(&samples(&[900.0, 10.0, 10.0, 12.0, 50.0, 50.0, 50.0, 15.0, 15.0]), |s| s.p999_us);
        assert_eq!((drift.first, drift.last), (10.0, 15.0));
        assert!((drift.percent() - 50.0).abs() < 1e-9);
        assert_eq!(Drift::of(&samples(&[7.0]), |sample| sample.p999_us), Drift { first: 7.0, last: 7.0 });
        assert_eq!(Drift::of(&[], |sample| sample.p999_us).percent(), 0.0);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let sample = Sample::take(1.0, &crate::load::histogram());
        assert!(sample.resident_bytes > 1 << 20 && sample.descriptors >= 3, "{sample:?}");
    }
}
