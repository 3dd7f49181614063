//! Disks that are full, hang or hold rubbish.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bench, START, event};
use crate::base::{Event, Timestamp};
use crate::config::History as Settings;
use crate::host::Store as Folder;
use crate::sink::history::{History, Reader, Status};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(START + seconds)
}

fn begin(dir: &tempfile::TempDir) -> (History, Reader) {
    History::start(Folder::new(dir.path()), &Settings::default()).unwrap()
}

fn take(history: &History, from: i64, to: i64) {
    let events: Vec<Arc<Event>> =
        (from..to).map(|s| Arc::new(event("cpu", START + s, 1.0, "ok"))).collect();
    history.take(&events, at(to));
}

/// Until it is as wanted; the thread is another one.
async fn until(history: &mut History, now: i64, wanted: impl Fn(&Status) -> bool) -> Status {
    let begun = Instant::now();
    loop {
        history.tick(at(now));
        history.flush(at(now));
        let status = history.status();
        if wanted(&status) && (history.is_open() || status.problem.is_some()) {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn count(reader: &Reader) -> u64 {
    let series = reader.series("nas", "cpu", (at(0), at(3_600)), 60, at(3_600)).await;
    series.unwrap().whole.count
}

#[tokio::test]
async fn rubbish_is_moved_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history/history.db");
    fs::create_dir(dir.path().join("history")).unwrap();
    fs::write(&file, [0xa5; 9000]).unwrap();
    let (mut history, reader) = begin(&dir);
    let status = until(&mut history, 0, |status| status.moved.is_some()).await;
    assert!(status.moved.unwrap().contains("history.db.old"));
    assert_eq!(fs::read(dir.path().join("history/history.db.old")).unwrap(), [0xa5; 9000]);
    take(&history, 0, 60);
    until(&mut history, 120, |status| status.waiting == 0).await;
    assert_eq!(count(&reader).await, 60);
    history.end(at(120)).await;
    // The next one reads it.
    let (mut history, reader) = begin(&dir);
    let status = until(&mut history, 130, |status| status.series == 1).await;
    assert_eq!((status.moved, count(&reader).await), (None, 60));
    history.end(at(130)).await;
}

#[tokio::test]
async fn a_database_of_other_precisions_is_kept_beside() {
    let dir = tempfile::tempdir().unwrap();
    let (mut history, _) = begin(&dir);
    until(&mut history, 0, |_| true).await;
    history.end(at(0)).await;
    let ladder = Settings::default().ladder.split_off(1);
    let settings = Settings { ladder, ..Settings::default() };
    let (mut history, _) = History::start(Folder::new(dir.path()), &settings).unwrap();
    let status = until(&mut history, 0, |status| status.moved.is_some()).await;
    assert!(status.moved.unwrap().contains("10 60 900 3600, and not 60 900 3600"));
    assert!(dir.path().join("history/history.db.old").exists());
    history.end(at(0)).await;
}

#[tokio::test]
async fn what_cannot_be_opened_is_kept_in_memory_and_written_later() {
    let dir = tempfile::tempdir().unwrap();
    // A database that knows `other` by the number that `cpu` gets meanwhile.
    let (mut history, _) = begin(&dir);
    until(&mut history, 0, |_| true).await;
    history.take(&[Arc::new(event("other", START, 5.0, "ok"))], at(0));
    until(&mut history, 60, |status| status.waiting == 0).await;
    history.end(at(60)).await;
    let (folder, away) = (dir.path().join("history"), dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "not a folder").unwrap();
    let (mut history, reader) = begin(&dir);
    let status = until(&mut history, 60, |status| status.problem.is_some()).await;
    assert!(status.problem.unwrap().contains("history"));
    take(&history, 60, 120);
    history.tick(at(200));
    assert_eq!(count(&reader).await, 60, "it can be read all the same");
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    until(&mut history, 200, |status| status.problem.is_none() && status.series == 2).await;
    until(&mut history, 260, |status| status.waiting == 0).await;
    assert_eq!(count(&reader).await, 60);
    history.end(at(260)).await;
    let bench = Bench::at(folder.join("history.db"), Settings::default());
    assert_eq!(bench.series("cpu", START, START + 3_600, 60).whole.count, 60);
    assert_eq!(bench.series("other", START, START + 3_600, 60).whole.max, 5.0);
}

#[test]
fn a_full_disk_loses_nothing_that_is_kept_for_later() {
    let mut bench = Bench::new(Settings::default());
    bench.flush(START);
    let full = bench.store.used().unwrap();
    bench.store.limit(full).unwrap();
    for second in 0..600 {
        for series in 0..20 {
            bench.take(&event(&format!("s{series}"), START + second, 1.0, ""), START + second);
        }
    }
    bench.tick(START + 700);
    let batch = bench.memory.lock().unwrap().flush(Timestamp::from_secs(START + 700));
    let error = bench.store.write(&batch).unwrap_err();
    assert!(!error.is_useless() && error.to_string().contains("full"), "{error}");
    assert_eq!(bench.series("s7", START, START + 700, 20).whole.count, 600, "from memory");
    bench.store.limit(1 << 30).unwrap();
    bench.store.write(&batch).unwrap();
    bench.memory.lock().unwrap().written(&batch);
    assert_eq!(bench.series("s7", START, START + 700, 20).whole.count, 600);
    assert_eq!(bench.killed().series("s7", START, START + 700, 20).whole.count, 600);
}

#[tokio::test]
async fn a_disk_that_hangs_hangs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (mut history, reader) = begin(&dir);
    until(&mut history, 0, |_| true).await;
    let other = rusqlite::Connection::open(dir.path().join("history/history.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The writer waits; neither taking in nor reading does.
    for minute in 0..10 {
        take(&history, 60 * minute, 60 * minute + 60);
        history.tick(at(60 * minute + 60));
        history.flush(at(60 * minute + 60));
    }
    assert!(history.status().waiting > 0);
    assert_eq!(count(&reader).await, 600);
    other.execute_batch("ROLLBACK").unwrap();
    until(&mut history, 700, |status| status.waiting == 0).await;
    assert_eq!(count(&reader).await, 600);
    history.end(at(700)).await;
}

#[test]
fn what_waits_for_ever_is_bounded_and_counted() {
    let bench = Bench::new(Settings::default());
    let mut memory = bench.memory.lock().unwrap();
    for hour in 0..40 {
        for series in 0..60 {
            for ten in (0..3_600).step_by(10) {
                let now = START + hour * 3_600 + ten;
                memory.take(&event(&format!("s{series}"), now, 0.1, ""), Timestamp::from_secs(now));
            }
        }
        memory.tick(Timestamp::from_secs(START + hour * 3_600 + 3_600));
    }
    assert!(memory.counters.dropped > 0);
    assert!(memory.waiting() < 400_000, "{}", memory.waiting());
}
