//! Axes of a chart: from values to places, and the ticks between.

/// An axis from one value to another; the ticks lie within.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// What runs along it, with its unit.
    pub(crate) label: String,
    /// Powers lie evenly.
    pub(crate) log: bool,
    /// The value at its beginning; over 0 if `log`.
    pub(crate) from: f64,
    /// The value at its end; over `from`.
    pub(crate) to: f64,
    /// Values and what is written there.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Where `value` lies, 0 at the beginning and 1 at the end; values beyond lie at the nearer end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        part.clamp(0.0, 1.0)
    }

    /// Powers of ten with 2 and 5 between, around values from `least` to `most`, which are over 0.
    pub(crate) fn log_around(label: &str, least: f64, most: f64, text: fn(f64) -> String) -> Axis {
        let (least, most) = (least.max(1e-9), most.max(least).max(1e-9));
        let first = least.log10().floor() as i32;
        let last = most.log10().ceil() as i32 + 1;
        let steps = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)));
        let steps: Vec<f64> = steps.collect();
        let from = steps.iter().copied().rfind(|step| *step <= least).unwrap_or(least);
        let to = steps.iter().copied().find(|step| *step >= most && *step > from).unwrap_or(most * 2.0);
        let ticks = steps.into_iter().filter(|step| (from..=to).contains(step));
        Axis { label: label.into(), log: true, from, to, ticks: ticks.map(|at| (at, text(at))).collect() }
    }

    /// Powers of two around values from `least` to `most`, which are over 0.
    pub(crate) fn powers_of_two(label: &str, least: f64, most: f64) -> Axis {
        let first = least.log2().floor().clamp(-64.0, 64.0) as i32;
        let last = (most.log2().ceil().clamp(-64.0, 64.0) as i32).max(first + 1);
        let ticks = (first..=last).map(|power| (2f64.powi(power), super::units::short(2f64.powi(power))));
        let (from, to) = (2f64.powi(first), 2f64.powi(last));
        Axis { label: label.into(), log: true, from, to, ticks: ticks.collect() }
    }

    /// Even steps from 0 to `most` or a little more.
    pub(crate) fn from_zero(label: &str, most: f64) -> Axis {
        const STEPS: f64 = 5.0;
        let most = if most > 0.0 && most < 1e300 { most } else { 1.0 };
        let power = 10f64.powf((most / STEPS).log10().floor());
        let fits = |step: &f64| *step * STEPS >= most * (1.0 - 1e-9);
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power).into_iter().find(fits);
        let step = step.unwrap_or(10.0 * power);
        let count = (most / step - 1e-9).ceil().clamp(1.0, STEPS);
        let ticks = (0..=count as u32).map(|nth| f64::from(nth) * step);
        let ticks = ticks.map(|at| (at, super::units::short(at))).collect();
        Axis { label: label.into(), log: false, from: 0.0, to: count * step, ticks }
    }

    /// Percentiles by how far they are from 100 %, for `1/(1 - quantile)` up to `most`.
    pub(crate) fn percentiles(most: f64) -> Axis {
        let to = if most.is_finite() { most.clamp(100.0, 1e12) } else { 1e12 };
        let mut ticks = vec![(2.0, "50".to_owned()), (10.0, "90".to_owned()), (100.0, "99".to_owned())];
        let mut inverse = 1000.0;
        while inverse <= to * 1.001 {
            let nines = inverse.log10().round() as usize - 2;
            ticks.push((inverse, format!("99.{}", "9".repeat(nines))));
            inverse *= 10.0;
        }
        Axis { label: "percentile, %".into(), log: true, from: 1.0, to, ticks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn places_follow_the_scale() {
        let axis = Axis::log_around("a", 100.0, 9000.0, super::super::units::short);
        assert_eq!((axis.from, axis.to), (100.0, 10_000.0));
        assert!((axis.place(1000.0) - 0.5).abs() < 1e-9);
        assert_eq!((axis.place(1.0), axis.place(1e9)), (0.0, 1.0));
        let axis = Axis::from_zero("a", 930_000.0);
        assert_eq!(texts(&axis), ["0", "200 k", "400 k", "600 k", "800 k", "1 M"]);
        assert!((axis.place(500_000.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_where_people_look_for_them() {
        let axis = Axis::log_around("a", 95.0, 4300.0, super::super::units::short);
        assert_eq!(texts(&axis), ["50", "100", "200", "500", "1,000", "2,000", "5,000"]);
        assert_eq!(texts(&Axis::powers_of_two("a", 1.0, 33.0)), ["1", "2", "4", "8", "16", "32", "64"]);
        assert_eq!(texts(&Axis::percentiles(30_000.0)), ["50", "90", "99", "99.9", "99.99"]);
    }

    #[test]
    fn every_axis_has_a_length_and_ticks_within() {
        let odd = [0.0, 1.0, 100.0, 1e-12, 1e18, f64::MAX, f64::MIN_POSITIVE];
        for value in odd {
            let axes = [
                Axis::log_around("a", value, value, super::super::units::short),
                Axis::powers_of_two("a", value, value),
                Axis::from_zero("a", value),
                Axis::percentiles(value),
            ];
            for axis in axes {
                assert!(axis.to > axis.from && !axis.ticks.is_empty(), "{value} {axis:?}");
                let within = |at: &f64| (axis.from..=axis.to * 1.01).contains(at);
                assert!(axis.ticks.len() < 150 && axis.ticks.iter().all(|(at, _)| within(at)), "{axis:?}");
                assert!(axis.place(value).is_finite(), "{value} {axis:?}");
            }
        }
    }
}
