//! The JSON Schemas, made from [`raw`](super::raw), and how they are read.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::formats::{self, Known};
use super::raw::{RawHost, RawVm};

/// Draft 2020-12 of `host.yaml`; `hostctl config schema host`.
pub fn host() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(generate::<RawHost>);
    &SCHEMA
}

/// Draft 2020-12 of a VM file; `hostctl config schema vm`.
pub fn vm() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(generate::<RawVm>);
    &SCHEMA
}

pub(super) fn generate<T: JsonSchema>() -> Value {
    // Without references: the check walks it, and editors do not mind.
    let settings = SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .with_transform(|schema: &mut Schema| {
            if let Some(object) = schema.as_object_mut() {
                tidy(object);
            }
        });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The raw types are options only so that wrong parts can be left out; in a
/// file, only a section may be empty (`gpus:` with everything below it in
/// comments), never a value or a list's item.
fn tidy(schema: &mut Map<String, Value>) {
    let required = schema.get("required").cloned().unwrap_or_default();
    for (keyword, value) in schema.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (key, property) in properties {
                    let Some(property) = property.as_object_mut() else { continue };
                    not_null(property);
                    tidy(property);
                    let section = ["array", "object"]
                        .into_iter()
                        .find(|t| property.get("type").is_some_and(|one| one == t));
                    let optional = !required.as_array().is_some_and(|r| r.contains(&json!(key)));
                    if let (Some(section), true) = (section, optional) {
                        property.insert("type".into(), json!([section, "null"]));
                    }
                }
            }
            ("items", Value::Object(items)) => {
                not_null(items);
                tidy(items);
            }
            ("oneOf" | "anyOf", Value::Array(alternatives)) => {
                for alternative in alternatives.iter_mut().filter_map(Value::as_object_mut) {
                    tidy(alternative);
                }
            }
            ("description", Value::String(text)) => {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            _ => {}
        }
    }
}

fn not_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|t| t != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") else { return };
    alternatives.retain(|a| a["type"] != "null");
    if let [Value::Object(one)] = alternatives.as_slice() {
        let one = one.clone();
        schema.remove("anyOf");
        for (keyword, value) in one {
            schema.entry(keyword).or_insert(value);
        }
    }
}

/// The schemas that a value may follow: itself, or its alternatives.
pub fn alternatives(schema: &Value) -> Vec<&Value> {
    let nested = ["oneOf", "anyOf"].iter().find_map(|k| schema.get(k)?.as_array());
    match nested {
        Some(nested) => nested.iter().flat_map(alternatives).collect(),
        None => vec![schema],
    }
}

/// The type of a schema without alternatives.
pub fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(types) => types.first().and_then(Value::as_str).unwrap_or_default(),
        one => one.as_str().unwrap_or_default(),
    }
}

/// The words that a schema without alternatives allows.
pub fn words(schema: &Value) -> Vec<&str> {
    let one = schema["const"].as_str();
    let some = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(some).collect()
}

/// The format of a text.
pub fn format(schema: &Value) -> Option<&'static Known> {
    schema["x-format"].as_str().and_then(formats::find)
}

/// The keys of a mapping.
pub fn keys(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    schema["properties"].as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}

/// What may stand under a key of a mapping.
pub fn property<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema["properties"].as_object()?.get(key)
}

/// Whether a mapping must have the key.
pub fn is_required(schema: &Value, key: &str) -> bool {
    schema["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key))
}

/// Keys that the design has and this version has not.
pub fn is_later(schema: &Value, key: &str) -> bool {
    schema["x-later"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A keyword that the check does not know would be a rule that is not kept.
    #[test]
    fn every_keyword_is_known() {
        const KNOWN: [&str; 21] = [
            "$schema",
            "title",
            "description",
            "examples",
            "default",
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "oneOf",
            "anyOf",
            "const",
            "enum",
            "minimum",
            "maximum",
            "format",
            "pattern",
            "x-format",
            "x-later",
            "x-tree",
        ];
        fn walk(schema: &Value) {
            let object = schema.as_object().unwrap();
            for keyword in object.keys() {
                assert!(KNOWN.contains(&keyword.as_str()), "{keyword} in {schema}");
            }
            assert!(object.get("pattern").is_none() || format(schema).is_some(), "{schema}");
            assert!(object.get("additionalProperties").is_none_or(|a| *a == json!(false)));
            if kind(schema) == "object" {
                assert_eq!(schema["additionalProperties"], json!(false), "{schema}");
            }
            keys(schema).for_each(|(_, property)| walk(property));
            if let Some(items) = object.get("items") {
                walk(items);
            }
            for alternative in alternatives(schema) {
                if alternative != schema {
                    assert!(!kind(alternative).is_empty(), "{alternative}");
                    walk(alternative);
                }
            }
        }
        walk(host());
        walk(vm());
        walk(crate::config::quirks::quirk_schema());
    }

    #[test]
    fn is_of_the_draft_that_editors_know() {
        for schema in [host(), vm()] {
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
            assert!(!schema.to_string().contains("$ref"));
        }
        assert_eq!(vm()["required"], json!(["memory"]));
        assert_eq!(vm()["properties"]["disks"]["type"], json!(["array", "null"]));
        assert_eq!(vm()["properties"]["memory"]["type"], "string");
        assert_eq!(vm()["properties"]["cpus"]["type"], "integer");
    }
}
