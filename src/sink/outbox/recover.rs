//! What is in the folder at the start: every record is read once and its sum
//! checked.

use std::io;

use super::{ACKED, AT_ONCE, Outbox, Segment, name, record};
use crate::base::Timestamp;
use crate::host::spool::Spool;

/// Fills an empty outbox; what a crash has cut short is cut off.
pub(super) fn recover(outbox: &mut Outbox, spool: &mut dyn Spool) -> io::Result<()> {
    for file in spool.list()? {
        let Some(first) = file.strip_suffix(".events").and_then(|n| n.parse::<u64>().ok()) else {
            continue;
        };
        if first == 0 || name(first) != file {
            continue;
        }
        let (segment, oldest, whole) = scan(spool, first)?;
        if segment.last < segment.first {
            // Made and never written to, or nothing in it can be read.
            let _ = spool.remove(&file);
            outbox.dropped.damaged += u64::from(!whole && segment.bytes > 0);
            continue;
        }
        if !whole {
            // Appending goes on behind the last good record. On a disk that
            // cannot be written to nothing is appended either.
            outbox.torn = spool.cut(&file, segment.bytes).is_err();
        }
        if let Some(before) = outbox.segments.back_mut().filter(|before| before.last >= first) {
            // A file that a failed write has left behind; its successor counts.
            before.last = first - 1;
        }
        outbox.marks.push_back((first, oldest));
        outbox.segments.push_back(segment);
    }
    outbox.segments.retain(|segment| segment.last >= segment.first);
    let acks = match spool.read(ACKED, 0, 1 << 20) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    outbox.acked = record::acked(&acks);
    // An entry that was cut short is written over.
    outbox.acks = (acks.len() / record::ACK * record::ACK) as u64;
    let last = outbox.segments.back().map_or(0, |segment| segment.last);
    outbox.next = last.max(outbox.acked) + 1;
    if let Some(oldest) = outbox.segments.front() {
        // What is missing before the oldest file was dropped or acknowledged.
        outbox.acked = outbox.acked.max(oldest.first - 1);
    }
    while outbox.segments.len() > 1
        && outbox.segments.front().is_some_and(|oldest| oldest.last <= outbox.acked)
    {
        if let Some(done) = outbox.segments.pop_front() {
            let _ = spool.remove(&done.name());
        }
    }
    outbox.forget_marks();
    Ok(())
}

/// The file's good records, when the first of them came, and whether that is
/// all there is.
fn scan(spool: &dyn Spool, first: u64) -> io::Result<(Segment, Timestamp, bool)> {
    let file = name(first);
    let newest = Timestamp(i64::MIN);
    let mut segment = Segment { first, last: first - 1, bytes: 0, newest };
    let mut oldest = None;
    let mut at_once = AT_ONCE;
    loop {
        let bytes = spool.read(&file, segment.bytes, at_once)?;
        let mut rest = bytes.as_slice();
        loop {
            match record::next(rest) {
                record::Next::Record { seq, arrived, body } if seq == segment.last + 1 => {
                    let length = record::HEADER + body.len();
                    rest = rest.get(length..).unwrap_or_default();
                    segment.bytes += length as u64;
                    segment.last = seq;
                    segment.newest = segment.newest.max(arrived);
                    oldest.get_or_insert(arrived);
                }
                record::Next::Short(_) if rest.is_empty() && bytes.is_empty() => {
                    return Ok((segment, oldest.unwrap_or_default(), true));
                }
                // There is more in the file.
                record::Next::Short(needs) if bytes.len() == at_once => {
                    at_once = AT_ONCE.max(needs);
                    break;
                }
                record::Next::Short(_) if rest.is_empty() => {
                    return Ok((segment, oldest.unwrap_or_default(), true));
                }
                record::Next::Record { .. } | record::Next::Short(_) | record::Next::Broken => {
                    return Ok((segment, oldest.unwrap_or_default(), false));
                }
            }
        }
    }
}
