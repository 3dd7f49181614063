//! The kernel's VGA arbiter: which card has the legacy VGA addresses. It is
//! asked and never locked: a lock would only hold while our file is open, and
//! stop the host's own drivers meanwhile.
//!
//! Where all guests use UEFI nobody needs these addresses: `boot setup` then
//! sets `disable_vga=1` for vfio-pci.
//!
//! Source: `drivers/pci/vgaarb.c` of the kernel (`vga_arb_read`,
//! `vga_arb_write`).

use crate::base::PciAddress;
use crate::host::SysRoot;

const FILE: &str = "/dev/vga_arbiter";
/// The kernel's answer is one line, in a buffer of 1024 bytes.
const LIMIT: u64 = 1024;

/// What the arbiter says about a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// The addresses it listens to: `io+mem`, `io`, `mem`, `none`.
    pub decodes: String,
    /// Those that reach it at this moment.
    pub owns: String,
    /// Those that somebody has locked.
    pub locks: String,
}

/// What the arbiter says about a function; `None` where there is no arbiter,
/// no right to ask it, or the function is no VGA card.
pub fn of(sys: &SysRoot, function: PciAddress) -> Option<Legacy> {
    let question = format!("target PCI:{function}");
    let said = sys.converse(FILE, question.as_bytes(), LIMIT).ok()?;
    parse(&String::from_utf8_lossy(&said), function)
}

/// `count:2,PCI:0000:01:00.0,decodes=io+mem,owns=none,locks=none(0:0)`
fn parse(line: &str, function: PciAddress) -> Option<Legacy> {
    let mut words = line.trim().split(',');
    let target = words.find_map(|word| word.strip_prefix("PCI:"))?;
    (target.parse() == Ok(function)).then_some(())?;
    let mut after = |key: &str| {
        let value = words.next()?.strip_prefix(key)?.split('(').next()?;
        ["io+mem", "io", "mem", "none"].contains(&value).then(|| value.to_owned())
    };
    Some(Legacy { decodes: after("decodes=")?, owns: after("owns=")?, locks: after("locks=")? })
}

impl std::fmt::Display for Legacy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { decodes, owns, locks } = self;
        write!(f, "decodes {decodes}, owns {owns}, locks {locks}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn the_arbiters_line_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let at: PciAddress = "01:00.0".parse().unwrap();
        assert_eq!(of(&fake.host().sys, at), None);
        let line = "count:2,PCI:0000:01:00.0,decodes=io+mem,owns=none,locks=none(0:0)\n";
        fake.file(FILE, line).unwrap();
        let legacy = of(&fake.host().sys, at).unwrap();
        assert_eq!(legacy.to_string(), "decodes io+mem, owns none, locks none");
        // The kernel keeps its target when the one asked for is no VGA card.
        assert_eq!(of(&fake.host().sys, at.with_function(1)), None);
        assert_eq!(parse("invalid", at), None);
    }

    proptest! {
        #[test]
        fn never_panics(line in "\\PC{0,120}") {
            let _ = parse(&line, "01:00.0".parse().unwrap());
        }
    }
}
