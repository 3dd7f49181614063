//! One event as it lies in a file: 24 bytes, then the event as Riemann's
//! protocol has it.
//!
//! ```text
//!  length of the body u32 | CRC-32 of the rest u32 | number u64 | arrived i64, µs | body
//! ```
//!
//! All big-endian. A record that a crash has cut short, or that the disk gives
//! back otherwise than it was written, is told by its length or its sum.

use prost::Message as _;

use crate::base::{Event, Timestamp};
use crate::riemann::decode::{self, Caps};
use crate::riemann::wire;

/// Bytes before the body.
pub(super) const HEADER: usize = 24;

/// Longest body; longer events are dropped and counted.
pub(super) const MAX_BODY: usize = 1 << 20;

/// What was read.
#[derive(Debug, PartialEq)]
pub(super) enum Next<'a> {
    /// A whole record.
    Record { seq: u64, arrived: Timestamp, body: &'a [u8] },
    /// It goes on behind these bytes; it has so many in all.
    Short(usize),
    /// This is no record.
    Broken,
}

/// The table of the usual CRC-32 (polynomial 0xEDB88320, as in zlib).
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "below 256")]
        let mut value = i as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
};

pub(super) fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)];
    !bytes.iter().fold(!0, step)
}

/// An event as a body.
pub(super) fn body(event: &Event) -> Vec<u8> {
    wire::events([event]).encode_to_vec()
}

/// The event of a body; none if another version has written it.
pub(super) fn event(body: &[u8], arrived: Timestamp) -> Option<Event> {
    const CAPS: Caps = Caps { events: 1, event_bytes: MAX_BODY };
    decode::message(body, arrived, &CAPS).ok()?.events.pop()
}

/// Appends a record.
pub(super) fn write(out: &mut Vec<u8>, seq: u64, arrived: Timestamp, body: &[u8]) {
    // Bodies are bounded where they are made.
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    let sum_at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&arrived.0.to_be_bytes());
    out.extend_from_slice(body);
    let sum = crc(out.get(sum_at + 4..).unwrap_or_default());
    if let Some(place) = out.get_mut(sum_at..sum_at + 4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

/// The record that begins here.
pub(super) fn next(bytes: &[u8]) -> Next<'_> {
    let Some((length, _)) = bytes.split_first_chunk() else { return Next::Short(HEADER) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX_BODY {
        return Next::Broken;
    }
    let Some(record) = bytes.get(..HEADER + length) else { return Next::Short(HEADER + length) };
    let parts = || {
        let (_, rest) = record.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let sound = u32::from_be_bytes(*sum) == crc(rest);
        let (seq, rest) = rest.split_first_chunk().filter(|_| sound)?;
        let (arrived, body) = rest.split_first_chunk()?;
        Some((u64::from_be_bytes(*seq), Timestamp(i64::from_be_bytes(*arrived)), body))
    };
    match parts() {
        Some((seq, arrived, body)) => Next::Record { seq, arrived, body },
        None => Next::Broken,
    }
}

/// Bytes of an entry in the file of acknowledgements.
pub(super) const ACK: usize = 12;

/// Everything up to this number is acknowledged.
pub(super) fn ack(seq: u64) -> [u8; ACK] {
    let mut entry = [0; ACK];
    entry[..8].copy_from_slice(&seq.to_be_bytes());
    entry[8..].copy_from_slice(&crc(&seq.to_be_bytes()).to_be_bytes());
    entry
}

/// The highest number that is acknowledged in these entries; what is cut or
/// wrong among them says nothing.
pub(super) fn acked(entries: &[u8]) -> u64 {
    let one = |entry: &[u8]| {
        let (seq, sum) = entry.split_first_chunk::<8>()?;
        let sound = sum == crc(seq).to_be_bytes();
        sound.then(|| u64::from_be_bytes(*seq))
    };
    entries.chunks_exact(ACK).filter_map(one).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Metric;
    use proptest::prelude::*;

    #[test]
    fn the_sum_is_zlibs() {
        assert_eq!(crc(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn an_event_comes_back_as_it_was() {
        let event = Event {
            host: Some("nas".into()),
            service: Some("zpool tank health".into()),
            state: Some("ok".into()),
            description: Some("12 % used \u{1f40b}".into()),
            metric: Some(Metric::Double(0.1)),
            tags: vec!["hostd".into()],
            ttl: Some(10.0),
            time: Some(Timestamp(1_795_000_000_123_456)),
            ..Event::default()
        };
        let event = event.attribute("pool", "tank");
        assert_eq!(super::event(&body(&event), Timestamp(0)), Some(event));
    }

    #[test]
    fn what_is_cut_is_short_and_what_is_changed_is_broken() {
        let mut bytes = Vec::new();
        write(&mut bytes, 7, Timestamp(-1), b"body");
        for end in 0..bytes.len() {
            assert!(matches!(next(&bytes[..end]), Next::Short(more) if more > end));
        }
        let whole = Next::Record { seq: 7, arrived: Timestamp(-1), body: b"body" };
        assert_eq!(next(&bytes), whole);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(matches!(next(&changed), Next::Broken | Next::Short(_)), "{at}");
        }
        assert_eq!(next(&[255; 64]), Next::Broken);
    }

    #[test]
    fn the_highest_sound_acknowledgement_counts() {
        let mut entries = [ack(3), ack(9), ack(5)].concat();
        assert_eq!(acked(&entries), 9);
        entries[ACK] ^= 1;
        assert_eq!(acked(&entries), 5);
        assert_eq!(acked(&entries[..ACK + 3]), 3);
        assert_eq!(acked(&[]), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>) {
            let _ = next(&bytes);
            let _ = event(&bytes, Timestamp(0));
            let _ = acked(&bytes);
        }
    }
}
