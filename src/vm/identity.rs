//! What stays the same about a VM from start to start, and what never does.
//!
//! The UUID and the network address are made once and kept in the state
//! folder: Windows ties its activation to them. The start token is new for
//! every start; it is how a later hostd knows its QEMU.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::paths;
use crate::base::Name;
use crate::host::store::StoreError;
use crate::host::sys::SysError;
use crate::host::{Host, SysRoot};

/// Made once, kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// SMBIOS UUID.
    pub uuid: Uuid,
    /// Hardware address of the network card.
    pub mac: Mac,
    /// The version of the machine type that it first started with, where its
    /// file names none: a newer QEMU does not change the guest's hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The kept one cannot be read, or there is no randomness for a new one.
    #[error(transparent)]
    Read(#[from] SysError),
    /// The kept one is damaged.
    #[error("{path} is damaged; write it again or remove it, and the guest gets a new UUID")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A new one cannot be kept.
    #[error(transparent)]
    Write(#[from] StoreError),
}

/// The VM's kept identity, if it has one already.
pub fn read(host: &Host, vm: &Name) -> Result<Option<Identity>, IdentityError> {
    let name = paths::name(vm, paths::IDENTITY);
    let Some(text) = host.state.read(&name)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|source| IdentityError::Damaged {
        path: host.state.path(&name).display().to_string(),
        source,
    })
}

/// The VM's identity, made and kept if this is the first start.
pub fn ensure(host: &Host, vm: &Name) -> Result<Identity, IdentityError> {
    if let Some(kept) = read(host, vm)? {
        return Ok(kept);
    }
    let uuid = Uuid::random(&host.sys)?;
    let [a, b, c] = [uuid.0[0], uuid.0[1], uuid.0[2]];
    let made = Identity { uuid, mac: Mac([0x52, 0x54, 0x00, a, b, c]), machine: None };
    write(host, vm, &made)?;
    Ok(made)
}

/// Keeps the machine type's version, if this is the first start to know it.
pub fn pin_machine(host: &Host, vm: &Name, machine: &str) -> Result<Identity, IdentityError> {
    let mut kept = ensure(host, vm)?;
    if kept.machine.is_none() {
        kept.machine = Some(machine.to_owned());
        write(host, vm, &kept)?;
    }
    Ok(kept)
}

fn write(host: &Host, vm: &Name, identity: &Identity) -> Result<(), IdentityError> {
    let text = serde_json::to_string_pretty(identity).unwrap_or_default();
    host.state.write(paths::name(vm, paths::IDENTITY), &text)?;
    Ok(())
}

/// 128 bits with their usual dashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid([u8; 16]);

/// A text that is not a UUID.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a UUID; one looks like 6f9619ff-8b86-4011-b42d-00cf4fc964ff")]
pub struct BadUuid(String);

impl Uuid {
    /// Stands for one that is not made yet.
    pub const ZERO: Self = Self([0; 16]);

    /// A new one from the kernel.
    pub fn random(sys: &SysRoot) -> Result<Self, SysError> {
        const SOURCE: &str = "/proc/sys/kernel/random/uuid";
        Uuid::try_from(sys.text(SOURCE)?)
            .map_err(|bad| SysError::Invalid { path: SOURCE.into(), why: bad.to_string() })
    }
}

impl TryFrom<String> for Uuid {
    type Error = BadUuid;

    fn try_from(text: String) -> Result<Self, BadUuid> {
        parse(&text).map(Self).ok_or_else(|| BadUuid(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<[u8; 16]> {
    let dashes = text.char_indices().filter(|(_, c)| *c == '-').map(|(i, _)| i);
    let shaped = text.len() == 36 && dashes.eq([8, 13, 18, 23]);
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    if !shaped || digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.to_string()
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is not an Ethernet address.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an Ethernet address; one looks like 52:54:00:12:34:56")]
pub struct BadMac(String);

impl TryFrom<String> for Mac {
    type Error = BadMac;

    fn try_from(text: String) -> Result<Self, BadMac> {
        let bad = || BadMac(text.chars().take(40).collect());
        let two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let bytes: Vec<u8> = text
            .split(':')
            .map(|part| two(part).then(|| u8::from_str_radix(part, 16).ok()).flatten())
            .collect::<Option<_>>()
            .ok_or_else(bad)?;
        bytes.try_into().map(Self).map_err(|_| bad())
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use proptest::prelude::*;

    const UUID: &str = "6f9619ff-8b86-4011-b42d-00cf4fc964ff";

    #[test]
    fn is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let (host, vm) = (fake.host(), "gaming".parse().unwrap());
        assert!(ensure(&host, &vm).is_err(), "no randomness, no identity");
        fake.file("/proc/sys/kernel/random/uuid", format!("{UUID}\n")).unwrap();
        assert_eq!(read(&host, &vm).unwrap(), None);
        let made = ensure(&host, &vm).unwrap();
        assert_eq!(made.uuid.to_string(), UUID);
        assert_eq!(made.mac.to_string(), "52:54:00:6f:96:19");
        fake.file("/proc/sys/kernel/random/uuid", UUID.replace('6', "7")).unwrap();
        assert_eq!(ensure(&host, &vm).unwrap(), made);
        let pinned = pin_machine(&host, &vm, "pc-q35-7.2").unwrap();
        assert_eq!(pinned, Identity { machine: Some("pc-q35-7.2".to_owned()), ..made });
        assert_eq!(pin_machine(&host, &vm, "pc-q35-10.0").unwrap(), pinned);
        assert_eq!(read(&host, &vm).unwrap(), Some(pinned));
        host.state.write("vms/gaming/identity.json", "{\"uuid\":1}").unwrap();
        let error = ensure(&host, &vm).unwrap_err().to_string();
        assert!(error.contains("vms/gaming/identity.json is damaged"), "{error}");
    }

    #[test]
    fn refuses_what_is_neither() {
        for text in ["", "6f9619ff8b864011b42d00cf4fc964ff", "6f9619ff-8b86-4011-b42d-00cf4fc964fg"]
        {
            assert!(Uuid::try_from(text.to_owned()).is_err(), "{text}");
        }
        for text in ["", "52:54:00:12:34", "52:54:00:12:34:5", "52:54:00:12:34:+5", "a:b:c:d:e:f"] {
            assert!(Mac::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(bytes: [u8; 16], mac: [u8; 6]) {
            prop_assert_eq!(Uuid::try_from(Uuid(bytes).to_string()).unwrap(), Uuid(bytes));
            prop_assert_eq!(Mac::try_from(Mac(mac).to_string()).unwrap(), Mac(mac));
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = (Uuid::try_from(text.clone()), Mac::try_from(text));
        }
    }
}
