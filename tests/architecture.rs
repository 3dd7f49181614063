//! The import table of the design, checked against every `crate::` path.
//!
//! A room is a folder (or file) directly below `src/`. Code under
//! `#[cfg(test)]` may reach further: a test may need a neighbour's fake.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a test reads the repository")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// Room → rooms it may import. `*` is everything.
const TABLE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("ask", &["base"]),
    ("query", &["base"]),
    ("host", &["base"]),
    ("config", &["base", "query"]),
    ("pci", &["base", "host", "ask"]),
    ("passthrough", &["base", "host", "config", "ask", "pci"]),
    ("vm", &["base", "host", "config", "ask", "pci", "passthrough"]),
    ("doctor", &["base", "host", "config", "ask", "pci", "passthrough", "vm"]),
    ("zfs", &["base", "host", "config", "ask"]),
    ("media", &["base", "host", "config", "ask"]),
    ("health", &["base", "host", "config", "ask"]),
    ("relay", &["base", "host", "config", "ask"]),
    ("state", &["base", "config", "ask", "pci", "passthrough", "vm", "zfs", "media", "health"]),
    ("riemann", &["base", "host", "config", "query"]),
    ("care", &["base", "config", "state", "ask", "query"]),
    ("sink", &["base", "host", "config", "query", "riemann", "state"]),
    ("alert", &["base", "host", "config", "query", "ask", "riemann", "state"]),
    ("api", &["base", "host", "config", "state", "ask", "query", "riemann"]),
    (
        "local",
        &[
            "base",
            "ask",
            "query",
            "host",
            "config",
            "pci",
            "passthrough",
            "vm",
            "doctor",
            "zfs",
            "media",
            "health",
            "relay",
            "state",
            "riemann",
            "care",
        ],
    ),
    ("cli", &["base", "ask", "query", "config", "api", "local"]),
    ("daemon", &["*"]),
    ("bin", &["*"]),
];

/// Every source file with the room it is in.
fn files() -> Vec<(String, PathBuf)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let below = path.strip_prefix(&src).expect("below src");
                let room = below.iter().next().expect("a name").to_string_lossy();
                found.push((room.trim_end_matches(".rs").to_owned(), path));
            }
        }
    }
    found.sort();
    found
}

/// The code of a file without comments and without its test modules.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that a text names: `crate::a`, `crate::{a, b::c}`.
fn imports(code: &str) -> BTreeSet<String> {
    static PATTERNS: LazyLock<[Regex; 3]> = LazyLock::new(|| {
        [r"\b(?:crate|hostd)::([a-z_]+)", r"\b(?:crate|hostd)::\{([^;]*)\}", r"(?:^|,)\s*([a-z_]+)"]
            .map(|pattern| Regex::new(pattern).expect("a pattern"))
    });
    let [single, group, first] = &*PATTERNS;
    let mut rooms: BTreeSet<String> = single.captures_iter(code).map(|c| c[1].to_owned()).collect();
    for found in group.captures_iter(code) {
        // Names inside nested braces are not rooms.
        let mut flat = String::new();
        let mut depth = 0;
        for c in found[1].chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                c if depth == 0 => flat.push(c),
                _ => {}
            }
        }
        rooms.extend(first.captures_iter(&flat).map(|c| c[1].to_owned()));
    }
    rooms
}

#[test]
fn every_room_imports_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (room, path) in files() {
        if room == "lib" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("source is text");
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: room `{room}` is not in the table", path.display()));
            continue;
        };
        for import in imports(&code(&text)) {
            let fine = import == room || allowed.contains(&"*") || allowed.contains(&&*import);
            if !fine {
                wrong.push(format!("{}: `{room}` may not import `{import}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_room_opens_with_its_map() {
    let mut bare = Vec::new();
    for (room, path) in files() {
        let text = fs::read_to_string(&path).expect("source is text");
        if !text.starts_with("//!") {
            bare.push(format!("{} ({room})", path.display()));
        }
    }
    assert!(bare.is_empty(), "no module documentation at the top of: {}", bare.join(", "));
}

#[test]
fn the_check_itself_sees_both_forms() {
    let code = "use crate::base::Event;\nuse crate::{ask::{Ask, view::X}, host};\ncrate::zfs::f();";
    let found: Vec<_> = imports(code).into_iter().collect();
    assert_eq!(found, ["ask", "base", "host", "zfs"]);
}
