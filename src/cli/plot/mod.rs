//! The history as a picture: what is drawn is worked out once, as shapes in a
//! box of 900 × 360, and then written as SVG ([`svg`]) or PNG ([`png`]).
//!
//! By hand, because it is little: a plotting crate brings a font rasteriser,
//! and wants fonts to be installed, which a server has not.

mod png;
mod svg;

use std::path::Path;

use super::view::{local, number};
use crate::ask::view::{HistoryView, PointView};
use crate::ask::{Code, Refusal};
use crate::base::Timestamp;

/// The size of the picture.
const SIZE: (f64, f64) = (900.0, 360.0);
/// Where the numbers are: left, top, right, bottom.
const FIELD: [f64; 4] = [70.0, 40.0, 885.0, 300.0];
/// The stripe of states: top and bottom.
const STRIPE: (f64, f64) = (306.0, 316.0);

const BLACK: Color = Color(0x22, 0x22, 0x22);
const GREY: Color = Color(0xdd, 0xdd, 0xdd);
const BAND: Color = Color(0xcf, 0xe1, 0xf5);
const MEAN: Color = Color(0x1f, 0x5f, 0xb4);
const HIGH: Color = Color(0xd9, 0x7a, 0x1c);

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Color(u8, u8, u8);

/// Where a text has its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Begin,
    Middle,
    End,
}

/// What is drawn; the first is the lowest.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// From one corner to the other.
    Area((f64, f64), (f64, f64), Color),
    /// From point to point.
    Line(Vec<(f64, f64)>, Color, f64),
    /// At its baseline.
    Text((f64, f64), String, Color, Anchor),
}

/// Which kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Lines and letters.
    Svg,
    /// Dots.
    Png,
}

/// The kind that a file's name asks for.
pub fn kind(file: &Path) -> Result<Kind, Refusal> {
    match file.extension().and_then(|e| e.to_str()).map(str::to_lowercase).as_deref() {
        Some("svg") => Ok(Kind::Svg),
        Some("png") => Ok(Kind::Png),
        _ => {
            let message = format!("{} says not which kind of picture it is", file.display());
            Err(Refusal::new(Code::Usage, message, "end its name with .svg or .png"))
        }
    }
}

/// The picture's bytes.
pub fn draw(view: &HistoryView, kind: Kind) -> Result<Vec<u8>, Refusal> {
    let shapes = shapes(view);
    match kind {
        Kind::Svg => Ok(svg::write(&shapes).into_bytes()),
        Kind::Png => png::write(&shapes).map_err(|error| {
            Refusal::new(Code::Failed, format!("the picture cannot be written: {error}"), "")
        }),
    }
}

/// How values and times become places.
struct Scale {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
}

impl Scale {
    fn x(&self, micros: i64) -> f64 {
        let part = (micros as f64 - self.from) / (self.to - self.from).max(1.0);
        FIELD[0] + part.clamp(0.0, 1.0) * (FIELD[2] - FIELD[0])
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value - self.low) / (self.high - self.low);
        FIELD[3] - part.clamp(0.0, 1.0) * (FIELD[3] - FIELD[1])
    }
}

/// Round steps between two values: about five.
fn ticks(low: f64, high: f64) -> (f64, f64, f64) {
    let (low, high) = if high > low { (low, high) } else { (low - 1.0, high + 1.0) };
    // Half at a time: their difference may be more than a double can be.
    let rough = high / 5.0 - low / 5.0;
    let size = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * size).find(|s| *s >= rough);
    let step = step.unwrap_or(rough).max(f64::MIN_POSITIVE);
    ((low / step).floor() * step, (high / step).ceil() * step, step)
}

fn shapes(view: &HistoryView) -> Vec<Shape> {
    let all = |of: fn(&PointView) -> f64| view.points.iter().map(of);
    let low = all(|p| p.min).fold(f64::INFINITY, f64::min);
    let high = all(|p| p.max).fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if view.points.is_empty() { (0.0, 1.0) } else { (low, high) };
    // From zero when it is near.
    let low = if low > 0.0 && low < high / 2.0 { 0.0 } else { low };
    let (low, high, step) = ticks(low, high);
    let scale = Scale { from: view.from.0 as f64, to: view.to.0 as f64, low, high };
    let mut out = vec![Shape::Area((0.0, 0.0), SIZE, Color(0xff, 0xff, 0xff))];
    title(view, &mut out);
    let wide = view.step.saturating_mul(1_000_000);
    for point in &view.points {
        let (left, right) = (scale.x(point.time.0), scale.x(point.time.0.saturating_add(wide)));
        let bottom = (right.max(left + 1.0), scale.y(point.min) + 0.5);
        out.push(Shape::Area((left, scale.y(point.max) - 0.5), bottom, BAND));
    }
    let mut value = low;
    for _ in 0..12 {
        if value > high + step / 2.0 {
            break;
        }
        let y = scale.y(value);
        out.push(Shape::Line(vec![(FIELD[0], y), (FIELD[2], y)], GREY, 1.0));
        let shown = if value.abs() < step / 1e6 { 0.0 } else { value };
        out.push(Shape::Text((FIELD[0] - 6.0, y + 4.0), number(shown), BLACK, Anchor::End));
        value += step;
    }
    line(view, &scale, |p| p.p95, HIGH, &mut out);
    line(view, &scale, |p| p.mean, MEAN, &mut out);
    times(view, &scale, &mut out);
    for one in &view.states {
        let (left, right) = (scale.x(one.since.0), scale.x(one.until.0));
        let area = (right.max(left + 1.0), STRIPE.1);
        out.push(Shape::Area((left, STRIPE.0), area, color(&one.state)));
    }
    out
}

