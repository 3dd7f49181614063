//! A message on a stream: its length as four bytes, big-endian, then itself.

use super::stats::Reason;

/// Bytes before the message.
pub const HEADER: usize = 4;

/// How requests of HTTP begin.
const METHODS: [&[u8; 4]; 10] =
    [b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI "];

/// The body of the first frame in `input`, if it is complete; `cap` is the
/// longest body.
///
/// # Errors
/// Why this can never become a frame. The reference has no cap, so that a web
/// browser on the port hangs it: the first four bytes of HTTP and TLS are
/// lengths beyond any cap, and are told apart here.
pub fn split(input: &[u8], cap: usize) -> Result<Option<&[u8]>, Reason> {
    Ok(length(input, cap)?.and_then(|length| input[HEADER..].get(..length)))
}

/// The length of the first frame's body, as soon as its header is there.
pub fn length(input: &[u8], cap: usize) -> Result<Option<usize>, Reason> {
    let Some(header) = input.first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes(*header) as usize;
    if length <= cap {
        return Ok(Some(length));
    }
    Err(match header {
        method if METHODS.contains(&method) => Reason::Http,
        [0x16, 0x03, ..] => Reason::Tls,
        _ => Reason::FrameTooLarge,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_whole_frame() {
        let input = [0, 0, 0, 2, 0x10, 1, 0];
        for end in 0..6 {
            assert_eq!(split(&input[..end], 100), Ok(None));
        }
        assert_eq!(split(&input, 100), Ok(Some(&[0x10, 1][..])));
        assert_eq!(split(&[0; 4], 0), Ok(Some(&[][..])));
    }

    #[test]
    fn knows_who_is_at_the_wrong_door() {
        assert_eq!(split(&[0, 0, 0, 3], 2), Err(Reason::FrameTooLarge));
        assert_eq!(split(&[255; 4], 1 << 24), Err(Reason::FrameTooLarge));
        assert_eq!(split(b"GET / HTTP/1.1", 1 << 24), Err(Reason::Http));
        assert_eq!(split(&[0x16, 3, 1, 0], 1 << 21), Err(Reason::Tls));
    }
}
