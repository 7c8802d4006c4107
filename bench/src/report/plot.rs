//! Line charts as inline SVG, drawn twice: for a wide window and for a narrow one.

use super::axis::Axis;
use super::text::{escape, wrap};

/// Colours there are for lines; the style sheet has one for each, after Okabe and Ito.
pub(crate) const COLOURS: usize = 6;

/// A chart of some lines.
pub(crate) struct Chart {
    /// Said to who cannot see it.
    pub(crate) title: String,
    /// The axis along the bottom.
    pub(crate) x: Axis,
    /// The axis on the left.
    pub(crate) y: Axis,
    /// Drawn in order, the last on top.
    pub(crate) lines: Vec<Drawn>,
}

/// One line of a chart.
pub(crate) struct Drawn {
    /// Written at its end.
    pub(crate) name: String,
    /// How it looks.
    pub(crate) look: Look,
    /// In the units of the axes, ascending in x; all are numbers.
    pub(crate) points: Vec<(f64, f64)>,
    /// Points with a marker, and what that says when it is pointed at.
    pub(crate) marks: Vec<((f64, f64), String)>,
}

/// How a line is told from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// What the others are measured against: grey and dashed.
    Floor,
    /// By colour and by the shape of its markers.
    Nth(usize),
}

impl Look {
    /// The class of its colour.
    pub(crate) fn class(self) -> String {
        match self {
            Look::Floor => "floor".into(),
            Look::Nth(nth) => format!("c{}", nth % COLOURS),
        }
    }

    /// Its marker around a place.
    fn marker(self, x: f64, y: f64) -> String {
        match self {
            Look::Floor => format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.5"/>"#),
            Look::Nth(nth) if nth % 4 == 0 => format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="4"/>"#),
            Look::Nth(nth) => {
                let corners: &[(f64, f64)] = match nth % 4 {
                    1 => &[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)],
                    2 => &[(0.0, -4.8), (4.6, 3.4), (-4.6, 3.4)],
                    _ => &[(0.0, -5.2), (5.2, 0.0), (0.0, 5.2), (-5.2, 0.0)],
                };
                let at: Vec<_> =
                    corners.iter().map(|(right, down)| format!("{:.1},{:.1}", x + right, y + down)).collect();
                format!(r#"<polygon points="{}"/>"#, at.join(" "))
            }
        }
    }

    /// A piece of the line with its marker, for a legend.
    pub(crate) fn swatch(self) -> String {
        let (class, marker) = (self.class(), self.marker(14.0, 7.0));
        format!(
            r#"<svg class="swatch {class}" width="28" height="14"
 aria-hidden="true"><path d="M1 7H27"/>{marker}</svg>"#
        )
    }
}

/// Measures of a drawing, px.
struct Frame {
    class: &'static str,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// Names stand at the ends of the lines.
    names: bool,
}

const WIDE: Frame = Frame {
    class: "wide",
    width: 960.0,
    height: 400.0,
    left: 62.0,
    right: 200.0,
    top: 30.0,
    bottom: 48.0,
    names: true,
};
const NARROW: Frame = Frame {
    class: "narrow",
    width: 360.0,
    height: 300.0,
    left: 46.0,
    right: 12.0,
    top: 28.0,
    bottom: 44.0,
    names: false,
};
/// Width of a letter on an axis, about.
const LETTER: f64 = 6.6;
/// Between two lines of text.
const LINE_HEIGHT: f64 = 14.0;
/// Letters of a name in one line beside the chart.
const NAME_LETTERS: usize = 26;

impl Frame {
    fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + axis.place(value) * (self.width - self.left - self.right)
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.height - self.bottom - axis.place(value) * (self.height - self.top - self.bottom)
    }
}

impl Chart {
    /// The chart in both sizes; the style sheet shows the one that fits.
    pub(crate) fn draw(&self) -> String {
        self.draw_in(&WIDE) + &self.draw_in(&NARROW)
    }

    fn draw_in(&self, frame: &Frame) -> String {
        let (class, width, height) = (frame.class, frame.width, frame.height);
        let title = escape(&self.title);
        let lines: String = self.lines.iter().map(|line| self.line(frame, line)).collect();
        let names = if frame.names { self.names(frame) } else { String::new() };
        format!(
            r#"<svg class="chart {class}" viewBox="0 0 {width} {height}" role="img"
 aria-label="{title}">{}{}{lines}{names}</svg>"#,
            self.x_axis(frame),
            self.y_axis(frame)
        )
    }

