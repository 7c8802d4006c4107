//! A report as one page: no script, no font and no style from elsewhere, readable on paper and on a
//! telephone, in light and dark.

use super::axis::Axis;
use super::bars::{TARGET_AT, bar, sparkline, verdict_class};
use super::conditions::{build, conditions, samples};
use super::plot::{Chart, Drawn, Look};
use super::table::{loop_word, verdict_words};
use super::text::escape;
use super::units;
use crate::result::{Curve, Report, Row, Sweep, Target, Unit, Verdict};

/// Everything the page looks like.
const STYLE: &str = include_str!("page.css");
/// A curve whose id ends so is what the others are measured against.
const FLOOR: &str = "floor";
/// Quantiles with a marker, and their names.
const MARKED: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// The page of a report. It is well-formed XML too.
#[must_use]
pub fn html(report: &Report) -> String {
    let parts = [head(report), targets(&report.rows), latencies(&report.curves), sweeps(&report.sweeps)];
    format!(
        r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>Thalweg benchmark</title>
<style>
{STYLE}</style>
</head>
<body>
<svg width="0" height="0" class="defs" aria-hidden="true"><defs>
<pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="2.5" height="7" class="hatch"/></pattern>
</defs></svg>
<main>
{}{}</main>
</body>
</html>
"##,
        parts.concat(),
        figures(report)
    )
}

fn head(report: &Report) -> String {
    let mut list = String::new();
    for condition in conditions(report) {
        let (name, text) = (condition.name, escape(&condition.text));
        list += &format!("<div><dt>{name}</dt><dd>{text}</dd></div>\n");
    }
    let summary = summary(report);
    let build = escape(&build(&report.machine));
    format!(
        r#"<header>
<h1>Thalweg benchmark</h1>
<p class="build">{build}</p>
<p class="summary">{summary}</p>
<dl>
{list}</dl>
</header>
"#
    )
}

/// What a reader should know who reads no further; escaped.
fn summary(report: &Report) -> String {
    let short: Vec<&Row> = report.rows.iter().filter(|row| row.verdict == Verdict::FallsShort).collect();
    let reached = report.rows.len() - short.len();
    let mut out = match (report.rows.len(), short.len()) {
        (0, _) => "This run had no targets.".into(),
        (1, 0) => "<strong>The one target was reached.</strong>".into(),
        (all, 0) => format!("<strong>All {all} targets were reached.</strong>"),
        (all, _) => {
            let one = |row: &&Row| {
                let (value, want) =
                    (units::measured(row.unit, row.value, row.target), units::target(row.unit, row.target));
                escape(&format!("{} ({value}, target {want})", row.what))
            };
            let missed = short.iter().map(one).collect::<Vec<_>>().join("; ");
            let verb = if short.len() == 1 { "falls" } else { "fall" };
            let were = if reached == 1 { "was" } else { "were" };
            format!(
                "<strong>{reached} of {all} targets {were} reached;</strong> {} {verb} short: {missed}.",
                short.len()
            )
        }
    };
    out += " Every figure is the median of its rounds; a ratio is taken within each round.";
    if report.effort.quick {
        out += " <strong>This was a quick run: an overview, not figures to quote.</strong>";
    }
    out
}

fn targets(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let kinds = [
        (true, "At most the target: the bar ends left of the line"),
        (false, "At least the target: the bar reaches the line"),
    ];
    let mut out = String::from(
        r#"<section>
<h2>Targets</h2>
<p class="note">Each bar is what was measured, drawn in parts of its target, so that one line is the
target of all. The thin line spans the rounds.</p>
"#,
    );
    for (at_most, said) in kinds {
        let of_kind = rows.iter().filter(|row| matches!(row.target, Target::AtMost(_)) == at_most);
        let items: String = of_kind.map(target).collect();
        if !items.is_empty() {
            out += &format!(
                r#"<h3>{said}</h3>
<ul class="targets">
<li class="heads" aria-hidden="true"><span></span>
<span class="track"><span style="left:{TARGET_AT}%">target</span></span>
<span>measured</span><span>target</span><span></span></li>
{items}</ul>
"#
            );
        }
    }
    out + "</section>\n"
}

fn target(row: &Row) -> String {
    let mark = match row.verdict {
        Verdict::Pass => r#"<path d="M3 8.5l3.2 3.2L13 4.6"/>"#,
        Verdict::FallsShort => r#"<path d="M4 4l8 8M12 4l-8 8"/>"#,
    };
    let (class, words) = (verdict_class(row.verdict), verdict_words(row.verdict));
    let value = units::measured(row.unit, row.value, row.target);
    let want = units::target(row.unit, row.target);
    format!(
        r#"<li><span class="what">{}</span><span class="track">{}</span>
<span class="value">{}</span><span class="want">{}</span>
<span class="verdict {class}"><svg width="16" height="16" aria-hidden="true">{mark}</svg>{words}</span></li>
"#,
        escape(&row.what),
        bar(row),
        escape(&value),
        escape(&want)
    )
}

