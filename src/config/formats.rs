//! Texts with a format of their own, `16G`, `30s`, `0000:01:00.0`: what they
//! look like for editors, how they are read, and what is said when they are
//! not right.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

pub use super::ids::BarSize;
use super::ids::{ClassCode, IdRange, Sentence};
use super::moments::{DatasetName, Every, TimeOfDay};
use super::nets::{Subnet, WebOrigin};
use super::retentions::Retentions;
use super::words::{
    Argument, CpuList, DiskSerial, GlassSize, Mac, ShortText, UsbId, UsbName, UsbPort, Uuid,
};
use crate::base::{Bytes, Name, PciAddress, span};

/// One format.
pub trait Format {
    /// What it is read into.
    type Value;
    /// Its key in [`ALL`].
    const NAME: &'static str;
    /// With its article, for messages: `a size`.
    const WANTED: &'static str;
    /// What is said to be right when nothing better can be.
    const LIKE: &'static str;
    /// A right one.
    const EXAMPLE: &'static str;
    /// For editors: every text that is read matches it.
    const PATTERN: &'static str;
    /// Reads a text.
    fn read(text: &str) -> Option<Self::Value>;
    /// What a wrong text was probably meant to be.
    fn repair(_text: &str) -> Option<String> {
        None
    }
}

/// A text of a format, read.
pub struct Text<F: Format>(pub F::Value);

impl<'de, F: Format> Deserialize<'de> for Text<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        F::read(&text).map(Self).ok_or_else(|| D::Error::custom(format!("not {}", F::WANTED)))
    }
}

impl<F: Format> JsonSchema for Text<F> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        F::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": F::PATTERN,
            "examples": [F::EXAMPLE],
            "x-format": F::NAME,
        })
    }
}

/// A format as the check sees it.
pub struct Known {
    /// [`Format::NAME`].
    pub name: &'static str,
    /// [`Format::WANTED`].
    pub wanted: &'static str,
    /// [`Format::LIKE`].
    pub like: &'static str,
    /// [`Format::EXAMPLE`].
    pub example: &'static str,
    /// [`Format::PATTERN`].
    pub pattern: &'static str,
    /// Whether a text is right.
    pub fits: fn(&str) -> bool,
    /// [`Format::repair`], checked to be right.
    pub repair: fn(&str) -> Option<String>,
}

const fn known<F: Format>() -> Known {
    Known {
        name: F::NAME,
        wanted: F::WANTED,
        like: F::LIKE,
        example: F::EXAMPLE,
        pattern: F::PATTERN,
        fits: |text| F::read(text).is_some(),
        repair: |text| F::repair(text).filter(|better| F::read(better).is_some()),
    }
}

/// Every format.
pub const ALL: [Known; 34] = [
    known::<Size>(),
    known::<Span>(),
    known::<SpanOrOff>(),
    known::<Address>(),
    known::<CardRef>(),
    known::<PciId>(),
    known::<Label>(),
    known::<HostName>(),
    known::<PoolName>(),
    known::<Listen>(),
    known::<Endpoint>(),
    known::<AbsolutePath>(),
    known::<Unit>(),
    known::<Word>(),
    known::<IdRange>(),
    known::<ClassCode>(),
    known::<Sentence>(),
    known::<BarSize>(),
    known::<UsbId>(),
    known::<UsbPort>(),
    known::<UsbName>(),
    known::<Mac>(),
    known::<Uuid>(),
    known::<CpuList>(),
    known::<GlassSize>(),
    known::<ShortText>(),
    known::<Argument>(),
    known::<DiskSerial>(),
    known::<TimeOfDay>(),
    known::<Every>(),
    known::<DatasetName>(),
    known::<Subnet>(),
    known::<WebOrigin>(),
    known::<Retentions>(),
];

/// The format of that name.
pub fn find(name: &str) -> Option<&'static Known> {
    ALL.iter().find(|known| known.name == name)
}

/// `16G`. A bare number is refused: it could be bytes or megabytes.
pub struct Size;
impl Format for Size {
    type Value = Bytes;
    const NAME: &'static str = "size";
    const WANTED: &'static str = "a size";
    const LIKE: &'static str = "a size is a whole number with K, M, G or T, such as 512M or 16G";
    const EXAMPLE: &'static str = "16G";
    const PATTERN: &'static str = "^[0-9]+[KMGTP](iB)?$";

