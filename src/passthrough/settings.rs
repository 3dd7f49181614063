//! What a function is set to while a guest has it: awake, with the resets it
//! survives, with the BAR that the VM's file asks for.
//!
//! The attributes are those of `Documentation/ABI/testing/sysfs-bus-pci` and
//! `sysfs-devices-power` in the kernel's source.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::quirks::{self, Function};
use crate::base::{Bytes, PciAddress};
use crate::config::{Action, Quirk, QuirkFiles, Reset, ResizableBar};
use crate::host::SysRoot;
use crate::pci::read::{attribute, folder};
use crate::pci::{Device, parse};

/// BARs of a function: `resource0` to `resource5`.
const BARS: u8 = 6;

/// An attribute of a function in sysfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribute {
    /// `power/control`: `on` keeps it awake.
    PowerControl,
    /// `d3cold_allowed`: whether it may lose its supply.
    D3cold,
    /// `reset_method`: the resets that the kernel may use, best first.
    ResetMethod,
    /// `resourceN_resize`: a BAR's size, as the power of two above 1 MiB.
    Bar(u8),
}

impl Attribute {
    /// Below the function's folder.
    pub fn file(self) -> String {
        match self {
            Self::PowerControl => "power/control".to_owned(),
            Self::D3cold => "d3cold_allowed".to_owned(),
            Self::ResetMethod => "reset_method".to_owned(),
            Self::Bar(number) => format!("resource{number}_resize"),
        }
    }

    /// Whether no driver may be bound while it is set.
    pub fn needs_unbound(self) -> bool {
        match self {
            Self::Bar(_) => true,
            Self::PowerControl | Self::D3cold | Self::ResetMethod => false,
        }
    }

    /// What it is set to, for a sentence.
    pub fn in_words(self, value: &str) -> String {
        match (self, value) {
            (Self::Bar(_), bit) => bit
                .parse()
                .ok()
                .and_then(size)
                .map_or_else(|| format!("`{bit}`"), |size| size.to_string()),
            (Self::ResetMethod, "") => "none".to_owned(),
            (Self::PowerControl | Self::D3cold | Self::ResetMethod, value) => {
                format!("`{value}`")
            }
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bar(number) => write!(f, "the size of BAR {number}"),
            Self::PowerControl | Self::D3cold | Self::ResetMethod => f.write_str(&self.file()),
        }
    }
}

/// The size that a bit of `resourceN_resize` stands for.
fn size(bit: u32) -> Option<Bytes> {
    1u64.checked_shl(bit.checked_add(20)?).filter(|size| *size != 0).map(Bytes)
}

/// What an attribute is now; `None` where the kernel does not offer it.
pub fn now(sys: &SysRoot, function: PciAddress, which: Attribute) -> Option<String> {
    let text = |file: &str| attribute(sys, &format!("{}/{file}", folder(function))).ok();
    let said = text(&which.file())?;
    match which {
        Attribute::Bar(number) => {
            let bytes = bar(&text("resource")?, number)?;
            bytes
                .is_power_of_two()
                .then(|| bytes.trailing_zeros().checked_sub(20))?
                .map(|bit| bit.to_string())
        }
        Attribute::PowerControl | Attribute::D3cold | Attribute::ResetMethod => {
            // A method is a word: what else stands there is not ours to write back.
            let words: Vec<&str> = said.split_whitespace().take(16).collect();
            let plain = |w: &&str| w.len() <= 32 && w.bytes().all(|b| b.is_ascii_graphic());
            words.iter().all(plain).then(|| words.join(" "))
        }
    }
}

/// The size of a BAR, from the text of `resource`.
fn bar(resource: &str, number: u8) -> Option<u64> {
    let all = parse::resources(resource)?;
    all.iter().find(|one| one.index == number).map(|one| one.size)
}

/// A setting that a function shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which function.
    pub function: PciAddress,
    /// Which attribute.
    pub attribute: Attribute,
    /// Its value.
    pub to: String,
}

