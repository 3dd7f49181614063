//! What is not on disk yet: open buckets, current states, and rows that wait.
//!
//! Time comes with the events and with each tick. An event goes into the
//! bucket of its own time, on the finest level. When the time of a bucket has
//! passed it is sealed: it becomes a row, and is merged into the bucket of the
//! next level. Nothing here waits, and everything is bounded; what is left out
//! is counted.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;

pub use super::batch::{Batch, Change, Counters, Row};
use super::bucket::{Bucket, raw};
use super::code;
use crate::base::{Event, Metric, Timestamp};
use crate::config::{Archive, History as Settings};

/// How long a bucket waits for late events, in seconds.
const GRACE: i64 = 15;
/// The same for tests.
#[cfg(test)]
pub const GRACE_FOR_TESTS: i64 = GRACE;
/// An event older than this is left out.
pub const LATE: i64 = 3_600;
/// An event further ahead than this is left out: its sender's clock is wrong.
const AHEAD: i64 = 60;
/// A state that is the same after a restart within this time has not ended.
const SAME: i64 = 120;
/// Rows in memory before the oldest are dropped, in bytes.
const WAITING: usize = 16 << 20;
/// Longest word for a state.
const WORD: usize = 32;

/// The state that holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// Which.
    pub state: Arc<str>,
    /// Since when.
    pub since: i64,
    /// Last told when.
    pub seen: i64,
    /// From before the restart, and not told since.
    pub restored: bool,
}

/// One series.
#[derive(Debug, Clone)]
pub struct One {
    /// Its number in the database.
    pub id: u32,
    /// The host; empty when the events have none.
    pub host: Box<str>,
    /// The service; empty when the events have none.
    pub service: Box<str>,
    /// Open buckets: level, first second.
    pub open: Vec<(u8, i64, Bucket)>,
    /// The state that holds.
    pub held: Option<Held>,
    /// The last event, in seconds.
    pub last: i64,
    /// The last number.
    pub value: Option<f64>,
    /// Whether the database knows it.
    stored: bool,
}

/// Everything that is not on disk yet.
pub struct Memory {
    pub(super) ladder: Vec<Archive>,
    cap: usize,
    names: HashMap<Box<str>, usize>,
    pub(super) all: Vec<One>,
    next: u32,
    states: BTreeMap<Box<str>, Arc<str>>,
    pub(super) batch: Batch,
    pub(super) sent: Vec<Arc<Batch>>,
    weight: usize,
    seq: u64,
    done: u64,
    started: Option<i64>,
    /// What was left out.
    pub counters: Counters,
}

/// The first second of the bucket that a moment is in.
pub fn align(time: i64, step: u32) -> i64 {
    time - time.rem_euclid(i64::from(step))
}

fn name(host: &str, service: &str) -> String {
    format!("{host}\0{service}")
}

/// The open bucket of a level and time.
fn bucket(open: &mut Vec<(u8, i64, Bucket)>, level: u8, start: i64) -> &mut Bucket {
    let at = open.iter().position(|(l, s, _)| (*l, *s) == (level, start)).unwrap_or_else(|| {
        open.push((level, start, Bucket::default()));
        open.len() - 1
    });
    &mut open[at].2
}

