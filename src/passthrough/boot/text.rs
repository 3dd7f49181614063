//! Texts of other people's files, with every byte kept. What is not UTF-8 (an
//! old comment in Latin-1) is taken byte by byte, each as one character; the
//! same bytes come out again. Nothing is looked for but plain ASCII.

use crate::host::SysRoot;
use crate::host::sys::SysError;

/// Larger than any honest settings file.
const LIMIT: u64 = 1 << 20;

/// A text that gives back the bytes it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    text: String,
    /// Each character is one byte.
    bytewise: bool,
}

impl Text {
    /// Of any bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self { text, bytewise: false },
            Err(error) => {
                let text = error.as_bytes().iter().map(|byte| char::from(*byte)).collect();
                Self { text, bytewise: true }
            }
        }
    }

    /// As characters.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Another text in the same encoding.
    #[must_use]
    pub fn with(&self, text: String) -> Self {
        Self { text, bytewise: self.bytewise }
    }

    /// What stands in the file.
    pub fn bytes(&self) -> Vec<u8> {
        if !self.bytewise {
            return self.text.as_bytes().to_vec();
        }
        let mut bytes = Vec::with_capacity(self.text.len());
        for c in self.text.chars() {
            match u8::try_from(u32::from(c)) {
                Ok(byte) => bytes.push(byte),
                // None of the file's own, and we add none: ours are ASCII.
                Err(_) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        bytes
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text, bytewise: false }
    }
}

/// A file of whatever encoding.
pub fn read(sys: &SysRoot, path: &str) -> Result<Text, SysError> {
    sys.bytes(path, LIMIT).map(Text::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn latin_1_is_shown_and_kept() {
        let text = Text::new(b"# f\xfcr\nX=1\n".to_vec());
        assert_eq!(text.as_str(), "# f\u{fc}r\nX=1\n");
        assert_eq!(text.with(format!("{}Y=2\n", text.as_str())).bytes(), b"# f\xfcr\nX=1\nY=2\n");
        assert_eq!(Text::new("# f\u{fc}r".into()).bytes(), "# f\u{fc}r".as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_again(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(Text::new(bytes.clone()).bytes(), bytes);
        }
    }
}
