//! Text → tokens, one at a time. The longest token wins, as in the reference:
//! names may contain `=<>!.-`, digits and more, so `host=1` is one name.

use super::ast::{Comparison, Number};
use super::error::QueryError;

/// A token with its place in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind<'a> {
    Open,
    Close,
    And,
    Or,
    Not,
    Tagged,
    Equal,
    NotEqual,
    Compare(Comparison),
    Like,
    Regex,
    Nil,
    Bool(bool),
    Number(Number),
    Text(String),
    Name(&'a str),
    End,
}

/// Reads the token at or after `from`.
pub(super) fn token(text: &str, from: usize) -> Result<Token<'_>, QueryError> {
    let rest = text.get(from..).unwrap_or_default();
    let start = from + rest.find(|c| !is_space(c)).unwrap_or(rest.len());
    let rest = &text[start..];
    let found = |kind, length| Ok(Token { kind, start, end: start + length });
    let Some(first) = rest.chars().next() else { return found(Kind::End, 0) };
    match first {
        '(' => found(Kind::Open, 1),
        ')' => found(Kind::Close, 1),
        '"' => {
            let (string, length) = string(text, start)?;
            found(Kind::Text(string), length)
        }
        '~' if rest.starts_with("~=") => found(Kind::Regex, 2),
        _ if starts_number(rest) => {
            let (number, length) = number(text, start)?;
            found(Kind::Number(number), length)
        }
        c if is_head(c) => match name(rest) {
            "=" if rest.starts_with("=~") => found(Kind::Like, 2),
            word => found(keyword(word), word.len()),
        },
        c => Err(QueryError::new(text, start, format!("expected a value, found {c:?}"))),
    }
}

/// Commas are white space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | ',')
}

fn is_head(c: char) -> bool {
    !(c.is_ascii_digit() || c.is_whitespace() || c.is_control() || "^`'\"#~@:/%()[]{},".contains(c))
}

fn is_rest(c: char) -> bool {
    is_head(c) || c.is_ascii_digit()
}

/// The longest name at the start of `rest`; colons only between its parts.
fn name(rest: &str) -> &str {
    let mut end = 0;
    loop {
        let tail = &rest[end..];
        let part = tail.strip_prefix(':').unwrap_or(tail);
        let length = part.find(|c| !is_rest(c)).unwrap_or(part.len());
        if length == 0 {
            return &rest[..end];
        }
        end = rest.len() - part.len() + length;
    }
}

fn keyword(word: &str) -> Kind<'_> {
    match word {
        "and" => Kind::And,
        "or" => Kind::Or,
        "not" => Kind::Not,
        "tagged" => Kind::Tagged,
        "=" => Kind::Equal,
        "!=" => Kind::NotEqual,
        "<" => Kind::Compare(Comparison::Less),
        ">" => Kind::Compare(Comparison::Greater),
        "<=" => Kind::Compare(Comparison::AtMost),
        ">=" => Kind::Compare(Comparison::AtLeast),
        "nil" | "null" => Kind::Nil,
        "true" => Kind::Bool(true),
        "false" => Kind::Bool(false),
        "Infinity" => Kind::Number(Number::Float(f64::INFINITY)),
        "-Infinity" => Kind::Number(Number::Float(f64::NEG_INFINITY)),
        "NaN" | "-NaN" => Kind::Number(Number::Float(f64::NAN)),
        name => Kind::Name(name),
    }
}

fn starts_number(rest: &str) -> bool {
    rest.strip_prefix('-').unwrap_or(rest).starts_with(|c: char| c.is_ascii_digit())
}

fn number(text: &str, start: usize) -> Result<(Number, usize), QueryError> {
    let rest = &text[start..];
    let digits =
        |from: usize| from + rest.bytes().skip(from).take_while(u8::is_ascii_digit).count();
    let at = |place: usize| rest.as_bytes().get(place).copied();
    let whole = digits(usize::from(rest.starts_with('-')));
    let mut end = whole;
    if at(end) == Some(b'.') && digits(end + 1) > end + 1 {
        end = digits(end + 1);
    }
    if matches!(at(end), Some(b'e' | b'E')) {
        let exponent = end + 1 + usize::from(matches!(at(end + 1), Some(b'-' | b'+')));
        if digits(exponent) > exponent {
            end = digits(exponent);
        }
    }
    let (suffix, literal) = (at(end), &rest[..end]);
    let too_large = |hint: &str| {
        QueryError::new(text, start, "expected a number that fits its type").hint(hint)
    };
    let (number, end) = match suffix {
        _ if end > whole => {
            let bad = |_| QueryError::new(text, start, "expected a number");
            (Number::Float(literal.parse().map_err(bad)?), end)
        }
        Some(b'n' | b'N') => {
            let hint = "at most 127 bits; a float is written 1e40";
            (Number::Big(literal.parse().map_err(|_| too_large(hint))?), end + 1)
        }
        other => {
            let hint = "64 bits; a longer number is written 9999999999999999999N or 1e19";
            let long = literal.parse().map_err(|_| too_large(hint))?;
            (Number::Long(long), end + usize::from(matches!(other, Some(b'l' | b'L'))))
        }
    };
    match rest[end..].chars().next() {
        Some(c) if is_rest(c) => {
            let what =
                format!("expected white space after the number {}, found {c:?}", &rest[..end]);
            Err(QueryError::new(text, start + end, what))
        }
        _ => Ok((number, end)),
    }
}

