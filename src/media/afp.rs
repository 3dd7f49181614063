//! AFP over DSI: `DSIGetStatus`, which needs no login. Pure.
//!
//! Facts: a message has a header of 16 bytes, big-endian: flags (1 in a reply),
//! command (3 is `DSIGetStatus`), request id, error code, length, zero. The
//! payload begins with the offsets of machine type, versions, login methods and
//! icon; then flags, and the server's name as a Pascal string.

/// The longest payload accepted; an icon has 256 bytes.
pub const MAX_REPLY: usize = 16 * 1024;
/// Bytes of a header.
pub const HEADER: usize = 16;

const REPLY: u8 = 1;
const GET_STATUS: u8 = 3;
const REQUEST_ID: u8 = 1;

/// The question.
pub const REQUEST: [u8; HEADER] =
    [0, GET_STATUS, 0, REQUEST_ID, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What a server has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub server: String,
    /// What it runs on: `Netatalk4.2.3`.
    pub machine: String,
    /// The versions that it speaks: `AFP3.4`.
    pub versions: Vec<String>,
}

/// Why a reply is no answer to the question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AfpError {
    /// Something else than DSI, by its first bytes.
    #[error("the reply is not DSI but begins with {0:02x?}")]
    NotDsi(Vec<u8>),
    /// DSI, about something else: so says a server that has too many sessions.
    #[error(
        "the server answers with command {0} instead of its status: it may have too many sessions"
    )]
    Command(u8),
    /// DSI, and a refusal.
    #[error("the server refuses with error {0}")]
    Refused(i32),
    /// DSI that contradicts itself.
    #[error("the reply is malformed: {0}")]
    Malformed(&'static str),
}

/// The length of the payload after this header.
pub fn header(bytes: [u8; HEADER]) -> Result<usize, AfpError> {
    let [flags, command, id_high, id, e0, e1, e2, e3, l0, l1, l2, l3, rest @ ..] = bytes;
    let known = (1..=8).contains(&command);
    if flags > REPLY || !known || rest != [0; 4] {
        return Err(AfpError::NotDsi(bytes.iter().take(4).copied().collect()));
    }
    if command != GET_STATUS {
        return Err(AfpError::Command(command));
    }
    if flags != REPLY || [id_high, id] != [0, REQUEST_ID] {
        return Err(AfpError::Malformed("it is not the reply to our request"));
    }
    let error = i32::from_be_bytes([e0, e1, e2, e3]);
    if error != 0 {
        return Err(AfpError::Refused(error));
    }
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_REPLY)
        .ok_or(AfpError::Malformed("it is longer than any status"))
}

/// What the payload says.
pub fn parse(payload: &[u8]) -> Result<Status, AfpError> {
    let offset = |at: usize| {
        let bytes = payload.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    };
    let short = AfpError::Malformed;
    let machine = offset(0).and_then(|at| pascal(payload, at));
    let (machine, _) = machine.ok_or(short("its machine type is not there"))?;
    let (server, _) = pascal(payload, 10).ok_or(short("its name is not there"))?;
    let mut at = offset(2).ok_or(short("its versions are not there"))?;
    let count = *payload.get(at).ok_or(short("its versions are not there"))?;
    at += 1;
    let mut versions = Vec::new();
    for _ in 0..count {
        let (version, next) = pascal(payload, at).ok_or(short("its versions are cut short"))?;
        versions.push(version);
        at = next;
    }
    if server.is_empty() || versions.is_empty() {
        return Err(AfpError::Malformed("it has no name or speaks no version"));
    }
    Ok(Status { server, machine, versions })
}

/// A string with its length before it, and where the next begins.
fn pascal(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let end = at + 1 + usize::from(*bytes.get(at)?);
    let text = String::from_utf8_lossy(bytes.get(at + 1..end)?);
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    Some((text.chars().map(plain).collect(), end))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A whole reply, header included.
    pub(crate) fn reply(command: u8, error: i32) -> Vec<u8> {
        let mut payload = vec![0, 16, 0, 30, 0, 50, 0, 0, 0x80, 0x01, 3];
        payload.extend(b"nas");
        payload.resize(16, 0);
        payload.push(13);
        payload.extend(b"Netatalk4.2.3");
        payload.extend([2, 6]);
        payload.extend(b"AFP3.3\x06AFP3.4");
        let mut bytes = vec![1, command, 0, 1];
        bytes.extend(error.to_be_bytes());
        bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    fn head(bytes: &[u8]) -> [u8; HEADER] {
        bytes[..HEADER].try_into().unwrap()
    }

    #[test]
    fn reads_a_status() {
        let bytes = reply(3, 0);
        assert_eq!(header(head(&bytes)), Ok(bytes.len() - HEADER));
        let status = parse(&bytes[HEADER..]).unwrap();
        assert_eq!((status.server.as_str(), status.machine.as_str()), ("nas", "Netatalk4.2.3"));
        assert_eq!(status.versions, ["AFP3.3", "AFP3.4"]);
    }

    #[test]
    fn tells_refusals_from_rubbish() {
        assert_eq!(header(head(&reply(8, 0))), Err(AfpError::Command(8)));
        assert_eq!(header(head(&reply(3, -5000))), Err(AfpError::Refused(-5000)));
        assert!(matches!(header(*b"HTTP/1.1 400 Bad"), Err(AfpError::NotDsi(_))));
        let mut long = head(&reply(3, 0));
        long[8] = 0xff;
        assert!(matches!(header(long), Err(AfpError::Malformed(_))));
        assert!(matches!(parse(&[]), Err(AfpError::Malformed(_))));
        assert!(matches!(parse(&reply(3, 0)[HEADER..50]), Err(AfpError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), head: [u8; HEADER]) {
            let _ = (parse(&bytes), header(head));
        }

        #[test]
        fn damage_never_panics(at in 0usize..44, by: u8, cut in 0usize..45) {
            let mut payload = reply(3, 0).split_off(HEADER);
            let at = at % payload.len();
            payload[at] = by;
            payload.truncate(cut);
            let _ = parse(&payload);
        }
    }
}
