//! The few fields of a certificate that are judged: until when it is good and
//! for whom (RFC 5280 4.1). Pure.
//!
//! A reader of DER that goes only where it must: no certificate can make it
//! look twice at a byte or nest deeper than these functions do.

use super::plain;
use crate::base::Timestamp;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Good from then on.
    pub from: Timestamp,
    /// Good until then.
    pub until: Timestamp,
    /// For these names and addresses.
    pub names: Vec<String>,
}

const SEQUENCE: u8 = 0x30;
const MAX_NAMES: usize = 64;
/// `id-ce-subjectAltName`, 2.5.29.17.
const ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Reads a certificate; `None` when it is none.
pub fn read(der: &[u8]) -> Option<Certificate> {
    let certificate = Reader(der).of(SEQUENCE)?;
    let mut body = Reader(Reader(certificate).of(SEQUENCE)?);
    // Version, serial number, algorithm, issuer.
    if body.0.first() == Some(&0xa0) {
        body.next()?;
    }
    body.of(0x02)?;
    body.of(SEQUENCE)?;
    body.of(SEQUENCE)?;
    let mut validity = Reader(body.of(SEQUENCE)?);
    let (from, until) = (time(validity.next()?)?, time(validity.next()?)?);
    let subject = body.of(SEQUENCE)?;
    body.of(SEQUENCE)?;
    let mut names = Vec::new();
    while let Some((tag, inner)) = body.next() {
        if tag == 0xa3 {
            names = alternatives(inner).unwrap_or_default();
        }
    }
    if names.is_empty() {
        names.extend(common_name(subject));
    }
    Some(Certificate { from, until, names })
}

impl Certificate {
    /// Whether it is for this host; `*` stands for one label (RFC 6125).
    pub fn is_for(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.names.iter().any(|name| {
            let name = name.to_ascii_lowercase();
            let wild = name.strip_prefix("*.").zip(host.split_once('.'));
            name == host || wild.is_some_and(|(suffix, (_, rest))| suffix == rest)
        })
    }
}

/// Elements, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, length, rest @ ..] = self.0 else { return None };
        // Tags of more than one byte are not in certificates.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            0x81..=0x83 => {
                let count = usize::from(length & 0x7f);
                let bytes = rest.get(..count)?;
                let length = bytes.iter().fold(0usize, |sum, b| sum << 8 | usize::from(*b));
                (length, rest.get(count..)?)
            }
            _ => return None,
        };
        let inner = rest.get(..length)?;
        self.0 = rest.get(length..)?;
        Some((*tag, inner))
    }

    fn of(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, inner)| inner)
    }
}

/// `UTCTime` or `GeneralizedTime`, in UTC with seconds, as RFC 5280 wants them.
fn time((tag, text): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (0x17, 12) => {
            let (year, rest) = text.split_at(2);
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (0x18, 14) => {
            let (year, rest) = text.split_at(4);
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2).and_then(|two| two.parse::<i8>().ok());
    let at = jiff::civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0);
    let at = at.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_secs(at.timestamp().as_second()))
}

/// The names of `subjectAltName`, within the extensions.
fn alternatives(extensions: &[u8]) -> Option<Vec<String>> {
    let mut list = Reader(Reader(extensions).of(SEQUENCE)?);
    while let Some(extension) = list.of(SEQUENCE) {
        let mut parts = Reader(extension);
        if parts.of(0x06)? != ALT_NAME {
            continue;
        }
        let mut value = parts.next()?;
        // `critical`, when it is said.
        if value.0 == 0x01 {
            value = parts.next()?;
        }
        let mut names = Reader(Reader(value.1).of(SEQUENCE)?);
        let mut out = Vec::new();
        while let Some((tag, name)) = names.next() {
            if out.len() >= MAX_NAMES {
                break;
            }
            match (tag, name.len()) {
                (0x82, _) => out.push(plain(&String::from_utf8_lossy(name), 253)),
                (0x87, 4) => {
                    let bytes: [u8; 4] = name.try_into().ok()?;
                    out.push(std::net::Ipv4Addr::from(bytes).to_string());
                }
                (0x87, 16) => {
                    let bytes: [u8; 16] = name.try_into().ok()?;
                    out.push(std::net::Ipv6Addr::from(bytes).to_string());
                }
                _ => {}
            }
        }
        return Some(out);
    }
    None
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut sets = Reader(subject);
    while let Some(set) = sets.of(0x31) {
        let mut parts = Reader(Reader(set).of(SEQUENCE)?);
        if parts.of(0x06)? == COMMON_NAME {
            return Some(plain(&String::from_utf8_lossy(parts.next()?.1), 253));
        }
    }
    None
}

#[cfg(test)]
pub(in crate::media) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(tag: u8, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        if inner.len() < 0x80 {
            out.push(u8::try_from(inner.len()).unwrap());
        } else {
            out.push(0x82);
            out.extend(u16::try_from(inner.len()).unwrap().to_be_bytes());
        }
        out.extend(inner);
        out
    }

    fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
        element(SEQUENCE, &parts.concat())
    }

    /// A certificate whose key and signature are empty: nothing here checks them.
    pub(crate) fn certificate(until: &str, names: &[&str]) -> Vec<u8> {
        let validity = sequence(&[
            element(0x17, b"200101000000Z"),
            element(if until.len() == 13 { 0x17 } else { 0x18 }, until.as_bytes()),
        ]);
        let common = sequence(&[element(0x06, &COMMON_NAME), element(0x0c, b"nas")]);
        let subject = element(SEQUENCE, &element(0x31, &common));
        let alternatives: Vec<_> = names.iter().map(|n| element(0x82, n.as_bytes())).collect();
        let extension = sequence(&[
            element(0x06, &ALT_NAME),
            element(0x01, &[0xff]),
            element(0x04, &sequence(&alternatives)),
        ]);
        let extensions = element(0xa3, &sequence(&[extension]));
        let body = sequence(&[
            element(0xa0, &[2, 1, 2]),
            element(0x02, &[1]),
            sequence(&[]),
            sequence(&[]),
            validity,
            subject,
            sequence(&[]),
            extensions,
        ]);
        sequence(&[body, sequence(&[]), element(0x03, &[0])])
    }

    #[test]
    fn reads_dates_and_names() {
        let read = read(&certificate("261122000000Z", &["nas.home", "*.home.arpa"])).unwrap();
        assert_eq!(read.until, Timestamp::from_secs(1_795_305_600));
        assert_eq!(read.from, Timestamp::from_secs(1_577_836_800));
        assert!(read.is_for("NAS.home") && read.is_for("plex.home.arpa"));
        assert!(!read.is_for("a.b.home.arpa") && !read.is_for("home.arpa") && !read.is_for("nas"));
    }

    #[test]
    fn later_years_and_the_common_name() {
        let read = super::read(&certificate("20760101000000Z", &[])).unwrap();
        assert_eq!(read.until, Timestamp::from_secs(3_345_062_400));
        assert_eq!(read.names, ["nas"]);
        assert_eq!(super::read(&certificate("261322000000Z", &[])), None);
        assert_eq!(super::read(b""), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }

        #[test]
        fn damage_never_panics(at in 0usize..400, by: u8, cut in 0usize..400) {
            let mut der = certificate("261122000000Z", &["nas.home"]);
            let at = at % der.len();
            der[at] = by;
            der.truncate(cut);
            read(&der);
        }
    }
}