impl Memory {
    /// Nothing yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            ladder: settings.ladder.clone(),
            cap: settings.max_series,
            names: HashMap::new(),
            all: Vec::new(),
            next: 1,
            states: BTreeMap::new(),
            batch: Batch::default(),
            sent: Vec::new(),
            weight: 0,
            seq: 0,
            done: 0,
            started: None,
            counters: Counters::default(),
        }
    }

    /// Series that are known.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The series that the database knows, by their ids, and its last batch.
    /// What was taken in before it could be opened gets their ids.
    pub fn restore(&mut self, known: &[(u32, String, String)], seq: u64) {
        (self.seq, self.done) = (self.seq.max(seq), self.done.max(seq));
        let before = mem::take(&mut self.all);
        self.names.clear();
        for (id, host, service) in known {
            self.next = self.next.max(id.saturating_add(1));
            self.add(*id, host, service, true);
        }
        self.next = self.next.max(1);
        let mut ids = HashMap::new();
        for one in before {
            let known = self.names.get(name(&one.host, &one.service).as_str()).copied();
            let id = known.map_or(self.next, |at| self.all[at].id);
            ids.insert(one.id, id);
            let (open, held) = (one.open, one.held);
            if known.is_none() {
                self.next += 1;
                self.add(id, &one.host, &one.service, true);
            }
            let at = known.unwrap_or(self.all.len() - 1);
            let there = &mut self.all[at];
            (there.open, there.held, there.last, there.value) = (open, held, one.last, one.value);
        }
        let new = |id: &mut u32| *id = ids.get(id).copied().unwrap_or(*id);
        self.batch.rows.iter_mut().for_each(|row| new(&mut row.series));
        self.batch.series.iter_mut().for_each(|series| new(&mut series.0));
        let known: std::collections::HashSet<u32> = known.iter().map(|(id, ..)| *id).collect();
        self.batch.series.retain(|(id, ..)| !known.contains(id));
        for change in &mut self.batch.states {
            let (Change::Begin { series, .. } | Change::End { series, .. }) = change;
            new(series);
        }
    }

    fn add(&mut self, id: u32, host: &str, service: &str, stored: bool) -> &mut One {
        let at = self.all.len();
        self.names.insert(name(host, service).into(), at);
        self.all.push(One {
            id,
            host: host.into(),
            service: service.into(),
            open: Vec::new(),
            held: None,
            last: 0,
            value: None,
            stored,
        });
        &mut self.all[at]
    }

    /// A state that held when hostd ended; it was last seen at `seen`.
    pub fn restore_state(&mut self, id: u32, state: &str, since: i64, seen: i64) {
        let state = self.word(state);
        let one = self.all.binary_search_by_key(&id, |one| one.id).ok();
        let Some(one) = one.and_then(|at| self.all.get_mut(at)) else { return };
        if one.held.is_some() {
            // It was told anew before the database could be opened.
            let until = seen.max(since);
            self.batch.states.push(Change::End { series: id, since, until });
        } else {
            one.held = Some(Held { state, since, seen, restored: true });
        }
    }

    /// A bucket that was open when hostd ended.
    pub fn restore_bucket(&mut self, id: u32, level: u8, start: i64, restored: &Bucket) {
        let raw = self.ladder.get(usize::from(level)).map_or(0, |archive| raw(archive.step));
        // In the order of their ids, as they were restored.
        if let Ok(at) = self.all.binary_search_by_key(&id, |one| one.id) {
            bucket(&mut self.all[at].open, level, start).merge(restored, raw);
        }
    }

    /// The series of a host and service.
    pub fn find(&self, host: &str, service: &str) -> Option<&One> {
        self.names.get(name(host, service).as_str()).and_then(|at| self.all.get(*at))
    }

    /// Takes an event in.
    pub fn take(&mut self, event: &Event, now: Timestamp) {
        let now = now.secs();
        let time = event.time.map_or(now, Timestamp::secs);
        let value = event.metric.map(Metric::as_f64);
        let bad = value.is_some_and(|value| !value.is_finite());
        if bad {
            self.counters.no_number += 1;
        }
        let value = value.filter(|_| !bad);
        if value.is_none() && event.state.is_none() {
            return;
        }
        if time < now - LATE || time > now + AHEAD {
            self.counters.late += 1;
            return;
        }
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (host, service) = (text(&event.host), text(&event.service));
        let at = match self.names.get(name(&host, &service).as_str()) {
            Some(at) => *at,
            // What expires was there before, or it is nothing to begin with.
            None if event.state.as_deref() == Some("expired") => return,
            None if self.all.len() >= self.cap => {
                self.counters.refused += 1;
                return;
            }
            None => {
                let id = self.next;
                self.next += 1;
                self.add(id, &host, &service, false);
                self.all.len() - 1
            }
        };
        let state = event.state.as_deref().map(|state| self.word(state));
        let step = self.ladder.first().map_or(60, |archive| archive.step);
        let one = &mut self.all[at];
        if !one.stored {
            one.stored = true;
            self.batch.series.push((one.id, host, service));
        }
        if let Some(value) = value {
            bucket(&mut one.open, 0, align(time, step)).add(value, raw(step));
            self.counters.taken += 1;
            if time >= one.last {
                one.value = Some(value);
            }
        }
        if let Some(state) = state {
            change(one, state, time, now, &mut self.batch.states);
        }
        one.last = one.last.max(time.min(now));
    }

    /// The one copy of a word: few are different.
    fn word(&mut self, state: &str) -> Arc<str> {
        let state: String = state.chars().take(WORD).collect();
        if let Some(known) = self.states.get(state.as_str()) {
            return Arc::clone(known);
        }
        let word: Arc<str> = state.as_str().into();
        if self.states.len() < 1000 {
            self.states.insert(state.into(), Arc::clone(&word));
        }
        word
    }

    /// Seals what is complete.
    pub fn tick(&mut self, now: Timestamp) {
        self.seal(now.secs(), false);
        self.forget_restored(now.secs());
    }

    /// States from before the restart of which nothing was heard are over.
    fn forget_restored(&mut self, now: i64) {
        let started = *self.started.get_or_insert(now);
        if (0..=SAME).contains(&(now - started)) {
            return;
        }
        for one in &mut self.all {
            if let Some(held) = one.held.take_if(|held| held.restored) {
                let (series, since, until) = (one.id, held.since, held.seen.max(held.since));
                self.batch.states.push(Change::End { series, since, until });
            }
        }
    }

    /// Seals complete buckets, or (at the end) all of the finest level: the
    /// others are made of them again.
    fn seal(&mut self, now: i64, end: bool) {
        for level in 0..self.ladder.len() {
            let Some(archive) = self.ladder.get(level).copied() else { continue };
            let above = self.ladder.get(level + 1).map(|archive| archive.step);
            #[allow(clippy::cast_possible_truncation, reason = "at most 8")]
            let level = level as u8;
            let done = |start: i64| {
                let complete = start + i64::from(archive.step) + GRACE <= now;
                // Only a clock that has jumped back leaves one so far ahead.
                complete || start > now + LATE || (end && level == 0)
            };
            for one in &mut self.all {
                while let Some(at) =
                    one.open.iter().position(|(l, start, _)| *l == level && done(*start))
                {
                    let (_, time, sealed) = one.open.swap_remove(at);
                    if let Some(step) = above {
                        bucket(&mut one.open, level + 1, align(time, step))
                            .merge(&sealed, raw(step));
                    }
                    let row = Row { level, time, series: one.id, data: code::one(&sealed) };
                    self.weight += row.weight();
                    self.batch.rows.push(row);
                }
                if one.open.capacity() > 8 && one.open.len() < 5 {
                    one.open.shrink_to_fit();
                }
            }
        }
        self.bound();
    }

    /// Drops the oldest rows beyond what may wait.
    fn bound(&mut self) {
        if self.weight <= WAITING {
            return;
        }
        let mut over = self.weight - WAITING;
        let mut gone = 0;
        for row in &self.batch.rows {
            if over == 0 {
                break;
            }
            gone += 1;
            over = over.saturating_sub(row.weight());
        }
        for row in self.batch.rows.drain(..gone) {
            self.weight -= row.weight();
        }
        self.counters.dropped += gone as u64;
    }

    /// All that is to be written now. It can still be read until [`written`](Self::written).
    pub fn flush(&mut self, now: Timestamp) -> Arc<Batch> {
        let mut batch = mem::take(&mut self.batch);
        self.seq += 1;
        (batch.seq, batch.now) = (self.seq, now.secs());
        batch.rows.sort_by_key(|row| (row.level, row.time, row.series));
        let batch = Arc::new(batch);
        self.sent.push(Arc::clone(&batch));
        batch
    }

    /// A batch is on disk. It is kept until the next is: who reads may see the
    /// database as it was before.
    pub fn written(&mut self, batch: &Arc<Batch>) {
        self.done = batch.seq;
        self.sent.retain(|sent| sent.seq >= batch.seq);
        self.weight -= batch.rows.iter().map(Row::weight).sum::<usize>().min(self.weight);
    }

    /// A batch that could not be handed over goes back; its rows are the oldest.
    pub fn unsent(&mut self, batch: &Arc<Batch>) {
        self.sent.retain(|sent| !Arc::ptr_eq(sent, batch));
        let newer = mem::replace(&mut self.batch, (**batch).clone());
        self.batch.series.extend(newer.series);
        self.batch.rows.extend(newer.rows);
        self.batch.states.extend(newer.states);
        self.bound();
    }

    /// At the end: everything of the finest level is sealed, complete or not.
    pub fn end(&mut self, now: Timestamp) -> Arc<Batch> {
        self.seal(now.secs(), false);
        self.seal(now.secs(), true);
        self.flush(now)
    }

    /// All series, for a database that has forgotten them, with their states.
    pub fn everything(&self, now: i64) -> Batch {
        let mut batch = Batch { now, ..Batch::default() };
        for one in &self.all {
            batch.series.push((one.id, one.host.to_string(), one.service.to_string()));
            if let Some(held) = &one.held {
                let (series, since, state) = (one.id, held.since, Arc::clone(&held.state));
                batch.states.push(Change::Begin { series, since, state });
            }
        }
        batch
    }

    /// Rows that wait to be written.
    pub fn waiting(&self) -> usize {
        let sent = self.sent.iter().filter(|batch| batch.seq > self.done);
        self.batch.rows.len() + sent.map(|batch| batch.rows.len()).sum::<usize>()
    }

    /// The buckets of a series on one level that are not in a database whose
    /// last batch was `seq`. Open buckets of finer levels are not in those of
    /// coarser ones yet.
    pub fn buckets(&self, id: u32, level: u8, seq: u64) -> BTreeMap<i64, Bucket> {
        let mut all: BTreeMap<i64, Bucket> = BTreeMap::new();
        let Some(archive) = self.ladder.get(usize::from(level)) else { return all };
        let raw = raw(archive.step);
        let mut add = |time: i64, bucket: &Bucket| {
            all.entry(align(time, archive.step)).or_default().merge(bucket, raw);
        };
        let sent = self.sent.iter().filter(|batch| batch.seq > seq);
        let sent = sent.flat_map(|batch| &batch.rows).chain(&self.batch.rows);
        for row in sent.filter(|row| row.series == id && row.level == level) {
            if let Some(bucket) = code::read(&row.data) {
                add(row.time, &bucket);
            }
        }
        let one = self.all.iter().find(|one| one.id == id);
        for (_, time, bucket) in one.iter().flat_map(|one| &one.open).filter(|o| o.0 <= level) {
            add(*time, bucket);
        }
        all
    }
}

/// Takes a state in; one that is older than the last says nothing new.
fn change(one: &mut One, state: Arc<str>, time: i64, now: i64, out: &mut Vec<Change>) {
    // A clock that has jumped back: what was told ahead of it counts no more.
    let back = one.held.as_ref().is_some_and(|held| held.seen > now + AHEAD);
    let series = one.id;
    if let Some(held) = &mut one.held {
        if time < held.seen && !back {
            return;
        }
        let kept = !held.restored || time - held.seen <= SAME;
        if held.state == state && kept && !back {
            held.seen = time;
            held.restored = false;
            return;
        }
        let until = match (back, held.restored) {
            (true, _) => held.since,
            (false, true) => held.seen.max(held.since),
            (false, false) => time,
        };
        out.push(Change::End { series, since: held.since, until });
    }
    out.push(Change::Begin { series, since: time, state: Arc::clone(&state) });
    one.held = Some(Held { state, since: time, seen: time, restored: false });
}
