//! Points as a carbon reads them. Pickle is Python's; the few signs of its
//! protocol 2 that a list of points needs are written by hand, as no crate is
//! worth them (opcodes: pickletools.py).

use std::fmt::Write as _;

use crate::base::{Metric, Timestamp};

/// Path, value, time.
pub type Point = (String, Metric, Timestamp);

/// `path value seconds\n` each.
pub fn plaintext(points: &[Point]) -> Vec<u8> {
    let mut text = String::new();
    for (path, value, time) in points {
        // Writing to a string does not fail. Debug is the shortest text that
        // is read back as the same number.
        let _ = match value {
            Metric::Int(value) => writeln!(text, "{path} {value} {}", time.secs()),
            Metric::Double(value) => writeln!(text, "{path} {value:?} {}", time.secs()),
            Metric::Float(value) => writeln!(text, "{path} {value:?} {}", time.secs()),
        };
    }
    text.into_bytes()
}

/// Points in one pickle, and bytes of paths: a carbon closes the connection at
/// a pickle over 1 MiB.
const AT_ONCE: usize = 500;
const PATHS: usize = 512 << 10;

/// `[(path, (seconds, value)), …]`, each list after its length.
pub fn pickle(points: &[Point]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = points;
    while !rest.is_empty() {
        let mut length = 0;
        let fits = |(path, _, _): &&Point| {
            length += path.len();
            length <= PATHS
        };
        let count = rest.iter().take(AT_ONCE).take_while(fits).count().max(1);
        let (points, more) = rest.split_at(count);
        rest = more;
        let body = list(points);
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&body);
    }
    bytes
}

fn list(points: &[Point]) -> Vec<u8> {
    // PROTO 2, EMPTY_LIST, MARK
    let mut out = b"\x80\x02](".to_vec();
    for (path, value, time) in points {
        // BINUNICODE
        out.push(b'X');
        out.extend_from_slice(&u32::try_from(path.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(path.as_bytes());
        integer(&mut out, time.secs());
        match value {
            Metric::Int(value) => integer(&mut out, *value),
            Metric::Double(value) => float(&mut out, *value),
            Metric::Float(value) => float(&mut out, f64::from(*value)),
        }
        // TUPLE2, TUPLE2
        out.extend_from_slice(b"\x86\x86");
    }
    // APPENDS, STOP
    out.extend_from_slice(b"e.");
    out
}

fn integer(out: &mut Vec<u8>, value: i64) {
    if let Ok(small) = i32::try_from(value) {
        // BININT
        out.push(b'J');
        out.extend_from_slice(&small.to_le_bytes());
    } else {
        // LONG1 of eight bytes
        out.extend_from_slice(b"\x8a\x08");
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn float(out: &mut Vec<u8>, value: f64) {
    // BINFLOAT
    out.push(b'G');
    out.extend_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_back_as_the_same_numbers() {
        let at = Timestamp(1_795_000_000_999_999);
        let points = [
            ("a.b".to_owned(), Metric::Int(-7), at),
            ("c".to_owned(), Metric::Double(0.1), at),
            ("d".to_owned(), Metric::Float(0.1), at),
            ("e".to_owned(), Metric::Double(1e300), at),
        ];
        let wanted = "a.b -7 1795000000\nc 0.1 1795000000\nd 0.1 1795000000\ne 1e300 1795000000\n";
        assert_eq!(String::from_utf8(plaintext(&points)).unwrap(), wanted);
    }

    /// What `pickle.dumps([("a.b", (1795000000, 0.5)), ("c", (4294967296, 2**40))], 2)`
    /// stands for; tests/upstream.rs has a real carbon read such.
    #[test]
    fn a_pickle_has_the_signs_of_protocol_2() {
        let points = [
            ("a.b".to_owned(), Metric::Double(0.5), Timestamp::from_secs(1_795_000_000)),
            ("c".to_owned(), Metric::Int(1 << 40), Timestamp::from_secs(1 << 32)),
        ];
        let bytes = pickle(&points);
        let mut wanted = b"\x80\x02](X\x03\0\0\0a.bJ".to_vec();
        wanted.extend_from_slice(&1_795_000_000_i32.to_le_bytes());
        wanted.extend_from_slice(b"G\x3f\xe0\0\0\0\0\0\0\x86\x86X\x01\0\0\0c");
        wanted.extend_from_slice(b"\x8a\x08\0\0\0\0\x01\0\0\0\x8a\x08\0\0\0\0\0\x01\0\0\x86\x86e.");
        assert_eq!(bytes[..4], u32::try_from(wanted.len()).unwrap().to_be_bytes());
        assert_eq!(bytes[4..], wanted);
    }

    #[test]
    fn no_list_is_longer_than_a_carbon_takes() {
        let path = ["x".repeat(200).as_str(); 32].join(".");
        for (points, lists) in [
            (vec![(path, Metric::Int(1), Timestamp(0)); 1000], 13),
            (vec![("a".to_owned(), Metric::Int(1), Timestamp(0)); AT_ONCE + 1], 2),
        ] {
            let bytes = pickle(&points);
            let (mut rest, mut seen) = (bytes.as_slice(), 0);
            while let Some((length, body)) = rest.split_first_chunk() {
                let length = u32::from_be_bytes(*length) as usize;
                assert!(length < 1 << 20, "{length}");
                rest = &body[length..];
                seen += 1;
            }
            assert_eq!(seen, lists);
        }
    }
}
