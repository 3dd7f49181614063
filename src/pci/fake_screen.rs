//! The host's screen on a fake machine's cards.

use std::io;

use super::fake::{FRAMEBUFFER, FakePci};
use crate::base::PciAddress;

impl FakePci {
    /// The firmware's framebuffer is on a function, and a virtual console on it.
    pub fn plug_firmware_screen(&self, card: PciAddress) -> io::Result<()> {
        let iomem = "f0000000-f7ffffff : PCI Bus\n  f0000000-f02fffff : BOOTFB\n";
        self.fake.file("/proc/iomem", iomem)?;
        self.fake.file(
            &format!("{}/resource", self.kernel.place(card)),
            "0xf0000000 0xf7ffffff 0x42208\n",
        )?;
        let device = "/sys/devices/platform/simple-framebuffer.0";
        self.fake.dir(device)?;
        let bus = "/sys/bus/platform";
        self.fake.link(&format!("{bus}/devices/simple-framebuffer.0"), device)?;
        let driver = "drivers/simple-framebuffer/simple-framebuffer.0";
        self.fake.link(&format!("{bus}/{driver}"), device)?;
        self.fake.link(&format!("{FRAMEBUFFER}/device"), device)?;
        self.plug_console()
    }

    /// A function's natural driver shows the host's screen on it, now if it is
    /// bound.
    pub fn plug_native_screen(&self, card: PciAddress) -> io::Result<()> {
        self.kernel.paints_on(card);
        if self.driver(card).is_some() {
            self.fake.link(&format!("{FRAMEBUFFER}/device"), &self.kernel.place(card))?;
        }
        self.plug_console()
    }

    fn plug_console(&self) -> io::Result<()> {
        self.fake.file("/sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n")?;
        self.fake.file("/sys/class/vtconsole/vtcon1/bind", "1\n")
    }
}
