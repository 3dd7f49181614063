//! The protocol between the lab and its agent: frames over a byte stream that
//! either end may leave at any moment.
//!
//! A frame is a header of 20 bytes, a JSON message and a binary body:
//!
//! ```text
//! magic    4  F1 'L' 'A' 'B'
//! json_len 4  little endian, at most MAX_JSON
//! body_len 4  little endian, at most MAX_BODY
//! header   4  checksum of the two lengths
//! content  4  checksum of message and body
//! ```
//!
//! The header has a checksum of its own so that a reader that joins in the
//! middle of a body is not led astray by a chance `magic`: it would wait for a
//! length that never comes. A reader that fails goes on with the next byte.
//! One case is left: a host that died within a frame, and a successor whose
//! first bytes complete it. It is the host's part to send [`MAX_FRAME`] zeros
//! when its hello is not answered.
//!
//! Messages: [`ToAgent`] and [`FromAgent`]. Ids are chosen by the host.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

pub const MAGIC: [u8; 4] = [0xF1, b'L', b'A', b'B'];
pub const HEADER: usize = 20;
pub const MAX_JSON: usize = 256 * 1024;
pub const MAX_BODY: usize = 64 * 1024;
pub const MAX_FRAME: usize = HEADER + MAX_JSON + MAX_BODY;
/// Bodies are sent in pieces of this size.
pub const CHUNK: usize = 32 * 1024;
/// The agent serves this many ports, each a conversation of its own, named
/// `hostd.lab.0` and so on.
pub const PORTS: usize = 4;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ToAgent {
    /// Starts a conversation; commands of an earlier one on this port are killed.
    Hello {
        session: u64,
    },
    Ping {
        id: u64,
    },
    /// `/bin/sh -c command` in a process group of its own.
    Run {
        id: u64,
        command: String,
        env: BTreeMap<String, String>,
        deadline_ms: u64,
    },
    /// The same on a terminal of its own; its output comes as [`FromAgent::Out`].
    Terminal {
        id: u64,
        command: String,
        term: String,
        rows: u16,
        cols: u16,
    },
    Resize {
        id: u64,
        rows: u16,
        cols: u16,
    },
    /// Body: bytes for the command's standard input, or of a pushed file.
    Data {
        id: u64,
    },
    /// No more [`ToAgent::Data`] for this id.
    End {
        id: u64,
    },
    Kill {
        id: u64,
    },
    /// A file; its content follows as data, then end.
    Push {
        id: u64,
        path: String,
        mode: u32,
    },
    Pull {
        id: u64,
        path: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum FromAgent {
    Hello {
        session: u64,
        boot_id: String,
    },
    Pong {
        id: u64,
    },
    /// Body: output of a command (stream 1 or 2).
    Out {
        id: u64,
        stream: u8,
    },
    /// A command has ended: by itself, by a signal, or by its deadline.
    Exit {
        id: u64,
        code: Option<i32>,
        signal: Option<i32>,
        expired: bool,
    },
    /// Body: a piece of a pulled file.
    Data {
        id: u64,
    },
    /// A file was pushed or pulled whole.
    Done {
        id: u64,
        mode: u32,
    },
    /// The request could not be carried out.
    Error {
        id: u64,
        message: String,
    },
}

impl FromAgent {
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Hello { .. } => None,
            Self::Pong { id }
            | Self::Out { id, .. }
            | Self::Exit { id, .. }
            | Self::Data { id }
            | Self::Done { id, .. }
            | Self::Error { id, .. } => Some(*id),
        }
    }
}

/// FNV-1a: not against malice, only against the middle of something else.
fn checksum(parts: &[&[u8]]) -> u32 {
    let mut sum = 0x811c_9dc5_u32;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        sum = (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    sum
}

pub fn encode(message: &impl Serialize, body: &[u8]) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(message).context("encoding a message")?;
    ensure!(json.len() <= MAX_JSON, "a message of {} bytes; at most {MAX_JSON}", json.len());
    ensure!(body.len() <= MAX_BODY, "a body of {} bytes; at most {MAX_BODY}", body.len());
    let mut lengths = [0; 8];
    lengths[..4].copy_from_slice(&(json.len() as u32).to_le_bytes());
    lengths[4..].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let mut frame = Vec::with_capacity(HEADER + json.len() + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&lengths);
    frame.extend_from_slice(&checksum(&[&lengths]).to_le_bytes());
    frame.extend_from_slice(&checksum(&[&json, body]).to_le_bytes());
    frame.extend_from_slice(&json);
    frame.extend_from_slice(body);
    Ok(frame)
}

