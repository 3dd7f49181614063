//! Servers that speak first: what they say, and how one takes leave. Pure.
//!
//! Facts: SMTP `220` (RFC 5321 4.2), POP3 `+OK` (RFC 1939), IMAP `* OK`,
//! `* PREAUTH` or `* BYE` (RFC 9051 7.1), FTP `220` (RFC 959), SSH `SSH-2.0-`
//! after any lines of text (RFC 4253 4.2), MySQL a packet whose payload begins
//! with 10 and the version, or with 255 and an error (protocol documentation,
//! `Protocol::HandshakeV10` and `ERR_Packet`).

use super::plain;
pub use crate::config::Greets as Kind;

/// More than this is no greeting.
pub const MAX: usize = 4096;

impl Kind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP",
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
            Self::Mysql => "MySQL",
            Self::Ssh => "SSH",
            Self::Ftp => "FTP",
        }
    }

    /// What is said when leaving, so that the server logs no broken connection.
    pub fn farewell(self) -> &'static [u8] {
        match self {
            Self::Smtp | Self::Pop3 | Self::Ftp => b"QUIT\r\n",
            Self::Imap => b"a LOGOUT\r\n",
            // MySQL counts a connection that is broken off as a failure of the
            // host; `COM_QUIT` is not taken before a login. sshd waits for a banner.
            Self::Mysql => b"",
            Self::Ssh => b"SSH-2.0-hostd\r\n",
        }
    }
}

/// What was read so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// Not whole yet.
    More,
    /// It welcomes us, with these words.
    Welcome(String),
    /// The right kind of server, which sends us away, with these words.
    Away(String),
    /// Something else.
    Foreign,
}

/// Reads a greeting as far as it has come.
pub fn read(kind: Kind, bytes: &[u8]) -> Greeting {
    match kind {
        Kind::Mysql => return mysql(bytes),
        Kind::Ssh => return ssh(bytes),
        _ => {}
    }
    let expected: &[&[u8]] = match kind {
        Kind::Smtp | Kind::Ftp => &[b"1", b"2", b"4", b"5"],
        Kind::Imap => &[b"* OK", b"* PREAUTH", b"* BYE"],
        _ => &[b"+OK", b"-ERR"],
    };
    let begins = |start: &&[u8]| {
        let length = start.len().min(bytes.len());
        bytes.get(..length) == start.get(..length)
    };
    if !expected.iter().any(begins) {
        return Greeting::Foreign;
    }
    let Some(line) = line(bytes) else {
        return if bytes.len() < MAX { Greeting::More } else { Greeting::Foreign };
    };
    let said = plain(&String::from_utf8_lossy(line), 200);
    let welcome = match kind {
        Kind::Smtp | Kind::Ftp => {
            let code = line.get(..3).filter(|code| code.iter().all(u8::is_ascii_digit));
            let apart = matches!(line.get(3), None | Some(b' ' | b'-'));
            let Some(code) = code.filter(|_| apart) else { return Greeting::Foreign };
            code == b"220"
        }
        Kind::Imap => !line.starts_with(b"* BYE"),
        _ => line.starts_with(b"+OK"),
    };
    let words = said.split_once(' ').map_or("", |(_, rest)| rest).trim().to_owned();
    if welcome { Greeting::Welcome(words) } else { Greeting::Away(said) }
}

/// The first line, when it is whole.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().take(MAX).position(|b| *b == b'\n')?;
    let line = bytes.get(..end)?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn ssh(bytes: &[u8]) -> Greeting {
    // A server that is full says so in a line of its own and hangs up.
    let mut rest = bytes;
    for _ in 0..16 {
        let Some(line) = line(rest) else { break };
        if let Some(version) = line.strip_prefix(b"SSH-") {
            return Greeting::Welcome(plain(&String::from_utf8_lossy(version), 200));
        }
        if line.starts_with(b"Exceeded MaxStartups") || line.starts_with(b"Not allowed") {
            return Greeting::Away(plain(&String::from_utf8_lossy(line), 200));
        }
        // RFC 4253 allows text before; other protocols' greetings are no such text.
        let other = line.starts_with(b"220") || line.starts_with(b"HTTP/");
        if other || line.iter().any(|b| *b < b' ' && *b != b'\t') {
            return Greeting::Foreign;
        }
        rest = rest
            .get(line.len()..)
            .and_then(|rest| {
                let end = rest.iter().position(|b| *b == b'\n')?;
                rest.get(end + 1..)
            })
            .unwrap_or_default();
    }
    let text = |b: &u8| *b >= b' ' || matches!(b, b'\t' | b'\r' | b'\n');
    if bytes.len() < MAX && rest.iter().all(text) { Greeting::More } else { Greeting::Foreign }
}

