//! kill -9 at random moments: what was flushed is there, and nothing is torn.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Bench, START, event, noise};
use crate::config::History as Settings;

/// Where the child finds its database.
const VARIABLE: &str = "HOSTD_TEST_HISTORY";
const SERIES: i64 = 20;

/// Not a test by itself: writes and says what is flushed, until it is killed.
#[test]
#[ignore = "the child of the crash tests"]
fn child() {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let mut bench = Bench::at(path.into(), Settings::default());
    let mut out = std::io::stdout();
    for minute in 0..10_000 {
        for second in (0..60).step_by(10) {
            let now = START + minute * 60 + second;
            for series in 0..SERIES {
                let value = noise(now * SERIES + series);
                bench.take(&event(&format!("s{series}"), now, value, "ok"), now);
            }
        }
        // All of the minute is sealed.
        let now = START + minute * 60 + 80;
        bench.flush(now);
        bench.store.upkeep(now).unwrap();
        writeln!(out, "\nflushed {minute}").unwrap();
        out.flush().unwrap();
    }
}

fn kill_at_random(times: i64) {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..times {
        let path = dir.path().join(format!("{round}.db"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["sink::history::tests::crash::child", "--exact", "--ignored", "--nocapture"])
            .env(VARIABLE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut flushed = None;
        // Somewhere between two commits, after some of them.
        let enough = (noise(round) * 12.0) as i64;
        for line in lines.by_ref() {
            let line = line.unwrap();
            let Some(minute) = line.strip_prefix("flushed ") else { continue };
            flushed = Some(minute.parse::<i64>().unwrap());
            if flushed >= Some(enough) {
                break;
            }
        }
        std::thread::sleep(Duration::from_micros((noise(-round - 1) * 8_000.0) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        // It may have said more than was read by then.
        let said = lines.map_while(Result::ok);
        let said = said.filter_map(|line| line.strip_prefix("flushed ")?.parse::<i64>().ok());
        let flushed = said.last().or(flushed).expect("the child has flushed something");
        check(&Bench::at(path, Settings::default()), flushed);
    }
}

fn check(bench: &Bench, flushed: i64) {
    let whole: String =
        bench.store.db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    for series in [0, 7, SERIES - 1] {
        let to = START + (flushed + 3) * 60;
        let minutes = u32::try_from(flushed + 3).unwrap();
        let kept =
            bench.reader.read("nas", &format!("s{series}"), (START, to), minutes, to).unwrap();
        // At most the flush that was under way is there as well.
        let count = i64::try_from(kept.whole.count).unwrap() / 6;
        assert!((flushed + 1..=flushed + 2).contains(&count), "{count} of {flushed}");
        for point in &kept.points {
            let all: Vec<_> = (0..60)
                .step_by(10)
                .map(|second| noise((point.time + second) * SERIES + series))
                .collect();
            assert_eq!(point.summary.count, 6);
            assert_eq!(point.summary.min, all.iter().copied().fold(1.0, f64::min));
            assert_eq!(point.summary.max, all.iter().copied().fold(0.0, f64::max));
        }
    }
}

#[test]
fn killed_fifty_times() {
    kill_at_random(50);
}

#[test]
#[ignore = "long: a thousand kills"]
fn killed_a_thousand_times() {
    kill_at_random(1000);
}
