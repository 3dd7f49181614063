//! What the host shows on a card: virtual consoles and framebuffers.
//!
//! They come off in this order: the virtual consoles (fbcon), the firmware's
//! framebuffer (efifb, vesafb, simplefb, simpledrm), the card's own driver.
//! vfio-pci removes the firmware's framebuffer by itself, but only from a
//! function of class 0300; boot cards of class 0380 or 0302 keep it.
//!
//! Sources: `Documentation/fb/fbcon.rst`, `drivers/firmware/sysfb*.c`,
//! `drivers/vfio/pci/vfio_pci_core.c` (`vfio_pci_vga_init`) of the kernel.

use serde::{Deserialize, Serialize};

use crate::base::PciAddress;
use crate::host::SysRoot;
use crate::pci::parse;
use crate::pci::read::{attribute, folder};

const CONSOLES: &str = "/sys/class/vtconsole";
const GRAPHICS: &str = "/sys/class/graphics";
/// Drivers of the firmware's framebuffer; the device carries the driver's name
/// and a number.
pub const DRIVERS: [&str; 3] = ["efi-framebuffer", "simple-framebuffer", "vesa-framebuffer"];
/// How the memory of such a framebuffer is called in `/proc/iomem`.
pub(crate) const REGIONS: [&str; 6] =
    ["BOOTFB", "efifb", "simpledrm", "simplefb", "vesafb", "vga16fb"];
/// More than any machine's list of memory regions.
pub(crate) const IOMEM_LIMIT: u64 = 1 << 20;

/// The firmware's framebuffer with its driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framebuffer {
    /// Platform driver.
    pub driver: String,
    /// Platform device, `simple-framebuffer.0`.
    pub device: String,
}

/// What holds a card for the host's screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Screen {
    /// `N` of each `vtconN` on a framebuffer, if all framebuffers are the card's.
    pub consoles: Vec<u8>,
    /// The firmware's, where its memory is the card's.
    pub framebuffers: Vec<Framebuffer>,
    /// Framebuffers that the card's own driver has made.
    pub native: Vec<String>,
    /// What holds memory in the card's BARs, as `/proc/iomem` calls it.
    pub regions: Vec<String>,
    /// Why it is not known for sure whose the firmware's framebuffer is.
    pub unsure: Option<String>,
}

/// What holds these functions for the host's screen now.
pub fn of(sys: &SysRoot, functions: &[PciAddress]) -> Screen {
    let mut screen = Screen::default();
    let found = platform(sys);
    match regions(sys, functions) {
        Ok(regions) => screen.regions = regions,
        Err(why) => screen.unsure = Some(why),
    }
    for framebuffer in found {
        let device = format!("/sys/bus/platform/devices/{}", framebuffer.device);
        if !screen.regions.is_empty() || belongs(sys, &device, functions) {
            screen.framebuffers.push(framebuffer);
        }
    }
    let mut others = 0;
    for name in sys.list(GRAPHICS).unwrap_or_default() {
        // `fbcon` is there too.
        if !is_framebuffer(&name) {
            continue;
        }
        let device = format!("{GRAPHICS}/{name}/device");
        let of_platform = sys.link_name(&device).is_ok_and(|link| {
            screen.framebuffers.iter().any(|framebuffer| framebuffer.device == link)
        });
        match (belongs(sys, &device, functions), of_platform) {
            (true, _) => screen.native.push(name),
            (false, true) => {}
            (false, false) => others += 1,
        }
    }
    // With another screen, fbcon moves there by itself.
    let all_ours = others == 0 && !(screen.native.is_empty() && screen.framebuffers.is_empty());
    if all_ours {
        screen.consoles = consoles(sys).into_iter().filter(|(_, on)| *on).map(|(n, _)| n).collect();
    }
    screen
}

/// The virtual consoles that framebuffers can show, and whether they are on one.
pub fn consoles(sys: &SysRoot) -> Vec<(u8, bool)> {
    let names = sys.list(CONSOLES).unwrap_or_default();
    let numbers = names.iter().filter_map(|name| name.strip_prefix("vtcon")?.parse::<u8>().ok());
    numbers
        .filter_map(|number| {
            let text =
                |file: &str| attribute(sys, &format!("{CONSOLES}/vtcon{number}/{file}")).ok();
            let on = text("bind")?.trim() == "1";
            text("name")?.contains("frame buffer").then_some((number, on))
        })
        .collect()
}

/// Whether there is a framebuffer that a console could be on.
pub fn any_framebuffer(sys: &SysRoot) -> bool {
    let names = sys.list(GRAPHICS).unwrap_or_default();
    names.iter().any(|name| is_framebuffer(name))
}

fn is_framebuffer(name: &str) -> bool {
    name.strip_prefix("fb").is_some_and(|number| number.parse::<u8>().is_ok())
}

/// Whether the firmware's framebuffer still has its driver.
pub fn is_bound(sys: &SysRoot, framebuffer: &Framebuffer) -> bool {
    let Framebuffer { driver, device } = framebuffer;
    sys.exists(format!("/sys/bus/platform/drivers/{driver}/{device}"))
}

/// The firmware's framebuffers that a driver has.
fn platform(sys: &SysRoot) -> Vec<Framebuffer> {
    let bound = |driver: &'static str| {
        let names = sys.list(format!("/sys/bus/platform/drivers/{driver}")).unwrap_or_default();
        let devices = names.into_iter().filter(|name| name.contains("framebuffer."));
        devices.map(move |device| Framebuffer { driver: driver.to_owned(), device })
    };
    DRIVERS.into_iter().flat_map(bound).collect()
}

