//! `streams:` of `host.yaml`. A tree of any depth, which the schema cannot
//! describe without references: the check hands it on as it is (`x-tree`), and
//! [`streams`](crate::config) reads it from the file's tree, by the table in
//! [`operators`]. Editors are told the first level.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::{Map, Value, json};

use crate::config::operators::{self, OPERATORS};

/// Stands for what is read elsewhere.
pub struct RawStreams;

impl<'de> Deserialize<'de> for RawStreams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for RawStreams {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Streams".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut keys = Map::new();
        for operator in &OPERATORS {
            keys.insert(operator.name.to_owned(), json!({ "description": operator.about }));
        }
        for (key, about) in operators::OPTIONS {
            keys.insert(key.to_owned(), json!({ "description": about }));
        }
        let words: Vec<&str> = OPERATORS.iter().filter(|o| o.is_output()).map(|o| o.name).collect();
        let one = json!({ "type": "object", "properties": Value::Object(keys), "additionalProperties": false });
        json_schema!({
            "type": "array",
            "x-tree": "streams",
            "items": { "oneOf": [{ "type": "string", "enum": words }, one] },
        })
    }
}
