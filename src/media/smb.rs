//! SMB2 NEGOTIATE: the bytes of the question, and what an answer says. Pure.
//!
//! Facts from [MS-SMB2] 2.2.1, 2.2.3 and 2.2.4. Before each message stand a
//! zero byte and the message's length, 24 bits, big-endian; all else is
//! little-endian. Dialect 3.1.1 is not offered: it needs a further context.

use crate::base::Timestamp;

/// The longest reply accepted; real ones have a few hundred bytes.
pub const MAX_REPLY: usize = 64 * 1024;
/// The bytes before each message.
pub const FRAME: usize = 4;

const DIALECTS: [u16; 4] = [0x0202, 0x0210, 0x0300, 0x0302];
const PROTOCOL: [u8; 4] = [0xfe, b'S', b'M', b'B'];
const HEADER: usize = 64;
const REQUEST_BODY: usize = 36;
const REQUEST: usize = FRAME + HEADER + REQUEST_BODY + 2 * DIALECTS.len();

/// What a server has said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// `0x0302` is 3.0.2.
    pub dialect: u16,
    /// The server's clock; `None` where it does not say.
    pub time: Option<Timestamp>,
}

impl Negotiated {
    /// `3.0.2`.
    pub fn version(self) -> String {
        let [major, rest] = self.dialect.to_be_bytes();
        match rest & 0xf {
            0 => format!("{major}.{}", rest >> 4),
            patch => format!("{major}.{}.{patch}", rest >> 4),
        }
    }
}

/// Why a reply is no answer to the question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SmbError {
    /// Something else than SMB2, by its first bytes.
    #[error("the reply is not SMB2 but begins with {0:02x?}")]
    NotSmb(Vec<u8>),
    /// SMB2, and a refusal.
    #[error("the server refuses with NT status {:#010x}{}", .status, meaning(*.status))]
    Status {
        /// As `ntstatus.h` numbers them.
        status: u32,
    },
    /// SMB2 that contradicts itself.
    #[error("the reply is malformed: {0}")]
    Malformed(&'static str),
}

fn meaning(status: u32) -> &'static str {
    match status {
        0xc000_000d => " (invalid parameter)",
        0xc000_0022 => " (access denied)",
        0xc000_00bb => " (no common dialect)",
        0xc000_0205 => " (insufficient resources)",
        _ => "",
    }
}

/// The question, from a client that calls itself `guid`: should be another each
/// time, so that a server does not take two probes for channels of one client.
pub fn request(guid: [u8; 16]) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    let mut put = |at: usize, part: &[u8]| {
        let end = at + part.len();
        if let Some(place) = bytes.get_mut(at..end) {
            place.copy_from_slice(part);
        }
    };
    let header = FRAME;
    let body = FRAME + HEADER;
    #[allow(clippy::cast_possible_truncation, reason = "112 - 4")]
    put(0, &((REQUEST - FRAME) as u32).to_be_bytes());
    put(header, &PROTOCOL);
    put(header + 4, &64u16.to_le_bytes());
    // One credit asked for: with none a server may wait for ever.
    put(header + 14, &1u16.to_le_bytes());
    put(body, &36u16.to_le_bytes());
    put(body + 2, &4u16.to_le_bytes());
    // Signing enabled.
    put(body + 4, &1u16.to_le_bytes());
    put(body + 12, &guid);
    for (at, dialect) in DIALECTS.iter().enumerate() {
        put(body + REQUEST_BODY + 2 * at, &dialect.to_le_bytes());
    }
    bytes
}

/// The length of the message after these bytes.
pub fn frame(bytes: [u8; FRAME]) -> Result<usize, SmbError> {
    let [kind, high, middle, low] = bytes;
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if kind != 0 || !(HEADER..=MAX_REPLY).contains(&length) {
        return Err(SmbError::NotSmb(bytes.to_vec()));
    }
    Ok(length)
}

