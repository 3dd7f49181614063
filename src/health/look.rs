//! What every source is handed for one round, and where it puts what it found.

use std::collections::BTreeSet;
use std::time::Instant;

use super::levels::Above;
use crate::ask::view::ReadingView;
use crate::base::Severity;
use crate::config::{Health, Levels};
use crate::host::folder::{Folder, Page};
use crate::host::sys::{SysError, SysRoot};

/// The largest file of procfs that is read.
pub const LIMIT: usize = 4 << 20;

/// One round.
pub struct Look<'a> {
    /// The machine's files.
    pub sys: &'a SysRoot,
    /// `/proc`.
    pub proc: &'a Folder,
    /// Where texts are read into.
    pub text: &'a mut Vec<u8>,
    /// Where attributes are read into.
    pub page: &'a mut Page,
    /// Now.
    pub now: Instant,
    /// Seconds since the last round; nothing at the first.
    pub seconds: Option<f64>,
    /// What seldom changes is looked at again.
    pub anew: bool,
    /// Levels, and what is left out.
    pub config: &'a Health,
    /// Who is above a level.
    pub above: &'a mut Above,
    /// What was read at least once: it may not vanish in silence.
    pub seen: &'a mut BTreeSet<&'static str>,
    /// What was found.
    pub found: &'a mut Found,
}

/// What was found in one round.
#[derive(Debug, Default)]
pub struct Found {
    /// Readings.
    pub readings: Vec<ReadingView>,
    /// What is not there, for people.
    pub notes: Vec<String>,
}

impl Found {
    /// A value with its judgement.
    pub fn told(
        &mut self,
        service: impl Into<String>,
        health: Severity,
        (value, unit): (f64, &str),
        message: String,
    ) {
        self.readings.push(ReadingView {
            service: service.into(),
            health,
            value: Some(value),
            unit: unit.to_owned(),
            message,
            ..ReadingView::default()
        });
    }

    /// One that is not known.
    pub fn unknown(&mut self, service: impl Into<String>, unit: &str, message: String) {
        self.readings.push(ReadingView {
            service: service.into(),
            health: Severity::Unknown,
            value: None,
            unit: unit.to_owned(),
            message,
            ..ReadingView::default()
        });
    }

    /// Adds a key to the newest reading.
    pub fn with(&mut self, key: &str, value: String) {
        if let Some(reading) = self.readings.last_mut() {
            reading.attributes.insert(key.to_owned(), value);
        }
    }
}

impl Look<'_> {
    /// A value that is judged by levels.
    pub fn judged(
        &mut self,
        service: impl Into<String>,
        value: (f64, &str),
        levels: Levels,
        message: String,
    ) {
        let service = service.into();
        let health = self.above.judge(&service, value.0, levels);
        self.found.told(service, health, value, message);
    }

    /// A file of procfs, in the buffer; parsed by `parse`. What was never there
    /// is a note; what cannot be read, or makes no sense, is unknown.
    pub fn parsed<T>(
        &mut self,
        file: &str,
        (service, unit): (&'static str, &str),
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        match self.tried(file, service, parse) {
            Ok(parsed) => parsed,
            Err(why) => {
                self.found.unknown(service, unit, why);
                None
            }
        }
    }

    /// The same; nothing, with a note, of what was never there.
    pub fn tried<T>(
        &mut self,
        file: &str,
        what: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let parsed = match self.proc.whole(file, self.text, LIMIT) {
            Ok(text) => parse(text).ok_or_else(|| format!("/proc/{file} makes no sense")),
            Err(error) => match missed(&error, self.seen.contains(what)) {
                Missed::Note(note) => {
                    self.found.notes.push(format!("no {what}: {note}"));
                    return Ok(None);
                }
                Missed::Unknown(why) => Err(why),
            },
        };
        if parsed.is_ok() {
            self.seen.insert(what);
        }
        parsed.map(Some)
    }
}

/// What a file that could not be read means.
pub enum Missed {
    /// This machine has no such thing.
    Note(String),
    /// It should be there, and is not known.
    Unknown(String),
}

/// Judges an error.
pub fn missed(error: &SysError, was_there: bool) -> Missed {
    if error.is_missing() && !was_there {
        Missed::Note(error.to_string())
    } else {
        Missed::Unknown(format!("cannot be read: {}", error.in_full()))
    }
}

/// A number of sysfs.
pub fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}
