//! What a guest shows and is told: serial port, picture, keys.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::hex::{hex, unhex};

/// Bytes, in documents as hexadecimal digits. They may be what somebody types:
/// no log shows them.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Vec<u8>);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl From<Hex> for String {
    fn from(bytes: Hex) -> Self {
        hex(&bytes.0)
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        unhex(&text).map(Self).ok_or("not an even number of hexadecimal digits")
    }
}

impl JsonSchema for Hex {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hex".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// Text that no log shows: somebody may have typed a password.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For those who have to know it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A hold on a guest's serial port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsoleView {
    /// What to name in all that follows.
    pub session: Secret,
}

/// What came of reading or writing a guest's serial port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsoleDataView {
    /// What the guest has written.
    #[serde(default)]
    pub data: Hex,
    /// How many bytes the guest has taken.
    #[serde(default)]
    pub taken: u64,
    /// Why there will be no more.
    #[serde(default)]
    pub ended: Option<String>,
}

/// `hostctl vm screenshot`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ScreenshotView {
    /// Where it was written; `-` is standard output.
    #[serde(default)]
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The PNG in hexadecimal digits; only between hostd and hostctl.
    #[serde(default, skip_serializing_if = "nothing")]
    #[schemars(skip)]
    pub data: Hex,
}

fn nothing(bytes: &Hex) -> bool {
    bytes.0.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Ask;

    #[test]
    fn what_somebody_types_is_in_no_log() {
        let name: crate::base::Name = "gaming".parse().unwrap();
        let (keys, text) = (vec![Secret::new("s-e-c")], Secret::new("ret hunter2"));
        let keys = Ask::VmSendKey { name: name.clone(), keys, text, hold: None };
        let (session, data) = (Secret::new("1234"), Hex(b"hunter2".to_vec()));
        let write = Ask::VmConsoleWrite { name, session, data };
        let said = format!("{keys:?} {write:?}");
        for secret in ["s-e-c", "hunter2", "1234", "68756e74"] {
            assert!(!said.contains(secret), "{said}");
        }
    }

    #[test]
    fn bytes_travel_as_digits() {
        let view = ConsoleDataView { data: Hex(vec![0, 255]), taken: 0, ended: None };
        let text = serde_json::to_string(&view).unwrap();
        assert_eq!(text, r#"{"data":"00ff","taken":0,"ended":null}"#);
        assert_eq!(serde_json::from_str::<ConsoleDataView>(&text).unwrap(), view);
        assert!(serde_json::from_str::<ConsoleDataView>(r#"{"data":"0"}"#).is_err());
    }
}
