//! A function's config space: its capability lists. Pure, and bounded: each
//! place is visited at most once, whatever the bytes say.
//!
//! Layout: PCI Local Bus 3.0, 6.7 (capability list); PCI Express Base, 7.6.3
//! (extended capabilities), 7.5.3.2 (port type), 7.7.11 (ACS). The same numbers
//! are in the kernel's `include/uapi/linux/pci_regs.h`.

/// Config space of a conventional function; what follows is PCI Express.
pub const CONVENTIONAL: usize = 256;
/// Config space of a PCI Express function.
pub const WHOLE: usize = 4096;

const STATUS_LOW: usize = 0x06;
const HAS_CAPABILITIES: u8 = 0x10;
const HEADER_TYPE: usize = 0x0e;
const EXPRESS: u8 = 0x10;
const ACS: u16 = 0x000d;

/// What a PCI Express function is on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// A device.
    Endpoint,
    /// A device inside the processor or chipset, without a link.
    Integrated,
    /// Where a link leaves the processor or chipset.
    Root,
    /// The upper side of a switch.
    Upstream,
    /// A lower side of a switch.
    Downstream,
    /// A bridge to conventional PCI, or from it.
    Bridge,
    /// Something newer.
    Other(u8),
}

impl Port {
    /// In words.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Endpoint => "device",
            Self::Integrated => "integrated device",
            Self::Root => "root port",
            Self::Upstream => "upstream port of a switch",
            Self::Downstream => "downstream port of a switch",
            Self::Bridge => "PCI bridge",
            Self::Other(_) => "port of an unknown kind",
        }
    }
}

/// The access control services of a function: what it offers, what is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acs {
    /// The capability register.
    pub offered: u16,
    /// The control register.
    pub enabled: u16,
}

/// What a function's config space says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Whether its slot has, or may have, more functions.
    pub multifunction: bool,
    /// Its port type; `None` for conventional PCI.
    pub port: Option<Port>,
    /// Its ACS registers; `None` where it has none.
    pub acs: Option<Acs>,
}

/// Why config space says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mute {
    /// The kernel shows so many bytes; to those who are not root, 64.
    Short(usize),
    /// All ones: it does not answer.
    Silent,
}

/// Reads the whole of a function's config space.
pub fn parse(bytes: &[u8]) -> Result<Space, Mute> {
    let bytes = bytes.get(..WHOLE).unwrap_or(bytes);
    if bytes.len() >= 4 && bytes.iter().take(64).all(|&byte| byte == 0xff) {
        return Err(Mute::Silent);
    }
    if bytes.len() < CONVENTIONAL {
        return Err(Mute::Short(bytes.len()));
    }
    let multifunction = byte(bytes, HEADER_TYPE).is_some_and(|header| header & 0x80 != 0);
    let Some(express) = capability(bytes, EXPRESS) else {
        return Ok(Space { multifunction, port: None, acs: None });
    };
    let port = match (word(bytes, express + 2).unwrap_or_default() >> 4) & 0x0f {
        0x0 | 0x1 => Port::Endpoint,
        0x4 => Port::Root,
        0x5 => Port::Upstream,
        0x6 => Port::Downstream,
        0x7 | 0x8 => Port::Bridge,
        0x9 => Port::Integrated,
        other => Port::Other(u8::try_from(other).unwrap_or_default()),
    };
    if bytes.len() < WHOLE {
        return Err(Mute::Short(bytes.len()));
    }
    let acs = extended(bytes, ACS)
        .and_then(|at| Some(Acs { offered: word(bytes, at + 4)?, enabled: word(bytes, at + 6)? }));
    Ok(Space { multifunction, port: Some(port), acs })
}

fn byte(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes([byte(bytes, at)?, byte(bytes, at + 1)?]))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(word(bytes, at)?) | u32::from(word(bytes, at + 2)?) << 16)
}

