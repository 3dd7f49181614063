//! The real captures: tolerances 2, 0, 0, the same from JSON and text.

use jiff::tz::TimeZone;

use super::*;
use crate::host::SysRoot;
use crate::zfs::json::parse_json;
use crate::zfs::model::{Pool, Vdev};
use crate::zfs::text::parse_text;

fn only(mut pools: Vec<Pool>) -> Pool {
    assert_eq!(pools.len(), 1);
    pools.remove(0)
}

/// What only the JSON form has.
fn bare(mut pool: Pool) -> Pool {
    fn strip(vdev: &mut Vdev, resilvers: bool) {
        (vdev.guid, vdev.slow_ios) = (None, None);
        // JSON goes on saying so when it is done, and of inner vdevs as well.
        vdev.resilvered &= resilvers && vdev.children.is_empty();
        vdev.children.iter_mut().for_each(|child| strip(child, resilvers));
    }
    let resilvers = pool.resilvering();
    pool.vdevs.iter_mut().for_each(|vdev| strip(vdev, resilvers));
    (pool.guid, pool.size, pool.alloc) = (None, None, None);
    // Rounded to three digits in the text form.
    if let Some(scan) = &mut pool.scan {
        (scan.work, scan.progress) = (None, scan.progress.map(f64::round));
    }
    for rebuild in &mut pool.rebuilds {
        (rebuild.work, rebuild.progress) = (None, rebuild.progress.map(f64::round));
    }
    pool
}

#[test]
fn json_and_text_give_the_same_pool() {
    for (json, text) in [(HEALTHY, HEALTHY_TEXT), (REPLACING, REPLACING_TEXT), (SPARE, SPARE_TEXT)]
    {
        let json = only(parse_json(json, &TimeZone::UTC).unwrap());
        let text = only(parse_text(text, &TimeZone::UTC));
        assert_eq!(json.unparsed, Vec::<String>::new());
        assert_eq!(bare(json), bare(text));
    }
}

/// Captures whose forms say different things, though what is found and tolerated
/// is the same: the replaced disk went between the two commands, and the text
/// does not say when a rebuild that has ended, or a scrub that was given up, began.
const DIFFER: [&str; 4] =
    ["52-replace-whole-done", "66-rebuild-done", "70-scrub-cancelled", "88-draid1-rebuild-done"];

/// Every pair of captures in the folder, whoever has put it there.
#[test]
fn all_captures_agree_in_both_forms() {
    let folder = SysRoot::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/zpool"));
    let names = folder.list("/").unwrap();
    let (mut pairs, mut differ) = (0, Vec::new());
    for name in names.iter().filter_map(|name| name.strip_suffix(".txt")) {
        let json = format!("{name}.json");
        if !names.contains(&json) {
            continue;
        }
        pairs += 1;
        let json = folder.text(json).unwrap();
        let text = folder.text(format!("{name}.txt")).unwrap();
        let listed = json.contains("\"errlist\"");
        let from_json = parse_json(&json, &TimeZone::UTC).unwrap();
        let from_text = parse_text(&text, &TimeZone::UTC);
        assert_eq!(from_json.len(), from_text.len(), "{name}");
        for (mut json, mut text) in from_json.into_iter().zip(from_text) {
            if listed {
                // With `-v` the text lists the files in place of their count.
                for pool in [&mut json, &mut text] {
                    pool.error_count = pool.error_count.map(|count| count.min(1));
                }
            }
            assert_eq!(json.unparsed, Vec::<String>::new(), "{name}");
            if !DIFFER.contains(&name) {
                same_progress(&json, &text, name);
            }
            if bare(json) != bare(text) {
                differ.push(name.to_owned());
            }
        }
        let tolerances = |text: &str| {
            let pools = judge_capture(text).pools;
            let of = |pool: PoolView| {
                let found: Vec<_> =
                    pool.findings.into_iter().map(|f| (f.severity, f.code, f.object)).collect();
                let capacity = |code: &str| code.starts_with("capacity");
                let found: Vec<_> = found.into_iter().filter(|(_, c, _)| !capacity(c)).collect();
                (pool.name, pool.tolerates, found)
            };
            pools.into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(tolerances(&json), tolerances(&text), "{name}");
    }
    assert_eq!(differ, DIFFER);
    assert!(pairs >= 3, "{names:?}");
}

/// The text form says the fraction in hundredths of a percent, and sizes in
/// three digits.
fn same_progress(json: &Pool, text: &Pool, name: &str) {
    let near = |a: f64, b: f64, by: f64| assert!((a - b).abs() <= by, "{name}: {a} is not {b}");
    let scans = (json.scan.as_ref(), text.scan.as_ref());
    let (Some(json), Some(text)) = scans else { return };
    if let (Some(a), Some(b)) = (json.progress, text.progress) {
        near(a, b, 0.000_11);
    }
    assert_eq!(json.work.is_some(), text.work.is_some(), "{name}");
    if let (Some(a), Some(b)) = (json.work, text.work) {
        near(a.all as f64 / b.all.max(1) as f64, 1.0, 0.01);
    }
}

#[test]
fn json_and_text_are_judged_the_same() {
    for (json, text) in [(HEALTHY, HEALTHY_TEXT), (REPLACING, REPLACING_TEXT), (SPARE, SPARE_TEXT)]
    {
        let (mut json, text) = (judged(json), judged(text));
        assert!(json.capacity.take().is_some(), "sizes are in the JSON form only");
        assert_eq!(json, text);
    }
}

#[test]
fn healthy() {
    let pool = judged(HEALTHY);
    assert_eq!((pool.health, pool.tolerates), (Severity::Ok, Some(2)));
    assert_eq!(codes(&pool), []);
    assert_eq!((pool.name.as_str(), pool.state.as_str()), ("tank", "ONLINE"));
    let names: Vec<&str> = pool.vdevs[0].children.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["/vdevs/f0", "/vdevs/f1", "/vdevs/f2", "/vdevs/f3", "/vdevs/f4"]);
    assert_eq!(pool.vdevs[0].kind, "raidz");
    assert_eq!(pool.vdevs[0].children[0].kind, "file");
}

