//! What goes in comes out: rolled up, after a restart, packed, and not beyond
//! its bounds.

use super::{Bench, START, event, noise};
use crate::base::{Bytes, Event, Timestamp};
use crate::config::History as Settings;
use crate::sink::history::intervals::Interval;
use crate::sink::history::memory::{GRACE_FOR_TESTS, LATE};

/// Three hours every five seconds, flushed each minute; `at` may replace the bench.
fn three_hours(mut bench: Bench, at: impl Fn(Bench, i64) -> Bench) -> Bench {
    for second in (0..3 * 3_600).step_by(5) {
        let now = START + second;
        bench.take(&event("cpu", now, noise(second), "ok"), now);
        if second % 60 == 55 {
            bench.flush(now);
            bench = at(bench, now);
        }
    }
    bench
}

/// The exact summary of the samples between two seconds.
fn exact(from: i64, to: i64) -> (f64, f64, f64, u64, Vec<f64>) {
    let mut values: Vec<_> = (from..to).step_by(5).map(noise).collect();
    values.sort_by(f64::total_cmp);
    let (count, sum) = (values.len(), values.iter().sum::<f64>());
    (values[0], values[count - 1], sum / count as f64, count as u64, values)
}

fn check(bench: &Bench) {
    // A minute, a quarter of an hour, an hour.
    for (step, points, error) in [(60, 180, 0.0), (900, 12, 0.085), (3_600, 3, 0.085)] {
        let series = bench.series("cpu", START, START + 3 * 3_600, points);
        assert_eq!(series.step, step);
        assert_eq!(series.points.len() as u32, points);
        for point in &series.points {
            let from = point.time - START;
            let (min, max, mean, count, sorted) = exact(from, from + step);
            let told = point.summary;
            assert_eq!((told.min, told.max, told.count), (min, max, count), "{step} {from}");
            assert!((told.mean - mean).abs() < 1e-12);
            assert!(told.error <= error, "{step} s: {}", told.error);
            for (q, p) in [(0.5, told.p50), (0.95, told.p95), (0.99, told.p99)] {
                let place = (q * count as f64) as usize;
                let exact = sorted[place.min(sorted.len() - 1)];
                assert!((p - exact).abs() <= exact * (told.error + 1e-9), "{step} {q} {p} {exact}");
            }
        }
    }
    assert_eq!(bench.series("cpu", START, START + 3 * 3_600, 3).whole.count, 2_160);
}

#[test]
fn every_level_is_right_and_nothing_is_missing_before_it_is_written() {
    let bench = three_hours(Bench::new(Settings::default()), |bench, _| bench);
    check(&bench);
    // The last hour, in points of ten seconds.
    let fine = bench.series("cpu", START + 2 * 3_600, START + 3 * 3_600, 360);
    assert_eq!((fine.step, fine.points.len()), (10, 360));
    assert!(fine.points.iter().all(|point| point.summary.count == 2 && point.summary.error == 0.0));
}

#[test]
fn a_restart_each_ten_minutes_changes_nothing() {
    let restart = |bench: Bench, now: i64| {
        if (now - START) % 600 == 595 { bench.restart(now) } else { bench }
    };
    check(&three_hours(Bench::new(Settings::default()), restart));
}

#[test]
fn killed_it_loses_what_was_not_flushed_and_nothing_else() {
    let mut bench = Bench::new(Settings::default());
    for second in 0..1_800 {
        bench.take(&event("cpu", START + second, 1.0, "ok"), START + second);
        if second % 60 == 59 {
            bench.flush(START + second);
        }
    }
    let bench = bench.killed();
    let kept = bench.series("cpu", START, START + 3_600, 4).whole.count;
    // The last flush was at 1799; what was sealed by then is kept.
    let sealed = (1_799 - GRACE_FOR_TESTS) / 10 * 10;
    assert_eq!(i64::try_from(kept).unwrap(), sealed);
}