/// The string that starts with the quote at `start`, and its length in the text.
fn string(text: &str, start: usize) -> Result<(String, usize), QueryError> {
    let mut value = String::new();
    let mut chars = text[start..].char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, at + 1)),
            '\\' => {
                let (c, length) = escape(&text[start + at + 1..]).ok_or_else(|| {
                    QueryError::new(text, start + at, "expected an escape").hint(
                        r#"\b \t \n \f \r \" \\ \u0041 \101; a backslash itself is written \\"#,
                    )
                })?;
                value.push(c);
                // Escapes are ASCII: as many characters as bytes.
                for _ in 0..length {
                    chars.next();
                }
            }
            c => value.push(c),
        }
    }
    Err(QueryError::new(text, start, "expected a closing `\"` for the string that begins here"))
}

/// The character meant by what follows a backslash, and how long that is.
fn escape(rest: &str) -> Option<(char, usize)> {
    let one = |c| Some((c, 1));
    match rest.as_bytes().first()? {
        b'b' => one('\u{8}'),
        b't' => one('\t'),
        b'n' => one('\n'),
        b'f' => one('\u{c}'),
        b'r' => one('\r'),
        b'"' => one('"'),
        b'\\' => one('\\'),
        b'u' => {
            let high = hex4(rest, 1)?;
            if let Some(c) = char::from_u32(high) {
                return Some((c, 5));
            }
            // Beyond 0xffff a character is a pair of surrogates, as in Java.
            let low = if rest.get(5..7)? == "\\u" { hex4(rest, 7)? } else { return None };
            let pair = [u16::try_from(high).ok()?, u16::try_from(low).ok()?];
            Some((char::decode_utf16(pair).next()?.ok()?, 11))
        }
        b'0'..=b'7' => {
            let length = rest.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
            let value = u8::from_str_radix(&rest[..length], 8).ok()?;
            Some((char::from(value), length))
        }
        _ => None,
    }
}

fn hex4(rest: &str, from: usize) -> Option<u32> {
    let digits = rest.get(from..from + 4)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind<'_>> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let token = token(text, from).unwrap();
            from = token.end;
            match token.kind {
                Kind::End => return all,
                kind => all.push(kind),
            }
        }
    }

    fn one(text: &str) -> Kind<'_> {
        let mut all = kinds(text);
        assert_eq!(all.len(), 1, "{text}: {all:?}");
        all.remove(0)
    }

    #[test]
    fn numbers_keep_their_type() {
        let long = |n| Kind::Number(Number::Long(n));
        let float = |n| Kind::Number(Number::Float(n));
        assert_eq!(one("-1"), long(-1));
        assert_eq!(one("60L"), long(60));
        assert_eq!(one("5N"), Kind::Number(Number::Big(5)));
        assert_eq!(one("1e-5"), float(1e-5));
        assert_eq!(one("2.50"), float(2.5));
        assert_eq!(one("1E10"), float(1e10));
        assert_eq!(one("-Infinity"), float(f64::NEG_INFINITY));
        assert_eq!(one("NaN"), float(f64::NAN));
        assert_eq!(kinds("1,2 -3"), [long(1), long(2), long(-3)]);
        for bad in ["5abc", "1.", "0x10", "1-2", "99999999999999999999", "1e", "1.0N"] {
            assert!(token(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn strings_know_their_escapes() {
        let text = |s: &str| Kind::Text(s.to_owned());
        assert_eq!(one(r#""a\"b\\""#), text("a\"b\\"));
        assert_eq!(one(r#""\b\t\n\f\r""#), text("\u{8}\t\n\u{c}\r"));
        assert_eq!(one(r#""\u00e4\101\0x""#), text("äA\0x"));
        assert_eq!(one(r#""\ud83d\ude00""#), text("😀"));
        assert_eq!(one("\"äö\nü\""), text("äö\nü"));
        for bad in [
            r#"""#,
            r#""a"#,
            r#""\"#,
            r#""\""#,
            r#""\x""#,
            r#""\u12"#,
            r#""\ud83d""#,
            r#""\777""#,
            r#""\ä""#,
        ] {
            assert!(token(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_greedy() {
        assert_eq!(one("host=1"), Kind::Name("host=1"));
        assert_eq!(one("a:b.c-d:1"), Kind::Name("a:b.c-d:1"));
        assert_eq!(one("Infinityx"), Kind::Name("Infinityx"));
        assert_eq!(one("-x"), Kind::Name("-x"));
        assert_eq!(kinds("host =~\"x\"").len(), 3);
        assert_eq!(kinds("(metric>2)").len(), 3);
        assert_eq!(kinds("= => ~="), [Kind::Equal, Kind::Name("=>"), Kind::Regex]);
        assert!(token("a:", 1).is_err());
    }
}