/// Groups of curves in the order of their first.
fn groups(curves: &[Curve]) -> Vec<(&str, Vec<&Curve>)> {
    let mut groups: Vec<(&str, Vec<&Curve>)> = Vec::new();
    for curve in curves {
        match groups.iter_mut().find(|(name, _)| *name == curve.group) {
            Some((_, of_group)) => of_group.push(curve),
            None => groups.push((&curve.group, vec![curve])),
        }
    }
    groups
}

fn latencies(curves: &[Curve]) -> String {
    if curves.is_empty() {
        return String::new();
    }
    let charts: String = groups(curves).into_iter().map(|(name, curves)| group(name, &curves)).collect();
    format!(
        r#"<section>
<h2>Latency</h2>
<p class="note">Lower is better. Each step to the right leaves out nine tenths of what was slower. An open
loop sends by a schedule and counts from when an append was due, so that a stall is paid for in full; a
closed loop waits for its answers, and a stall stops it too.</p>
{charts}</section>
"#
    )
}

fn group(name: &str, curves: &[&Curve]) -> String {
    let looks = looks(curves.iter().map(|curve| curve.id.ends_with(FLOOR)));
    let drawn: Vec<Drawn> =
        curves.iter().zip(&looks).map(|(curve, look)| drawn_curve(curve, *look)).collect();
    let chart = latency_chart(name, drawn).map(|chart| chart.draw()).unwrap_or_default();
    let mut rows = String::new();
    for (curve, look) in curves.iter().zip(&looks) {
        let times = [curve.p50_ns, curve.p99_ns, curve.p999_ns, curve.max_ns];
        let times: String = times.map(|ns| format!("<td>{}</td>", units::time(ns as f64))).concat();
        let (what, load) = (escape(&curve.what), loop_word(curve.load));
        rows += &format!(
            r#"<tr><th scope="row">{}{what} <span class="loop">{load} loop</span></th>
{times}<td class="samples">{}</td></tr>
"#,
            look.swatch(),
            samples(curve.count)
        );
    }
    let name = escape(if name.is_empty() { "latency" } else { name });
    format!(
        r#"<figure>
<figcaption>{name}</figcaption>
{chart}
<div class="scroll" tabindex="0" role="region" aria-label="{name}, percentiles"><table>
<thead><tr><th scope="col">curve</th><th scope="col">p50</th><th scope="col">p99</th>
<th scope="col">p99.9</th><th scope="col">max</th><th scope="col" class="samples">samples</th></tr></thead>
<tbody>
{rows}</tbody>
</table></div>
</figure>
"#
    )
}

/// A look for each line: the floor's for what is one, the next colour for what is not.
fn looks(floors: impl Iterator<Item = bool>) -> Vec<Look> {
    let mut nth = 0;
    let mut look = |floor| {
        if floor {
            return Look::Floor;
        }
        nth += 1;
        Look::Nth(nth - 1)
    };
    floors.map(&mut look).collect()
}

/// A curve over `1/(1 - quantile)`, in µs. The quantile 1 is drawn where one sample of all is left.
fn drawn_curve(curve: &Curve, look: Look) -> Drawn {
    let end = (curve.count as f64).max(2.0);
    let place = |quantile: f64| (1.0 / (1.0 - quantile)).min(end);
    let us = |ns: u64| (ns as f64 / 1e3).max(1e-3);
    let known = || curve.points.iter().filter(|(quantile, _)| (0.0..=1.0).contains(quantile));
    let mut points: Vec<(f64, f64)> = known().map(|(quantile, ns)| (place(*quantile), us(*ns))).collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    let mark = |(quantile, name): (f64, &str)| {
        let (_, ns) = known().find(|(reached, _)| *reached >= quantile)?;
        let drawn = 1.0 / (1.0 - quantile);
        let said = format!("{}: {name} {}", curve.what, units::time(*ns as f64));
        (drawn <= end).then_some(((drawn, us(*ns)), said))
    };
    let mut marks: Vec<_> = MARKED.into_iter().filter_map(mark).collect();
    let last =
        points.last().map(|at| (*at, format!("{}: max {}", curve.what, units::time(curve.max_ns as f64))));
    marks.extend(last);
    Drawn { name: curve.what.clone(), look, points, marks }
}

fn latency_chart(name: &str, mut lines: Vec<Drawn>) -> Option<Chart> {
    // The floor lies beneath what is measured against it.
    lines.sort_by_key(|line| line.look != Look::Floor);
    let all = || lines.iter().flat_map(|line| &line.points);
    let most_x = all().map(|(x, _)| *x).reduce(f64::max)?;
    let (least, most) = (all().map(|(_, y)| *y).reduce(f64::min)?, all().map(|(_, y)| *y).reduce(f64::max)?);
    Some(Chart {
        title: format!("{name}: latency in µs over percentiles"),
        x: Axis::percentiles(most_x),
        y: Axis::log_around("latency, µs", least, most, units::short),
        lines,
    })
}

