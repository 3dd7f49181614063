//! Text of the owner's, made safe to show: clipped, without control characters.

use std::ops::Range;
use std::path::Path;

/// Characters of a source line that are shown with a problem.
const WINDOW: usize = 96;

/// A value as it may be quoted in a message: at most 48 characters, control
/// characters replaced, so that a file cannot write to the terminal.
pub fn clip(text: &str) -> String {
    let mut out: String = text.chars().take(48).map(plain).collect();
    if text.chars().nth(48).is_some() {
        out.push('…');
    }
    out
}

/// A message as it may be shown: whole, without control characters.
pub fn printable(text: &str) -> String {
    text.chars().map(plain).collect()
}

/// A path as it may be shown: whole, without control characters.
pub fn clip_path(path: &Path) -> String {
    path.to_string_lossy().chars().take(4096).map(plain).collect()
}

/// The character itself unless it could move the cursor or hide text.
fn plain(c: char) -> char {
    let hides = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    match c {
        '\t' => ' ',
        c if c.is_control() || hides => '\u{fffd}',
        c => c,
    }
}

/// A text with its lines found once. Lines end at `\n`, `\r\n` or `\r`, as in YAML.
pub struct Lines<'a> {
    text: &'a str,
    ranges: Vec<Range<usize>>,
}

impl<'a> Lines<'a> {
    /// Finds the lines; there is always at least one.
    pub fn new(text: &'a str) -> Self {
        let (mut ranges, mut start) = (Vec::new(), 0);
        let bytes = text.as_bytes();
        for (i, byte) in bytes.iter().enumerate() {
            let crlf = *byte == b'\r' && bytes.get(i + 1) == Some(&b'\n');
            if matches!(byte, b'\n' | b'\r') && !crlf {
                let end =
                    if *byte == b'\n' && i > start && bytes[i - 1] == b'\r' { i - 1 } else { i };
                ranges.push(start..end);
                start = i + 1;
            }
        }
        if start < text.len() || ranges.is_empty() {
            ranges.push(start..text.len());
        }
        Self { text, ranges }
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.ranges.len()
    }

    /// The text of a line, counted from 1.
    pub fn line(&self, number: usize) -> &'a str {
        let range = number.checked_sub(1).and_then(|i| self.ranges.get(i)).cloned();
        range.and_then(|r| self.text.get(r)).unwrap_or_default()
    }

    /// The part of a line around a column (from 1), with the caret's offset in it.
    pub fn excerpt(&self, line: usize, column: usize) -> (String, usize) {
        let (text, at) = (self.line(line), column.saturating_sub(1));
        let skip = if at < WINDOW - 16 { 0 } else { at - WINDOW / 2 };
        let mut out = String::new();
        if skip > 0 {
            out.push('…');
        }
        out.extend(text.chars().skip(skip).take(WINDOW).map(plain));
        if text.chars().nth(skip + WINDOW).is_some() {
            out.push('…');
        }
        (out, at - skip + usize::from(skip > 0))
    }
}

/// The known word that `text` was probably meant to be.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text: String = text.chars().take(64).flat_map(char::to_lowercase).collect();
    let near = |word: &'a str| {
        let distance = strsim::damerau_levenshtein(&text, &word.to_lowercase());
        let longest = text.chars().count().max(word.chars().count());
        // A third of the letters may be wrong, or one is a longer form of the other.
        let contained = text.len().min(word.len()) >= 3
            && (word.starts_with(text.as_str()) || text.starts_with(word));
        let close = distance * 3 <= longest || (distance == 1 && longest == 2);
        (close || contained).then_some((distance, word))
    };
    known.into_iter().filter_map(near).min().map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_lines_of_every_ending() {
        let lines = Lines::new("a\r\nb\rc\n\nd");
        let all: Vec<_> = (1..=lines.count()).map(|n| lines.line(n)).collect();
        assert_eq!(all, ["a", "b", "c", "", "d"]);
        assert_eq!(Lines::new("").count(), 1);
        assert_eq!(Lines::new("a\n").count(), 1);
        assert_eq!(lines.line(0), "");
        assert_eq!(lines.line(9), "");
    }

    #[test]
    fn shows_a_window_of_a_long_line_and_no_escapes() {
        let text = format!("{}\u{1b}[2Jx", "a".repeat(500));
        let (excerpt, caret) = Lines::new(&text).excerpt(1, 505);
        assert!(excerpt.chars().count() < 100, "{excerpt}");
        assert_eq!(excerpt.chars().nth(caret), Some('x'));
        assert!(!excerpt.contains('\u{1b}'));
    }

    #[test]
    fn names_the_nearest_word() {
        let known = ["memory", "cpus", "cpu", "disks", "gpu"];
        assert_eq!(nearest("memroy", known), Some("memory"));
        assert_eq!(nearest("Memory", known), Some("memory"));
        assert_eq!(nearest("vcpus", known), Some("cpus"));
        assert_eq!(nearest("disk", known), Some("disks"));
        assert_eq!(nearest("colour", known), None);
    }
}
