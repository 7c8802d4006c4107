//! Figures as people read them: three digits that mean something, and the unit.

use crate::result::{Target, Unit, Verdict};

/// Stands where there is no value.
pub(crate) const NO_VALUE: &str = "—";
/// Digits of a figure, unless more are needed to tell it from its target.
const DIGITS: usize = 3;

/// A figure with its unit: `1.04x`, `31.2 µs`, `912,340 records/s`, `1.30 GB/s`.
pub(crate) fn text(unit: Unit, value: f64) -> String {
    let (number, suffix) = parts(unit, value, DIGITS);
    number + suffix
}

/// What a figure should be, with its unit.
pub(crate) fn target(unit: Unit, target: Target) -> String {
    match target {
        Target::AtMost(bound) => format!("≤ {}", text(unit, bound)),
        Target::AtLeast(bound) => format!("≥ {}", text(unit, bound)),
    }
}

/// A figure beside its target: with more digits where three would show the two as the same though
/// the figure falls short.
pub(crate) fn measured(unit: Unit, value: f64, target: Target) -> String {
    let (Target::AtMost(bound) | Target::AtLeast(bound)) = target;
    let written = |value, digits| {
        let (number, suffix) = parts(unit, value, digits);
        number + suffix
    };
    let told_apart = |digits: &usize| written(value, *digits) != written(bound, *digits);
    let passes = target.judge(value) == Verdict::Pass;
    let digits = if passes { DIGITS } else { (DIGITS..9).find(told_apart).unwrap_or(DIGITS) };
    written(value, digits)
}

/// The least and the most of `rounds`, the unit said once where it is the same.
pub(crate) fn spread(unit: Unit, rounds: &[f64]) -> String {
    let finite = || rounds.iter().copied().filter(|value| value.is_finite());
    match finite().count() {
        0 => return NO_VALUE.into(),
        1 => return "one round".into(),
        _ => {}
    }
    let (least, most) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let ((from, small), (to, large)) = (parts(unit, least, DIGITS), parts(unit, most, DIGITS));
    if small == large { format!("{from}..{to}{large}") } else { format!("{from}{small}..{to}{large}") }
}

/// Nanoseconds in the unit that suits them: `812 ns`, `31.2 µs`, `4.00 ms`, `1.50 s`.
pub(crate) fn time(ns: f64) -> String {
    text(Unit::Ns, ns)
}

/// A whole number with its thousands apart: `912,340`.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value <= -0.5 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number in few letters, for an axis: `0`, `250`, `40 k`, `1.5 M`.
pub(crate) fn short(value: f64) -> String {
    let steps = [(1e9, " G"), (1e6, " M"), (1e4, " k")];
    let Some((step, letter)) = steps.into_iter().find(|(step, _)| value.abs() >= *step) else {
        return if value.fract() == 0.0 { grouped(value) } else { trimmed(value) };
    };
    let step = if step == 1e4 { 1e3 } else { step };
    trimmed(value / step) + letter
}