#[test]
fn resilver_at_zero_percent_tolerates_nothing() {
    let pool = judged(REPLACING);
    assert_eq!((pool.health, pool.tolerates), (Severity::Critical, Some(0)));
    assert_eq!(
        codes(&pool),
        [
            (Severity::Critical, "device-offline"),
            (Severity::Critical, "device-offline"),
            (Severity::Warning, "resilver-running"),
        ]
    );
    assert!(pool.findings[0].message.contains("raidz2-0 tolerates no further failure"));
    assert!(pool.findings[0].message.contains("/vdevs/f10 takes its place"));
    let scan = pool.scan.unwrap();
    assert_eq!((scan.function.as_str(), scan.state.as_str()), ("resilver", "scanning"));
    assert_eq!((scan.progress, scan.ended), (Some(0.0), None));
    assert_eq!(scan.started.unwrap().secs(), 1_795_367_189);
    assert!((pool.capacity.unwrap() - 0.306).abs() < 0.001);
}

#[test]
fn spare_resilvered_in_beside_a_single_special_device() {
    let pool = judged(SPARE);
    assert_eq!((pool.health, pool.tolerates), (Severity::Warning, Some(0)));
    let tops: Vec<_> =
        pool.vdevs.iter().map(|v| (v.name.as_str(), v.class.as_str(), v.tolerates)).collect();
    assert_eq!(
        tops,
        [
            ("raidz2-0", "normal", Some(2)),
            ("/vdevs/f6", "special", Some(0)),
            ("/vdevs/f7", "log", None),
            ("/vdevs/f8", "cache", None),
            ("/vdevs/f9", "spare", None),
        ]
    );
    assert_eq!(
        codes(&pool),
        [
            (Severity::Warning, "device-faulted"),
            (Severity::Warning, "special-single-device"),
            (Severity::Warning, "spare-in-use"),
            (Severity::Warning, "no-spares-left"),
        ]
    );
    assert!(found(&pool, "device-faulted").message.contains("still tolerates 2 failures"));
    assert!(found(&pool, "spare-in-use").message.contains("/vdevs/f9 stands in for /vdevs/f1"));
    assert_eq!(pool.scan.unwrap().progress, Some(1.0));
}

#[test]
fn what_is_neither_form_is_a_note() {
    for text in ["", "{", "[]", "no pools available\n", "{\"pools\":[]}", "\u{0}\u{ff}"] {
        let view = judge_capture(text);
        assert!(view.pools.is_empty() && !view.notes.is_empty(), "{text:?}");
    }
    assert_eq!(judge_capture("{}").notes.len(), 1);
}
