//! Line charts as SVG: axes with names and ticks, named series, nothing that needs a script.
//!
//! ```
//! use millstream_train::chart::{Axis, Chart, Series};
//! let chart = Chart {
//!     title: "ROC".into(),
//!     x: Axis::unit("false positive rate"),
//!     y: Axis::unit("true positive rate"),
//!     series: vec![Series::line("deepfm", vec![(0.0, 0.0), (0.1, 0.8), (1.0, 1.0)])],
//! };
//! assert!(chart.svg().starts_with("<svg"));
//! ```

use std::fmt::Write as _;

/// A chart of lines and points over two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Horizontal.
    pub x: Axis,
    /// Vertical.
    pub y: Axis,
    /// Drawn in order, the last on top.
    pub series: Vec<Series>,
}

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What is along it.
    pub name: String,
    /// Least and greatest value; those of the data when absent.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// From 0 to 1.
    pub fn unit(name: &str) -> Self {
        Self { name: name.into(), range: Some((0.0, 1.0)) }
    }

    /// As far as the data goes.
    pub fn fitted(name: &str) -> Self {
        Self { name: name.into(), range: None }
    }
}

/// Points in order, joined by a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// Whether each point gets a dot.
    pub dots: bool,
    /// A thin grey dashed line to compare with.
    pub reference: bool,
}

impl Series {
    /// A line.
    pub fn line(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, dots: false, reference: false }
    }

    /// A line with a dot at each point.
    pub fn dotted(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { dots: true, ..Self::line(name, points) }
    }

    /// A thin grey dashed line to compare with.
    pub fn reference(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { reference: true, ..Self::line(name, points) }
    }
}

/// Colours that differ for colour-blind eyes too, dark enough for thin lines on white (after Okabe and Ito).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#008a66", "#b0558f", "#a87400", "#3b3b3b", "#2a8fc7", "#7a4fbf"];
/// Dash patterns, so that a ninth series differs from the first.
const DASHES: [&str; 3] = ["", "7 3", "2 3"];
const WIDTH: f64 = 440.0;
/// Greatest width on a page.
const WIDEST: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
const ROW: f64 = 18.0;

/// Where values lie on the page.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |v: f64, (low, high): (f64, f64)| ((v - low) / (high - low)).clamp(-0.02, 1.02);
        let across = LEFT + share(x, self.x) * (WIDTH - LEFT - RIGHT);
        (across, HEIGHT - BOTTOM - share(y, self.y) * (HEIGHT - TOP - BOTTOM))
    }
}

impl Chart {
    /// The chart as one `<svg>` element that fills the width it is given, up to a readable one.
    pub fn svg(&self) -> String {
        let height = HEIGHT + 8.0 + ROW * self.series.len() as f64;
        let scale = Scale { x: self.range(&self.x, |p| p.0), y: self.range(&self.y, |p| p.1) };
        let mut out = String::new();
        put(
            &mut out,
            format_args!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
                 aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" \
                 style=\"width:100%;max-width:{WIDEST}px;height:auto;background:#fff\">\n\
                 <text x=\"{LEFT}\" y=\"18\" font-size=\"14\" font-weight=\"600\" fill=\"#1c1c1c\">{title}</text>\n",
                title = escape(&self.title),
            ),
        );
        self.axes(&mut out, &scale);
        for (at, series) in self.series.iter().enumerate() {
            let place = self.series[..at].iter().filter(|s| !s.reference).count();
            series.draw(&mut out, &scale, &Pen::new(series, place));
            series.legend(&mut out, HEIGHT + 8.0 + ROW * at as f64, &Pen::new(series, place));
        }
        out.push_str("</svg>\n");
        out
    }

    fn range(&self, axis: &Axis, of: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
        if let Some(range) = axis.range {
            return range;
        }
        let values = self.series.iter().flat_map(|s| s.points.iter()).map(of).filter(|v| v.is_finite());
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |r, v| (r.0.min(v), r.1.max(v)));
        match high - low {
            span if !span.is_finite() => (0.0, 1.0),
            0.0 => (low - 0.5, high + 0.5),
            span => (low - 0.04 * span, high + 0.04 * span),
        }
    }

    fn axes(&self, out: &mut String, scale: &Scale) {
        for v in ticks(scale.x, 6) {
            let (x, _) = scale.at((v, scale.y.0));
            let (top, low) = (TOP, HEIGHT - BOTTOM);
            put(
                out,
                format_args!(
                    "<path d=\"M{x:.1} {top}V{low}\" stroke=\"#e4e4e4\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
                     text-anchor=\"middle\" fill=\"#555\">{}</text>\n",
                    low + 16.0,
                    label(v, scale.x),
                ),
            );
        }
        for v in ticks(scale.y, 5) {
            let (_, y) = scale.at((scale.x.0, v));
            let right = WIDTH - RIGHT;
            put(
                out,
                format_args!(
                    "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#e4e4e4\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                     text-anchor=\"end\" fill=\"#555\">{}</text>\n",
                    LEFT - 6.0,
                    y + 4.0,
                    label(v, scale.y),
                ),
            );
        }
        let (low, right, middle) = (HEIGHT - BOTTOM, WIDTH - RIGHT, (TOP + HEIGHT - BOTTOM) / 2.0);
        put(
            out,
            format_args!(
                "<path d=\"M{LEFT} {TOP}V{low}H{right}\" fill=\"none\" stroke=\"#777\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#333\">{}</text>\n\
                 <text transform=\"translate(14 {middle}) rotate(-90)\" text-anchor=\"middle\" fill=\"#333\">{}</text>\n",
                (LEFT + right) / 2.0,
                low + 34.0,
                escape(&self.x.name),
                escape(&self.y.name),
            ),
        );
    }
}

