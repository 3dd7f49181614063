//! The outbox: events that a receiver has not acknowledged yet, on the disk.
//!
//! A folder of files to which records are only appended, each named by the
//! number of its first record, and a file of acknowledgements. A file goes when
//! all in it is acknowledged. Not a database: a queue needs no index, every
//! event is written once and not twice (a database's log, then its tables), a
//! crash can only cut the last record short, and what is full or broken shows
//! at one place, the append. Nothing is awaited here: [`Mail`] calls this on
//! threads that may wait for a disk.
//!
//! ```text
//!  append ─▶ memory ─▶ newest file … oldest file ─▶ read ─▶ ack ─▶ file removed
//!               │ the disk takes nothing: they stay,  │ bytes or age: the
//!               ▼ beyond `Limits::memory` dropped     ▼ oldest file is dropped
//!            counted                               counted
//! ```
//!
//! **At least once.** [`Outbox::append`] returns when the events survive a
//! power loss (or are in memory, and [`Outbox::trouble`] says why). What was
//! read and not acknowledged is read again after a restart. Acknowledgements
//! survive a killed process at once, a power loss after at most a second.
//!
//! Read this file, then [`record`], [`recover`].

#[cfg(test)]
mod kill;
mod mail;
mod read;
mod record;
mod recover;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use self::mail::Mail;
pub use self::read::Kept;
use crate::base::{Event, Timestamp};
use crate::host::spool::Spool;

/// How much an outbox keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files; beyond, the oldest file is dropped.
    pub bytes: u64,
    /// How long an event is kept.
    pub age: Duration,
    /// Bytes of events in memory while the disk takes nothing.
    pub memory: usize,
}

impl Default for Limits {
    /// 64 MiB, a week, 4 MiB.
    fn default() -> Self {
        Self { bytes: 64 << 20, age: Duration::from_secs(7 * 86_400), memory: 4 << 20 }
    }
}

/// What was dropped since the start, by its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// The files had reached [`Limits::bytes`].
    pub full: u64,
    /// They had waited for [`Limits::age`].
    pub old: u64,
    /// The disk took nothing and memory had reached [`Limits::memory`].
    pub memory: u64,
    /// Longer than a record may be.
    pub large: u64,
    /// The disk gave back something else than was written.
    pub damaged: u64,
}

impl Dropped {
    /// All together.
    pub fn all(self) -> u64 {
        self.full + self.old + self.memory + self.large + self.damaged
    }
}

/// What waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gauge {
    /// Events.
    pub waiting: u64,
    /// Bytes on the disk and in memory.
    pub bytes: u64,
    /// How long the oldest has waited.
    pub oldest: Option<Duration>,
    /// Events that are in memory alone.
    pub in_memory: u64,
    /// What was dropped.
    pub dropped: Dropped,
    /// Why the disk cannot be used, if so.
    pub trouble: Option<String>,
}

/// Files have this part of [`Limits::bytes`], within bounds.
const PARTS: u64 = 16;
const SMALLEST: u64 = 16 << 10;
const LARGEST: u64 = 8 << 20;

/// Bytes that are written at once.
const AT_ONCE: usize = 1 << 20;

/// The file of acknowledgements begins anew at this size.
const ACKS: u64 = 4096;
/// An acknowledgement survives a power loss after this time.
const ACK_DURABLE: Duration = Duration::from_secs(1);

/// The name of the file of acknowledgements.
const ACKED: &str = "acked";

/// One file: records with all numbers from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    first: u64,
    last: u64,
    bytes: u64,
    newest: Timestamp,
}

impl Segment {
    fn name(&self) -> String {
        name(self.first)
    }

    /// How many of its events are not acknowledged.
    fn waiting(&self, acked: u64) -> u64 {
        self.last.saturating_sub(acked.max(self.first - 1))
    }
}

fn name(first: u64) -> String {
    format!("{first:020}.events")
}

/// An event that is not on the disk.
struct Held {
    seq: u64,
    arrived: Timestamp,
    body: Vec<u8>,
}

/// The queue of one receiver.
pub struct Outbox {
    /// None where there is no folder: everything is in memory.
    spool: Option<Box<dyn Spool>>,
    limits: Limits,
    /// The oldest first; the last is written to.
    segments: VecDeque<Segment>,
    memory: VecDeque<Held>,
    memory_bytes: usize,
    next: u64,
    /// Everything up to here is done with.
    acked: u64,
    /// Length of the file of acknowledgements.
    acks: u64,
    ack_synced: Timestamp,
    dropped: Dropped,
    trouble: Option<String>,
    /// A write has failed: behind the last file's end there may be more.
    torn: bool,
    /// Since when what waits has waited: numbers from here on came then.
    marks: VecDeque<(u64, Timestamp)>,
    /// Where reading goes on.
    place: Option<read::Place>,
}

