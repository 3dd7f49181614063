//! A tree against its schema: every structural mistake, and what is left.
//!
//! The mistakes are reported; the rest comes back as JSON with the defaults
//! filled in, ready for the [`raw`](super::raw) types, so that the meaning of
//! the sound parts is judged in the same run.

use std::collections::HashSet;

use serde_json::{Map, Value as Json, json};

use super::problem::{MAX_PROBLEMS, Problem};
use super::text::{clip, nearest};
use super::tree::{Entry, Node, Place, Scalar, Trail, Value};
use super::{advice, schema};

/// Checks a whole file.
pub fn check(root: &Node, schema: &Json, problems: &mut dyn FnMut(Problem)) -> Option<Json> {
    Check { root, schema, problems, said: 0 }.value(schema, root, &Trail::default())
}

struct Check<'a> {
    root: &'a Node,
    schema: &'a Json,
    problems: &'a mut dyn FnMut(Problem),
    /// Problems so far: advice costs time, and beyond what is kept nobody reads it.
    said: usize,
}

impl Check<'_> {
    /// Reports a problem with the value at `trail`.
    fn refuse(&mut self, trail: &Trail, message: String, fix: String) {
        self.refuse_at(self.root.place(trail), trail, message, fix);
    }

    fn refuse_at(&mut self, at: Place, trail: &Trail, message: String, fix: String) {
        self.said += 1;
        (self.problems)(Problem::new(at, trail, message, fix));
    }

    /// What is right in a value; `None` when nothing is.
    fn value(&mut self, schema: &Json, node: &Node, trail: &Trail) -> Option<Json> {
        let all = schema::alternatives(schema);
        let kind = match &node.value {
            Value::Map(_) => "object",
            Value::List(_) => "array",
            Value::Scalar(Scalar::Bool(_), _) => "boolean",
            Value::Scalar(Scalar::Int, _) => "integer",
            Value::Scalar(..) => "string",
        };
        let same: Vec<&Json> = all.iter().copied().filter(|s| schema::kind(s) == kind).collect();
        match (&node.value, same.as_slice()) {
            // What is below is read from the tree by itself.
            (Value::List(_), [one, ..]) if one.get("x-tree").is_some() => Some(json!([])),
            (Value::Scalar(Scalar::Null, _), _) => {
                self.nothing(schema, trail);
                None
            }
            (Value::Map(entries), [first, ..]) => {
                // Of several mappings the first of those that fit best: with
                // what they must have, then with the most known keys.
                let fit = |s: &Json| {
                    let known =
                        entries.iter().take(64).filter(|e| schema::property(s, &e.key).is_some());
                    let must = known.clone().filter(|e| schema::is_required(s, &e.key));
                    (must.count(), known.count())
                };
                let best = same.iter().rev().max_by_key(|s| fit(s)).unwrap_or(first);
                Some(self.map(best, entries, trail))
            }
            (Value::List(items), [one, ..]) => {
                let item = |(i, node)| self.value(&one["items"], node, &trail.item(i));
                Some(Json::Array(
                    items.iter().enumerate().map(item).map(Option::unwrap_or_default).collect(),
                ))
            }
            (Value::Scalar(Scalar::Bool(value), _), [_, ..]) => Some(json!(value)),
            (Value::Scalar(Scalar::Int, text), [one, ..]) => self.number(one, text, trail),
            (Value::Scalar(Scalar::Text, text), [_, ..]) => self.text(&all, text, trail),
            (Value::Scalar(_, text), _) => self.wrong_word(&all, text, trail),
            (Value::Map(_) | Value::List(_), []) => self.wrong_kind(&all, node, trail),
        }
    }

    fn map(&mut self, schema: &Json, entries: &[Entry], trail: &Trail) -> Json {
        let (mut out, mut meant) = (Map::new(), Vec::new());
        let given: HashSet<&str> = entries.iter().map(|e| e.key.as_str()).collect();
        for Entry { key, at, value } in entries {
            let Some(property) = schema::property(schema, key) else {
                meant.extend(self.unknown(schema, &given, key, *at, trail));
                continue;
            };
            let required = schema::is_required(schema, key);
            if value.is_null() && !required && is_section(property) {
                continue;
            }
            if let Some(near) = sibling(schema, &given, key, value) {
                let Value::Scalar(_, text) = &value.value else { continue };
                let (message, _) =
                    advice::on_word(&schema::alternatives(property), text, &trail.key(key));
                let fix = format!("did you mean `{near}: {}`?", clip(text));
                self.refuse(&trail.key(key), message, fix);
                meant.push(near.to_owned());
                out.insert(key.clone(), Json::Null);
                continue;
            }
            // Present but wrong: null, so that no default hides it.
            let right = self.value(property, value, &trail.key(key)).unwrap_or_default();
            out.insert(key.clone(), right);
        }
        for (key, property) in schema::keys(schema) {
            if out.contains_key(key) || meant.iter().any(|m| m == key) {
                continue;
            }
            if schema::is_required(schema, key) {
                let at = entries.first().map_or_else(|| self.root.place(trail), |e| e.at);
                let fix = format!("add `{key}: {}`", advice::example(property));
                let message = match trail.to_string() {
                    path if path.is_empty() => format!("`{key}` is missing"),
                    path => format!("`{key}` is missing in `{path}`"),
                };
                self.refuse_at(at, &trail.key(key), message, fix);
            } else if let Some(value) = fill(property) {
                out.insert(key.to_owned(), value);
            }
        }
        Json::Object(out)
    }

    /// An unknown key; gives back the key that was probably meant.
    fn unknown(
        &mut self,
        schema: &Json,
        given: &HashSet<&str>,
        key: &str,
        at: Place,
        trail: &Trail,
    ) -> Option<String> {
        let shown = clip(key);
        let free = |known: &&str| !given.contains(known);
        let (mut meant, mut message) = (None, format!("unknown key `{shown}`"));
        if self.said > MAX_PROBLEMS {
            self.refuse_at(at, trail, message, String::new());
            return None;
        }
        let exact = advice::elsewhere(self.schema, &Trail::default(), key);
        let of_the_file = schema::keys(self.schema).any(|(k, _)| k == key);
        let fix = if schema::is_later(schema, key) {
            message = format!("`{shown}` is not in this version of hostd");
            "remove it for now".to_owned()
        } else if of_the_file {
            format!("`{shown}` belongs to the file's top level; check the indentation")
        } else if exact.as_deref() == Some(&trail.without_items()) {
            message = format!("`{shown}` does not go with the other keys here");
            "keep one or the others".to_owned()
        } else if let Some(place) = exact {
            format!("`{shown}` belongs to `{place}`; check the indentation")
        } else {
            meant = nearest(key, schema::keys(schema).map(|(k, _)| k).filter(free));
            let known: Vec<&str> = schema::keys(schema).map(|(k, _)| k).collect();
            match meant {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            }
        };
        self.refuse_at(at, &trail.key(&shown), message, fix);
        meant.map(str::to_owned)
    }

    fn number(&mut self, schema: &Json, text: &str, trail: &Trail) -> Option<Json> {
        let (min, max) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
        let (min, max) = (min.unwrap_or(0), max.unwrap_or(i64::from(u32::MAX)));
        match text.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Some(json!(number)),
            Ok(_) | Err(_) => {
                let message = format!("{} is out of range", clip(text));
                self.refuse(trail, message, advice::range(schema));
                None
            }
        }
    }

    /// A text among schemas of which some are texts: a word, or a format.
    fn text(&mut self, all: &[&Json], text: &str, trail: &Trail) -> Option<Json> {
        let fits = |schema: &&Json| match schema::format(schema) {
            Some(format) => (format.fits)(text),
            None => schema::words(schema).contains(&text),
        };
        if all.iter().any(fits) {
            return Some(json!(text));
        }
        self.wrong_word(all, text, trail)
    }

    fn wrong_word(&mut self, all: &[&Json], text: &str, trail: &Trail) -> Option<Json> {
        let (message, fix) = advice::on_word(all, text, trail);
        self.refuse(trail, message, fix);
        None
    }

    fn wrong_kind(&mut self, all: &[&Json], node: &Node, trail: &Trail) -> Option<Json> {
        let (message, fix) = advice::on_collection(all, node, trail);
        self.refuse(trail, message, fix);
        None
    }

    fn nothing(&mut self, schema: &Json, trail: &Trail) {
        let fix = format!("write a value, such as {}, or remove the line", advice::example(schema));
        let what = match trail.last_key() {
            Some(_) if trail.is_item() => {
                let fix = "write the item after its `- `, or remove the line".to_owned();
                return self.refuse(trail, format!("`{trail}` is empty"), fix);
            }
            Some(key) => format!("`{key}` has no value"),
            None => "nothing is written here".to_owned(),
        };
        self.refuse(trail, what, fix);
    }
}