fn title(view: &HistoryView, out: &mut Vec<Shape>) {
    let clean = |text: &str| super::view::printable(text).replace(['\n', '\t'], " ");
    let text = format!("{} on {}", clean(&view.service), clean(&view.host));
    out.push(Shape::Text((FIELD[0], 22.0), text, BLACK, Anchor::Begin));
    let words = [(BAND, "min to max"), (HIGH, "p95"), (MEAN, "mean")];
    for ((color, word), x) in words.into_iter().zip([690.0, 790.0, 840.0]) {
        out.push(Shape::Area((x - 12.0, 14.0), (x - 3.0, 23.0), color));
        out.push(Shape::Text((x, 22.0), word.to_owned(), BLACK, Anchor::Begin));
    }
    if view.points.is_empty() {
        out.push(Shape::Text((477.0, 170.0), "no numbers".to_owned(), BLACK, Anchor::Middle));
    }
}

/// A line that is broken where nothing was seen.
fn line(
    view: &HistoryView,
    scale: &Scale,
    of: fn(&PointView) -> f64,
    color: Color,
    out: &mut Vec<Shape>,
) {
    let wide = view.step.saturating_mul(1_000_000);
    let (mut points, mut last) = (Vec::new(), None::<i64>);
    for point in &view.points {
        let gap = last.is_some_and(|last| point.time.0 - last > wide.saturating_mul(2));
        if gap {
            out.push(Shape::Line(std::mem::take(&mut points), color, 1.5));
        }
        points.push((scale.x(point.time.0.saturating_add(wide / 2)), scale.y(of(point))));
        last = Some(point.time.0);
    }
    out.push(Shape::Line(points, color, 1.5));
}

/// Local times along the bottom.
fn times(view: &HistoryView, scale: &Scale, out: &mut Vec<Shape>) {
    const STEPS: [i64; 14] = [
        60, 300, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000,
        7_776_000, 31_536_000,
    ];
    let (from, to) = (view.from.secs(), view.to.secs());
    let step = STEPS.into_iter().find(|step| (to - from) / step <= 8).unwrap_or(to - from).max(1);
    let form = if step < 43_200 && to - from < 86_400 {
        "%H:%M"
    } else if step < 86_400 {
        "%a %H:%M"
    } else if step < 2_592_000 {
        "%d %b"
    } else {
        "%b %Y"
    };
    let offset = i64::from(view.offset);
    let mut at = from + (step - (from + offset).rem_euclid(step)) % step;
    for _ in 0..12 {
        if at > to {
            break;
        }
        let x = scale.x(at.saturating_mul(1_000_000));
        out.push(Shape::Line(vec![(x, FIELD[3]), (x, FIELD[3] + 4.0)], BLACK, 1.0));
        let text = local(Timestamp::from_secs(at), view.offset, form);
        out.push(Shape::Text((x, 334.0), text, BLACK, Anchor::Middle));
        at += step;
    }
}

/// What colour a state has.
fn color(state: &str) -> Color {
    match state {
        "ok" => Color(0x3f, 0xa3, 0x4d),
        "warning" => Color(0xe8, 0xb0, 0x20),
        "critical" => Color(0xcc, 0x33, 0x33),
        "unknown" | "expired" => Color(0x99, 0x77, 0xbb),
        _ => Color(0x99, 0x99, 0x99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn an_svg_is_well_formed_and_shows_all() {
        let mut view = samples::history();
        view.service = "<cpu> & \u{1b}[31m\"x\"".into();
        let bytes = draw(&view, Kind::Svg).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let svg = roxmltree::Document::parse(&text).unwrap();
        let count = |name: &str| svg.descendants().filter(|n| n.has_tag_name(name)).count();
        assert!(count("polyline") >= 2 && count("text") > 8 && count("rect") > view.points.len());
        assert!(text.contains("&lt;cpu&gt; &amp; [31m"), "{text}");
    }

    #[test]
    fn a_png_can_be_read_and_shows_something() {
        let bytes = draw(&samples::history(), Kind::Png).unwrap();
        let mut reader = ::png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (900, 360));
        for Color(r, g, b) in [BAND, MEAN, HIGH, BLACK, color("critical")] {
            assert!(pixels.chunks(3).any(|p| p == [r, g, b]), "{r:x}{g:x}{b:x}");
        }
    }

    #[test]
    fn nothing_and_extremes_are_drawn_too() {
        let mut view = samples::history();
        for (low, high) in [(0.0, 0.0), (f64::MIN, f64::MAX), (1e-300, 2e-300), (-5.0, -5.0)] {
            view.points
                .iter_mut()
                .for_each(|p| (p.min, p.max, p.mean, p.p95) = (low, high, low, high));
            for kind in [Kind::Svg, Kind::Png] {
                assert!(!draw(&view, kind).unwrap().is_empty());
            }
        }
        let none = HistoryView::default();
        assert!(!draw(&none, Kind::Png).unwrap().is_empty());
        assert_eq!(kind(Path::new("a.PNG")), Ok(Kind::Png));
        assert_eq!(kind(Path::new("a.jpg")).unwrap_err().code, Code::Usage);
    }
}
