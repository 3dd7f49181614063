//! What is wrong with a query text, and where.

use std::fmt::Write as _;

/// Characters of the query shown on either side of a mistake.
const WINDOW: usize = 60;

/// A mistake in a query text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at offset {offset}: {what}{}", hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct QueryError {
    /// Byte offset of the mistake in the query text.
    pub offset: usize,
    /// What was expected, and what is there instead.
    pub what: String,
    /// How it is probably meant.
    pub hint: Option<String>,
    /// The line of the mistake, cut around it, without control characters.
    line: String,
    /// Characters before the mistake in `line`.
    column: usize,
}

impl QueryError {
    pub(super) fn new(text: &str, offset: usize, what: impl Into<String>) -> Self {
        let offset = (0..=offset.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or_default();
        let (before, after) = text.split_at(offset);
        let before: Vec<char> =
            before.chars().rev().take(WINDOW).take_while(|c| *c != '\n').collect();
        let after = after.chars().take(WINDOW).take_while(|c| *c != '\n');
        let line = before
            .iter()
            .rev()
            .copied()
            .chain(after)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        Self { offset, what: what.into(), hint: None, line, column: before.len() }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Three or four lines for people: the query's line, `^` under the place,
    /// what was expected and, if there is one, the hint.
    pub fn caret(&self) -> String {
        let mut shown =
            format!("{}\n{:>width$}\n{}", self.line, '^', self.what, width = self.column + 1);
        if let Some(hint) = &self.hint {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\nhint: {hint}");
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place() {
        let error = QueryError::new("true\nstate == 1", 11, "expected x").hint("write `=`");
        assert_eq!(error.caret(), "state == 1\n      ^\nexpected x\nhint: write `=`");
        assert_eq!(error.to_string(), "at offset 11: expected x (write `=`)");
    }

    #[test]
    fn cuts_long_lines_and_survives_odd_offsets() {
        let text = "ä".repeat(500);
        let error = QueryError::new(&text, 501, "here");
        assert_eq!(error.offset, 500);
        assert_eq!(error.caret().lines().next().map(|l| l.chars().count()), Some(2 * WINDOW));
        assert_eq!(QueryError::new("", 9, "end").caret(), "\n^\nend");
    }
}
