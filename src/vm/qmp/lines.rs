//! Lines of bounded length from a byte stream.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads lines; what is read of a line is kept when [`Lines::next`] is dropped.
pub struct Lines<R> {
    from: R,
    /// Bytes not yet given out.
    bytes: Vec<u8>,
    /// Up to here there is no line end.
    searched: usize,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub fn new(from: R, limit: usize) -> Self {
        Self { from, bytes: Vec::new(), searched: 0, limit }
    }

    /// The next line without its end; `None` at the end of the stream, where
    /// half a line is dropped. A line beyond the limit is an error.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let unseen = self.bytes.get(self.searched..).unwrap_or_default();
            if let Some(at) = unseen.iter().position(|b| *b == b'\n') {
                let rest = self.bytes.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.bytes, rest);
                self.searched = 0;
                line.pop();
                return Ok(Some(line));
            }
            self.searched = self.bytes.len();
            if self.bytes.len() > self.limit {
                let words = format!("a line longer than {} bytes", self.limit);
                return Err(io::Error::new(io::ErrorKind::InvalidData, words));
            }
            if self.from.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn bounds_a_line_and_drops_half_of_one() {
        block_on(async {
            let mut lines = Lines::new(&b"one\n\ntwo"[..], 10);
            assert_eq!(lines.next().await.unwrap().unwrap(), b"one");
            assert_eq!(lines.next().await.unwrap().unwrap(), b"");
            assert_eq!(lines.next().await.unwrap(), None);
            let endless = vec![b'x'; 1000];
            assert!(Lines::new(&endless[..], 10).next().await.is_err());
        });
    }

    proptest! {
        #[test]
        fn gives_back_what_was_sent(sent in proptest::collection::vec("[^\n]{0,50}", 0..20)) {
            let text: String = sent.iter().flat_map(|line| [line, "\n"]).collect();
            let got = block_on(async {
                let mut lines = Lines::new(text.as_bytes(), 1000);
                let mut got = Vec::new();
                while let Some(line) = lines.next().await.unwrap() {
                    got.push(String::from_utf8(line).unwrap());
                }
                got
            });
            prop_assert_eq!(got, sent);
        }
    }
}
