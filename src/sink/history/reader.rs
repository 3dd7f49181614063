//! What is asked of the history. Each question has a connection of its own that
//! only reads, on a thread where waiting for a disk does no harm, and sees what
//! is not written yet as well. It never keeps the writer waiting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Semaphore;

use super::bucket::{Bucket, Summary, raw};
use super::code;
use super::intervals::Interval;
use super::memory::{Change, Memory, align};
use super::store::{self, BLOCK, Error, block, unpacked};
use crate::base::{Event, Metric, Timestamp};
use crate::config::Archive;
use crate::query::Query;

/// Questions at one time: those that hang on a disk keep the others out.
const AT_ONCE: usize = 2;
/// How long a question waits for its turn, and then for the disk.
const PATIENCE: Duration = Duration::from_secs(8);
/// Intervals of an answer.
const INTERVALS: i64 = 10_000;

/// Asks the history; cheap to clone.
#[derive(Clone)]
pub struct Reader {
    path: PathBuf,
    memory: Arc<Mutex<Memory>>,
    turns: Arc<Semaphore>,
}

/// A series in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The host; empty when the events have none.
    pub host: String,
    /// The service; empty when the events have none.
    pub service: String,
    /// The state that holds.
    pub state: Option<String>,
    /// Since when, in seconds.
    pub since: Option<i64>,
    /// The last number since hostd started.
    pub value: Option<f64>,
    /// The last event since hostd started, in seconds.
    pub last: Option<i64>,
}

/// A point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its first second.
    pub time: i64,
    /// What was seen in its time.
    pub summary: Summary,
}