/// What a card needs, and what to know about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// By function.
    pub wanted: Vec<Wanted>,
    /// What its quirks warn of.
    pub warnings: Vec<String>,
    /// The functions whose ROM the guest must not see.
    pub rom_off: Vec<PciAddress>,
    /// Whether a BIOS guest shows its picture on it only with `x-vga`.
    pub x_vga: bool,
    /// How long each function needs after a reset, in milliseconds.
    pub delays: Vec<(PciAddress, u64)>,
}

/// What the functions need by themselves and by their quirks.
pub fn needs(sys: &SysRoot, devices: &[&Device], files: &QuirkFiles) -> Needs {
    let mut needs = Needs::default();
    for device in devices {
        let function = device.address;
        // A function that has lost its supply does not come back for QEMU.
        for (attribute, to) in [(Attribute::PowerControl, "on"), (Attribute::D3cold, "0")] {
            needs.wanted.push(Wanted { function, attribute, to: to.to_owned() });
        }
        let Some(known) = Function::of(device) else { continue };
        let methods = now(sys, function, Attribute::ResetMethod);
        let mut left: Option<Vec<String>> =
            methods.map(|text| text.split_whitespace().map(str::to_owned).collect());
        let found = left.clone();
        for quirk in quirks::matching(files, known) {
            needs.heed(function, quirk, &mut left);
        }
        if let (Some(found), Some(left)) = (found, left)
            && found != left
        {
            if left.is_empty() {
                needs.warnings.push(format!(
                    "{function}: no reset is left that it survives; restart the machine between \
                     two starts of a guest"
                ));
            }
            let to = left.join(" ");
            needs.wanted.push(Wanted { function, attribute: Attribute::ResetMethod, to });
        }
    }
    needs
}

impl Needs {
    /// What one quirk means; `methods` loses the resets that must not be used.
    fn heed(&mut self, function: PciAddress, quirk: &Quirk, methods: &mut Option<Vec<String>>) {
        let mut keep = |good: &dyn Fn(&str) -> bool| {
            if let Some(methods) = methods {
                methods.retain(|method| good(method));
            }
        };
        let say = |needs: &mut Self, more: &str| {
            let mark =
                if quirk.experimental { " (experimental: nobody has checked it)" } else { "" };
            needs.warnings.push(format!("{function}: {}{more}{mark}", quirk.why));
        };
        match quirk.action {
            Action::Warn | Action::RomRequired | Action::UseMsi | Action::NoMsi => say(self, ""),
            Action::Reset(Reset::DeviceSpecific) => {
                let has = methods.iter().flatten().any(|method| method == "device_specific");
                if !has {
                    say(self, " The kernel has none for it: install vendor-reset");
                }
            }
            Action::Reset(Reset::NoBus) => keep(&|method| method != "bus"),
            Action::Reset(Reset::BusOnly) => keep(&|method| method == "bus"),
            Action::Reset(Reset::NoFlr) => {
                keep(&|method| method != "flr" && method != "af_flr");
                if quirk.experimental {
                    say(self, "");
                }
            }
            Action::Reset(Reset::NoPm) => keep(&|method| method != "pm"),
            Action::Reset(Reset::ByQemu) => keep(&|method| method != "bus"),
            Action::ResetDelay(time) => {
                self.delays.push((function, u64::try_from(time.as_millis()).unwrap_or(0)));
            }
            Action::RomOff => self.rom_off.push(function),
            Action::XVga => self.x_vga = true,
            // Always so; done by the kernel and by QEMU; the VM file's business.
            Action::KeepInD0
            | Action::WithCard
            | Action::Reset(Reset::DisableFirst)
            | Action::HideHypervisorBelow(_) => {}
        }
    }
}

/// Why a BAR cannot be made what the VM's file asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BarError {
    /// The kernel offers none.
    #[error("{0} has no BAR that can be resized")]
    None(PciAddress),
    /// It is not among the sizes.
    #[error("BAR {number} of {function} cannot be {asked}: it offers {offered}")]
    Size {
        /// Which function.
        function: PciAddress,
        /// Which BAR.
        number: u8,
        /// What was asked for.
        asked: Bytes,
        /// What there is.
        offered: String,
    },
}