    fn x_axis(&self, frame: &Frame) -> String {
        let (mut out, mut free_from) = (String::new(), f64::NEG_INFINITY);
        let (top, bottom) = (frame.top, frame.height - frame.bottom);
        for (value, text) in &self.x.ticks {
            let (at, half) = (frame.x(&self.x, *value), text.chars().count() as f64 * LETTER / 2.0);
            out += &format!(r#"<path class="grid" d="M{at:.1} {top}V{bottom}"/>"#);
            if at - half > free_from {
                let y = bottom + 18.0;
                out += &format!(
                    r#"<text class="tick" x="{at:.1}" y="{y}" text-anchor="middle">{}</text>"#,
                    escape(text)
                );
                free_from = at + half + 6.0;
            }
        }
        let (middle, y) = ((frame.left + frame.width - frame.right) / 2.0, frame.height - 8.0);
        let label = escape(&self.x.label);
        out += &format!(r#"<text class="label" x="{middle}" y="{y}" text-anchor="middle">{label}</text>"#);
        out
    }

    fn y_axis(&self, frame: &Frame) -> String {
        let (mut out, mut free_to) = (String::new(), f64::INFINITY);
        let (left, right) = (frame.left, frame.width - frame.right);
        for (nth, (value, text)) in self.y.ticks.iter().enumerate() {
            let at = frame.y(&self.y, *value);
            let class = if nth == 0 { "axis" } else { "grid" };
            out += &format!(r#"<path class="{class}" d="M{left} {at:.1}H{right}"/>"#);
            if at + LINE_HEIGHT < free_to {
                let (x, y) = (left - 8.0, at + 4.0);
                out += &format!(
                    r#"<text class="tick" x="{x}" y="{y:.1}" text-anchor="end">{}</text>"#,
                    escape(text)
                );
                free_to = at;
            }
        }
        let label = escape(&self.y.label);
        out += &format!(r#"<text class="label" x="4" y="14">{label}</text>"#);
        out
    }

    fn line(&self, frame: &Frame, line: &Drawn) -> String {
        let (mut path, mut letter) = (String::new(), 'M');
        for (x, y) in &line.points {
            path += &format!("{letter}{:.1} {:.1}", frame.x(&self.x, *x), frame.y(&self.y, *y));
            letter = 'L';
        }
        let mut marks = String::new();
        for ((x, y), said) in &line.marks {
            let marker = line.look.marker(frame.x(&self.x, *x), frame.y(&self.y, *y));
            marks += &format!("<g><title>{}</title>{marker}</g>", escape(said));
        }
        let (class, name) = (line.look.class(), escape(&line.name));
        let path = if path.is_empty() { path } else { format!(r#"<path class="line" d="{path}"/>"#) };
        format!(r#"<g class="{class}"><title>{name}</title>{path}{marks}</g>"#)
    }

    /// The names right of the lines' ends, pushed apart where they would touch.
    fn names(&self, frame: &Frame) -> String {
        let ends = self.lines.iter().filter_map(|line| Some((line, *line.points.last()?)));
        let mut ends: Vec<_> = ends
            .map(|(line, (x, y))| {
                (line, frame.x(&self.x, x), frame.y(&self.y, y), wrap(&line.name, NAME_LETTERS))
            })
            .collect();
        ends.sort_by(|one, other| one.2.total_cmp(&other.2));
        let heights: Vec<f64> = ends.iter().map(|end| end.3.len() as f64 * LINE_HEIGHT + 6.0).collect();
        let wanted: Vec<f64> = ends.iter().map(|end| end.2).collect();
        let centres = apart(&wanted, &heights, frame.top, frame.height - frame.bottom);
        let mut out = String::new();
        let x = frame.width - frame.right + 18.0;
        for ((line, end_x, end_y, words), centre) in ends.iter().zip(centres) {
            let class = line.look.class();
            out += &format!(
                r#"<path class="leader {class}" d="M{:.1} {end_y:.1}L{:.1} {centre:.1}h8"/>"#,
                end_x + 6.0,
                x - 12.0
            );
            let mut y = centre + 4.0 - (words.len() - 1) as f64 * LINE_HEIGHT / 2.0;
            for words in words {
                out += &format!(r#"<text class="name" x="{x}" y="{y:.1}">{}</text>"#, escape(words));
                y += LINE_HEIGHT;
            }
        }
        out
    }
}

/// Centres of boxes of `heights` near where they are `wanted`, in that order, none over another while
/// there is room between `top` and `bottom`.
fn apart(wanted: &[f64], heights: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut centres = wanted.to_vec();
    let mut edge = top;
    for (centre, height) in centres.iter_mut().zip(heights) {
        *centre = centre.max(edge + height / 2.0);
        edge = *centre + height / 2.0;
    }
    let mut edge = bottom;
    for (centre, height) in centres.iter_mut().zip(heights).rev() {
        *centre = centre.min(edge - height / 2.0);
        edge = *centre - height / 2.0;
    }
    centres
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_pushed_apart_and_stay_within() {
        let centres = apart(&[50.0, 51.0, 52.0, 99.0], &[14.0; 4], 0.0, 100.0);
        assert!(centres.windows(2).all(|two| two[1] - two[0] >= 14.0), "{centres:?}");
        assert!(centres[0] >= 7.0 && centres[3] <= 93.0, "{centres:?}");
        assert_eq!(apart(&[20.0, 80.0], &[14.0; 2], 0.0, 100.0), [20.0, 80.0]);
    }

    #[test]
    fn a_chart_has_its_names_labels_and_marks_and_no_markup_of_theirs() {
        let line = |name: &str, look, points: &[(f64, f64)]| Drawn {
            name: name.into(),
            look,
            points: points.to_vec(),
            marks: points.iter().map(|point| (*point, "p50 <1>".into())).collect(),
        };
        let chart = Chart {
            title: "a \"chart\"".into(),
            x: Axis::percentiles(1000.0),
            y: Axis::log_around("latency, µs", 1.0, 9.0, super::super::units::short),
            lines: vec![
                line("<b>", Look::Nth(7), &[(1.0, 2.0), (1000.0, 9.0)]),
                line("empty", Look::Floor, &[]),
            ],
        };
        let text = chart.draw();
        for want in
            ["latency, µs", "percentile, %", ">99.9<", "&lt;b&gt;", "&quot;chart&quot;", "&lt;1&gt;", "c1"]
        {
            assert!(text.contains(want), "{want}\n{text}");
        }
        assert!(!text.contains("<b>") && !text.contains("NaN"), "{text}");
    }
}
