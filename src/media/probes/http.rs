//! One HTTP/1.1 request and its reply (RFC 9112). Pure.
//!
//! No redirects, no cookies, no compression: a watched server says what it is
//! asked, or it is not well. The connection is closed after each answer.

use super::plain;
use crate::base::Timestamp;

/// The longest head accepted.
pub const MAX_HEAD: usize = 16 * 1024;
/// The longest body that is read; of a longer one this much.
pub const MAX_BODY: usize = 256 * 1024;
const MAX_HEADERS: usize = 100;

/// What a server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `200`.
    pub status: u16,
    /// `Not Found`.
    pub reason: String,
    /// Where it sends us; not followed.
    pub location: Option<String>,
    /// Its clock.
    pub date: Option<Timestamp>,
    /// The body, or its beginning.
    pub body: Vec<u8>,
}

/// Why a reply is no answer to the question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Something else than HTTP, by its first bytes.
    #[error("the reply is not HTTP but begins with {0:?}")]
    NotHttp(String),
    /// HTTP that contradicts itself.
    #[error("the reply is malformed: {0}")]
    Malformed(&'static str),
}

/// The question. `host` and the values were checked to be of one line.
pub fn request(host: &str, page: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!(
        "GET {page} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: hostd\r\nConnection: close\r\n"
    );
    for (key, value) in headers {
        text.push_str(key);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Reads a reply as far as it has come; `ended` when the server has hung up.
/// `None` while more is needed.
pub fn read(bytes: &[u8], ended: bool) -> Result<Option<Reply>, HttpError> {
    let magic = bytes.len().min(7);
    if bytes.get(..magic) != b"HTTP/1.".get(..magic) {
        let shown = String::from_utf8_lossy(bytes.get(..bytes.len().min(24)).unwrap_or_default());
        return Err(HttpError::NotHttp(plain(&shown, 24)));
    }
    let Some((head, mut body)) = split(bytes) else {
        return match (bytes.len() < MAX_HEAD, ended) {
            (true, false) => Ok(None),
            (true, true) => Err(HttpError::Malformed("it ends within its head")),
            (false, _) => Err(HttpError::Malformed("its head does not end")),
        };
    };
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split('\n').map(|line| line.trim_end_matches('\r'));
    let first = lines.next().unwrap_or_default();
    let mut words = first.splitn(3, ' ');
    let status = words.nth(1).filter(|status| status.len() == 3).and_then(|s| s.parse().ok());
    let status = status.filter(|status| (100..600).contains(status));
    let status: u16 = status.ok_or(HttpError::Malformed("it has no status"))?;
    let reason = plain(words.next().unwrap_or_default(), 80);
    let (mut length, mut chunked, mut location, mut date) = (None, false, None, None);
    for (key, value) in lines.take(MAX_HEADERS).filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match key.to_ascii_lowercase().as_str() {
            "content-length" => {
                let read = value.parse::<u64>();
                let read = read.map_err(|_| HttpError::Malformed("its length is no number"))?;
                length = Some(usize::try_from(read).unwrap_or(usize::MAX));
            }
            "transfer-encoding" => chunked = value.to_ascii_lowercase().ends_with("chunked"),
            "location" => location = Some(plain(value, 200)),
            "date" => date = clock(value),
            _ => {}
        }
    }
    let reply =
        |body: &[u8]| Ok(Some(Reply { status, reason, location, date, body: body.to_vec() }));
    if matches!(status, 204 | 304) {
        return reply(&[]);
    }
    if chunked {
        let (whole, joined) = join(body)?;
        return if whole || joined.len() >= MAX_BODY {
            reply(joined.get(..joined.len().min(MAX_BODY)).unwrap_or_default())
        } else if ended {
            Err(HttpError::Malformed("it ends within its body"))
        } else {
            Ok(None)
        };
    }
    let want = length.unwrap_or(MAX_BODY).min(MAX_BODY);
    body = body.get(..want).unwrap_or(body);
    match (body.len() >= want, ended, length) {
        (true, ..) | (_, true, None) => reply(body),
        (_, true, Some(_)) => Err(HttpError::Malformed("it ends within its body")),
        (_, false, _) => Ok(None),
    }
}

/// Head and body, at the first empty line.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let within = bytes.get(..bytes.len().min(MAX_HEAD))?;
    let at = within.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((bytes.get(..at)?, bytes.get(at + 4..)?))
}