fn sweeps(sweeps: &[Sweep]) -> String {
    let charts: String = sweeps.iter().filter_map(sweep).collect();
    if charts.is_empty() { charts } else { format!("<section>\n<h2>Throughput</h2>\n{charts}</section>\n") }
}

/// The chart of a sweep; `None` if no point of it can be drawn.
fn sweep(sweep: &Sweep) -> Option<String> {
    let looks = looks(sweep.lines.iter().map(|line| line.name.to_lowercase().ends_with(FLOOR)));
    let lines = sweep.lines.iter().zip(looks).map(|(line, look)| {
        let known = line.points.iter().copied().filter(|(x, y)| x.is_finite() && *x > 0.0 && y.is_finite());
        let points: Vec<(f64, f64)> = known.collect();
        let said = |x, y| {
            format!("{}: {} {} at {} {}", line.name, units::short(y), sweep.y, units::short(x), sweep.x)
        };
        let marks = points.iter().map(|(x, y)| ((*x, *y), said(*x, *y))).collect();
        Drawn { name: line.name.clone(), look, points, marks }
    });
    let lines: Vec<Drawn> = lines.collect();
    let all = || lines.iter().flat_map(|line| &line.points);
    let (least, most) = (all().map(|(x, _)| *x).reduce(f64::min)?, all().map(|(x, _)| *x).reduce(f64::max)?);
    let y = Axis::from_zero(&sweep.y, all().map(|(_, y)| *y).reduce(f64::max)?);
    let key = |line: &Drawn| format!("<li>{}{}</li>", line.look.swatch(), escape(&line.name));
    let legend: String = lines.iter().map(key).collect();
    let x = Axis::powers_of_two(&sweep.x, least, most);
    let title = format!("{}: {} over {}", sweep.what, sweep.y, sweep.x);
    let chart = Chart { title, x, y, lines }.draw();
    let what = escape(&sweep.what);
    Some(format!(
        "<figure>\n<figcaption>{what}</figcaption>\n{chart}\n<ul class=\"legend\">{legend}</ul>\n</figure>\n"
    ))
}

fn figures(report: &Report) -> String {
    let rows = report.rows.iter().map(|row| figure(&row.id, &row.what, row.unit, row.value, &row.rounds));
    let others = report.figures.iter();
    let others = others.map(|one| figure(&one.id, &one.what, one.unit, one.value, &one.rounds));
    let all: String = rows.chain(others).collect();
    if all.is_empty() {
        return all;
    }
    format!(
        r#"<section>
<h2>All figures</h2>
<p class="note">Rounds are drawn in order; the height of a line is at least a fifth of its median, so that
noise looks like noise.</p>
<div class="scroll" tabindex="0" role="region" aria-label="all figures"><table class="figures">
<thead><tr><th scope="col">figure</th><th scope="col">median</th><th scope="col">rounds</th>
<th scope="col">least..most</th></tr></thead>
<tbody>
{all}</tbody>
</table></div>
</section>
"#
    )
}

fn figure(id: &str, what: &str, unit: Unit, value: f64, rounds: &[f64]) -> String {
    format!(
        "<tr><th scope=\"row\">{}<code>{}</code></th><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        escape(what),
        escape(id),
        units::text(unit, value),
        sparkline(value, rounds),
        units::spread(unit, rounds)
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    /// Every tag that is opened is closed, in order.
    #[track_caller]
    fn check_well_formed(page: &str) {
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag has an end");
            let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or_default();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "…{tag}");
            } else if !tag.ends_with('/') && !tag.starts_with('!') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn the_page_is_whole_in_itself_and_well_formed() {
        for report in [sample::report(), sample::awkward(), Report::new(Default::default(), sample::EFFORT)] {
            let page = html(&report);
            check_well_formed(&page);
            for elsewhere in ["http:", "https:", "src=", "@import", "<link", "<script", "NaN", "Infinity"] {
                assert!(!page.contains(elsewhere), "{elsewhere}");
            }
            // Only a pattern of the page's own.
            assert!(page.matches("url(").count() == page.matches("url(#hatch)").count());
        }
    }

    #[test]
    fn the_page_says_what_was_reached_and_what_was_not() {
        let page = html(&sample::report());
        for want in
            ["6 of 8 targets were reached", "2 fall short", "falls short", "99.99", "appends in flight"]
        {
            assert!(page.contains(want), "{want}");
        }
        assert_eq!(page.matches("<figure>").count(), 3);
        assert!(page.contains("class=\"floor\""));
    }

    #[test]
    fn awkward_text_stays_text() {
        let page = html(&sample::awkward());
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
        assert!(page.contains("&quot;") && page.contains("&amp;amp;"));
    }
}
