//! Small drawings beside figures: a bar against its target, and rounds as a line.
//!
//! A bar's places are percents of its width, so that it fits any window and its strokes stay as they are.

use super::text::escape;
use super::units;
use crate::result::{Row, Target, Verdict};

/// Where every target stands, percent of the bar's width: one line through all of them.
pub(crate) const TARGET_AT: f64 = 62.0;
/// Height of a bar's drawing, px.
const BAR_HEIGHT: u32 = 30;

/// What was measured as a bar, its rounds as a thin line, and the target it may not cross or must reach.
pub(crate) fn bar(row: &Row) -> String {
    let (bound, good_below) = match row.target {
        Target::AtMost(bound) => (bound, true),
        Target::AtLeast(bound) => (bound, false),
    };
    let place = |value: f64| if bound > 0.0 { value / bound * TARGET_AT } else { beyond(value, bound) };
    let (class, at) = (verdict_class(row.verdict), place(row.value));
    let (bad_from, bad_width) = if good_below { (TARGET_AT, 100.0 - TARGET_AT) } else { (0.0, TARGET_AT) };
    let mut marks =
        format!(r#"<rect class="bad" x="{bad_from}%" width="{bad_width}%" height="{BAR_HEIGHT}"/>"#);
    if at.is_finite() {
        let width = at.clamp(0.4, 100.0);
        marks += &format!(r#"<rect class="bar {class}" y="7" width="{width:.2}%" height="16" rx="2"/>"#);
        if row.verdict == Verdict::FallsShort {
            // Told apart by more than its colour.
            let hatch = r#"fill="url(#hatch)""#;
            marks += &format!(r#"<rect {hatch} y="7" width="{width:.2}%" height="16" rx="2"/>"#);
        }
        if at > 100.0 {
            marks += r#"<text class="beyond" x="100%" y="20" text-anchor="end">»&#160;</text>"#;
        }
        marks += &whisker(row, place);
    }
    marks +=
        &format!(r#"<line class="target" x1="{TARGET_AT}%" x2="{TARGET_AT}%" y1="0" y2="{BAR_HEIGHT}"/>"#);
    let said = escape(&format!(
        "{}: {} against a target of {}; rounds {}",
        row.what,
        units::measured(row.unit, row.value, row.target),
        units::target(row.unit, row.target),
        units::spread(row.unit, &row.rounds)
    ));
    format!(
        r#"<svg class="bars" width="100%" height="{BAR_HEIGHT}" role="img"
 aria-label="{said}"><title>{said}</title>{marks}</svg>"#
    )
}

/// The class of a verdict's colour.
pub(crate) fn verdict_class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::FallsShort => "short",
    }
}

/// Where a value lies when the target is 0, and so has no multiples.
fn beyond(value: f64, bound: f64) -> f64 {
    match value.partial_cmp(&bound) {
        None => f64::NAN,
        Some(std::cmp::Ordering::Greater) => f64::MAX,
        Some(_) => 0.0,
    }
}

/// From the least round to the most.
fn whisker(row: &Row, place: impl Fn(f64) -> f64) -> String {
    let places = || row.rounds.iter().map(|value| place(*value)).filter(|at| at.is_finite());
    let from = places().fold(f64::INFINITY, f64::min).clamp(0.0, 100.0);
    let to = places().fold(f64::NEG_INFINITY, f64::max).clamp(0.0, 100.0);
    if places().count() < 2 {
        return String::new();
    }
    let (y, ends) = (BAR_HEIGHT / 2, [from, to]);
    let ends =
        ends.map(|at| format!(r#"<line class="whisker" x1="{at:.2}%" x2="{at:.2}%" y1="11" y2="19"/>"#));
    format!(r#"<line class="whisker" x1="{from:.2}%" x2="{to:.2}%" y1="{y}" y2="{y}"/>{}"#, ends.concat())
}

/// The rounds in order as a small line, its height at least a fifth of `middle`: noise stays flat.
pub(crate) fn sparkline(middle: f64, rounds: &[f64]) -> String {
    const WIDTH: f64 = 112.0;
    const HEIGHT: f64 = 24.0;
    const EDGE: f64 = 4.0;
    let known: Vec<(usize, f64)> = rounds
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, value)| value.is_finite() && value.abs() < 1e300)
        .collect();
    if known.is_empty() || !middle.is_finite() {
        return units::NO_VALUE.into();
    }
    let least = known.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let most = known.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    let (centre, span) = (f64::midpoint(least, most), (most - least).max(middle.abs() * 0.2).max(1e-300));
    let steps = (rounds.len() - 1).max(1) as f64;
    let at = |(nth, value): &(usize, f64)| {
        let nth = if rounds.len() == 1 { 0.5 } else { *nth as f64 / steps };
        let y = HEIGHT / 2.0 - (value - centre) / span * (HEIGHT - 2.0 * EDGE);
        (EDGE + nth * (WIDTH - 2.0 * EDGE), y)
    };
    let places: Vec<(f64, f64)> = known.iter().map(at).collect();
    let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let dots: String =
        places.iter().map(|(x, y)| format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="1.8"/>"#)).collect();
    let line = line.join(" ");
    format!(
        r#"<svg class="spark" width="{WIDTH}" height="{HEIGHT}" role="img"
 aria-label="{} rounds"><polyline points="{line}"/>{dots}</svg>"#,
        rounds.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Unit;

    fn row(target: Target, value: f64) -> Row {
        let verdict = target.judge(value);
        let rounds = vec![value, value * 1.1, f64::NAN];
        Row { id: "a".into(), what: "<a>".into(), unit: Unit::Ratio, target, value, rounds, verdict }
    }

    #[test]
    fn a_bar_ends_at_the_target_when_it_is_just_met() {
        let text = bar(&row(Target::AtMost(2.0), 2.0));
        assert!(text.contains(r#"<rect class="bar pass" y="7" width="62.00%""#), "{text}");
        assert!(!text.contains("url(#hatch)") && text.contains("&lt;a&gt;"), "{text}");
    }

    #[test]
    fn a_bar_that_falls_short_is_hatched_and_one_too_long_is_cut_and_says_so() {
        let text = bar(&row(Target::AtMost(1.0), 9.0));
        assert!(text.contains("bar short") && text.contains("url(#hatch)") && text.contains('»'), "{text}");
        assert!(text.contains(r#"width="100.00%""#), "{text}");
        assert!(bar(&row(Target::AtLeast(1.0), 0.5)).contains(r#"width="31.00%""#));
    }

    #[test]
    fn nothing_is_drawn_of_what_is_not_a_number() {
        for (target, value) in [
            (Target::AtMost(1.0), f64::NAN),
            (Target::AtMost(0.0), 0.0),
            (Target::AtMost(0.0), 3.0),
            (Target::AtLeast(f64::NAN), 1.0),
        ] {
            let text = bar(&row(target, value));
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
        assert_eq!(sparkline(f64::NAN, &[]), units::NO_VALUE);
        assert!(!sparkline(1.0, &[1.0]).contains("NaN"));
        assert!(!sparkline(1.0, &[1.0, f64::NAN, f64::INFINITY, 1.0]).contains("NaN"));
    }
}
