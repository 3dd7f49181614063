//! Shapes as SVG.

use std::fmt::Write;

use super::{Anchor, Color, SIZE, Shape};

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no words for them.
            '\u{fffe}' | '\u{ffff}' => {}
            c => out.push(c),
        }
    }
    out
}

fn hex(Color(r, g, b): Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

pub(super) fn write(shapes: &[Shape]) -> String {
    let (width, height) = SIZE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    for shape in shapes {
        // A string takes what it is given.
        let _ = match shape {
            Shape::Area(from, to, color) => writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                from.0,
                from.1,
                (to.0 - from.0).max(0.0),
                (to.1 - from.1).max(0.0),
                hex(*color)
            ),
            Shape::Line(points, color, wide) => {
                let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                let points = points.join(" ");
                let color = hex(*color);
                writeln!(
                    out,
                    "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{wide}\"/>"
                )
            }
            Shape::Text((x, y), text, color, anchor) => {
                let anchor = match anchor {
                    Anchor::Begin => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                writeln!(
                    out,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                    hex(*color),
                    escape(text)
                )
            }
        };
    }
    out.push_str("</svg>\n");
    out
}
