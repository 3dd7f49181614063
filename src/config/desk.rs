//! Where the meaning of one file is judged: its tree for places, the machine
//! for questions, the list for problems.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::path::Path;
use std::time::Duration;

use super::formats::{Span, Text};
use super::page::Page;
use super::problem::Problem;
use super::tree::{Node, Trail};
use super::world::{Existence, Exists};

/// The file that is being judged.
pub struct Desk<'a, 'p> {
    /// Its tree.
    pub root: &'a Node,
    /// Asks the machine.
    pub exists: Exists<'a>,
    /// Takes problems.
    pub page: &'a mut Page<'p>,
}

impl Desk<'_, '_> {
    fn problem(&self, trail: &Trail, message: impl Display, fix: impl Display) -> Problem {
        Problem::new(self.root.place(trail), trail, message, fix)
    }

    /// The text is wrong.
    pub fn error(&mut self, trail: &Trail, message: impl Display, fix: impl Display) {
        let problem = self.problem(trail, message, fix);
        self.page.report(problem);
    }

    /// The text is probably not what was meant.
    pub fn warn(&mut self, trail: &Trail, message: impl Display, fix: impl Display) {
        let problem = self.problem(trail, message, fix);
        self.page.report(problem.warning());
    }

    /// What the text names is not on this machine.
    pub fn absent(&mut self, trail: &Trail, message: impl Display, fix: impl Display) {
        let problem = self.problem(trail, message, fix);
        self.page.report(problem.machine());
    }

    /// A file that must be there; `fix` says how it gets there.
    pub fn needs_file(&mut self, trail: &Trail, what: &str, path: &Path, fix: impl Display) {
        match (self.exists)(path) {
            Existence::File | Existence::Unknown => {}
            Existence::Folder => {
                let message = format!("{what} {} is a folder", path.display());
                self.error(trail, message, "name a file or block device");
            }
            Existence::Missing => {
                self.absent(trail, format!("{what} {} does not exist", path.display()), fix);
            }
        }
    }

    /// A duration within its bounds; `None` after a problem.
    pub fn span(
        &mut self,
        trail: &Trail,
        value: Option<Text<Span>>,
        min: Duration,
        max: Duration,
    ) -> Option<Duration> {
        let Text(value) = value?;
        if (min..=max).contains(&value) {
            return Some(value);
        }
        let key = trail.last_key().unwrap_or_default();
        let what = if value < min { "too short" } else { "too long" };
        let fix = format!("write a duration from {} to {}", exact(min), exact(max));
        self.error(trail, format!("{} is {what} for `{key}`", exact(value)), fix);
        None
    }

    /// Reports the second of two that must differ.
    pub fn unique<K: Eq + Hash>(
        &mut self,
        seen: &mut HashMap<K, Trail>,
        key: K,
        trail: &Trail,
        what: impl Display,
    ) {
        if let Some(first) = seen.get(&key) {
            let at = self.root.place(first);
            let message = format!("{what} is given twice; first at line {}", at.line);
            self.error(trail, message, "keep one of them");
        } else {
            seen.insert(key, trail.clone());
        }
    }
}

/// A duration as it is written in a file, without loss.
pub fn exact(value: Duration) -> String {
    let millis = value.as_millis();
    let unit = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let fits = |(size, _): &&(u128, &str)| millis > 0 && millis.is_multiple_of(*size);
    match unit.iter().find(fits) {
        // Up to two minutes, seconds read better than minutes.
        Some((60_000, _)) if millis <= 120_000 => format!("{}s", millis / 1_000),
        Some((size, unit)) => format!("{}{unit}", millis / size),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::span;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for text in ["0s", "500ms", "60s", "90s", "5m", "1h", "2d", "1500ms"] {
            assert_eq!(exact(span::parse(text).unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn exact_loses_nothing(millis in 0u64..u64::from(u32::MAX)) {
            let value = Duration::from_millis(millis);
            prop_assert_eq!(span::parse(&exact(value)).unwrap(), value);
        }
    }
}
