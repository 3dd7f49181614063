//! Reading what waits, in its order: first from the files, then from memory.

use super::{Outbox, record};
use crate::base::{Event, Timestamp};

/// An event that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its number; [`Outbox::ack`] takes it.
    pub seq: u64,
    /// When it was taken in.
    pub arrived: Timestamp,
    /// Itself.
    pub event: Event,
}

/// The end of the last read: the next record there is `seq`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) first: u64,
    seq: u64,
    at: u64,
}

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

impl Outbox {
    /// The oldest events after number `after`: at most `most`, and no more once
    /// they have `bytes` bytes.
    pub fn read(&mut self, after: u64, most: usize, bytes: usize) -> Vec<Kept> {
        let mut found = Found { kept: Vec::new(), most, bytes, after: after.max(self.acked) };
        let mut i = 0;
        while let Some(segment) = self.segments.get(i).copied() {
            if found.is_full() {
                return found.kept;
            }
            i += 1;
            if segment.last <= found.after {
                continue;
            }
            let good = match self.read_segment(i - 1, &mut found) {
                Ok(good) => good,
                Err(error) => {
                    // Nothing behind may overtake it.
                    self.trouble = Some(format!("cannot read {}: {error}", segment.name()));
                    return found.kept;
                }
            };
            if let Some(last) = good {
                // Not what was written: the rest of this file is lost.
                self.dropped.damaged += segment.last - last.max(self.acked);
                self.trouble = Some(format!("{} is damaged", segment.name()));
                self.place = None;
                if let Some(cut) = self.segments.get_mut(i - 1) {
                    cut.last = last;
                }
                self.next = self.next.max(segment.last + 1);
                if last < segment.first {
                    self.segments.remove(i - 1);
                    i -= 1;
                }
            }
        }
        // What is not wanted is left out by `take`.
        for held in &self.memory {
            if found.is_full() {
                break;
            }
            found.take(held.seq, held.arrived, &held.body);
        }
        found.kept
    }

    /// Reads on in one file; gives the last good number when there is damage.
    fn read_segment(&mut self, i: usize, found: &mut Found) -> std::io::Result<Option<u64>> {
        let (Some(segment), Some(spool)) = (self.segments.get(i), &self.spool) else {
            return Ok(None);
        };
        let begin = Place { first: segment.first, seq: segment.first, at: 0 };
        let wanted = found.after + 1;
        let mut place = self
            .place
            .filter(|place| place.first == segment.first && place.seq <= wanted)
            .unwrap_or(begin);
        let mut chunk = CHUNK;
        while place.seq <= segment.last && !found.is_full() {
            let left = usize::try_from(segment.bytes - place.at).unwrap_or(usize::MAX);
            let bytes = spool.read(&segment.name(), place.at, chunk.min(left))?;
            let mut rest = bytes.as_slice();
            while place.seq <= segment.last && !found.is_full() {
                match record::next(rest) {
                    record::Next::Record { seq, arrived, body } if seq == place.seq => {
                        let length = record::HEADER + body.len();
                        found.take(seq, arrived, body);
                        rest = rest.get(length..).unwrap_or_default();
                        place.at += length as u64;
                        place.seq += 1;
                    }
                    record::Next::Short(needs) if bytes.len() == chunk && needs > rest.len() => {
                        chunk = CHUNK.max(needs);
                        break;
                    }
                    record::Next::Record { .. } | record::Next::Short(_) | record::Next::Broken => {
                        return Ok(Some(place.seq - 1));
                    }
                }
            }
        }
        self.place = Some(place);
        Ok(None)
    }
}

struct Found {
    kept: Vec<Kept>,
    most: usize,
    bytes: usize,
    after: u64,
}

impl Found {
    fn is_full(&self) -> bool {
        self.kept.len() >= self.most || (self.bytes == 0 && !self.kept.is_empty())
    }

    fn take(&mut self, seq: u64, arrived: Timestamp, body: &[u8]) {
        if seq <= self.after {
            return;
        }
        // A body whose sum is right and that says nothing is of another version.
        if let Some(event) = record::event(body, arrived) {
            self.bytes = self.bytes.saturating_sub(record::HEADER + body.len());
            self.kept.push(Kept { seq, arrived, event });
        }
        self.after = seq;
    }
}