/// Where a capability of the first 256 bytes begins.
pub fn capability(bytes: &[u8], wanted: u8) -> Option<usize> {
    if byte(bytes, STATUS_LOW)? & HAS_CAPABILITIES == 0 {
        return None;
    }
    // A CardBus bridge has its pointer elsewhere.
    let pointer = if byte(bytes, HEADER_TYPE)? & 0x7f == 2 { 0x14 } else { 0x34 };
    let mut seen = [false; CONVENTIONAL / 4];
    let mut at = usize::from(byte(bytes, pointer)? & !3);
    while at >= 0x40 && !std::mem::replace(seen.get_mut(at / 4)?, true) {
        if byte(bytes, at)? == wanted {
            return Some(at);
        }
        at = usize::from(byte(bytes, at + 1)? & !3);
    }
    None
}

/// Where an extended capability begins.
pub fn extended(bytes: &[u8], wanted: u16) -> Option<usize> {
    let mut seen = [false; WHOLE / 4];
    let mut at = CONVENTIONAL;
    while at >= CONVENTIONAL && !std::mem::replace(seen.get_mut(at / 4)?, true) {
        let header = long(bytes, at)?;
        if matches!(header, 0 | u32::MAX) {
            return None;
        }
        if header & 0xffff == u32::from(wanted) {
            return Some(at);
        }
        at = usize::try_from(header >> 20).ok()? & !3;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pci::fake_config::FakeConfig;

    #[test]
    fn finds_what_is_there() {
        let space = parse(&FakeConfig::root_port().acs(0x5f, 0x1d).bytes()).unwrap();
        let acs = Some(Acs { offered: 0x5f, enabled: 0x1d });
        assert_eq!(space, Space { multifunction: false, port: Some(Port::Root), acs });
        let space = parse(&FakeConfig::endpoint().multifunction().bytes()).unwrap();
        assert_eq!(space, Space { multifunction: true, port: Some(Port::Endpoint), acs: None });
        let space = parse(&FakeConfig::conventional().bytes()).unwrap();
        assert_eq!((space.port, space.acs), (None, None));
    }

    #[test]
    fn says_why_it_cannot_tell() {
        let whole = FakeConfig::root_port().acs(0x5f, 0x1d).bytes();
        assert_eq!(parse(&whole[..64]), Err(Mute::Short(64)));
        assert_eq!(parse(&whole[..256]), Err(Mute::Short(256)));
        assert_eq!(parse(&[]), Err(Mute::Short(0)));
        assert_eq!(parse(&[0xff; 4096]), Err(Mute::Silent));
        assert_eq!(parse(&[0xff; 64]), Err(Mute::Silent));
    }

    #[test]
    fn a_list_that_bites_its_tail_ends() {
        let mut bytes = FakeConfig::endpoint().bytes();
        // Both lists lead to themselves, and to nothing that is looked for.
        bytes[0x40..0x42].copy_from_slice(&[0x01, 0x40]);
        bytes[0x100..0x104].copy_from_slice(&(0x100_u32 << 20 | 0x0001).to_le_bytes());
        assert_eq!((capability(&bytes, EXPRESS), extended(&bytes, ACS)), (None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            wanted in any::<u16>(),
            place in 0_usize..4096,
        ) {
            let _ = parse(&bytes);
            let mut whole = FakeConfig::endpoint().acs(1, 1).bytes();
            for (to, from) in whole.iter_mut().skip(place).zip(&bytes) {
                *to = *from;
            }
            let _ = parse(&whole);
            if let Some(at) = extended(&whole, wanted) {
                prop_assert!((CONVENTIONAL..WHOLE).contains(&at));
            }
            let [low, _] = wanted.to_le_bytes();
            if let Some(at) = capability(&whole, low) {
                prop_assert!((0x40..CONVENTIONAL).contains(&at));
                prop_assert_eq!(whole[at], low);
            }
        }
    }
}