/// What the reply says.
pub fn parse(reply: &[u8]) -> Result<Negotiated, SmbError> {
    let malformed = SmbError::Malformed;
    if reply.get(..4) != Some(&PROTOCOL[..]) {
        return Err(SmbError::NotSmb(reply.iter().take(4).copied().collect()));
    }
    let short = || malformed("it is cut short");
    if u16_at(reply, 4).ok_or_else(short)? != 64 {
        return Err(malformed("its header does not have 64 bytes"));
    }
    let status = u32_at(reply, 8).ok_or_else(short)?;
    if u16_at(reply, 12).ok_or_else(short)? != 0 {
        return Err(malformed("it answers another command"));
    }
    if u32_at(reply, 16).ok_or_else(short)? & 1 == 0 {
        return Err(malformed("it is a request"));
    }
    if status != 0 {
        return Err(SmbError::Status { status });
    }
    if u16_at(reply, HEADER).ok_or_else(short)? != 65 {
        return Err(malformed("its body is not that of NEGOTIATE"));
    }
    let dialect = u16_at(reply, 68).ok_or_else(short)?;
    if !DIALECTS.contains(&dialect) {
        return Err(malformed("it chose a dialect that was not offered"));
    }
    let time = reply.get(104..112).and_then(|bytes| bytes.try_into().ok()).ok_or_else(short)?;
    Ok(Negotiated { dialect, time: filetime(u64::from_le_bytes(time)) })
}

/// Tenths of microseconds since 1601; 0 is not said.
fn filetime(ticks: u64) -> Option<Timestamp> {
    const TO_1970: i64 = 11_644_473_600_000_000;
    let micros = i64::try_from(ticks / 10).ok().filter(|micros| *micros > 0)?;
    Some(Timestamp(micros - TO_1970))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message as a server sends it, without its frame.
    pub(crate) fn reply(status: u32, dialect: u16, time: u64) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 65];
        bytes[..4].copy_from_slice(&PROTOCOL);
        bytes[4] = 64;
        bytes[8..12].copy_from_slice(&status.to_le_bytes());
        bytes[16] = 1;
        bytes[64] = 65;
        bytes[68..70].copy_from_slice(&dialect.to_le_bytes());
        bytes[104..112].copy_from_slice(&time.to_le_bytes());
        bytes
    }

    #[test]
    fn the_question_is_as_the_reference_has_it() {
        let bytes = request([0xab; 16]);
        assert_eq!(bytes.len(), 112);
        assert_eq!(bytes[..10], [0, 0, 0, 0x6c, 0xfe, 0x53, 0x4d, 0x42, 0x40, 0]);
        assert!(bytes[10..18].iter().all(|b| *b == 0));
        assert_eq!(bytes[18..20], [1, 0]);
        assert!(bytes[20..68].iter().all(|b| *b == 0));
        assert_eq!(bytes[68..80], [0x24, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[80..96], [0xab; 16]);
        assert_eq!(bytes[96..104], [0; 8]);
        assert_eq!(bytes[104..], [0x02, 0x02, 0x10, 0x02, 0x00, 0x03, 0x02, 0x03]);
    }

    #[test]
    fn reads_dialect_and_clock() {
        let said = parse(&reply(0, 0x0302, 134_398_408_000_000_000)).unwrap();
        assert_eq!(said.version(), "3.0.2");
        assert_eq!(said.time.unwrap().iso(), "2026-11-22T17:06:40.000Z");
        let said = parse(&reply(0, 0x0210, 0)).unwrap();
        assert_eq!((said.version().as_str(), said.time), ("2.1", None));
    }

    #[test]
    fn tells_refusals_from_rubbish() {
        assert_eq!(parse(&reply(0xc000_00bb, 0, 0)), Err(SmbError::Status { status: 0xc000_00bb }));
        assert!(matches!(parse(&reply(0, 0x0311, 0)), Err(SmbError::Malformed(_))));
        assert!(matches!(parse(b"\xffSMBr"), Err(SmbError::NotSmb(_))));
        assert!(matches!(parse(&reply(0, 0x0302, 0)[..100]), Err(SmbError::Malformed(_))));
        assert!(matches!(frame(*b"HTTP"), Err(SmbError::NotSmb(_))));
        assert!(matches!(frame([0, 0xff, 0xff, 0xff]), Err(SmbError::NotSmb(_))));
        assert_eq!(frame([0, 0, 1, 0]), Ok(256));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), head: [u8; 4]) {
            let _ = (parse(&bytes), frame(head));
        }

        #[test]
        fn damage_never_panics(at in 0usize..129, by: u8, cut in 0usize..130) {
            let mut bytes = reply(0, 0x0300, 1);
            bytes[at] = by;
            bytes.truncate(cut);
            let _ = parse(&bytes);
        }
    }
}