/// Whether a link of sysfs leads to one of the functions or below it.
fn belongs(sys: &SysRoot, link: &str, functions: &[PciAddress]) -> bool {
    let Ok(place) = sys.resolve(link) else { return false };
    place.components().any(|part| {
        let address = part.as_os_str().to_str().and_then(|text| text.parse::<PciAddress>().ok());
        address.is_some_and(|address| functions.contains(&address))
    })
}

/// The framebuffers' regions that lie in the functions' BARs.
fn regions(sys: &SysRoot, functions: &[PciAddress]) -> Result<Vec<String>, String> {
    let text = match sys.bytes("/proc/iomem", IOMEM_LIMIT) {
        Ok(text) => text,
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let bars: Vec<(u64, u64)> = functions
        .iter()
        .filter_map(|function| attribute(sys, &format!("{}/resource", folder(*function))).ok())
        .filter_map(|text| parse::resources(&text))
        .flatten()
        .map(|bar| (bar.start, bar.start.saturating_add(bar.size - 1)))
        .collect();
    held(&String::from_utf8_lossy(&text), &bars)
}

/// The framebuffers' regions in `/proc/iomem` that lie inside one of the ranges.
fn held(iomem: &str, bars: &[(u64, u64)]) -> Result<Vec<String>, String> {
    let (mut found, mut hidden) = (Vec::new(), false);
    for line in iomem.lines() {
        let Some((range, name)) = line.split_once(" : ") else { continue };
        let Some((start, end)) = range.trim().split_once('-') else { continue };
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let (Some(start), Some(end)) = (hex(start), hex(end)) else { continue };
        if !REGIONS.iter().any(|region| name.trim().starts_with(region)) {
            continue;
        }
        // Without CAP_SYS_ADMIN the kernel shows every address as 0.
        hidden |= end == 0;
        if bars.iter().any(|bar| bar.0 <= start && end <= bar.1) {
            found.push(name.trim().chars().take(40).collect());
        }
    }
    if hidden { Err("/proc/iomem shows its addresses to root only".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fake::FakeHost;

    const IOMEM: &str = "00000000-00000fff : Reserved\n\
        c0000000-dfffffff : PCI Bus 0000:01\n  c0000000-cfffffff : 0000:01:00.0\n    \
        c0000000-c02fffff : BOOTFB\n      c0000000-c02fffff : simpledrm\n";

    #[test]
    fn the_firmwares_framebuffer_is_found_in_the_bars() {
        let bars = [(0xc000_0000, 0xcfff_ffff)];
        assert_eq!(held(IOMEM, &bars).unwrap(), ["BOOTFB", "simpledrm"]);
        assert!(held(IOMEM, &[(0xe000_0000, 0xefff_ffff)]).unwrap().is_empty());
        assert!(held("00000000-00000000 : PCI Bus\n", &bars).unwrap().is_empty());
        assert!(held("00000000-00000000 : BOOTFB\n", &bars).unwrap_err().contains("root only"));
    }

    fn machine() -> (tempfile::TempDir, FakeHost, PciAddress) {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let at: PciAddress = "01:00.0".parse().unwrap();
        fake.file("/proc/iomem", IOMEM).unwrap();
        fake.file(&format!("{}/resource", folder(at)), "0xc0000000 0xcfffffff 0x14220c\n").unwrap();
        fake.dir("/sys/devices/platform/simple-framebuffer.0").unwrap();
        let place = "/sys/devices/platform/simple-framebuffer.0";
        for link in ["devices", "drivers/simple-framebuffer"] {
            fake.link(&format!("/sys/bus/platform/{link}/simple-framebuffer.0"), place).unwrap();
        }
        fake.link(&format!("{GRAPHICS}/fb0/device"), place).unwrap();
        for (number, name) in [(0, "(S) dummy device"), (1, "(M) frame buffer device")] {
            fake.file(&format!("{CONSOLES}/vtcon{number}/name"), name).unwrap();
            fake.file(&format!("{CONSOLES}/vtcon{number}/bind"), "1\n").unwrap();
        }
        (dir, fake, at)
    }

    #[test]
    fn only_what_holds_this_card() {
        let (_dir, fake, at) = machine();
        let sys = fake.host().sys;
        let screen = of(&sys, &[at]);
        assert_eq!(screen.consoles, [1]);
        assert_eq!(screen.framebuffers[0].device, "simple-framebuffer.0");
        // Another card holds nothing.
        let other: PciAddress = "02:00.0".parse().unwrap();
        fake.file(&format!("{}/resource", folder(other)), "0xe0000000 0xefffffff 0x0\n").unwrap();
        assert_eq!(of(&sys, &[other]), Screen::default());
        // With a second screen the console moves by itself.
        fake.link(&format!("{GRAPHICS}/fb1/device"), &folder(other)).unwrap();
        fake.dir(&folder(other)).unwrap();
        assert_eq!(of(&sys, &[at]).consoles, [0u8; 0]);
        assert_eq!(of(&sys, &[other]).native, ["fb1"]);
    }

    #[test]
    fn without_root_it_is_not_known() {
        let (_dir, fake, at) = machine();
        let hidden = "00000000-00000000 : PCI Bus\n  00000000-00000000 : BOOTFB\n";
        fake.file("/proc/iomem", hidden).unwrap();
        let screen = of(&fake.host().sys, &[at]);
        assert!(screen.unsure.unwrap().contains("root only"));
        assert!(screen.framebuffers.is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,300}") {
            let _ = held(&text, &[(0, u64::MAX)]);
        }
    }
}
