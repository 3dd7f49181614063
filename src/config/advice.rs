//! What is said about a value that does not fit its schema: what it is, and
//! what would be right.

use serde_json::Value as Json;

use super::formats::Known;
use super::schema;
use super::text::{clip, nearest};
use super::tree::{Node, Trail, Value};

/// Message and fix for one word that is of the wrong kind, or none of those known.
pub fn on_word(all: &[&Json], text: &str, trail: &Trail) -> (String, String) {
    if let Some(format) = all.iter().find_map(|s| schema::format(s)) {
        return on_format(format, text);
    }
    let words: Vec<&str> = all.iter().flat_map(|s| schema::words(s)).collect();
    let shown = clip(text);
    if !words.is_empty() {
        let near = nearest(text, words.iter().copied());
        let near = near.map(|w| format!("did you mean {w}? ")).unwrap_or_default();
        let has_keys = all.iter().any(|s| schema::keys(s).next().is_some());
        let or = if has_keys { format!(", or {}", mapping_of(all)) } else { String::new() };
        let fix = format!("{near}write one of: {}{or}", words.join(", "));
        let key = trail.last_key().unwrap_or_default();
        return (format!("`{shown}` is not a value of `{key}`"), fix);
    }
    let kinds: Vec<&str> = all.iter().map(|s| schema::kind(s)).collect();
    let fix = match (kinds.as_slice(), text.to_lowercase().as_str()) {
        (["boolean"], "yes" | "on" | "true") => "write true".to_owned(),
        (["boolean"], "no" | "off" | "false") => "write false".to_owned(),
        (["boolean"], _) => "write true or false".to_owned(),
        (["array"], _) => "write each item on a line of its own after `- `".to_owned(),
        (["object"], _) => mapping(all),
        (["boolean", ..], "yes" | "on" | "true") => "write true".to_owned(),
        (["boolean", ..], "no" | "off" | "false") => "write false".to_owned(),
        (["boolean", "object"], _) => format!("write true or false, or {}", mapping_of(all)),
        (["integer"], _) if text.parse::<i64>().is_ok() => "write it without quotes".to_owned(),
        (["integer"], _) => all.first().map(|s| range(s)).unwrap_or_default(),
        _ => String::new(),
    };
    (format!("`{shown}` is not {}", wanted(&kinds)), fix)
}

fn on_format(format: &Known, text: &str) -> (String, String) {
    let shown = clip(text);
    if (format.fits)(text) {
        let message = format!("YAML takes `{shown}` for something else than a text");
        return (message, format!("write \"{shown}\" in quotes"));
    }
    let has_unit = matches!(format.name, "size" | "span");
    let message = if has_unit && text.bytes().all(|b| b.is_ascii_digit()) {
        format!("{shown} has no unit")
    } else {
        format!("`{shown}` is not {}", format.wanted)
    };
    let fix = match (format.repair)(text) {
        // Units are worth a lesson.
        Some(better) if has_unit => format!("did you mean {better}? {}", format.like),
        Some(better) => format!("did you mean {better}?"),
        None => format.like.to_owned(),
    };
    (message, fix)
}

/// Message and fix for a list or mapping where something else belongs.
pub fn on_collection(all: &[&Json], node: &Node, trail: &Trail) -> (String, String) {
    let is = if matches!(node.value, Value::Map(_)) { "a mapping" } else { "a list" };
    let what = match trail.last_key() {
        Some(_) => format!("`{trail}` is {is}"),
        None => format!("the file is {is}"),
    };
    let words: Vec<&str> = all.iter().flat_map(|s| schema::words(s)).collect();
    let kinds: Vec<&str> = all.iter().map(|s| schema::kind(s)).collect();
    let (should, fix) = match (all.iter().find_map(|s| schema::format(s)), words.as_slice()) {
        (Some(format), _) => (format.wanted, format.like.to_owned()),
        (None, [_, ..]) if kinds.contains(&"object") => {
            let fix = format!("write one of: {}, or {}", words.join(", "), mapping_of(all));
            ("a word or a mapping", fix)
        }
        (None, [_, ..]) => ("one word", format!("write one of: {}", words.join(", "))),
        (None, []) if kinds == ["array"] => ("a list", "begin each item with `- `".to_owned()),
        (None, []) if kinds == ["object"] => ("a mapping", mapping(all)),
        (None, []) => (wanted(&kinds), all.first().map(|s| range(s)).unwrap_or_default()),
    };
    (format!("{what}, but should be {should}"), fix)
}

/// The bounds of a number; empty for what has none.
pub fn range(schema: &Json) -> String {
    match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        (Some(min), Some(max)) => format!("write a number from {min} to {max}"),
        (Some(min), None) => format!("write a number from {min}"),
        (None, _) => String::new(),
    }
}

/// A right value, as it may be written on one line.
pub fn example(schema: &Json) -> String {
    let all = schema::alternatives(schema);
    let first = schema["examples"].get(0).or_else(|| schema.get("default"));
    let first = first.or_else(|| all.iter().find_map(|s| s["examples"].get(0)));
    match first {
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => match (all.iter().find_map(|s| schema::words(s).first().copied()), all.first()) {
            (Some(word), _) => word.to_owned(),
            (None, Some(s)) if schema::kind(s) == "boolean" => "true".to_owned(),
            (None, Some(s)) if schema::kind(s) == "array" => "[]".to_owned(),
            (None, _) => "{}".to_owned(),
        },
    }
}

/// The section that a key belongs to, when it is exactly one.
pub fn elsewhere(schema: &Json, trail: &Trail, key: &str) -> Option<String> {
    fn walk(schema: &Json, trail: &Trail, key: &str, out: &mut Vec<String>) {
        for schema in schema::alternatives(schema) {
            for (name, property) in schema::keys(schema) {
                if property.get("x-tree").is_some() {
                    continue;
                }
                let below =
                    if schema::kind(property) == "array" { &property["items"] } else { property };
                let inner = trail.key(name);
                for one in schema::alternatives(below) {
                    if schema::keys(one).any(|(k, _)| k == key) {
                        out.push(inner.to_string());
                    }
                }
                walk(below, &inner, key, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(schema, trail, key, &mut out);
    out.dedup();
    // A key of many sections says nothing about which was meant.
    (1..=3).contains(&out.len()).then(|| out.join("` or `"))
}

fn wanted(kinds: &[&str]) -> &'static str {
    match kinds {
        ["boolean"] => "true or false",
        ["integer"] => "a whole number",
        ["boolean", "object"] => "true, false or a mapping",
        ["array"] => "a list",
        ["object"] => "a mapping",
        _ => "what belongs here",
    }
}

/// How a mapping is written, by the first of its keys.
fn mapping(all: &[&Json]) -> String {
    let keys: Vec<&str> = all.iter().flat_map(|s| schema::keys(s)).map(|(k, _)| k).collect();
    format!("write it as `key: value`; known here: {}", keys.join(", "))
}

fn mapping_of(all: &[&Json]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in all.iter().flat_map(|s| schema::keys(s)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    format!("a mapping with {}", keys.join(", "))
}
