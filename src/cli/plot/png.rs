//! Shapes as PNG, with the letters of a text terminal.

use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts};

use super::{Anchor, Color, Shape};

const WIDTH: usize = 900;
const HEIGHT: usize = 360;
/// Dots of a letter, either way.
const LETTER: f64 = 8.0;

struct Dots(Vec<u8>);

/// A place as a dot; beyond the picture it is at its edge or left out.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn dot(place: f64, most: usize) -> usize {
    (place.round().max(0.0) as usize).min(most)
}

impl Dots {
    fn set(&mut self, x: usize, y: usize, Color(red, green, blue): Color) {
        if x < WIDTH && y < HEIGHT {
            let at = 3 * (y * WIDTH + x);
            self.0[at..at + 3].copy_from_slice(&[red, green, blue]);
        }
    }

    fn area(&mut self, from: (f64, f64), to: (f64, f64), color: Color) {
        for y in dot(from.1, HEIGHT)..dot(to.1, HEIGHT) {
            for x in dot(from.0, WIDTH)..dot(to.0, WIDTH) {
                self.set(x, y, color);
            }
        }
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), color: Color, wide: f64) {
        let long = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().clamp(1.0, 4096.0);
        let steps = dot(long, 4096);
        for step in 0..=steps {
            let part = step as f64 / long;
            let x = dot(from.0 + (to.0 - from.0) * part, WIDTH);
            let y = dot(from.1 + (to.1 - from.1) * part, HEIGHT);
            self.set(x, y, color);
            if wide > 1.0 {
                self.set(x, y + 1, color);
            }
        }
    }

    fn text(&mut self, at: (f64, f64), text: &str, color: Color, anchor: Anchor) {
        let width = text.chars().count() as f64 * LETTER;
        let left = match anchor {
            Anchor::Begin => at.0,
            Anchor::Middle => at.0 - width / 2.0,
            Anchor::End => at.0 - width,
        };
        let (mut x, y) = (dot(left, WIDTH), dot(at.1 - LETTER, HEIGHT));
        for letter in text.chars() {
            let rows = BASIC_FONTS.get(letter).or_else(|| LATIN_FONTS.get(letter));
            let rows = rows.or_else(|| BASIC_FONTS.get('?')).unwrap_or_default();
            for (row, bits) in rows.into_iter().enumerate() {
                for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                    self.set(x + column, y + row, color);
                }
            }
            x += 8;
        }
    }
}

pub(super) fn write(shapes: &[Shape]) -> Result<Vec<u8>, png::EncodingError> {
    let mut dots = Dots(vec![0xff; 3 * WIDTH * HEIGHT]);
    for shape in shapes {
        match shape {
            Shape::Area(from, to, color) => dots.area(*from, *to, *color),
            Shape::Line(points, color, wide) => {
                for pair in points.windows(2) {
                    if let [from, to] = pair {
                        dots.line(*from, *to, *color, *wide);
                    }
                }
            }
            Shape::Text(at, text, color, anchor) => dots.text(*at, text, *color, *anchor),
        }
    }
    let mut out = Vec::new();
    #[allow(clippy::cast_possible_truncation, reason = "900 × 360")]
    let mut encoder = png::Encoder::new(&mut out, WIDTH as u32, HEIGHT as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&dots.0)?;
    writer.finish()?;
    Ok(out)
}
