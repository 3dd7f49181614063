//! Forms that the captures do not have.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::*;
use crate::zfs::json::parse_json;
use crate::zfs::model::{Aux, Class, Kind, Pool, State};
use crate::zfs::text::parse_text;

fn json_pool(change: impl FnOnce(&mut Value)) -> Pool {
    let mut document: Value = serde_json::from_str(SPARE).unwrap();
    change(&mut document["pools"]["media"]);
    parse_json(&document.to_string(), &TimeZone::UTC).unwrap().remove(0)
}

fn text_pool(text: &str) -> Pool {
    parse_text(text, &TimeZone::UTC).remove(0)
}

#[test]
fn integers_as_strings_are_the_same() {
    fn stringify(value: &mut Value) {
        match value {
            Value::Number(number) => *value = Value::String(number.to_string()),
            Value::Array(items) => items.iter_mut().for_each(stringify),
            Value::Object(fields) => fields.values_mut().for_each(stringify),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    assert_eq!(json_pool(stringify), json_pool(|_| {}));
}

#[test]
fn a_vdev_that_cannot_be_read_stays_and_is_told() {
    let pool = json_pool(|pool| {
        pool["vdevs"]["media"]["vdevs"]["raidz2-0"]["vdevs"]["/vdevs/f2"] = json!(17);
    });
    assert!(pool.partial);
    assert_eq!(pool.vdevs[0].children.len(), 6);
    assert_eq!(pool.vdevs[0].children[2].state, State::Other(String::new()));
    let pool = json_pool(|pool| pool["special"] = json!("none"));
    assert!(pool.partial);
    let pool = json_pool(|pool| {
        pool["vdevs"]["media"]["vdevs"]["raidz2-0"]["read_errors"] = json!("many");
    });
    assert!(!pool.partial);
    assert_eq!(pool.unparsed, ["raidz2-0: read_errors \"many\""]);
}

#[test]
fn a_pool_that_is_no_object_stays() {
    let pools = parse_json(r#"{"pools":{"tank":null}}"#, &TimeZone::UTC).unwrap();
    assert_eq!(pools[0].name, "tank");
    let view = judged(r#"{"pools":{"tank":null}}"#);
    assert_eq!((view.health, view.tolerates), (Severity::Unknown, None));
}

#[test]
fn flat_output_is_not_counted_twice() {
    let mut document: Value = serde_json::from_str(HEALTHY).unwrap();
    let pool = &mut document["pools"]["tank"];
    let root = pool["vdevs"]["tank"].clone();
    let mut flat = serde_json::Map::new();
    for (name, leaf) in root["vdevs"]["raidz2-0"]["vdevs"].as_object().unwrap() {
        let mut leaf = leaf.clone();
        leaf["parent"] = json!("raidz2-0");
        flat.insert(name.clone(), leaf);
    }
    flat.insert("tank".into(), root);
    pool["vdevs"] = Value::Object(flat);
    assert_eq!(judged(&document.to_string()), judged(HEALTHY));
}

#[test]
fn a_device_missing_at_import_is_called_by_its_guid() {
    let text = text(
        "DEGRADED",
        "",
        &[
            "  mirror-0 DEGRADED",
            "    /dev/sda1 ONLINE",
            "    1234567890123456789 UNAVAIL was /dev/sdb1",
        ],
    );
    let gone = text_pool(&text).vdevs[0].children[1].clone();
    assert_eq!(
        (gone.name.as_str(), gone.guid),
        ("1234567890123456789", Some(1_234_567_890_123_456_789))
    );
    assert_eq!((gone.was.as_deref(), gone.state), (Some("/dev/sdb1"), State::CantOpen));
    let pool = json_pool(|pool| {
        let leaf = &mut pool["vdevs"]["media"]["vdevs"]["raidz2-0"]["vdevs"]["/vdevs/f2"];
        *leaf = json!({"name": "99", "vdev_type": "file", "guid": 99, "path": "/vdevs/f2",
            "state": "CANT_OPEN", "not_present": 1, "was": "/vdevs/f2", "read_errors": 0});
    });
    let gone = &pool.vdevs[0].children[2];
    assert_eq!((gone.name.as_str(), gone.was.as_deref()), ("99", Some("/vdevs/f2")));
}

#[test]
fn notes_behind_the_counters_are_read() {
    let text = text(
        "DEGRADED",
        "",
        &[
            "  raidz1-0 DEGRADED",
            "    /dev/a ONLINE 0 0 0  block size: 512B configured, 4096B native",
            "    /dev/b ONLINE 0 0 7  (resilvering)",
            "    /dev/c FAULTED 3 2 1  too many errors  (trimming)",
            "    /dev/d FAULTED 0 0 0  corrupted data",
            "    /dev/e ONLINE (awaiting resilver)",
            "    /dev/f ONLINE (non-allocating)",
        ],
    );
    let pool = text_pool(&text);
    assert_eq!(pool.unparsed, Vec::<String>::new());
    let leaves = &pool.vdevs[0].children;
    assert_eq!(leaves[0].ashift, Some((9, 12)));
    assert!(leaves[1].resilvered && leaves[1].errors.checksum == 7);
    assert_eq!((&leaves[2].state, &leaves[2].aux), (&State::Faulted, &Some(Aux::ErrExceeded)));
    assert_eq!((&leaves[3].state, &leaves[3].aux), (&State::CantOpen, &Some(Aux::CorruptData)));
    assert!(leaves[4].deferred);
    assert_eq!(leaves[5].aux, None);
}

#[test]
fn names_with_blanks_and_rounded_counters() {
    let text = "  pool: my pool\n state: ONLINE\nconfig:\n\n\
        \tNAME             STATE     READ WRITE CKSUM  SLOW\n\
        \tmy pool          ONLINE       0     0     0     -\n\
        \t  /disks/a b c   ONLINE    1.2K     0     0    12\n\
        \nerrors: 7 data errors, use '-v' for a list\n";
    let pool = text_pool(text);
    assert_eq!(pool.unparsed, Vec::<String>::new());
    assert_eq!((pool.name.as_str(), pool.error_count), ("my pool", Some(7)));
    let disk = &pool.vdevs[0];
    assert_eq!(
        (disk.name.as_str(), disk.errors.read, disk.slow_ios),
        ("/disks/a b c", 1228, Some(12))
    );
    assert_eq!((disk.class, &disk.kind), (Class::Normal, &Kind::File));
}

#[test]
fn error_lists_are_counted() {
    let listed = HEALTHY_TEXT.replace(
        "errors: No known data errors",
        "errors: Permanent errors have been detected in the following files:\n\n        \
         /tank/a: b\n        tank/x:<0x1>\n",
    );
    assert_eq!(text_pool(&listed).error_count, Some(2));
    let cut = HEALTHY_TEXT.replace("errors: No known data errors", "");
    assert_eq!(text_pool(&cut).error_count, None);
    assert_eq!(judged(&cut).health, Severity::Unknown);
}

#[test]
fn several_pools_and_sections_of_no_interest() {
    let second = HEALTHY_TEXT
        .replace("tank", "dark")
        .replace("config:", "remove: Removal of vdev 1 copied 1M\n\t2K memory used\nsee: \
                  https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-9P\ncheckpoint: created long ago\nconfig:");
    let pools = parse_text(&format!("{HEALTHY_TEXT}\n{second}"), &TimeZone::UTC);
    assert_eq!(pools.len(), 2);
    assert_eq!(pools[1].msgid.as_deref(), Some("ZFS-8000-9P"));
    assert_eq!(pools[1].unparsed, Vec::<String>::new());
    assert_eq!(pools[0].vdevs, pools[1].vdevs);
}

#[test]
fn lines_that_make_no_sense_are_kept() {
    for (line, instead) in [
        ("\t    /vdevs/f2  ONLINE       0     0     0", "\t    /vdevs/f2  ???"),
        (
            "\t  raidz2-0     ONLINE       0     0     0",
            "\t        raidz2-0     ONLINE       0     0     0",
        ),
        ("config:\n", "config: The configuration cannot be determined.\n"),
    ] {
        let pool = text_pool(&HEALTHY_TEXT.replace(line, instead));
        assert!(pool.partial && !pool.unparsed.is_empty(), "{instead}");
    }
}
