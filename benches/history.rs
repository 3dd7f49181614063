//! What the history costs: 1,000 series at ten seconds.
//!
//!   cargo bench --bench history
//!
//! Prints:
//!
//! - `points/s`: numbers through memory, buckets and database, on one core
//! - `written`: bytes handed to the kernel in a day of the machine's time
//! - `plot`: milliseconds for two years of one series, among 1,000, in 500 points
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a benchmark"
)]

use std::sync::{Arc, Mutex};
use std::time::Instant;

use hostd::base::{Bytes, Event, Metric, Timestamp};
use hostd::config::History as Settings;
use hostd::sink::history::memory::{Batch, Row};
use hostd::sink::history::store::Store;
use hostd::sink::history::{Bucket, Memory, Reader, code};

const START: i64 = 1_794_787_200;
const SERIES: i64 = 1_000;

fn noise(seed: i64) -> f64 {
    let mut x = (seed.cast_unsigned().wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn event(series: i64, now: i64) -> Event {
    Event {
        host: Some("nas".into()),
        service: Some(format!("series {series}")),
        state: Some("ok".into()),
        metric: Some(Metric::Double(0.02 + 0.18 * noise(now * SERIES + series))),
        time: Some(Timestamp::from_secs(now)),
        ..Event::default()
    }
}

/// Bytes that this process has written so far.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = Settings { max_size: Bytes(64 << 30), ..Settings::default() };
    a_day(&dir.path().join("day.db"), &settings);
    two_years(&dir.path().join("years.db"), &settings);
}

fn a_day(path: &std::path::Path, settings: &Settings) {
    const HOURS: i64 = 13;
    let mut store = Store::open(path, settings).expect("a database");
    let mut memory = Memory::new(settings);
    store.load(&mut memory).expect("nothing");
    let (begun, before) = (Instant::now(), written());
    for ten in 0..HOURS * 360 {
        let now = START + ten * 10;
        for series in 0..SERIES {
            memory.take(&event(series, now), Timestamp::from_secs(now));
        }
        if ten % 6 == 5 {
            memory.tick(Timestamp::from_secs(now));
            let batch = memory.flush(Timestamp::from_secs(now));
            store.write(&batch).expect("written");
            memory.written(&batch);
            store.upkeep(now).expect("kept");
        }
    }
    let points = HOURS * 360 * SERIES;
    println!("points/s   {:>10.0}", points as f64 / begun.elapsed().as_secs_f64());
    let day = (written() - before) as f64 * 24.0 / HOURS as f64;
    println!("written    {:>10.0} MB a day", day / 1e6);
    println!(
        "on disk    {:>10.0} bytes a series after {HOURS} h",
        store.used().expect("a size") as f64 / SERIES as f64
    );
}

fn two_years(path: &std::path::Path, settings: &Settings) {
    let mut store = Store::open(path, settings).expect("a database");
    let mut memory = Memory::new(settings);
    // Sketches of 360 numbers each.
    let buckets: Vec<Box<[u8]>> = (0..64)
        .map(|seed| {
            let mut bucket = Bucket::default();
            (0..360).for_each(|i| bucket.add(0.02 + 0.18 * noise(seed * 1000 + i), 8));
            code::one(&bucket)
        })
        .collect();
    let first = START - 17_520 * 3_600;
    let names = (1..=1000_u32).map(|id| (id, "nas".to_owned(), format!("series {id}")));
    let mut batch = Batch { series: names.collect(), now: first, ..Batch::default() };
    for hour in 0..17_520_i64 {
        let time = first + hour * 3_600;
        for series in 1..=1000_u32 {
            let at = (hour.unsigned_abs() as usize + series as usize * 7) % buckets.len();
            batch.rows.push(Row { level: 3, time, series, data: buckets[at].clone() });
        }
        if hour % 24 == 23 {
            batch.now = time;
            store.write(&batch).expect("written");
            batch = Batch::default();
            store.upkeep(time).expect("kept");
        }
    }
    store.load(&mut memory).expect("known");
    println!(
        "on disk    {:>10.0} bytes a series by the hour",
        store.used().expect("a size") as f64 / SERIES as f64
    );
    let reader = Reader::new(path.to_owned(), Arc::new(Mutex::new(memory)));
    let mut times: Vec<_> = (0..20)
        .map(|i| {
            let begun = Instant::now();
            let service = format!("series {}", i * 31 + 1);
            let series = reader.read("nas", &service, (first, START), 500, START).expect("read");
            assert!(series.points.len() >= 480);
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("plot       {:>10.1} ms (median), {:.1} ms (worst of 20)", times[10], times[19]);
}
