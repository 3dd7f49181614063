//! Upkeep of the database, a little after each batch: old buckets are packed
//! into blocks of their series, what is too old goes, and when there is too
//! much the oldest of the finest goes first.
//!
//! Rows lie by time, so that what is written together is written once; who
//! asks for two years of one series wants them by series. So each level is
//! packed every six hours or 24 buckets, in one transaction: a bucket is never
//! in both places by a crash.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::bucket::{Bucket, raw};
use super::code;
use super::memory::{LATE, align};
use super::store::{BLOCK, Error, Store, block, unpacked};
use crate::config::Archive;

/// Seconds between two looks at what is too old.
const EVERY: i64 = 600;
/// Seconds between two packings of a level, at least.
const PACKED: i64 = 6 * 3_600;
/// Pages given back to the file system at one time.
const PAGES: u64 = 256;

impl Store {
    /// Does what is due.
    pub fn upkeep(&mut self, now: i64) -> Result<(), Error> {
        if (self.upkept..self.upkept.saturating_add(EVERY)).contains(&now) {
            return Ok(());
        }
        self.upkept = now;
        for (level, archive) in (0_u8..).zip(self.ladder.clone()) {
            let keep = i64::try_from(archive.seconds()).unwrap_or(i64::MAX);
            let cut = now.saturating_sub(keep);
            self.db
                .execute("DELETE FROM recent WHERE level = ? AND time < ?", params![level, cut])?;
            if archive.points <= 2 * BLOCK {
                // It is gone before it would be worth it.
                continue;
            }
            let above = self.ladder.get(usize::from(level) + 1).map_or(0, |a| i64::from(a.step));
            let every = (24 * i64::from(archive.step)).max(PACKED);
            // What is open above is made of these, should hostd end.
            let until = now - (2 * above).max(2 * LATE);
            let until = until - until.rem_euclid(every);
            let key = format!("packed {level}");
            if self.meta(&key)?.is_none_or(|before| before < until || before > now) {
                self.pack(level, archive, until, cut)?;
                self.set(&key, until)?;
            }
        }
        if let Some(last) = self.ladder.last() {
            let keep = i64::try_from(last.seconds()).unwrap_or(i64::MAX);
            let cut = now.saturating_sub(keep);
            self.db.execute("DELETE FROM states WHERE until < ?", [cut])?;
        }
        self.squeeze(now)?;
        let free = self.pragma("freelist_count")?;
        if free > PAGES && free > self.pragma("page_count")? / 4 {
            self.db.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        }
        Ok(())
    }

