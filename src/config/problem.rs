//! What is wrong with a configuration: all of it, each with its place.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::text::{Lines, clip_path, printable};
use super::tree::Place;

/// Problems that are kept; more are only counted.
pub const MAX_PROBLEMS: usize = 100;

/// Whether a problem stops the configuration from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It cannot be used like this.
    Error,
    /// It can, and is probably not what was meant.
    Warning,
}

/// What has to change for a problem to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The text.
    Text,
    /// The text or the machine: it names something that is not there (yet).
    Machine,
}

/// One problem, where it is, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad.
    pub level: Level,
    /// What has to change.
    pub cause: Cause,
    /// The file, as the caller named it.
    #[serde(serialize_with = "as_shown")]
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key: `disks[1].path`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right; empty when the message says it.
    pub fix: String,
    /// The line, or the part of it that matters.
    pub excerpt: String,
    #[serde(skip)]
    caret: usize,
    #[serde(skip)]
    width: usize,
}

impl Problem {
    /// An error in the text. Its file and excerpt are filled in by [`Problem::of`].
    pub fn new(
        at: Place,
        path: impl fmt::Display,
        message: impl fmt::Display,
        fix: impl fmt::Display,
    ) -> Self {
        Self {
            level: Level::Error,
            cause: Cause::Text,
            file: PathBuf::new(),
            line: at.line,
            column: at.column,
            path: printable(&path.to_string()),
            message: printable(&message.to_string()),
            fix: printable(&fix.to_string()),
            excerpt: String::new(),
            caret: 0,
            width: at.width,
        }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.level = Level::Warning;
        self
    }

    /// The same, but it may be the machine that has to change.
    #[must_use]
    pub fn machine(mut self) -> Self {
        self.cause = Cause::Machine;
        self
    }

    /// The same, in its file: the place is kept inside it, the line is quoted.
    #[must_use]
    pub(super) fn of(mut self, file: PathBuf, lines: &Lines<'_>) -> Self {
        self.line = self.line.clamp(1, lines.count());
        let length = lines.line(self.line).chars().count();
        self.column = self.column.clamp(1, length + 1);
        if self.width > 0 {
            (self.excerpt, self.caret) = lines.excerpt(self.line, self.column);
        }
        let shown = self.excerpt.chars().count().saturating_sub(self.caret);
        self.width = self.width.clamp(1, shown.max(1));
        self.file = file;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.level {
            Level::Error => "",
            Level::Warning => "warning: ",
        };
        let file = clip_path(&self.file);
        write!(f, "{file}:{}:{}: {word}{}", self.line, self.column, self.message)?;
        let number = self.line.to_string();
        let pad = number.len();
        if !self.excerpt.trim().is_empty() {
            write!(f, "\n  {number} | {}", self.excerpt)?;
            let (caret, marks) = (self.caret, "^".repeat(self.width));
            write!(f, "\n  {:pad$} | {:caret$}{marks}", "", "")?;
        }
        if !self.fix.is_empty() {
            write!(f, "\n  {:pad$} = {}", "", self.fix)?;
        }
        Ok(())
    }
}

/// A path need not be UTF-8, and JSON must.
fn as_shown<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&clip_path(path))
}

/// All problems of a configuration, by file and place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, thiserror::Error)]
pub struct Problems {
    /// At most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// Found beyond those.
    pub more: usize,
}

impl Problems {
    /// Takes one in, or counts it: the excerpt is only made for those that are
    /// kept, because a file may be one line with half a million problems.
    pub(super) fn push(&mut self, problem: impl FnOnce() -> Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem());
        } else {
            self.more += 1;
        }
    }

    /// By file and place.
    pub fn sort(&mut self) {
        self.problems.sort_by(|a, b| {
            (&a.file, a.line, a.column, a.level).cmp(&(&b.file, b.line, b.column, b.level))
        });
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether the text itself is wrong somewhere; what is only missing on the
    /// machine does not count.
    pub fn in_text(&self) -> bool {
        self.more > 0 || self.errors().any(|p| p.cause == Cause::Text)
    }

    /// Those that are not warnings.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|p| p.level == Level::Error)
    }

    /// The document that `--json` prints: `{"problems": […], "more": 0}`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}\n")?;
        }
        let errors = self.errors().count();
        let warnings = self.problems.len() - errors;
        let mut files: Vec<_> = self.problems.iter().map(|p| &p.file).collect();
        files.sort();
        files.dedup();
        let counts: Vec<_> = [(errors, "problem"), (warnings, "warning")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| many(count, word))
            .collect();
        match (counts.is_empty(), self.more) {
            (true, _) => write!(f, "no problems"),
            (false, 0) => write!(f, "{} in {}", counts.join(", "), many(files.len(), "file")),
            (false, more) => write!(f, "{}, and {more} more not shown", counts.join(", ")),
        }
    }
}

fn many(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
