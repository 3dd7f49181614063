//! The database: what is in it, how a batch gets in, and what is read at the start.
//!
//! | table | what |
//! |---|---|
//! | `series` | id, host, service |
//! | `recent` | sealed buckets by level and time: what is written together lies together |
//! | `packed` | blocks of [`BLOCK`] buckets of one series, compressed ([`pack`](super::pack)) |
//! | `states` | when what was in which state; `until` is empty while it still is |
//! | `meta` | the last batch and its time, the precisions |
//!
//! A batch is one transaction, synced to disk: what has been flushed survives
//! the end of hostd and of the power. Each bucket is in `recent` or in
//! `packed`; one that is in both, because it came late, is merged when read.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::bucket::{Bucket, raw};
use super::code;
use super::memory::{Batch, Change, Memory, align};
use crate::config::{Archive, History as Settings};

/// Buckets of a block.
pub const BLOCK: u32 = 360;
/// The layout of the tables.
const VERSION: i64 = 1;
/// Another process may look at the file (`sqlite3`); that it ends is waited for.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS series (
  id INTEGER PRIMARY KEY, host TEXT NOT NULL, service TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS recent (
  level INTEGER, time INTEGER, series INTEGER, data BLOB NOT NULL,
  PRIMARY KEY (level, time, series)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packed (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS states (
  series INTEGER, since INTEGER, until INTEGER, state TEXT NOT NULL,
  PRIMARY KEY (series, since)) WITHOUT ROWID;
";

/// The database, open for writing.
pub struct Store {
    pub(super) db: Connection,
    pub(super) ladder: Vec<Archive>,
    pub(super) most: u64,
    pub(super) upkept: i64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `SQLite` says so.
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    /// Its folder cannot be made.
    #[error("{0}")]
    Folder(String),
    /// It is one of another configuration or version.
    #[error("it {0}")]
    Other(String),
}

impl Error {
    /// Whether what is there is of no use: it is moved aside.
    pub fn is_useless(&self) -> bool {
        match self {
            Self::Other(_) => true,
            Self::Folder(_) => false,
            Self::Sql(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
        }
    }
}

/// The key of a block.
pub fn block(series: u32, level: u8, time: i64) -> i64 {
    let minutes = time.div_euclid(60).clamp(0, (1 << 30) - 1);
    (i64::from(series & 0x1fff_ffff) << 34) | (i64::from(level & 0xf) << 30) | minutes
}

/// The first second of a block.
pub fn block_time(key: i64) -> i64 {
    (key & ((1 << 30) - 1)) * 60
}

fn steps(ladder: &[Archive]) -> String {
    ladder.iter().map(|archive| archive.step.to_string()).collect::<Vec<_>>().join(" ")
}

impl Store {
    /// Opens the file, or makes it.
    pub fn open(path: &Path, settings: &Settings) -> Result<Self, Error> {
        let db = Connection::open(path)?;
        db.busy_timeout(BUSY)?;
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let tables: i64 =
            db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if tables > 0 && version != VERSION {
            return Err(Error::Other(format!("has the layout {version}, and not {VERSION}")));
        }
        // Before there is a table: it cannot be changed after.
        db.execute_batch(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; \
             PRAGMA synchronous = FULL; PRAGMA cache_size = -1024; \
             PRAGMA journal_size_limit = 4194304; PRAGMA temp_store = FILE;",
        )?;
        db.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?;
        let mut store = Self {
            db,
            ladder: settings.ladder.clone(),
            most: settings.max_size.0,
            upkept: i64::MIN,
        };
        store.limit(settings.max_size.0 / 4 * 5)?;
        let now = steps(&settings.ladder);
        match store.meta_text("steps")? {
            None => store.set("steps", &now)?,
            Some(before) if before == now => {}
            Some(before) => {
                return Err(Error::Other(format!("has the precisions {before}, and not {now} s")));
            }
        }
        Ok(store)
    }

    /// The most bytes that the file may have: a stop beyond the upkeep.
    pub fn limit(&mut self, bytes: u64) -> Result<(), Error> {
        let page: u64 = self.pragma("page_size")?;
        let pages = (bytes / page.max(512)).max(1);
        let _: i64 =
            self.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))?;
        Ok(())
    }

    pub(super) fn pragma(&self, name: &str) -> Result<u64, Error> {
        let value: i64 = self.db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
        Ok(u64::try_from(value).unwrap_or(0))
    }

    /// Bytes that are in use.
    pub fn used(&self) -> Result<u64, Error> {
        let pages = self.pragma("page_count")?.saturating_sub(self.pragma("freelist_count")?);
        Ok(pages * self.pragma("page_size")?)
    }

    fn meta_text(&self, key: &str) -> Result<Option<String>, Error> {
        let mut found = self.db.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
        Ok(found.query_row([key], |row| row.get(0)).optional()?)
    }

    pub(super) fn meta(&self, key: &str) -> Result<Option<i64>, Error> {
        let mut found = self.db.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
        Ok(found.query_row([key], |row| row.get(0)).optional()?)
    }

    pub(super) fn set(&self, key: &str, value: impl rusqlite::ToSql) -> Result<(), Error> {
        let mut put = self.db.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?, ?)")?;
        put.execute(params![key, value])?;
        Ok(())
    }

    /// Writes a batch: all of it or nothing.
    pub fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let transaction = self.db.transaction()?;
        {
            let mut series =
                transaction.prepare_cached("INSERT OR IGNORE INTO series VALUES (?, ?, ?)")?;
            for (id, host, service) in &batch.series {
                series.execute(params![id, host, service])?;
            }
            let mut put =
                transaction.prepare_cached("INSERT OR IGNORE INTO recent VALUES (?, ?, ?, ?)")?;
            let mut get = transaction.prepare_cached(
                "SELECT data FROM recent WHERE level = ? AND time = ? AND series = ?",
            )?;
            let mut replace =
                transaction.prepare_cached("INSERT OR REPLACE INTO recent VALUES (?, ?, ?, ?)")?;
            for row in &batch.rows {
                if put.execute(params![row.level, row.time, row.series, row.data])? > 0 {
                    continue;
                }
                let there: Vec<u8> =
                    get.query_row(params![row.level, row.time, row.series], |row| row.get(0))?;
                let step = self.ladder.get(usize::from(row.level)).map_or(0, |a| a.step);
                let merged = merged(&there, &row.data, step);
                replace.execute(params![row.level, row.time, row.series, merged])?;
            }
            let mut begin = transaction
                .prepare_cached("INSERT OR REPLACE INTO states VALUES (?, ?, NULL, ?)")?;
            let mut end = transaction.prepare_cached(
                "UPDATE states SET until = ? WHERE series = ? AND since = ? AND until IS NULL",
            )?;
            for change in &batch.states {
                match change {
                    Change::Begin { series, since, state } => {
                        begin.execute(params![series, since, state.as_ref()])?;
                    }
                    Change::End { series, since, until } => {
                        end.execute(params![until, series, since])?;
                    }
                }
            }
            let mut meta =
                transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?, ?)")?;
            if batch.seq > 0 {
                meta.execute(params!["seq", batch.seq.cast_signed()])?;
            }
            meta.execute(params!["alive", batch.now])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Puts what the database knows into memory: series, states, and the
    /// buckets that were open, made of those of the level below.
    pub fn load(&self, memory: &mut Memory) -> Result<(), Error> {
        let mut series = self.db.prepare("SELECT id, host, service FROM series ORDER BY id")?;
        let known = series.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let known: Vec<(u32, String, String)> = known.collect::<Result<_, _>>()?;
        memory.restore(&known, self.meta("seq")?.unwrap_or(0).cast_unsigned());
        let alive = self.meta("alive")?.unwrap_or(0);
        let mut states =
            self.db.prepare("SELECT series, since, state FROM states WHERE until IS NULL")?;
        let mut rows = states.query([])?;
        while let Some(row) = rows.next()? {
            let state: String = row.get(2)?;
            memory.restore_state(row.get(0)?, &state, row.get(1)?, alive);
        }
        for (level, archive) in (1_u8..).zip(self.ladder.iter().skip(1)) {
            self.load_open(memory, level, archive.step, alive)?;
        }
        Ok(())
    }

    fn load_open(
        &self,
        memory: &mut Memory,
        level: u8,
        step: u32,
        alive: i64,
    ) -> Result<(), Error> {
        // What is ahead of then is of a clock that has jumped back.
        let last =
            "SELECT time FROM recent WHERE level = ? AND time <= ? ORDER BY time DESC LIMIT 1";
        let last: Option<i64> =
            self.db.query_row(last, params![level - 1, alive], |row| row.get(0)).optional()?;
        let Some(last) = last else { return Ok(()) };
        let from = align(last, step) - i64::from(step);
        let mut there =
            self.db.prepare("SELECT 1 FROM recent WHERE level = ? AND time = ? AND series = ?")?;
        let mut below = self
            .db
            .prepare("SELECT time, series, data FROM recent WHERE level = ? AND time >= ?")?;
        let mut rows = below.query(params![level - 1, from])?;
        while let Some(row) = rows.next()? {
            let (time, series): (i64, u32) = (row.get(0)?, row.get(1)?);
            let start = align(time, step);
            if there.exists(params![level, start, series])? {
                continue;
            }
            if let Some(bucket) = row.get_ref(2)?.as_blob().ok().and_then(code::read) {
                memory.restore_bucket(series, level, start, &bucket);
            }
        }
        Ok(())
    }
}

/// Two buckets of the same time as one; one that is damaged does not count.
fn merged(there: &[u8], new: &[u8], step: u32) -> Box<[u8]> {
    let mut both = code::read(there).unwrap_or_default();
    both.merge(&code::read(new).unwrap_or_default(), raw(step));
    code::one(&both)
}

/// A connection that only reads. It sees one moment of the database.
pub fn reading(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.execute_batch("PRAGMA cache_size = -512; BEGIN;")?;
    Ok(db)
}

/// The blocks of a series on a level, unpacked: time and bucket.
pub fn unpacked(data: &[u8], key: i64, step: u32) -> impl Iterator<Item = (i64, Bucket)> {
    let start = block_time(key);
    code::unpack(data)
        .into_iter()
        .map(move |(place, bucket)| (start + i64::from(place) * i64::from(step), bucket))
}
