//! Nothing that `zpool` may print brings us down, and no pool vanishes.

use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::zfs::capture::{check_json, check_text};
use crate::zfs::json::parse_json;
use crate::zfs::text::parse_text;

/// A JSON value of any shape, with the keys that mean something.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[A-Z_]{0,9}|-|[0-9]{1,21}|(raidz|mirror|spare|draid)[0-9:a-z-]{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("vdevs"),
        Just("state"),
        Just("name"),
        Just("vdev_type"),
        Just("scan_stats"),
        Just("spares"),
        Just("special"),
        Just("guid"),
        Just("error_count"),
        Just("class"),
        Just("parent"),
        Just("tank"),
        Just("rebuild_stats"),
        Just("read_errors"),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

/// A value with the value at one place replaced.
fn mutated(document: &str, at: usize, by: &Value) -> String {
    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Object(fields) => fields.values().map(count).sum(),
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    fn replace(value: &mut Value, at: &mut usize, by: &Value) {
        if *at == 0 {
            *value = by.clone();
            *at = usize::MAX;
            return;
        }
        *at -= 1;
        if let Value::Object(fields) = value {
            fields.values_mut().for_each(|field| replace(field, at, by));
        }
    }
    let mut value: Value = serde_json::from_str(document).unwrap();
    let pool = value["pools"].as_object_mut().unwrap().values_mut().next().unwrap();
    let mut at = at % count(pool);
    replace(pool, &mut at, by);
    value.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_text(text in "\\PC{0,400}") {
        check_text(&text);
        check_json(&text);
    }

    #[test]
    fn any_value_as_pools(value in value()) {
        let document = serde_json::json!({ "pools": { "tank": value } });
        let pools = parse_json(&document.to_string(), &TimeZone::UTC).unwrap();
        prop_assert_eq!(pools.len(), 1);
        check_json(&document.to_string());
    }

    #[test]
    fn any_value_in_a_capture(which in 0usize..3, at: usize, by in value()) {
        let document = mutated([HEALTHY, REPLACING, SPARE][which], at, &by);
        let pools = judge_capture(&document).pools;
        prop_assert_eq!(pools.len(), 1);
        check_json(&document);
    }

    #[test]
    fn any_line_lost_or_damaged(which in 0usize..3, at: usize, by in "[\\PC\t]{0,60}", lose: bool) {
        let mut lines: Vec<&str> =
            [HEALTHY_TEXT, REPLACING_TEXT, SPARE_TEXT][which].lines().collect();
        let at = 1 + at % (lines.len() - 1);
        if lose { lines.remove(at); } else { lines[at] = &by; }
        let pools = parse_text(&lines.join("\n"), &TimeZone::UTC);
        // The damage may look like the heading of another pool.
        prop_assert!(!pools.is_empty());
        check_text(&lines.join("\n"));
    }

    #[test]
    fn a_text_cut_short_is_never_green(at in 0usize..600) {
        let cut: String = HEALTHY_TEXT.chars().take(at).collect();
        for pool in judge_capture(&cut).pools {
            let whole = cut.contains("errors: No known data errors");
            prop_assert_eq!(pool.health == Severity::Ok, whole);
        }
    }

    #[test]
    fn json_cut_short_is_a_note(at in 0usize..2600) {
        let cut: String = HEALTHY.chars().take(at).collect();
        if cut.len() < HEALTHY.trim_end().len() {
            let view = judge_capture(&cut);
            prop_assert!(view.pools.is_empty() && !view.notes.is_empty());
        }
    }
}

#[test]
fn endless_output_is_bounded() {
    let mut rows = String::from(HEALTHY_TEXT.split("\nerrors").next().unwrap());
    for _ in 0..110_000 {
        rows += "\t    /vdevs/f2  ONLINE       0     0     0\n";
    }
    let pool = judged(&rows);
    assert!(pool.vdevs[0].children.len() < 5000);
    assert_eq!(pool.health, Severity::Unknown);
    let mut deep = String::new();
    for at in 0..3000 {
        deep.extend(["\t", &" ".repeat(at), "a  ONLINE 0 0 0\n"]);
    }
    judge_capture(&format!("pool: tank\nconfig:\n{deep}"));
    judge_capture(&format!("{}{}", "{\"pools\":".repeat(5000), "}".repeat(5000)));
}