#[test]
fn packed_it_is_the_same_and_two_years_stay_two_years() {
    let mut bench = three_hours(Bench::new(Settings::default()), |bench, _| bench);
    let later = START + 3 * 3_600 + 7 * 3_600;
    bench.flush(later);
    bench.store.upkeep(later).unwrap();
    let count = |bench: &Bench, sql: &str| {
        bench.store.db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert!(count(&bench, "SELECT count(*) FROM packed") > 0);
    assert_eq!(count(&bench, "SELECT count(*) FROM recent WHERE level = 1"), 0);
    assert_eq!(
        count(&bench, "SELECT count(*) FROM recent WHERE level = 0"),
        0,
        "an hour has passed"
    );
    check(&bench);
    // A late event finds its place in a block again.
    let day = later + 86_400;
    bench.take(&event("cpu", day - LATE + 1, 2.0, "ok"), day);
    bench.flush(day);
    assert_eq!(bench.series("cpu", START, day, 3).whole.count, 2_161);
    // After eight days the minutes are gone, after 31 the quarters of an hour.
    for (days, levels) in [(8, vec![2, 3]), (31, vec![3]), (731, vec![])] {
        let now = START + days * 86_400;
        bench.store.upkeep(now).unwrap();
        let sql = "SELECT DISTINCT id >> 30 & 15 FROM packed ORDER BY 1";
        let mut found = bench.store.db.prepare(sql).unwrap();
        let found = found.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        let found: Vec<_> = found.map(Result::unwrap).collect();
        // A block goes when all of it is too old.
        assert!(levels.iter().all(|level| found.contains(level)), "{days}: {found:?}");
        assert!(days < 16 || !found.contains(&1), "{days}: {found:?}");
    }
}

#[test]
fn late_wrong_and_future_events_are_merged_or_counted() {
    let mut bench = Bench::new(Settings::default());
    let now = START + 7_200;
    bench.take(&event("a", now, 1.0, ""), now);
    bench.flush(now + 120);
    // Merged with what is written already.
    bench.take(&event("a", now + 1, 3.0, ""), now + 130);
    bench.flush(now + 180);
    let kept = bench.series("a", now - 60, now + 180, 4);
    assert_eq!((kept.whole.count, kept.whole.min, kept.whole.max), (2, 1.0, 3.0));
    assert_eq!(kept.points.len(), 1);
    let now = now + 180;
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        bench.take(&event("a", now, value, ""), now);
    }
    bench.take(&event("a", now - LATE - 1, 1.0, ""), now);
    bench.take(&event("a", now + 300, 1.0, ""), now);
    let counters = bench.memory.lock().unwrap().counters;
    assert_eq!((counters.taken, counters.no_number, counters.late), (2, 3, 2));
}

#[test]
fn a_clock_that_jumps_back_spoils_nothing() {
    let mut bench = Bench::new(Settings::default());
    // A year ahead by mistake, then right.
    for base in [START + 31_536_000, START] {
        for second in (0..1_200).step_by(10) {
            let now = base + second;
            bench.take(&event("a", now, 1.0, if base > START { "critical" } else { "ok" }), now);
            if second % 60 == 50 {
                bench.flush(now);
                bench.store.upkeep(now).unwrap();
            }
        }
    }
    assert_eq!(bench.series("a", START, START + 1_200, 20).whole.count, 120);
    assert!(bench.memory.lock().unwrap().all[0].open.len() < 8);
    let states = states(&bench, START, START + 1_200);
    assert_eq!(
        states.iter().map(|one| (one.state.as_str(), one.open)).collect::<Vec<_>>(),
        [("ok", true)]
    );
    let bench = bench.killed();
    assert_eq!(bench.series("a", START, START + 1_200, 20).whole.count, 117);
}

#[test]
fn beyond_the_cap_series_are_refused_and_counted() {
    let bench = Bench::new(Settings { max_series: 2, ..Settings::default() });
    for service in ["a", "b", "c", "a", "d"] {
        bench.take(&event(service, START, 1.0, "ok"), START);
    }
    let memory = bench.memory.lock().unwrap();
    assert_eq!((memory.len(), memory.counters.refused, memory.counters.taken), (2, 2, 3));
}