/// The key that was probably meant where a number stands under a key that
/// takes none: `cpu: 2`.
fn sibling<'a>(
    schema: &'a Json,
    given: &HashSet<&str>,
    key: &str,
    value: &Node,
) -> Option<&'a str> {
    let counts = |schema: &Json| {
        schema::alternatives(schema).iter().any(|one| schema::kind(one) == "integer")
    };
    let Value::Scalar(Scalar::Int, _) = value.value else { return None };
    let fits = schema::keys(schema).filter(|(_, property)| counts(property));
    let fits: Vec<&str> = fits.map(|(known, _)| known).collect();
    if fits.contains(&key) {
        return None;
    }
    nearest(key, fits.into_iter().filter(|known| !given.contains(known)))
}

/// Whether a key opens a section, which may be empty.
fn is_section(schema: &Json) -> bool {
    schema["type"].is_array()
}

/// The default of a key that is not given; a section's is that of its keys.
fn fill(schema: &Json) -> Option<Json> {
    if let Some(default) = schema.get("default") {
        return Some(default.clone());
    }
    if schema::kind(schema) != "object" {
        return None;
    }
    let defaults = schema::keys(schema).filter_map(|(k, s)| Some((k.to_owned(), fill(s)?)));
    Some(Json::Object(defaults.collect()))
}