/// How a series is drawn.
struct Pen {
    colour: &'static str,
    dash: &'static str,
    width: f64,
}

impl Pen {
    fn new(series: &Series, place: usize) -> Self {
        if series.reference {
            return Self { colour: "#999", dash: "4 4", width: 1.2 };
        }
        let dash = DASHES[place / COLOURS.len() % DASHES.len()];
        Self { colour: COLOURS[place % COLOURS.len()], dash, width: 1.8 }
    }
}

impl Series {
    fn draw(&self, out: &mut String, scale: &Scale, pen: &Pen) {
        let places: Vec<(f64, f64)> =
            self.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).map(|p| scale.at(*p)).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        put(
            out,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-dasharray=\"{}\" \
                 stroke-linejoin=\"round\"/>\n",
                path.join(" "),
                pen.colour,
                pen.width,
                pen.dash,
            ),
        );
        for (x, y) in places.iter().filter(|_| self.dots) {
            put(
                out,
                format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{}\"/>\n", pen.colour),
            );
        }
    }

    fn legend(&self, out: &mut String, y: f64, pen: &Pen) {
        put(
            out,
            format_args!(
                "<path d=\"M{LEFT} {y:.1}h22\" stroke=\"{}\" stroke-width=\"{}\" stroke-dasharray=\"{}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" fill=\"#222\">{}</text>\n",
                pen.colour,
                pen.width + 0.4,
                pen.dash,
                LEFT + 30.0,
                y + 4.0,
                escape(&short(&self.name, 56)),
            ),
        );
    }
}

/// Writing to a String cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// Round values inside a range, about `most` of them: steps of 1, 2 or 5 times a power of ten.
fn ticks((low, high): (f64, f64), most: usize) -> Vec<f64> {
    let step = tick_step(high - low, most);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

fn tick_step(span: f64, most: usize) -> f64 {
    let rough = (span / most as f64).max(1e-300);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

/// A tick's value with the digits that its step needs.
fn label(value: f64, (low, high): (f64, f64)) -> String {
    let size = value.abs();
    if size >= 1e5 || (size > 0.0 && size < 1e-4) {
        return format!("{value:.0e}");
    }
    let digits = (-tick_step(high - low, 6).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Text as it must stand in SVG and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>) -> Chart {
        Chart { title: "A < B".into(), x: Axis::fitted("steps"), y: Axis::unit("share"), series }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks((0.0, 1.0), 6).len(), 6);
        assert_eq!(ticks((-3.0, 17.0), 5), [0.0, 5.0, 10.0, 15.0]);
        let fine = ticks((0.51, 0.55), 5);
        assert!(fine.iter().all(|v| (0.51..=0.55).contains(v)) && fine.len() >= 4);
        assert_eq!(label(0.2, (0.0, 1.0)), "0.2");
        assert_eq!(label(250_000.0, (0.0, 1e6)), "2e5");
    }

    #[test]
    fn names_are_escaped_and_every_series_has_its_line_and_its_legend() {
        let lines = (0..12).map(|i| Series::line(&format!("run {i} & co"), vec![(0.0, 0.0), (1.0, 1.0)]));
        let svg = chart(lines.collect()).svg();
        assert!(svg.contains("A &lt; B") && svg.contains("run 11 &amp; co") && !svg.contains("A < B"));
        assert_eq!(svg.matches("<polyline").count(), 12);
        assert!(svg.contains(DASHES[1]), "the ninth line differs from the first");
    }

    #[test]
    fn points_lie_inside_the_frame_and_bad_ones_are_left_out() {
        let odd = vec![(f64::NAN, 0.5), (0.0, 0.0), (10.0, 7.0), (5.0, f64::INFINITY)];
        let svg = chart(vec![Series::dotted("a", odd)]).svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg.matches("<circle").count(), 2);
    }

    #[test]
    fn an_empty_chart_is_still_a_chart() {
        for series in
            [vec![], vec![Series::line("none", vec![])], vec![Series::line("one", vec![(3.0, 0.5)])]]
        {
            let svg = chart(series).svg();
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        }
    }
}
