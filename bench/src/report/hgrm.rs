//! Percentiles of a histogram: as a curve to be drawn, and as the text HdrHistogram's plotter reads.

use std::io::{self, Write};

use hdrhistogram::Histogram;

use crate::result::{Curve, Loop};

/// Points between a percentile and the one half as far from 100 %, as HdrHistogram prints them.
const TICKS_PER_HALF: u32 = 5;
/// The same for a curve that is drawn.
const DRAWN_PER_HALF: u32 = 8;
/// Nanoseconds of the unit that `.hgrm` files are in, µs.
const NS_PER_US: f64 = 1e3;

/// The curve of `histogram`, which holds nanoseconds; without points if that is empty.
#[must_use]
pub fn curve(id: &str, what: &str, group: &str, load: Loop, histogram: &Histogram<u64>) -> Curve {
    let at = |quantile| if histogram.is_empty() { 0 } else { histogram.value_at_quantile(quantile) };
    let steps = histogram.iter_quantiles(DRAWN_PER_HALF);
    let points = steps.map(|step| (step.quantile_iterated_to(), step.value_iterated_to()));
    Curve {
        id: id.into(),
        what: what.into(),
        group: group.into(),
        load,
        count: histogram.len(),
        p50_ns: at(0.5),
        p99_ns: at(0.99),
        p999_ns: at(0.999),
        max_ns: histogram.max(),
        points: if histogram.is_empty() { Vec::new() } else { points.collect() },
    }
}

/// Writes the percentiles of `histogram`, which holds nanoseconds, in µs.
///
/// The form is that of `outputPercentileDistribution` in HdrHistogram for Java: a head and an empty
/// line; value, quantile, how many were no slower, and `1/(1 - quantile)`, which the last line, of the
/// quantile 1, leaves out; three lines of `#[…]` with mean, maximum and the histogram's own shape.
///
/// # Errors
/// Those of `out`.
pub fn write_hgrm(histogram: &Histogram<u64>, out: &mut impl Write) -> io::Result<()> {
    let us = |ns: f64| ns / NS_PER_US;
    let digits = usize::from(histogram.sigfig());
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (us(step.value_iterated_to() as f64), step.quantile_iterated_to());
        write!(out, "{value:12.digits$} {quantile:.12} {total:10}")?;
        if quantile < 1.0 {
            write!(out, " {:14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(out)?;
    }
    let (mean, deviation) = (us(histogram.mean()), us(histogram.stdev()));
    writeln!(out, "#[Mean    = {mean:12.digits$}, StdDeviation   = {deviation:12.digits$}]")?;
    let max = us(histogram.max() as f64);
    writeln!(out, "#[Max     = {max:12.digits$}, Total count    = {:12}]", histogram.len())?;
    // As HdrHistogram sizes them: a power of two that tells twice 10^digits apart.
    let sub_buckets = (2 * 10u64.pow(u32::from(histogram.sigfig()))).next_power_of_two();
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {sub_buckets:12}]", histogram.buckets())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::histogram;

    fn text(values: &[u64]) -> String {
        let (mut of, mut out) = (histogram(), Vec::new());
        values.iter().for_each(|value| of.record(*value).unwrap());
        write_hgrm(&of, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_percentile_file_has_the_form_that_hdrhistogram_prints() {
        let text = text(&[1000, 2000, 2000, 4000]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        assert!(lines.contains(&"       2.000 0.500000000000          3           2.00"), "{text}");
        let body: Vec<&&str> = lines.iter().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(**body.last().unwrap(), "       4.001 1.000000000000          4", "{text}");
        assert!(lines[lines.len() - 3].starts_with("#[Mean    =        2.25"), "{text}");
        assert_eq!(
            lines[lines.len() - 2],
            "#[Max     =        4.001, Total count    =            4]",
            "{text}"
        );
        assert!(lines[lines.len() - 1].ends_with(", SubBuckets     =         2048]"), "{text}");
    }

    #[test]
    fn percentiles_and_counts_only_rise_and_the_last_is_the_whole() {
        let values: Vec<u64> = (1..=5000).map(|at| at * at).collect();
        let (mut of, mut last) = (histogram(), (0.0, 0));
        values.iter().for_each(|value| of.record(*value).unwrap());
        let curve = curve("a", "b", "c", Loop::Open, &of);
        for (quantile, ns) in &curve.points {
            assert!((last.0, last.1) <= (*quantile, *ns), "{last:?} {quantile} {ns}");
            last = (*quantile, *ns);
        }
        assert_eq!(last, (1.0, curve.max_ns));
        assert_eq!((curve.count, curve.load), (5000, Loop::Open));
        assert!(curve.p50_ns < curve.p99_ns && curve.p99_ns < curve.p999_ns && curve.p999_ns < curve.max_ns);
        // Dense towards 1: more points in the last hundredth than there are halvings in it.
        assert!(curve.points.iter().filter(|(quantile, _)| *quantile > 0.99).count() > 20);
    }

    #[test]
    fn an_empty_histogram_has_a_head_a_foot_and_no_curve() {
        let text = text(&[]);
        assert!(
            text.starts_with("       Value") && text.contains("Total count    =            0]"),
            "{text}"
        );
        let empty = curve("a", "b", "c", Loop::Closed, &histogram());
        assert!(empty.points.is_empty() && empty.count == 0 && empty.max_ns == 0);
    }
}