    fn ids(&self) -> Result<Vec<u32>, Error> {
        let mut ids = self.db.prepare_cached("SELECT id FROM series ORDER BY id")?;
        let ids = ids.query_map([], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// The times of a level that are in `recent`, before `until`.
    fn times(&self, level: u8, until: i64) -> Result<Vec<i64>, Error> {
        let mut next = self.db.prepare_cached(
            "SELECT time FROM recent WHERE level = ? AND time > ? AND time < ? ORDER BY time LIMIT 1",
        )?;
        let (mut times, mut last) = (Vec::new(), i64::MIN);
        while let Some(time) =
            next.query_row(params![level, last, until], |row| row.get(0)).optional()?
        {
            times.push(time);
            last = time;
        }
        Ok(times)
    }

    /// Moves the rows of a level that are older than `until` into blocks, and
    /// removes blocks that end before `cut`.
    pub fn pack(&mut self, level: u8, archive: Archive, until: i64, cut: i64) -> Result<(), Error> {
        let (ids, times) = (self.ids()?, self.times(level, until)?);
        let step = archive.step;
        let span = BLOCK * step;
        let transaction = self.db.transaction()?;
        {
            let mut get = transaction.prepare_cached(
                "SELECT data FROM recent WHERE level = ? AND time = ? AND series = ?",
            )?;
            let mut old = transaction.prepare_cached("SELECT data FROM packed WHERE id = ?")?;
            let mut put =
                transaction.prepare_cached("INSERT OR REPLACE INTO packed VALUES (?, ?)")?;
            let mut drop =
                transaction.prepare_cached("DELETE FROM packed WHERE id >= ? AND id < ?")?;
            for id in ids {
                let mut blocks: BTreeMap<i64, BTreeMap<i64, Bucket>> = BTreeMap::new();
                for time in &times {
                    let data = get.query_row(params![level, time, id], |row| row.get(0));
                    let data: Option<Vec<u8>> = data.optional()?;
                    if let Some(bucket) = data.and_then(|data| code::read(&data)) {
                        blocks.entry(align(*time, span)).or_default().insert(*time, bucket);
                    }
                }
                for (start, mut buckets) in blocks {
                    let key = block(id, level, start);
                    let there = old.query_row([key], |row| row.get(0)).optional()?;
                    let there: Option<Vec<u8>> = there;
                    for (time, bucket) in there.iter().flat_map(|data| unpacked(data, key, step)) {
                        buckets.entry(time).or_default().merge(&bucket, raw(step));
                    }
                    let place =
                        |time: i64| u32::try_from((time - start) / i64::from(step)).unwrap_or(0);
                    let data =
                        code::pack(buckets.iter().map(|(time, bucket)| (place(*time), bucket)));
                    put.execute(params![key, data])?;
                }
                let gone = (cut - i64::from(span)).max(0);
                drop.execute([block(id, level, 0), block(id, level, gone)])?;
            }
            transaction.execute(
                "DELETE FROM recent WHERE level = ? AND time < ?",
                params![level, until],
            )?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// While there is too much: the oldest quarter of the finest level goes,
    /// then that of the next.
    fn squeeze(&mut self, now: i64) -> Result<(), Error> {
        // Each round takes a quarter of what a level has left.
        for _ in 0..100 {
            if self.used()? <= self.most || !self.shorten(now)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the oldest quarter of the first level that has more than it needs.
    fn shorten(&mut self, now: i64) -> Result<bool, Error> {
        let ids = self.ids()?;
        for (level, archive) in (0_u8..).zip(self.ladder.clone()) {
            let above = self.ladder.get(usize::from(level) + 1).map_or(0, |a| i64::from(a.step));
            let least = (4 * above).max(16 * i64::from(archive.step));
            let oldest = self.oldest(level, &ids)?.unwrap_or(now);
            if now - oldest <= least {
                continue;
            }
            let cut = oldest + ((now - oldest) / 4).max(i64::from(archive.step));
            let span = i64::from(BLOCK * archive.step);
            let transaction = self.db.transaction()?;
            transaction
                .execute("DELETE FROM recent WHERE level = ? AND time < ?", params![level, cut])?;
            {
                let mut drop =
                    transaction.prepare_cached("DELETE FROM packed WHERE id >= ? AND id < ?")?;
                // The block that the cut is in goes as well.
                let until = (cut - cut.rem_euclid(span) + 60).max(0);
                for id in &ids {
                    drop.execute([block(*id, level, 0), block(*id, level, until)])?;
                }
            }
            transaction.commit()?;
            return Ok(true);
        }
        // All that is left is states.
        let cut = now - 30 * 86_400;
        Ok(self.db.execute("DELETE FROM states WHERE until < ?", [cut])? > 0)
    }

    fn oldest(&self, level: u8, ids: &[u32]) -> Result<Option<i64>, Error> {
        let recent = "SELECT time FROM recent WHERE level = ? ORDER BY time LIMIT 1";
        let recent: Option<i64> =
            self.db.query_row(recent, [level], |row| row.get(0)).optional()?;
        let mut first = self
            .db
            .prepare_cached("SELECT id FROM packed WHERE id >= ? AND id < ? ORDER BY id LIMIT 1")?;
        let mut oldest = recent;
        for id in ids {
            let range = [block(*id, level, 0), block(*id, level, 0) + (1 << 30)];
            let key: Option<i64> = first.query_row(range, |row| row.get(0)).optional()?;
            let time = key.map(super::store::block_time);
            oldest = [oldest, time].into_iter().flatten().min();
        }
        Ok(oldest)
    }
}
