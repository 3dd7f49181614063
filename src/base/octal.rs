//! The octal escapes of the kernel's tables and of exports(5).

/// `\040` and the like as the characters they are: in mountinfo blanks, tabs,
/// newlines and backslashes are written so.
pub fn octal(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) =
            (first, tail)
        {
            out.push(((a & 3) << 6) | ((b & 7) << 3) | (c & 7));
            after
        } else {
            out.push(*first);
            tail
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::octal;

    #[test]
    fn each_escape_is_read_once() {
        for (written, meant) in [
            ("/tank/my\\040films", "/tank/my films"),
            ("a\\134040b", "a\\040b"),
            ("\\400 \\08 \\", "\\400 \\08 \\"),
            ("plain", "plain"),
        ] {
            assert_eq!(octal(written), meant);
        }
    }
}
