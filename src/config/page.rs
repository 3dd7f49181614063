//! One file on its way through the check: its text, its lines, its problems.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::problem::{Cause, Level, Problem, Problems};
use super::text::Lines;
use super::tree::{Node, Place};
use super::world::{MAX_FILE, Source};
use super::{check, yaml};

/// One file with its problems.
pub struct Page<'a> {
    source: &'a Source,
    text: Option<&'a str>,
    lines: Lines<'a>,
    problems: &'a mut Problems,
    /// Whether its text has an error; what is only missing on the machine is none.
    pub wrong: bool,
}

impl<'a> Page<'a> {
    /// Begins a file; what is not a text of a sane length is a problem.
    pub fn open(source: &'a Source, problems: &'a mut Problems) -> Self {
        let mut page = Self { source, text: None, lines: Lines::new(""), problems, wrong: false };
        match source.content.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            Ok((bytes, _)) if bytes.len() > MAX_FILE => {
                let message = format!("longer than {} KiB", MAX_FILE >> 10);
                page.refuse(&message, "a configuration has a few; is this the right file?");
            }
            Ok((_, Ok(text))) => {
                page.text = Some(text);
                page.lines = Lines::new(text);
            }
            Ok((bytes, Err(error))) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                page.lines = Lines::new(std::str::from_utf8(before).unwrap_or_default());
                let line = page.lines.count();
                let column = page.lines.line(line).chars().count() + 1;
                let (message, fix) = ("a byte that is not UTF-8 text", "save the file as UTF-8");
                page.report(Problem::new(Place { line, column, width: 1 }, "", message, fix));
            }
            Err(why) => page.refuse(&format!("cannot be read: {why}"), ""),
        }
        page
    }

    /// The file's tree, and its sound parts as a raw type.
    pub fn read<T: DeserializeOwned>(&mut self, schema: &Json) -> Option<(Node, T)> {
        let text = self.text?;
        let root = yaml::parse(text, &mut |problem| self.report(problem))?;
        let sound = check::check(&root, schema, &mut |problem| self.report(problem))?;
        match serde_json::from_value(sound) {
            Ok(raw) => Some((root, raw)),
            Err(error) => {
                // The schema promises this cannot be; a test holds it to that.
                self.refuse(&format!("cannot be understood: {error}"), "please report this");
                None
            }
        }
    }

    /// Takes a problem of this file in.
    pub fn report(&mut self, problem: Problem) {
        self.wrong |= problem.level == Level::Error && problem.cause == Cause::Text;
        self.problems.push(|| problem.of(self.source.path.clone(), &self.lines));
    }

    /// A problem of the file as a whole.
    pub fn refuse(&mut self, message: &str, fix: &str) {
        self.report(Problem::new(Place::START, "", message, fix));
    }
}