/// The chunks put together, and whether the last has come (RFC 9112 7.1).
fn join(mut bytes: &[u8]) -> Result<(bool, Vec<u8>), HttpError> {
    let malformed = HttpError::Malformed("its chunks have no size");
    let mut joined = Vec::new();
    while joined.len() < MAX_BODY {
        let Some(end) = bytes.windows(2).take(64).position(|two| two == b"\r\n") else {
            return if bytes.len() > 64 { Err(malformed) } else { Ok((false, joined)) };
        };
        let line = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok());
        let size = line.map(|line| line.split(';').next().unwrap_or_default().trim());
        let size =
            size.and_then(|size| u32::from_str_radix(size, 16).ok()).ok_or(malformed.clone())?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size == 0 {
            return Ok((true, joined));
        }
        let rest = bytes.get(end + 2..).unwrap_or_default();
        let Some(chunk) = rest.get(..size) else {
            joined.extend_from_slice(rest);
            return Ok((false, joined));
        };
        joined.extend_from_slice(chunk);
        bytes = rest.get(size..).unwrap_or_default();
        match bytes.get(..2) {
            Some(b"\r\n") => bytes = bytes.get(2..).unwrap_or_default(),
            Some(_) => return Err(malformed),
            None => return Ok((false, joined)),
        }
    }
    Ok((false, joined))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn clock(text: &str) -> Option<Timestamp> {
    if text.len() > 40 {
        return None;
    }
    let read = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Timestamp::from_secs(read.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OK: &str = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

    fn whole(text: &str) -> Reply {
        read(text.as_bytes(), true).unwrap().unwrap()
    }

    #[test]
    fn reads_bodies_of_each_form() {
        let counted = format!("{OK}Content-Length: 5\r\n\r\nhello, and more");
        assert_eq!(whole(&counted).body, b"hello");
        assert_eq!(read(&counted.as_bytes()[..counted.len() - 12], false), Ok(None));
        let open = format!("{OK}\r\nhello");
        assert_eq!(read(open.as_bytes(), false), Ok(None));
        assert_eq!(whole(&open).body, b"hello");
        let chunked =
            format!("{OK}Transfer-Encoding: chunked\r\n\r\n3;x=1\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
        assert_eq!(read(chunked.as_bytes(), false).unwrap().unwrap().body, b"hello");
        let reply = whole(&open);
        assert_eq!((reply.status, reply.date), (200, Some(Timestamp::from_secs(784_111_777))));
    }

    #[test]
    fn tells_other_servers_and_broken_ones() {
        assert!(matches!(read(b"SSH-2.0-x\r\n", false), Err(HttpError::NotHttp(_))));
        assert!(matches!(read(b"HTTP/1.1 hello\r\n\r\n", true), Err(HttpError::Malformed(_))));
        let cut = format!("{OK}Content-Length: 50\r\n\r\nhello");
        assert!(matches!(read(cut.as_bytes(), true), Err(HttpError::Malformed(_))));
        assert_eq!(read(b"HT", false), Ok(None));
        let gone = whole("HTTP/1.0 302 Found\r\nLocation: /web\r\n\r\n");
        assert_eq!(gone.location.as_deref(), Some("/web"));
    }

    #[test]
    fn asks_as_it_should() {
        let asked = String::from_utf8(request("nas", "/identity", &[("Accept", "*/*")])).unwrap();
        assert!(asked.starts_with("GET /identity HTTP/1.1\r\nHost: nas\r\n"), "{asked}");
        assert!(asked.ends_with("Accept: */*\r\n\r\n"), "{asked}");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), ended: bool) {
            let _ = read(&bytes, ended);
            let _ = read(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat(), ended);
            let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = read(&[chunked, &bytes[..]].concat(), ended);
        }

        #[test]
        fn an_end_is_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", &bytes[..]].concat();
            prop_assert!(read(&bytes, true) != Ok(None));
        }
    }
}