    fn read(text: &str) -> Option<Bytes> {
        let bare = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| !bare)
    }

    fn repair(text: &str) -> Option<String> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Some(format!("{text}M"));
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = text.get(digits..)?.chars().next()?.to_ascii_uppercase();
        Some(format!("{}{unit}", text.get(..digits)?))
    }
}

/// `30s`. A bare number is refused: it could be seconds or milliseconds.
pub struct Span;
impl Format for Span {
    type Value = Duration;
    const NAME: &'static str = "span";
    const WANTED: &'static str = "a duration";
    const LIKE: &'static str =
        "a duration is a whole number with ms, s, m, h or d, such as 500ms, 30s or 5m";
    const EXAMPLE: &'static str = "30s";
    const PATTERN: &'static str = "^[0-9]+(ms|s|m|h|d)$";

    fn read(text: &str) -> Option<Duration> {
        span::parse(text).ok()
    }

    fn repair(text: &str) -> Option<String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = match text.get(digits..)?.trim().to_lowercase().as_str() {
            "" | "sec" | "secs" | "second" | "seconds" | "s" => "s",
            "min" | "mins" | "minute" | "minutes" | "m" => "m",
            "hr" | "hour" | "hours" | "h" => "h",
            "day" | "days" | "d" => "d",
            "msec" | "millis" | "milliseconds" | "ms" => "ms",
            _ => return None,
        };
        Some(format!("{}{unit}", text.get(..digits)?))
    }
}

/// `35d`, or `off`.
pub struct SpanOrOff;
impl Format for SpanOrOff {
    type Value = Option<Duration>;
    const NAME: &'static str = "span-or-off";
    const WANTED: &'static str = "a duration, or `off`";
    const LIKE: &'static str = "write a whole number with ms, s, m, h or d, such as 35d, or off";
    const EXAMPLE: &'static str = "35d";
    const PATTERN: &'static str = "^(off|[0-9]+(ms|s|m|h|d))$";

    fn read(text: &str) -> Option<Self::Value> {
        if text == "off" { Some(None) } else { Span::read(text).map(Some) }
    }

    fn repair(text: &str) -> Option<String> {
        match text.to_lowercase().as_str() {
            "false" | "no" | "none" | "off" | "never" => Some("off".to_owned()),
            _ => Span::repair(text),
        }
    }
}

/// `0000:01:00.0`.
pub struct Address;
impl Format for Address {
    type Value = PciAddress;
    const NAME: &'static str = "pci-address";
    const WANTED: &'static str = "a PCI address";
    const LIKE: &'static str =
        "a PCI address looks like 0000:01:00.0; `hostctl gpu list` shows the cards' addresses";
    const EXAMPLE: &'static str = "0000:01:00.0";
    const PATTERN: &'static str = "^([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\\.[0-7]$";

    fn read(text: &str) -> Option<PciAddress> {
        text.parse().ok()
    }

    fn repair(text: &str) -> Option<String> {
        // `01:00` without the function, `0000_01_00_0` as in libvirt's names.
        let colons = text.trim_start_matches("pci_").replacen('_', ":", 2).replace('_', ".");
        Some(if colons.contains('.') { colons } else { format!("{colons}.0") })
    }
}

/// A name of `gpus:`, or an address.
pub struct CardRef;
impl Format for CardRef {
    type Value = super::types::GpuRef;
    const NAME: &'static str = "gpu";
    const WANTED: &'static str = "a graphics card";
    const LIKE: &'static str =
        "a card is named as under `gpus:` in host.yaml, or by its address, such as 0000:01:00.0";
    const EXAMPLE: &'static str = "radeon";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._:-]*$";

    fn read(text: &str) -> Option<Self::Value> {
        let address = text.parse().map(super::types::GpuRef::Address).ok();
        address.or_else(|| text.parse().map(super::types::GpuRef::Name).ok())
    }

    fn repair(text: &str) -> Option<String> {
        Address::repair(text).filter(|better| Address::read(better).is_some())
    }
}

/// `1002:5046`.
pub struct PciId;
impl Format for PciId {
    type Value = (u16, u16);
    const NAME: &'static str = "pci-id";
    const WANTED: &'static str = "a pair of vendor and device ids";
    const LIKE: &'static str = "it looks like 1002:5046, as `lspci -nn` shows it in brackets";
    const EXAMPLE: &'static str = "1002:5046";
    const PATTERN: &'static str = "^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}$";

