//! A VM file that is being made.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::{Imported, NotImported, Note};
use crate::base::Name;
use crate::config::text::{clip, printable};
use crate::config::{Level, Source, judge, not_asked};

/// Most notes that are kept: more are of no use to anybody.
const MOST: usize = 200;

/// Longest list of devices.
const LONG: usize = 64;

/// Keys and notes so far.
#[derive(Default)]
pub struct Draft {
    /// The VM's own name.
    pub name: Option<String>,
    /// The keys, in the order of the file.
    keys: Map<String, Json>,
    disks: Vec<(Option<u32>, Json)>,
    /// Whether a card is given.
    gpu: Map<String, Json>,
    usb: Vec<Json>,
    evdev: Vec<Json>,
    args: Vec<Json>,
    notes: Vec<Note>,
    dropped: usize,
}

impl Draft {
    /// A key with its value; the last one counts.
    pub fn set(&mut self, key: &str, value: impl Into<Json>) {
        self.keys.insert(key.to_owned(), value.into());
    }

    /// What a key has so far.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.keys.get(key)
    }

    /// A key below a section.
    pub fn set_in(&mut self, section: &str, key: &str, value: impl Into<Json>) {
        let section = self.keys.entry(section).or_insert_with(|| json!({}));
        if let Some(section) = section.as_object_mut() {
            section.insert(key.to_owned(), value.into());
        }
    }

    /// A key of the card; `card` makes it one.
    pub fn gpu(&mut self, key: &str, value: impl Into<Json>) {
        self.gpu.insert(key.to_owned(), value.into());
    }

    /// Whether a card is given.
    pub fn has_gpu(&self) -> bool {
        self.gpu.contains_key("card")
    }

    /// A disk with its place in the boot order, if it has one.
    pub fn disk(&mut self, boot: Option<u32>, disk: Json) {
        if self.disks.len() < LONG {
            self.disks.push((boot, disk));
        } else {
            self.dropped += 1;
        }
    }

    /// A USB device.
    pub fn usb(&mut self, device: String) {
        let device = Json::from(device);
        if self.usb.len() < LONG && !self.usb.contains(&device) {
            self.usb.push(device);
        }
    }

    /// An input device.
    pub fn evdev(&mut self, path: &str) {
        let device = json!(path);
        if self.evdev.len() < LONG && !self.evdev.contains(&device) {
            self.evdev.push(device);
        }
    }

    /// An argument for QEMU.
    pub fn arg(&mut self, word: &str) {
        if self.args.len() < 4 * LONG {
            self.args.push(json!(word));
        } else {
            self.dropped += 1;
        }
    }

    /// Whether nothing more is told.
    pub fn is_full(&self) -> bool {
        self.notes.len() >= MOST
    }

    /// Something to be told.
    pub fn note(&mut self, line: u32, what: &str, message: impl AsRef<str>) {
        if self.is_full() {
            self.dropped += 1;
            return;
        }
        let (what, message) = (clip(what), printable(message.as_ref()));
        self.notes.push(Note { line, what, message });
    }

    /// The file, as far as it passes the check.
    pub fn finish(mut self, name: Name, from: &'static str) -> Result<Imported, NotImported> {
        self.collect();
        // Each round takes one thing out of it; a person gave at most so many.
        for _ in 0..=200 {
            let text = self.text(from);
            let path = format!("{name}.yaml");
            let judged = judge(&[Source::vm(path, text.as_str())], &not_asked);
            let Some(wrong) = judged.problems.errors().next() else {
                for problem in judged.problems.problems.iter().filter(|p| p.level == Level::Warning)
                {
                    self.note(0, &problem.path, format!("{}; {}", problem.message, problem.fix));
                }
                return Ok(self.done(name, from, text));
            };
            let what =
                if wrong.path.is_empty() { "the file".to_owned() } else { wrong.path.clone() };
            let said = format!("{}; {}", wrong.message, wrong.fix);
            if wrong.path == "memory" || !self.remove(&wrong.path) {
                return Err(NotImported::Incomplete(said));
            }
            self.note(0, &what, format!("left out: {said}"));
        }
        Err(NotImported::Incomplete("too much of it is wrong".to_owned()))
    }

    /// Puts the lists under their keys.
    fn collect(&mut self) {
        // Those that boot come first, as the file's order says.
        self.disks.sort_by_key(|(boot, _)| boot.unwrap_or(u32::MAX));
        let disks: Vec<Json> = self.disks.drain(..).map(|(_, disk)| disk).collect();
        let lists = [("disks", disks), ("usb", std::mem::take(&mut self.usb))];
        let rest = [
            ("evdev", std::mem::take(&mut self.evdev)),
            ("qemu-args", std::mem::take(&mut self.args)),
        ];
        if self.has_gpu() {
            let gpu = Json::Object(std::mem::take(&mut self.gpu));
            self.keys.insert("gpu".to_owned(), gpu);
        }
        for (key, list) in lists.into_iter().chain(rest) {
            if list.is_empty() {
                continue;
            }
            // A mapping is there already where keys are switched otherwise.
            match self.keys.get_mut(key).and_then(Json::as_object_mut) {
                Some(full) => drop(full.insert("devices".to_owned(), Json::Array(list))),
                None => drop(self.keys.insert(key.to_owned(), Json::Array(list))),
            }
        }
    }

    /// Takes out what a problem is about: `disks[2].bus`. Whether there was
    /// anything.
    fn remove(&mut self, path: &str) -> bool {
        let (top, rest) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
        let index = rest.strip_prefix('[').and_then(|r| r.split(']').next()?.parse::<usize>().ok());
        match (self.keys.get_mut(top), index) {
            (Some(Json::Array(list)), Some(index)) if index < list.len() => {
                list.remove(index);
                true
            }
            (Some(Json::Object(map)), None) if !matches!(top, "pinning" | "display") => {
                let key = rest.trim_start_matches('.');
                map.remove(key).is_some() || self.keys.remove(top).is_some()
            }
            (Some(_), _) => self.keys.remove(top).is_some(),
            (None, _) => false,
        }
    }

    fn text(&self, from: &str) -> String {
        let value = Json::Object(self.keys.clone());
        let yaml = serde_saphyr::to_string(&value).unwrap_or_else(|_| format!("{value:#}"));
        let mut out = format!("# Made by `hostctl vm import` from a VM of {from}.\n");
        let _ = writeln!(out, "{}", yaml.trim_end());
        out
    }

    fn done(mut self, name: Name, from: &'static str, yaml: String) -> Imported {
        if self.dropped > 0 {
            let message = format!("{} more things are left out or not shown", self.dropped);
            self.notes.push(Note { line: 0, what: "notes".to_owned(), message });
        }
        for note in &mut self.notes {
            note.message = note.message.replace("/vms/NAME/", &format!("/vms/{name}/"));
        }
        Imported { name, from, yaml, notes: self.notes }
    }
}