impl Outbox {
    /// What is in the folder, and ready for more. Where the folder cannot be
    /// read, everything stays in memory, and [`Gauge::trouble`] says why.
    pub fn open(spool: io::Result<Box<dyn Spool>>, limits: Limits, now: Timestamp) -> Self {
        let mut outbox = Self {
            spool: None,
            limits,
            segments: VecDeque::new(),
            memory: VecDeque::new(),
            memory_bytes: 0,
            next: 1,
            acked: 0,
            acks: 0,
            ack_synced: now,
            dropped: Dropped::default(),
            trouble: None,
            torn: false,
            marks: VecDeque::new(),
            place: None,
        };
        let opened = spool.and_then(|mut spool| {
            recover::recover(&mut outbox, &mut *spool)?;
            Ok(spool)
        });
        match opened {
            Ok(spool) => outbox.spool = Some(spool),
            Err(error) => {
                outbox.trouble = Some(format!("{error}; events wait in memory until a restart"));
            }
        }
        outbox.bound(now);
        outbox
    }

    /// Keeps events; when it returns they survive a power loss, or the disk
    /// could not take them.
    pub fn append<'a>(&mut self, events: impl IntoIterator<Item = &'a Arc<Event>>, now: Timestamp) {
        self.mark(now);
        for event in events {
            let body = record::body(event);
            if body.len() > record::MAX_BODY {
                self.dropped.large += 1;
                continue;
            }
            self.memory_bytes += record::HEADER + body.len();
            self.memory.push_back(Held { seq: self.next, arrived: now, body });
            self.next += 1;
            // A burst is written in parts: memory is bounded in between too.
            if self.memory_bytes > AT_ONCE.min(self.limits.memory) && !self.is_troubled() {
                self.flush();
            }
            while self.memory_bytes > self.limits.memory {
                self.drop_held(|dropped| &mut dropped.memory);
            }
        }
        self.flush();
        self.bound(now);
    }

    fn is_troubled(&self) -> bool {
        self.trouble.is_some()
    }

    /// Remembers when what comes next has come.
    fn mark(&mut self, now: Timestamp) {
        /// Marks that are kept; half of them go beyond that.
        const MARKS: usize = 1024;
        if self.marks.len() >= MARKS {
            let mut i = 0;
            self.marks.retain(|_| {
                i += 1;
                i % 2 == 1
            });
        }
        if self.marks.back().is_none_or(|(first, _)| *first < self.next) {
            self.marks.push_back((self.next, now));
        }
    }

    /// Drops the oldest event that is in memory alone.
    fn drop_held(&mut self, count: impl Fn(&mut Dropped) -> &mut u64) {
        let Some(held) = self.memory.pop_front() else { return };
        self.memory_bytes -= record::HEADER + held.body.len();
        if held.seq > self.acked {
            *count(&mut self.dropped) += 1;
        }
    }

    /// Writes what is in memory, as far as the disk takes it.
    fn flush(&mut self) {
        while !self.memory.is_empty() {
            match self.write_some() {
                Ok(()) => self.trouble = None,
                Err(None) => return,
                Err(Some(error)) => {
                    self.torn = true;
                    self.trouble = Some(format!("cannot write: {error}"));
                    return;
                }
            }
        }
    }

    /// Writes the next records that belong into one file; the error is none
    /// where there is no folder.
    fn write_some(&mut self) -> Result<(), Option<io::Error>> {
        let Some(spool) = &mut self.spool else { return Err(None) };
        let Some(first) = self.memory.front().map(|held| held.seq) else { return Ok(()) };
        let size = (self.limits.bytes / PARTS).clamp(SMALLEST, LARGEST);
        let goes_on = |last: &&Segment| last.last + 1 == first && last.bytes < size;
        let last = self.segments.back().filter(goes_on).copied();
        let fresh = Segment { first, last: first - 1, bytes: 0, newest: Timestamp(i64::MIN) };
        let mut segment = last.unwrap_or(fresh);
        if self.torn {
            // What a failed write has left would be taken for records.
            if let Some(last) = self.segments.back() {
                spool.cut(&last.name(), last.bytes)?;
            }
            if last.is_none() {
                spool.remove(&name(first))?;
            }
            self.torn = false;
        }
        let mut bytes = Vec::new();
        let mut count = 0;
        for (held, seq) in self.memory.iter().zip(first..) {
            let room = segment.bytes + (bytes.len() as u64) < size && bytes.len() < AT_ONCE;
            if held.seq != seq || !room {
                break;
            }
            record::write(&mut bytes, held.seq, held.arrived, &held.body);
            segment.last = held.seq;
            segment.newest = segment.newest.max(held.arrived);
            count += 1;
        }
        if let Err(error) = spool.append(&segment.name(), segment.bytes, &bytes, true) {
            if last.is_none() {
                // The next try may begin with another number, in another file.
                let _ = spool.remove(&segment.name());
            }
            return Err(Some(error));
        }
        segment.bytes += bytes.len() as u64;
        for held in self.memory.drain(..count) {
            self.memory_bytes -= record::HEADER + held.body.len();
        }
        match self.segments.back_mut().filter(|_| last.is_some()) {
            Some(last) => *last = segment,
            None => self.segments.push_back(segment),
        }
        Ok(())
    }

    /// Drops what is more or older than allowed.
    fn bound(&mut self, now: Timestamp) {
        let age = self.limits.age;
        let too_old = |arrived: Timestamp| now.since(arrived) > age;
        let mut bytes: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        while let Some(oldest) = self.segments.front().copied() {
            let full = bytes > self.limits.bytes && self.segments.len() > 1;
            if !full && !too_old(oldest.newest) {
                break;
            }
            let lost = oldest.waiting(self.acked);
            *(if full { &mut self.dropped.full } else { &mut self.dropped.old }) += lost;
            bytes -= oldest.bytes;
            self.remove_oldest();
            self.acked = self.acked.max(oldest.last);
        }
        while self.memory.front().is_some_and(|held| too_old(held.arrived)) {
            self.drop_held(|dropped| &mut dropped.old);
        }
        self.forget_marks();
    }

    fn remove_oldest(&mut self) {
        let Some(oldest) = self.segments.pop_front() else { return };
        self.place.take_if(|place| place.first == oldest.first);
        if let Some(spool) = &mut self.spool
            && let Err(error) = spool.remove(&oldest.name())
        {
            // It is read again after a restart, and known to be acknowledged then.
            self.trouble = Some(format!("cannot remove {}: {error}", oldest.name()));
        }
    }

    /// Everything up to this number has arrived.
    pub fn ack(&mut self, seq: u64, now: Timestamp) {
        if seq <= self.acked {
            return;
        }
        self.acked = seq.min(self.next - 1);
        while self.memory.front().is_some_and(|held| held.seq <= self.acked) {
            self.drop_held(|dropped| &mut dropped.memory);
        }
        self.keep_ack(now);
        let spare = (self.limits.bytes / PARTS).clamp(SMALLEST, LARGEST) / 4;
        while let Some(oldest) = self.segments.front() {
            // The file that is written to stays while it is small.
            let is_last = self.segments.len() == 1;
            if oldest.last > self.acked || (is_last && oldest.bytes < spare) {
                break;
            }
            self.remove_oldest();
        }
        self.forget_marks();
    }

    fn keep_ack(&mut self, now: Timestamp) {
        let Some(spool) = &mut self.spool else { return };
        let durable = now.since(self.ack_synced) >= ACK_DURABLE || now < self.ack_synced;
        let entry = record::ack(self.acked);
        let kept = if self.acks >= ACKS {
            spool.replace(ACKED, &entry).map(|()| ACK_BYTES)
        } else {
            let end = self.acks + ACK_BYTES;
            spool.append(ACKED, self.acks, &entry, durable).map(|()| end)
        };
        match kept {
            Ok(acks) => {
                self.acks = acks;
                if durable {
                    self.ack_synced = now;
                }
            }
            // Some events are sent twice after a restart, no more.
            Err(error) => self.trouble = Some(format!("cannot write: {error}")),
        }
    }

    fn forget_marks(&mut self) {
        while self.marks.get(1).is_some_and(|(first, _)| *first <= self.acked + 1) {
            self.marks.pop_front();
        }
    }

    /// The number up to which everything is done with.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// What waits, and what was lost.
    pub fn gauge(&mut self, now: Timestamp) -> Gauge {
        if !self.memory.is_empty() {
            self.flush();
        }
        self.bound(now);
        let on_disk: u64 = self.segments.iter().map(|one| one.waiting(self.acked)).sum();
        let in_memory = self.memory.len() as u64;
        let waiting = on_disk + in_memory;
        let since = self.marks.front().filter(|_| waiting > 0).map(|(_, since)| *since);
        let files: u64 = self.segments.iter().map(|one| one.bytes).sum();
        Gauge {
            waiting,
            bytes: files + self.memory_bytes as u64,
            oldest: since.map(|since| now.since(since)),
            in_memory,
            dropped: self.dropped,
            trouble: self.trouble.clone(),
        }
    }
}

const ACK_BYTES: u64 = record::ACK as u64;