    fn read(text: &str) -> Option<(u16, u16)> {
        let hex = |text: &str| {
            let digits = text.len() == 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u16::from_str_radix(text, 16).ok()).flatten()
        };
        let (vendor, device) = text.split_once(':')?;
        Some((hex(vendor)?, hex(device)?))
    }

    fn repair(text: &str) -> Option<String> {
        Some(text.trim_matches(['[', ']', ' ']).replace("0x", ""))
    }
}

/// A name that becomes a file name and a bus path.
pub struct Label;
impl Format for Label {
    type Value = Name;
    const NAME: &'static str = "name";
    const WANTED: &'static str = "a name";
    const LIKE: &'static str =
        "a name has 1–64 letters, digits, `.`, `_` or `-`, and begins with a letter or digit";
    const EXAMPLE: &'static str = "gaming";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

    fn read(text: &str) -> Option<Name> {
        text.parse().ok()
    }

    fn repair(text: &str) -> Option<String> {
        Some(text.split_whitespace().collect::<Vec<_>>().join("-"))
    }
}

/// The host's name in events.
pub struct HostName;
impl Format for HostName {
    type Value = String;
    const NAME: &'static str = "host-name";
    const WANTED: &'static str = "a host name";
    const LIKE: &'static str = "a host name has letters, digits, `-` and `.`, such as nas.home";
    const EXAMPLE: &'static str = "nas";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$";

    fn read(text: &str) -> Option<String> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let good = text.len() <= 253
            && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && text.bytes().all(inner);
        good.then(|| text.to_owned())
    }
}

/// As `zpool create` takes it.
pub struct PoolName;
impl Format for PoolName {
    type Value = String;
    const NAME: &'static str = "pool-name";
    const WANTED: &'static str = "a pool's name";
    const LIKE: &'static str = "a pool's name is what `zpool list` shows: it begins with a \
        letter, followed by letters, digits, `_`, `-`, `.`, `:` or spaces";
    const EXAMPLE: &'static str = "tank";
    const PATTERN: &'static str = "^[A-Za-z][A-Za-z0-9_.: -]*$";

    fn read(text: &str) -> Option<String> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"_.: -".contains(&b);
        let good = text.len() < 256
            && text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
            && text.bytes().all(inner);
        good.then(|| text.to_owned())
    }
}

/// `127.0.0.1:5555`, or `off`.
pub struct Listen;
impl Format for Listen {
    type Value = Option<SocketAddr>;
    const NAME: &'static str = "listen";
    const WANTED: &'static str = "an address with a port, or `off`";
    const LIKE: &'static str = "write 127.0.0.1:5555, [::1]:5555 or off";
    const EXAMPLE: &'static str = "127.0.0.1:5555";
    const PATTERN: &'static str = "^(off|[0-9.]+:[0-9]{1,5}|\\[[0-9A-Fa-f:.%]+\\]:[0-9]{1,5})$";

    fn read(text: &str) -> Option<Self::Value> {
        if text == "off" { Some(None) } else { text.parse().ok().map(Some) }
    }

    fn repair(text: &str) -> Option<String> {
        match text.to_lowercase().as_str() {
            "false" | "no" | "none" | "off" | "never" => Some("off".to_owned()),
            _ => Endpoint::repair(text),
        }
    }
}

/// `127.0.0.1:445`.
pub struct Endpoint;
impl Format for Endpoint {
    type Value = SocketAddr;
    const NAME: &'static str = "endpoint";
    const WANTED: &'static str = "an address with a port";
    const LIKE: &'static str = "write an IP address and a port, such as 127.0.0.1:445 or [::1]:445";
    const EXAMPLE: &'static str = "127.0.0.1:445";
    const PATTERN: &'static str = "^([0-9.]+|\\[[0-9A-Fa-f:.%]+\\]):[0-9]{1,5}$";

    fn read(text: &str) -> Option<SocketAddr> {
        text.parse().ok().filter(|address: &SocketAddr| address.port() != 0)
    }