/// Bytes in, frames out.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How many bytes belonged to no frame.
    pub skipped: u64,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets a frame that has begun: the other end has gone.
    pub fn reset(&mut self) {
        self.buffer.clear();
    }

    /// The next frame; `None` when more bytes are needed. An error is a frame
    /// that arrived whole and says nothing known: go on with the next call.
    pub fn next_frame<T: DeserializeOwned>(&mut self) -> Option<Result<(T, Vec<u8>)>> {
        loop {
            self.seek();
            let header = self.buffer.first_chunk::<HEADER>()?;
            let word = |at: usize| {
                u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
            };
            let (json, body) = (word(4) as usize, word(8) as usize);
            let sound = word(12) == checksum(&[&header[4..12]]);
            if !sound || json > MAX_JSON || body > MAX_BODY {
                self.skip(1);
                continue;
            }
            let content = word(16);
            let frame = self.buffer.get(HEADER..HEADER + json + body)?;
            if checksum(&[frame]) != content {
                self.skip(1);
                continue;
            }
            let message = serde_json::from_slice(&frame[..json]);
            let body = frame[json..].to_vec();
            self.buffer.drain(..HEADER + json + body.len());
            return Some(match message {
                Ok(message) => Ok((message, body)),
                Err(error) => Err(error).context("a frame with an unknown message"),
            });
        }
    }

    /// Moves to the next place where a frame may begin.
    fn seek(&mut self) {
        let start = (0..self.buffer.len()).find(|&at| {
            let rest = &self.buffer[at..];
            let length = rest.len().min(MAGIC.len());
            rest[..length] == MAGIC[..length]
        });
        self.skip(start.unwrap_or(self.buffer.len()));
    }

    fn skip(&mut self, count: usize) {
        self.skipped += count as u64;
        self.buffer.drain(..count);
    }
}

/// A path that the agent may write or read: absolute, so that nobody depends
/// on where the agent happens to run.
pub fn check_path(path: &str) -> Result<()> {
    if !path.starts_with('/') || path.contains('\0') {
        bail!("{path:?} is not an absolute path");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(decoder: &mut Decoder) -> Vec<Option<(ToAgent, Vec<u8>)>> {
        std::iter::from_fn(|| decoder.next_frame().map(Result::ok)).collect()
    }

    fn ping(id: u64) -> Vec<u8> {
        encode(&ToAgent::Ping { id }, b"body").unwrap()
    }

    #[test]
    fn a_frame_survives_any_cut() {
        let stream = [ping(1), ping(2)].concat();
        for cut in 0..stream.len() {
            let mut decoder = Decoder::default();
            decoder.push(&stream[..cut]);
            let mut seen = frames(&mut decoder);
            decoder.push(&stream[cut..]);
            seen.extend(frames(&mut decoder));
            let expected: Vec<_> =
                [1, 2].map(|id| Some((ToAgent::Ping { id }, b"body".to_vec()))).into();
            assert_eq!(seen, expected, "cut at {cut}");
            assert_eq!(decoder.skipped, 0);
        }
    }

    #[test]
    fn joins_in_the_middle_of_anything() {
        let first = ping(1);
        for start in 1..first.len() {
            let mut decoder = Decoder::default();
            decoder.push(&first[start..]);
            decoder.push(&ping(2));
            let seen = frames(&mut decoder);
            assert_eq!(seen, [Some((ToAgent::Ping { id: 2 }, b"body".to_vec()))], "from {start}");
        }
    }

    #[test]
    fn magic_within_garbage_does_not_stall() {
        let mut decoder = Decoder::default();
        decoder.push(&MAGIC);
        decoder.push(&[0xff; 40]);
        decoder.push(&MAGIC[..2]);
        decoder.push(&ping(7));
        assert_eq!(frames(&mut decoder).len(), 1);
    }

    #[test]
    fn lengths_beyond_the_bounds_are_refused_even_with_a_sound_checksum() {
        for (json, body) in [(u32::MAX, 0), (0, u32::MAX), (MAX_JSON as u32 + 1, 0)] {
            let lengths = [json.to_le_bytes(), body.to_le_bytes()].concat();
            let mut decoder = Decoder::default();
            decoder.push(&MAGIC);
            decoder.push(&lengths);
            decoder.push(&checksum(&[&lengths]).to_le_bytes());
            decoder.push(&[0; 4]);
            decoder.push(&ping(3));
            assert_eq!(frames(&mut decoder).len(), 1, "{json} {body}");
        }
    }

    #[test]
    fn every_flipped_bit_loses_one_frame_and_no_more() {
        let sound = ping(1);
        for bit in 0..sound.len() * 8 {
            let mut bent = sound.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let mut decoder = Decoder::default();
            decoder.push(&bent);
            decoder.push(&ping(2));
            let seen = frames(&mut decoder);
            assert_eq!(seen, [Some((ToAgent::Ping { id: 2 }, b"body".to_vec()))], "bit {bit}");
        }
    }

    #[test]
    fn an_unknown_message_is_an_error_and_the_next_one_is_read() {
        let mut decoder = Decoder::default();
        decoder.push(&encode(&serde_json::json!({"t": "dance"}), b"").unwrap());
        decoder.push(&ping(4));
        assert!(decoder.next_frame::<ToAgent>().unwrap().is_err());
        assert!(decoder.next_frame::<ToAgent>().unwrap().is_ok());
        assert!(decoder.next_frame::<ToAgent>().is_none());
    }

    #[test]
    fn a_frame_cut_off_by_a_dead_host_is_flushed_by_zeros() {
        let mut decoder = Decoder::default();
        let long = encode(&ToAgent::Data { id: 1 }, &vec![1; MAX_BODY]).unwrap();
        decoder.push(&long[..100]);
        decoder.push(&vec![0; MAX_FRAME]);
        decoder.push(&ping(5));
        assert_eq!(frames(&mut decoder).len(), 1);
    }

    #[test]
    fn oversized_messages_are_not_sent() {
        assert!(encode(&ToAgent::Ping { id: 1 }, &vec![0; MAX_BODY + 1]).is_err());
        let path = "x".repeat(MAX_JSON);
        assert!(encode(&ToAgent::Pull { id: 1, path }, &[]).is_err());
    }
}