/// The points of a series.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Seconds of a point.
    pub step: i64,
    /// In order; none where nothing was seen.
    pub points: Vec<Point>,
    /// All of them together.
    pub whole: Summary,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database.
    #[error("the history cannot be read: {0}")]
    Store(#[from] Error),
    /// The disk is too slow, or hangs.
    #[error("the disk with the history does not answer")]
    Busy,
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Reader {
    /// Of the database at `path` and what is not in it yet.
    pub fn new(path: PathBuf, memory: Arc<Mutex<Memory>>) -> Self {
        Self { path, memory, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // It is consistent between any two of its calls.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series that match, by host and service.
    pub fn list(&self, query: &Query) -> Vec<Listed> {
        let memory = self.memory();
        let mut all: Vec<_> = memory.all.iter().map(listed).collect();
        drop(memory);
        all.retain(|one| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            query.matches(&Event {
                host: text(&one.host),
                service: text(&one.service),
                state: one.state.clone(),
                metric: one.value.map(Metric::Double),
                time: one.last.map(Timestamp::from_secs),
                ..Event::default()
            })
        });
        all.sort_by(|a, b| (&a.host, &a.service).cmp(&(&b.host, &b.service)));
        all
    }

    /// Whether there is such a series.
    pub fn has(&self, host: &str, service: &str) -> bool {
        self.memory().find(host, service).is_some()
    }

    /// The series between two moments, in at most `points` points (or twice
    /// so many), of the archive that is just fine enough.
    pub async fn series(
        &self,
        host: &str,
        service: &str,
        (from, to): (Timestamp, Timestamp),
        points: u32,
        now: Timestamp,
    ) -> Result<Series, ReadError> {
        let (this, host, service) = (self.clone(), host.to_owned(), service.to_owned());
        let (from, to, now) = (from.secs(), to.secs(), now.secs());
        self.blocking(move || this.read(&host, &service, (from, to), points, now)).await
    }

    /// When it was in which state, the oldest first.
    pub async fn states(
        &self,
        host: &str,
        service: &str,
        (from, to): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Result<Vec<Interval>, ReadError> {
        let (this, host, service) = (self.clone(), host.to_owned(), service.to_owned());
        let (from, to, now) = (from.secs(), to.secs(), now.secs());
        self.blocking(move || this.intervals(&host, &service, from, to.min(now))).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let turn = tokio::time::timeout(PATIENCE / 2, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_| ReadError::Busy)?.map_err(|_| ReadError::Busy)?;
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        match tokio::time::timeout(PATIENCE, task).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(ReadError::Busy),
        }
    }

    /// The same without a runtime.
    pub fn read(
        &self,
        host: &str,
        service: &str,
        (from, to): (i64, i64),
        points: u32,
        now: i64,
    ) -> Result<Series, ReadError> {
        let (id, ladder) = {
            let memory = self.memory();
            let Some(one) = memory.find(host, service) else { return Ok(Series::default()) };
            (one.id, memory.ladder.clone())
        };
        let Some((level, archive)) = choose(&ladder, from, to, points, now) else {
            return Ok(Series::default());
        };
        let from = align(from, archive.step);
        let (mut all, seq) = match open(&self.path)? {
            Some(db) => stored(&db, id, level, archive, (from, to))?,
            None => (BTreeMap::new(), 0),
        };
        for (time, bucket) in self.memory().buckets(id, level, seq) {
            if (from..to).contains(&time) {
                all.entry(time).or_default().merge(&bucket, raw(archive.step));
            }
        }
        Ok(rolled(&all, archive.step, (from, to), points))
    }

    fn intervals(
        &self,
        host: &str,
        service: &str,
        from: i64,
        to: i64,
    ) -> Result<Vec<Interval>, ReadError> {
        let Some(id) = self.memory().find(host, service).map(|one| one.id) else {
            return Ok(Vec::new());
        };
        let mut all: BTreeMap<i64, (String, Option<i64>)> = BTreeMap::new();
        let mut seq = 0;
        if let Some(db) = open(&self.path)? {
            seq = last_batch(&db)?;
            let mut states = db.prepare(
                "SELECT since, until, state FROM states WHERE series = ? AND since < ? \
                 AND (until IS NULL OR until > ?) ORDER BY since DESC LIMIT ?",
            )?;
            let mut rows = states.query(params![id, to, from, INTERVALS])?;
            while let Some(row) = rows.next()? {
                all.insert(row.get(0)?, (row.get(2)?, row.get(1)?));
            }
        }
        let memory = self.memory();
        let sent = memory.sent.iter().filter(|batch| batch.seq > seq).flat_map(|b| &b.states);
        for change in sent.chain(&memory.batch.states) {
            match change {
                Change::Begin { series, since, state } if *series == id => {
                    all.insert(*since, (state.to_string(), None));
                }
                Change::End { series, since, until } if *series == id => {
                    if let Some(one) = all.get_mut(since) {
                        one.1 = Some(*until);
                    }
                }
                Change::Begin { .. } | Change::End { .. } => {}
            }
        }
        drop(memory);
        let clip = all.into_iter().map(|(since, (state, until))| Interval {
            state,
            since: since.max(from),
            until: until.unwrap_or(to).min(to),
            open: until.is_none(),
        });
        Ok(clip.filter(|one| one.until > one.since).collect())
    }
}

fn listed(one: &super::memory::One) -> Listed {
    Listed {
        host: one.host.to_string(),
        service: one.service.to_string(),
        state: one.held.as_ref().map(|held| held.state.to_string()),
        since: one.held.as_ref().map(|held| held.since),
        value: one.value,
        last: (one.last > 0).then_some(one.last),
    }
}

/// The database; `None` when there is none yet.
fn open(path: &Path) -> Result<Option<Connection>, ReadError> {
    match store::reading(path) {
        Ok(db) => Ok(Some(db)),
        Err(Error::Sql(error))
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Which batch the database has seen last.
fn last_batch(db: &Connection) -> Result<u64, ReadError> {
    let seq = db.query_row("SELECT value FROM meta WHERE key = 'seq'", [], |row| row.get(0));
    Ok(seq.optional()?.map_or(0, i64::cast_unsigned))
}

/// The coarsest archive that still has `points` points of that time, among
/// those that reach so far back; the last when none does.
fn choose(ladder: &[Archive], from: i64, to: i64, points: u32, now: i64) -> Option<(u8, Archive)> {
    let reaches = |archive: &Archive| {
        now.saturating_sub(from) <= i64::try_from(archive.seconds()).unwrap_or(i64::MAX)
    };
    let all = || (0_u8..).zip(ladder.iter().copied());
    let wanted = (to - from) / i64::from(points.max(1));
    let fine = all().filter(|(_, a)| reaches(a) && i64::from(a.step) <= wanted).last();
    fine.or_else(|| all().find(|(_, a)| reaches(a))).or_else(|| all().last())
}

/// The buckets of the database, and its last batch.
fn stored(
    db: &Connection,
    id: u32,
    level: u8,
    archive: Archive,
    (from, to): (i64, i64),
) -> Result<(BTreeMap<i64, Bucket>, u64), ReadError> {
    let mut all: BTreeMap<i64, Bucket> = BTreeMap::new();
    let seq = last_batch(db)?;
    let step = archive.step;
    let keys = [block(id, level, align(from, BLOCK * step)), block(id, level, to)];
    let mut blocks = db.prepare("SELECT id, data FROM packed WHERE id BETWEEN ? AND ?")?;
    let mut rows = blocks.query(keys)?;
    while let Some(row) = rows.next()? {
        let data = row.get_ref(1)?.as_blob().unwrap_or_default();
        let buckets = unpacked(data, row.get(0)?, step);
        all.extend(buckets.filter(|(time, _)| (from..to).contains(time)));
    }
    // One look-up a bucket: the rows of other series between them are not read.
    let end = |order: &str| {
        let sql = format!("SELECT time FROM recent WHERE level = ? ORDER BY time {order} LIMIT 1");
        db.query_row(&sql, [level], |row| row.get::<_, i64>(0)).optional()
    };
    if let (Some(first), Some(last)) = (end("ASC")?, end("DESC")?) {
        let mut get =
            db.prepare("SELECT data FROM recent WHERE level = ? AND time = ? AND series = ?")?;
        let mut time = align(first.max(from), step);
        while time <= last && time < to {
            let mut rows = get.query(params![level, time, id])?;
            if let Some(row) = rows.next()?
                && let Some(bucket) = row.get_ref(0)?.as_blob().ok().and_then(code::read)
            {
                all.entry(time).or_default().merge(&bucket, raw(step));
            }
            time += i64::from(step);
        }
    }
    Ok((all, seq))
}

/// Buckets as at most so many points.
fn rolled(all: &BTreeMap<i64, Bucket>, step: u32, (from, to): (i64, i64), points: u32) -> Series {
    let step = i64::from(step);
    let buckets = (to - from).max(1).div_ceil_by(step);
    let step = step * buckets.div_ceil_by(i64::from(points.max(1)));
    // Whole buckets are merged, and sketches whatever their size.
    let mut windows: BTreeMap<i64, Bucket> = BTreeMap::new();
    let mut whole = Bucket::default();
    for (time, bucket) in all {
        let window = windows.entry(time - time.rem_euclid(step)).or_default();
        window.merge(bucket, super::bucket::RAW);
    }
    for window in windows.values() {
        whole.merge(window, super::bucket::RAW);
    }
    let point = |(time, bucket): (&i64, &Bucket)| Point { time: *time, summary: bucket.summary() };
    Series { step, points: windows.iter().map(point).collect(), whole: whole.summary() }
}

/// Division that rounds up, of what is not negative.
trait DivCeil {
    fn div_ceil_by(self, by: Self) -> Self;
}

impl DivCeil for i64 {
    fn div_ceil_by(self, by: Self) -> Self {
        (self + by - 1) / by
    }
}