/// At most three digits, without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = significant(value, DIGITS);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// Number and unit of a figure, to so many digits.
fn parts(unit: Unit, value: f64, digits: usize) -> (String, &'static str) {
    if !value.is_finite() {
        return (NO_VALUE.into(), "");
    }
    let size = value.abs();
    match unit {
        Unit::Ratio | Unit::RateRatio if (0.1..100.0).contains(&size) => {
            (format!("{value:.*}", digits - 1), "x")
        }
        Unit::Ratio | Unit::RateRatio => (significant(value, digits), "x"),
        Unit::Ns => scaled(value, digits, &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")]),
        Unit::Us => parts(Unit::Ns, value * 1e3, digits),
        Unit::S => parts(Unit::Ns, value * 1e9, digits),
        Unit::RecordsPerS if size >= 100.0 => (whole(value), " records/s"),
        Unit::RecordsPerS => (significant(value, digits), " records/s"),
        Unit::BytesPerS => {
            scaled(value, digits, &[(1e9, " GB/s"), (1e6, " MB/s"), (1e3, " kB/s"), (1.0, " B/s")])
        }
        Unit::Count if value.fract() == 0.0 => (whole(value), ""),
        Unit::Count => (significant(value, digits), ""),
        Unit::CorePercent => (significant(value, digits), " % core"),
    }
}

/// `value` in the largest unit that leaves a digit before the point.
fn scaled(value: f64, digits: usize, steps: &[(f64, &'static str)]) -> (String, &'static str) {
    // 999.96 has three digits in the next unit: 1.00, not 1000.
    let fits = |step: f64| value.abs() / step >= 1.0 - 0.5 * 10f64.powi(-(digits as i32));
    let (step, suffix) =
        steps.iter().copied().find(|(step, _)| fits(*step)).unwrap_or(steps[steps.len() - 1]);
    (significant(value / step, digits), suffix)
}

/// So many digits that count; thousands apart.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let exponent = format!("{value:.*e}", digits - 1);
    let exponent: i32 = exponent.split('e').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    match digits as i32 - 1 - exponent {
        _ if exponent < -6 => format!("{value:.*e}", digits - 1),
        decimals if decimals > 0 => format!("{value:.*}", decimals as usize),
        _ => whole(value),
    }
}

/// A whole number, or a power of ten where that would fill a line.
fn whole(value: f64) -> String {
    if value.abs() < 1e15 { grouped(value) } else { format!("{value:.2e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_three_digits_and_the_unit_that_suits_it() {
        let cases = [
            (Unit::Ratio, 1.0449, "1.04x"),
            (Unit::Ratio, 0.00123, "0.00123x"),
            (Unit::Ns, 812.4, "812 ns"),
            (Unit::Ns, 999_960.0, "1.00 ms"),
            (Unit::Us, 31.24, "31.2 µs"),
            (Unit::S, 1.5, "1.50 s"),
            (Unit::RecordsPerS, 912_340.4, "912,340 records/s"),
            (Unit::BytesPerS, 1.3e9, "1.30 GB/s"),
            (Unit::Count, 12_000.0, "12,000"),
            (Unit::Count, 0.25, "0.250"),
            (Unit::CorePercent, 38.21, "38.2 % core"),
            (Unit::Us, f64::NAN, NO_VALUE),
            (Unit::Count, f64::INFINITY, NO_VALUE),
        ];
        for (unit, value, want) in cases {
            assert_eq!(text(unit, value), want);
        }
    }

    #[test]
    fn no_figure_fills_a_line() {
        for unit in [Unit::Ratio, Unit::Ns, Unit::S, Unit::RecordsPerS, Unit::BytesPerS, Unit::Count] {
            for value in [1e300, -1e300, 1e-300, f64::MAX, f64::MIN_POSITIVE] {
                assert!(text(unit, value).chars().count() <= 20, "{}", text(unit, value));
            }
        }
    }

    #[test]
    fn a_figure_that_falls_short_never_looks_like_its_target() {
        assert_eq!(measured(Unit::Ratio, 1.0501, Target::AtMost(1.05)), "1.0501x");
        assert_eq!(measured(Unit::Ratio, 1.0499, Target::AtMost(1.05)), "1.05x");
        assert_eq!(measured(Unit::Ratio, 0.89, Target::AtLeast(0.9)), "0.89x");
    }

    #[test]
    fn a_spread_says_a_shared_unit_once() {
        assert_eq!(spread(Unit::Us, &[40.0, 31.2, f64::NAN]), "31.2..40.0 µs");
        assert_eq!(spread(Unit::Ns, &[900.0, 1500.0]), "900 ns..1.50 µs");
        assert_eq!(spread(Unit::Us, &[40.0]), "one round");
        assert_eq!(spread(Unit::Us, &[]), NO_VALUE);
    }

    #[test]
    fn an_axis_has_short_numbers() {
        let short_of = [0.0, 0.5, 2500.0, 40_000.0, 1_500_000.0, 2e9].map(short);
        assert_eq!(short_of, ["0", "0.5", "2,500", "40 k", "1.5 M", "2 G"]);
    }
}
