//! The reference page of all keys, made from the schema: `docs/configuration.md`.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::schema;

const HEAD: &str = "# Configuration

<!-- Made from the schema in src/config/raw. After a change there:
     HOSTD_BLESS=1 cargo test --test docs -->

hostd reads `/etc/hostd/host.yaml` and the VM files `/etc/hostd/vms/*.yaml`. \
`hostctl config check` lists everything that is wrong with them, with line and column; \
`hostctl config show` prints what is in force, defaults included; `hostctl config schema host` \
and `hostctl config schema vm` print the JSON Schema, with which an editor completes keys and \
explains them:

    hostctl config schema vm > vm.schema.json
    # and, as the first line of a VM file, for editors with a YAML language server:
    # yaml-language-server: $schema=vm.schema.json

The files are YAML 1.2: `yes`, `no`, `on` and `off` are texts, `true` and `false` are not. \
Sizes (`512M`, `16G`; powers of 1024) and durations (`500ms`, `30s`, `5m`, `2h`, `1d`) have a \
unit. Unknown keys and keys given twice are errors. A value may be repeated with an anchor and \
an alias (`&name`, `*name`).
";

/// The whole page.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    for (title, schema) in [("host.yaml", schema::host()), ("VM files", schema::vm())] {
        let _ = write!(out, "\n## {title}\n\n{}\n", text(schema));
        section(&mut out, schema, "");
    }
    out
}

/// The keys of a mapping as a table, then the mappings below it.
fn section(out: &mut String, schema: &Json, path: &str) {
    out.push_str("\n| key | value | default | |\n|---|---|---|---|\n");
    for (key, property) in schema::keys(schema) {
        let default = match (&property["default"], schema::is_required(schema, key)) {
            (_, true) => "required".to_owned(),
            (Json::Null, false) => String::new(),
            (Json::String(text), false) => format!("`{text}`"),
            (other, false) => format!("`{other}`"),
        };
        let about = format!("{}{}", text(property), choices(property));
        let _ = writeln!(out, "| `{key}` | {} | {default} | {about} |", value(property));
    }
    let plain = |(_, property): &(_, &Json)| property.get("x-tree").is_none();
    for (key, property) in schema::keys(schema).filter(plain) {
        let (below, path) = match schema::kind(property) {
            "array" => (&property["items"], format!("{path}{key}[]")),
            _ => (property, format!("{path}{key}")),
        };
        for inner in schema::alternatives(below) {
            if schema::kind(inner) == "object" {
                let _ = write!(out, "\n### `{path}`\n\n{}\n", text(inner));
                section(out, inner, &format!("{path}."));
            }
        }
    }
}

fn text(schema: &Json) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// What may be written, in a few words.
fn value(schema: &Json) -> String {
    let mut all: Vec<String> = Vec::new();
    for one in schema::alternatives(schema) {
        all.push(match (schema::kind(one), schema::format(one)) {
            ("string", Some(format)) => {
                let example = one["examples"][0].as_str().unwrap_or(format.example);
                format!("{}: `{example}`", format.wanted)
            }
            ("string", None) => format!("`{}`", schema::words(one).join("`, `")),
            ("integer", _) => format!("{} to {}", one["minimum"], one["maximum"]),
            ("boolean", _) => "`true`, `false`".to_owned(),
            ("array", _) if one.get("x-tree").is_some() => {
                "a list of steps: [streams.md](streams.md)".to_owned()
            }
            ("array", _) => format!("a list; each {}", value(&one["items"])),
            _ => "a mapping, below".to_owned(),
        });
    }
    all.dedup();
    all.join(" or ")
}

/// What each of the words means.
fn choices(schema: &Json) -> String {
    let mut out = String::new();
    for one in schema::alternatives(schema) {
        if let (Some(word), false) = (one["const"].as_str(), text(one).is_empty()) {
            let _ = write!(out, "<br>`{word}`: {}", text(one));
        }
    }
    out
}