    fn repair(text: &str) -> Option<String> {
        // A port alone, `:445`, or a name for this machine.
        let port = text.strip_prefix("localhost").unwrap_or(text);
        let port = port.strip_prefix(':').unwrap_or(port);
        Some(format!("127.0.0.1:{port}"))
    }
}

/// A path from the root.
pub struct AbsolutePath;
impl Format for AbsolutePath {
    type Value = PathBuf;
    const NAME: &'static str = "path";
    const WANTED: &'static str = "a path from the root";
    const LIKE: &'static str = "write the whole path, beginning with `/`";
    const EXAMPLE: &'static str = "/tank/vms/gaming.raw";
    const PATTERN: &'static str = "^/[^\\u0000-\\u001f\\u007f]*$";

    fn read(text: &str) -> Option<PathBuf> {
        let good = text.starts_with('/') && text.len() < 4096;
        (good && !text.bytes().any(|b| b.is_ascii_control())).then(|| PathBuf::from(text))
    }
}

/// `smbd.service`.
pub struct Unit;
impl Format for Unit {
    type Value = String;
    const NAME: &'static str = "unit";
    const WANTED: &'static str = "a systemd unit";
    const LIKE: &'static str = "a unit's name has its kind, such as smbd.service";
    const EXAMPLE: &'static str = "smbd.service";
    const PATTERN: &'static str =
        "^[A-Za-z0-9:_.@\\\\-]+\\.(service|socket|target|mount|timer|path|scope|slice)$";

    fn read(text: &str) -> Option<String> {
        const KINDS: [&str; 8] =
            ["service", "socket", "target", "mount", "timer", "path", "scope", "slice"];
        let (name, kind) = text.rsplit_once('.')?;
        let inner = |b: u8| b.is_ascii_alphanumeric() || b":_.@\\-".contains(&b);
        let good = !name.is_empty() && text.len() < 256 && name.bytes().all(inner);
        (good && KINDS.contains(&kind)).then(|| text.to_owned())
    }

    fn repair(text: &str) -> Option<String> {
        Some(format!("{text}.service"))
    }
}

/// A word that QEMU or the kernel knows: a machine type, a bridge.
pub struct Word;
impl Format for Word {
    type Value = String;
    const NAME: &'static str = "word";
    const WANTED: &'static str = "one word";
    const LIKE: &'static str = "letters, digits, `.`, `_` and `-` only";
    const EXAMPLE: &'static str = "q35";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

    fn read(text: &str) -> Option<String> {
        Label::read(text).map(String::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples_are_right_and_names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|k| k.name).collect();
        for known in &ALL {
            assert!((known.fits)(known.example), "{}", known.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn slips_are_repaired() {
        let repair = |name: &str, text: &str| (find(name).unwrap().repair)(text);
        assert_eq!(repair("size", "16GB").as_deref(), Some("16G"));
        assert_eq!(repair("size", "16 gib").as_deref(), Some("16G"));
        assert_eq!(repair("size", "512").as_deref(), Some("512M"));
        assert_eq!(repair("span", "60").as_deref(), Some("60s"));
        assert_eq!(repair("span", "5 min").as_deref(), Some("5m"));
        assert_eq!(repair("pci-address", "01:00").as_deref(), Some("01:00.0"));
        assert_eq!(repair("pci-address", "pci_0000_01_00_1").as_deref(), Some("0000:01:00.1"));
        assert_eq!(repair("listen", "5555").as_deref(), Some("127.0.0.1:5555"));
        assert_eq!(repair("listen", "no").as_deref(), Some("off"));
        assert_eq!(repair("endpoint", "localhost:445").as_deref(), Some("127.0.0.1:445"));
        assert_eq!(repair("unit", "smbd").as_deref(), Some("smbd.service"));
        assert_eq!(repair("pci-id", "[0x1002:0x5046]").as_deref(), Some("1002:5046"));
        assert_eq!(repair("size", "lots"), None);
    }

    proptest! {
        #[test]
        fn what_is_read_matches_the_pattern(text in "[0-9a-fA-FGMs:./\\[\\]%off_ -]{0,24}") {
            for known in &ALL {
                if (known.fits)(&text) {
                    let pattern = regex::Regex::new(known.pattern).unwrap();
                    prop_assert!(pattern.is_match(&text), "{} {text}", known.name);
                }
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            for known in &ALL {
                let _ = ((known.fits)(&text), (known.repair)(&text));
            }
        }
    }
}