#[test]
fn too_large_it_loses_the_oldest_of_the_finest_first() {
    let settings = Settings { max_size: Bytes(400 << 10), ..Settings::default() };
    let mut bench = Bench::new(settings);
    for minute in 0..12 * 60 {
        let now = START + 60 * minute;
        for series in 0..20 {
            bench.take(&event(&format!("s{series}"), now, noise(now + series), ""), now);
        }
        if minute % 10 == 9 {
            bench.flush(now);
            bench.store.upkeep(now).unwrap();
        }
    }
    let used = bench.store.used().unwrap();
    assert!(used <= 400 << 10, "{used}");
    // By the hour it is all there, and finely what is new.
    assert_eq!(bench.series("s3", START, START + 12 * 3_600, 12).whole.count, 720);
    let last = bench.series("s3", START + 11 * 3_600, START + 12 * 3_600, 60);
    assert!(last.points.len() > 20, "{}", last.points.len());
}

fn states(bench: &Bench, from: i64, to: i64) -> Vec<Interval> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let at = Timestamp::from_secs;
    runtime.block_on(bench.reader.states("nas", "a", (at(from), at(to)), at(to))).unwrap()
}

#[test]
fn states_are_intervals_over_restarts_too() {
    let mut bench = Bench::new(Settings::default());
    let told = |bench: &Bench, at: i64, state: &str| {
        let event = Event { metric: None, ..event("a", START + at, 0.0, state) };
        bench.take(&event, START + at);
    };
    told(&bench, 0, "ok");
    told(&bench, 60, "ok");
    told(&bench, 100, "critical");
    told(&bench, 90, "ok"); // too late to mean anything
    bench.flush(START + 110);
    told(&bench, 400, "ok");
    let shown = |bench: &Bench, to: i64| -> Vec<_> {
        let all = states(bench, START, START + to).into_iter();
        all.map(|one| (one.state, one.since - START, one.until - START, one.open)).collect()
    };
    let three = [
        ("ok".to_owned(), 0, 100, false),
        ("critical".to_owned(), 100, 400, false),
        ("ok".to_owned(), 400, 500, true),
    ];
    assert_eq!(shown(&bench, 500), three);
    bench.flush(START + 500);
    // A short restart ends nothing.
    let mut bench = bench.killed();
    bench.tick(START + 510);
    told(&bench, 520, "ok");
    bench.flush(START + 540);
    assert_eq!(shown(&bench, 540)[2], ("ok".to_owned(), 400, 540, true));
    // What was not heard of again ended when hostd did.
    let mut bench = bench.killed();
    bench.tick(START + 1_000);
    bench.tick(START + 1_200);
    bench.flush(START + 1_200);
    assert_eq!(shown(&bench, 1_200)[2], ("ok".to_owned(), 400, 540, false));
    assert_eq!(shown(&bench, 1_200).len(), 3);
}

/// The file of one series in full, at ten seconds, of noise over a decade.
#[test]
#[ignore = "long: two years of one series"]
fn two_years_of_a_series_are_within_two_mebibytes() {
    let mut bench = Bench::new(Settings::default());
    let mut now = START;
    for hour in 0..17_530_i64 {
        for ten in 0..360 {
            now = START + hour * 3_600 + ten * 10;
            let value = 0.02 + 0.18 * noise(now);
            bench.take(&event("cpu", now, value, "ok"), now);
        }
        bench.flush(now);
        bench.store.upkeep(now).unwrap();
    }
    let used = bench.store.used().unwrap();
    println!("one series in full: {used} bytes");
    assert!(used <= 2 << 20, "{used}");
    let all = bench.series("cpu", now - 17_000 * 3_600, now, 500);
    assert!(all.points.len() >= 250);
}
