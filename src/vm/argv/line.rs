//! The command line as it grows, and QEMU's way of writing a value.

use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The arguments so far.
#[derive(Default)]
pub(super) struct Line(pub Vec<OsString>);

impl Line {
    pub fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    /// An option whose value is not one of many parts.
    pub fn pair(&mut self, option: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(option.into());
        self.0.push(value.into());
        self
    }

    pub fn option(&mut self, option: &str, value: Opts) -> &mut Self {
        self.pair(option, OsString::from_vec(value.0))
    }

    pub fn device(&mut self, value: Opts) -> &mut Self {
        self.option("-device", value)
    }

    /// A root port, where one device may be. The chassis number tells ports
    /// apart and must be unique: the slot is.
    pub fn root_port(&mut self, id: &str, slot: usize) -> &mut Self {
        let port = format!("pcie-root-port,id={id},bus=pcie.0,addr={slot:#x},chassis={slot}");
        self.pair("-device", port)
    }
}

/// One argument in QEMU's `key=value,key=value` syntax, where a comma inside a
/// value is written twice.
pub(super) struct Opts(Vec<u8>);

impl Opts {
    /// Begins with text of ours.
    pub fn new(begin: impl Into<String>) -> Self {
        Self(begin.into().into_bytes())
    }

    /// Begins with a key of ours and a path.
    pub fn begin(key: &str, path: &Path) -> Self {
        Self(format!("{key}=").into_bytes()).bytes(path.as_os_str().as_bytes())
    }

    /// More text of ours.
    pub fn and(mut self, text: &str) -> Self {
        self.0.push(b',');
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// More text of ours, if it is wanted.
    pub fn and_if(self, wanted: bool, text: &str) -> Self {
        if wanted { self.and(text) } else { self }
    }

    /// A key of ours with the text of others.
    pub fn with(self, key: &str, value: impl Display) -> Self {
        self.key(key).bytes(value.to_string().as_bytes())
    }

    /// The same, if there is a text.
    pub fn maybe(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// A key of ours with a path, which may hold any byte but 0.
    pub fn path(self, key: &str, path: &Path) -> Self {
        self.key(key).bytes(path.as_os_str().as_bytes())
    }

    fn key(self, key: &str) -> Self {
        let mut this = self.and(key);
        this.0.push(b'=');
        this
    }

    /// Text of others.
    fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0.push(*byte);
            if *byte == b',' {
                self.0.push(b',');
            }
        }
        self
    }
}