fn mysql(bytes: &[u8]) -> Greeting {
    let [a, b, c, number, kind, rest @ ..] = bytes else {
        return Greeting::More;
    };
    let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
    if *number != 0 || !(2..=MAX).contains(&length) || !matches!(kind, 10 | 255) {
        return Greeting::Foreign;
    }
    let Some(payload) = rest.get(..length - 1) else { return Greeting::More };
    if *kind == 255 {
        let text = payload.get(2..).unwrap_or_default();
        return Greeting::Away(plain(&String::from_utf8_lossy(text), 200));
    }
    match payload.iter().position(|b| *b == 0).and_then(|end| payload.get(..end)) {
        Some(version) => Greeting::Welcome(plain(&String::from_utf8_lossy(version), 80)),
        None => Greeting::Foreign,
    }
}

#[cfg(test)]
pub(in crate::media) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const ALL: [Kind; 6] =
        [Kind::Smtp, Kind::Imap, Kind::Pop3, Kind::Mysql, Kind::Ssh, Kind::Ftp];

    /// As a server of this kind says it.
    pub(crate) fn good(kind: Kind) -> &'static [u8] {
        match kind {
            Kind::Smtp => b"220 nas.home ESMTP Postfix (Debian)\r\n",
            Kind::Imap => b"* OK [CAPABILITY IMAP4rev1] Dovecot ready.\r\n",
            Kind::Pop3 => b"+OK Dovecot ready.\r\n",
            Kind::Mysql => b"\x10\0\0\0\x0a11.8.3-MariaDB\0x",
            Kind::Ssh => b"SSH-2.0-OpenSSH_10.0p2 Debian-7\r\n",
            Kind::Ftp => b"220-Welcome\r\n220 ProFTPD ready\r\n",
        }
    }

    #[test]
    fn each_kind_knows_its_own_and_no_other() {
        for kind in ALL {
            assert!(matches!(read(kind, good(kind)), Greeting::Welcome(_)), "{kind:?}");
            for other in ALL {
                let alike = |kind| matches!(kind, Kind::Smtp | Kind::Ftp);
                if other == kind || alike(kind) && alike(other) {
                    continue;
                }
                let read = read(kind, good(other));
                assert!(!matches!(read, Greeting::Welcome(_)), "{kind:?} {other:?}: {read:?}");
            }
            assert_eq!(read(kind, b"HTTP/1.1 400 Bad Request\r\n\r\n"), Greeting::Foreign);
        }
        assert_eq!(
            read(Kind::Smtp, good(Kind::Smtp)),
            Greeting::Welcome("nas.home ESMTP Postfix (Debian)".into())
        );
        assert_eq!(
            read(Kind::Mysql, good(Kind::Mysql)),
            Greeting::Welcome("11.8.3-MariaDB".into())
        );
    }

    #[test]
    fn those_who_send_away_are_told_from_strangers() {
        for (kind, said) in [
            (Kind::Smtp, &b"554 no service\r\n"[..]),
            (Kind::Smtp, b"421 too many connections\r\n"),
            (Kind::Imap, b"* BYE Too many connections\r\n"),
            (Kind::Pop3, b"-ERR busy\r\n"),
            (Kind::Ftp, b"421 Too many users\r\n"),
            (Kind::Ssh, b"Exceeded MaxStartups\r\n"),
            (Kind::Mysql, b"\x17\0\0\0\xff\x10\x04Too many connections"),
        ] {
            assert!(
                matches!(read(kind, said), Greeting::Away(_)),
                "{kind:?} {:?}",
                read(kind, said)
            );
        }
        let late = b"You are welcome\r\nSSH-2.0-x\r\n";
        assert_eq!(read(Kind::Ssh, late), Greeting::Welcome("2.0-x".into()));
    }

    proptest! {
        #[test]
        fn never_panics_and_ends(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for kind in ALL {
                read(kind, &bytes);
                let mut long = bytes.clone();
                long.resize(MAX + 8, b'x');
                prop_assert!(read(kind, &long) != Greeting::More, "{kind:?}");
            }
        }

        #[test]
        fn in_pieces_it_is_the_same(cut in 0usize..40) {
            for kind in ALL {
                let whole = good(kind);
                let part = &whole[..cut.min(whole.len())];
                let read = read(kind, part);
                prop_assert!(matches!(read, Greeting::More | Greeting::Welcome(_)), "{kind:?} {cut}");
            }
        }
    }
}