/// The setting that makes the largest resizable BAR what is asked for; `None`
/// to leave it.
pub fn resized(
    sys: &SysRoot,
    function: PciAddress,
    asked: ResizableBar,
) -> Result<Option<Wanted>, BarError> {
    if asked == ResizableBar::Keep {
        return Ok(None);
    }
    let text = |file: &str| attribute(sys, &format!("{}/{file}", folder(function))).ok();
    let resource = text("resource").unwrap_or_default();
    let offers = |number: u8| {
        let sizes = parse::sizes(&text(&Attribute::Bar(number).file())?)?;
        (!sizes.is_empty()).then_some(sizes)
    };
    let resizable = (0..BARS).filter_map(|number| Some((number, offers(number)?)));
    let largest = resizable.max_by_key(|(number, _)| bar(&resource, *number));
    let Some((number, sizes)) = largest else { return Err(BarError::None(function)) };
    let (bytes, asked) = match asked {
        ResizableBar::Keep => return Ok(None),
        ResizableBar::Max => (sizes.iter().max(), Bytes(u64::MAX)),
        ResizableBar::Size(asked) => (sizes.iter().find(|size| **size == asked.0), asked),
    };
    let Some(bytes) = bytes else {
        let offered: Vec<String> = sizes.iter().map(|size| Bytes(*size).to_string()).collect();
        return Err(BarError::Size { function, number, asked, offered: offered.join(", ") });
    };
    let to = (bytes.trailing_zeros().saturating_sub(20)).to_string();
    Ok(Some(Wanted { function, attribute: Attribute::Bar(number), to }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fake::FakeHost;

    const RESOURCE: &str = "0x00000000f0000000 0x00000000ffffffff 0x000000000014220c\n\
                            0x0 0x0 0x0\n\
                            0x00000000e0000000 0x00000000e01fffff 0x000000000014220c\n";

    fn card() -> (tempfile::TempDir, FakeHost, PciAddress) {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let at: PciAddress = "01:00.0".parse().unwrap();
        let file =
            |name: &str, text: &str| fake.file(&format!("{}/{name}", folder(at)), text).unwrap();
        file("resource", RESOURCE);
        file("resource0_resize", "0000000000003f00\n");
        file("resource2_resize", "000000000000000e\n");
        file("reset_method", "flr bus\n");
        (dir, fake, at)
    }

    #[test]
    fn the_largest_bar_takes_the_size_that_is_asked_for() {
        let (_dir, fake, at) = card();
        let sys = fake.host().sys;
        let bit =
            |asked| resized(&sys, at, asked).map(|wanted| wanted.map(|w| (w.attribute, w.to)));
        assert_eq!(bit(ResizableBar::Keep), Ok(None));
        let bar0 = |bit: &str| Ok(Some((Attribute::Bar(0), bit.to_owned())));
        assert_eq!(bit(ResizableBar::Max), bar0("13"));
        assert_eq!(bit(ResizableBar::Size(Bytes(1 << 30))), bar0("10"));
        let no = bit(ResizableBar::Size(Bytes(1 << 34))).unwrap_err().to_string();
        let said = "BAR 0 of 0000:01:00.0 cannot be 16G: it offers 256M, 512M, 1G, 2G, 4G, 8G";
        assert_eq!(no, said);
        assert_eq!(now(&sys, at, Attribute::Bar(0)).as_deref(), Some("8"));
        assert_eq!(now(&sys, at, Attribute::Bar(1)), None);
        let other: PciAddress = "02:00.0".parse().unwrap();
        assert_eq!(resized(&sys, other, ResizableBar::Max), Err(BarError::None(other)));
    }

    #[test]
    fn an_attribute_that_is_no_list_of_words_is_not_written_back() {
        let (_dir, fake, at) = card();
        let sys = fake.host().sys;
        assert_eq!(now(&sys, at, Attribute::ResetMethod).as_deref(), Some("flr bus"));
        fake.file(&format!("{}/reset_method", folder(at)), "a\u{7f}b").unwrap();
        assert_eq!(now(&sys, at, Attribute::ResetMethod), None);
        assert_eq!(now(&sys, at, Attribute::D3cold), None);
    }

    proptest! {
        #[test]
        fn a_resource_file_never_panics(text in "\\PC{0,200}", number in 0u8..9) {
            let _ = bar(&text, number);
        }
    }
}
