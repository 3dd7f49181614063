//! The page of all JSON documents, made from the views: `docs/json.md`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use schemars::{JsonSchema, schema_for};
use serde_json::Value as Json;

use crate::ask::view::{
    BootPlanView, BootStatusView, CareView, DisksView, DoctorView, DoneView, EventsView, GpusView,
    HistoryListView, HistoryView, IommuView, LogView, MachineView, PlanView, PoolsView, ReplayView,
    ScreenshotView, ServicesView, SnapshotsView, StatusView, UsbView, VmArgvView, VmPlanView,
    VmsView,
};

const HEAD: &str = "# JSON documents

<!-- Made from src/ask/view.rs. After a change there:
     HOSTD_BLESS=1 cargo test --test docs -->

With `--json` every command prints one document on standard output. Its keys stay; more may be \
added. `[]` in a heading stands for each item of a list. Points in time are microseconds since \
1970-01-01 UTC, except in events, which have seconds, as Riemann has them.

Instead of an answer there may be an error, with the same exit code as without `--json`: \
`{\"error\": {\"code\", \"message\", \"hint\"}}`; `code` is a stable word, `hint` may be empty.
";

/// The whole page.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    document::<StatusView>(&mut out, "`status`");
    document::<DoctorView>(&mut out, "`doctor`");
    document::<IommuView>(&mut out, "`iommu list`, `iommu list --full`, `iommu show`");
    document::<GpusView>(&mut out, "`gpu list`");
    document::<PlanView>(&mut out, "`gpu plan`");
    document::<BootPlanView>(&mut out, "`boot plan`");
    document::<BootStatusView>(&mut out, "`boot status`");
    document::<VmsView>(&mut out, "`vm list`, `vm status`");
    document::<VmPlanView>(&mut out, "`vm plan`");
    document::<VmArgvView>(&mut out, "`vm argv`");
    document::<LogView>(&mut out, "`vm log`");
    document::<UsbView>(&mut out, "`usb list`");
    document::<SnapshotsView>(&mut out, "`vm snapshot list`");
    document::<ScreenshotView>(&mut out, "`vm screenshot`");
    document::<PoolsView>(&mut out, "`pool list`, `pool status`");
    document::<CareView>(&mut out, "`care list`, `pool scrub status`");
    document::<DisksView>(&mut out, "`disk list`, `disk status`");
    document::<MachineView>(&mut out, "`host status`");
    document::<ServicesView>(&mut out, "`service list`, `service status`");
    document::<HistoryListView>(&mut out, "`history list`");
    document::<HistoryView>(&mut out, "`history show`");
    document::<EventsView>(&mut out, "`event query`");
    document::<ReplayView>(&mut out, "`event test-stream`");
    document::<DoneView>(
        &mut out,
        "What acts: `gpu bind`, `gpu release`, `boot setup`, `boot remove`, `vm start`, `vm stop` \
         and the like, `vm sendkey`, `vm attach`, `vm detach`, `vm media`, `vm snapshot create|revert|delete`, `pool scrub start|pause|stop`, `service restart`",
    );
    out
}

fn document<T: JsonSchema>(out: &mut String, title: &str) {
    let root = schema_for!(T).to_value();
    let _ = write!(out, "\n## {title}\n");
    keys(out, &root, &root, "", &mut BTreeSet::new());
}

/// The keys of a mapping as a table, then the mappings below it, each once.
fn keys(out: &mut String, root: &Json, schema: &Json, path: &str, seen: &mut BTreeSet<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    out.push_str("\n| key | type | |\n|---|---|---|\n");
    for (key, property) in properties {
        let about = text(property) + &words(root, property);
        let _ = writeln!(out, "| `{key}` | {} | {about} |", kind(root, property));
    }
    for (key, property) in properties {
        let (below, list) = match property.get("items") {
            Some(items) => (items, "[]"),
            None => (property, ""),
        };
        let (name, inner) = resolve(root, below);
        if inner.get("properties").is_none() || !seen.insert(name.to_owned()) {
            continue;
        }
        let path = format!("{path}{key}{list}");
        let _ = write!(out, "\n### `{path}`\n\n{}\n", text(inner));
        keys(out, root, inner, &format!("{path}."), seen);
    }
}

/// What a reference leads to, `null` beside it left out, with its name.
fn resolve<'a>(root: &'a Json, schema: &'a Json) -> (&'a str, &'a Json) {
    let schema = schema["anyOf"].get(0).unwrap_or(schema);
    match schema["$ref"].as_str().and_then(|at| at.strip_prefix("#/$defs/")) {
        Some(name) => (name, &root["$defs"][name]),
        None => ("", schema),
    }
}

fn text(schema: &Json) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The type in a word or two.
fn kind(root: &Json, schema: &Json) -> String {
    let (name, inner) = resolve(root, schema);
    let is_null = |one: &Json| *one == "null" || one["type"] == "null";
    let nullable = ["anyOf", "type"]
        .iter()
        .any(|key| schema[key].as_array().is_some_and(|all| all.iter().any(is_null)));
    let first = inner["type"].as_array().and_then(|all| all.first()).unwrap_or(&inner["type"]);
    let word = match (name, first.as_str()) {
        ("Timestamp", _) => "microseconds since 1970".to_owned(),
        (_, Some("array")) => format!("list of {}", kind(root, &inner["items"])),
        (_, Some("object")) => "mapping".to_owned(),
        (_, Some("integer")) => "whole number".to_owned(),
        (_, Some("boolean")) => "true or false".to_owned(),
        (_, Some("number")) => "number".to_owned(),
        (_, Some(_) | None) => "text".to_owned(),
    };
    if nullable { word + " or null" } else { word }
}

/// The words that a text may be, with their meaning.
fn words(root: &Json, schema: &Json) -> String {
    let mut out = String::new();
    for one in resolve(root, schema).1["oneOf"].as_array().into_iter().flatten() {
        if let Some(word) = one["const"].as_str() {
            let _ = write!(out, "<br>`{word}`: {}", text(one));
        }
    }
    out
}
