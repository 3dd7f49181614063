//! PCI devices on a fake machine, with the kernel's manners: what a write to
//! `driver_override`, `bind`, `unbind` or `drivers_probe` does to the links,
//! and faults that can be injected into any write.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::parse;
use super::read::{DEVICES, GROUPS, folder};
use crate::base::PciAddress;
use crate::host::fake::FakeHost;
use crate::host::run::{Exit, Output};
use crate::host::sys::WriteHook;
use crate::host::{Host, SysRoot};

const DRIVERS: &str = "/sys/bus/pci/drivers";
pub(super) const FRAMEBUFFER: &str = "/sys/class/graphics/fb0";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// One function to be plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeDevice {
    /// Where.
    pub address: PciAddress,
    /// Vendor and device id.
    pub id: (u16, u16),
    /// 24 bits.
    pub class: u32,
    /// Its IOMMU group, on a machine with an IOMMU.
    pub group: Option<u32>,
    /// The driver whose id table names it; it binds at once.
    pub natural: Option<String>,
    /// For display functions.
    pub boot_vga: Option<bool>,
}

/// What happens to a write instead of what should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused with this errno; nothing changes.
    Errno(i32),
    /// Accepted; nothing changes.
    Ignored,
    /// Never returns; nothing changes.
    Hang,
    /// Never returns, and yet it took effect.
    HangAfter,
    /// The daemon dies before the write.
    CrashBefore,
    /// The daemon dies after the write.
    CrashAfter,
}

/// Chooses a fault by the write's number, path and value.
pub type Chooser = Box<dyn FnMut(usize, &str, &str) -> Option<Fault> + Send>;

/// What unwinds through the daemon when it "dies".
#[derive(Debug)]
pub struct Crash;

/// PCI devices on a [`FakeHost`].
pub struct FakePci {
    /// The machine below.
    pub fake: Arc<FakeHost>,
    pub(super) kernel: Arc<Kernel>,
}

pub(super) struct Kernel {
    fake: Arc<FakeHost>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    natural: BTreeMap<PciAddress, String>,
    /// Functions on which their natural driver shows the host's screen.
    paints: BTreeSet<PciAddress>,
    /// Functions behind a bridge, and the bridge.
    above: BTreeMap<PciAddress, PciAddress>,
    /// Names of attributes that only root may read, and we are not.
    denied: Vec<String>,
    chooser: Option<Chooser>,
    writes: Vec<(String, String)>,
}

impl FakePci {
    /// An empty bus; `modprobe` loads any driver.
    pub fn new(fake: Arc<FakeHost>) -> io::Result<Self> {
        fake.dir(DEVICES)?;
        fake.dir(GROUPS)?;
        fake.dir(DRIVERS)?;
        fake.file("/sys/bus/pci/drivers_probe", "")?;
        fake.file(BOOT_ID, "11111111-1111-4111-8111-111111111111\n")?;
        let modules = Arc::clone(&fake);
        fake.runner.on(move |command| {
            let driver = command.to_string().strip_prefix("modprobe ")?.to_owned();
            let loaded = modules.dir(&format!("{DRIVERS}/{driver}")).is_ok();
            let exit = Exit::Code(i32::from(!loaded));
            Some(Ok(Output { exit, stdout: Vec::new(), stderr: Vec::new() }))
        });
        let kernel = Arc::new(Kernel { fake: Arc::clone(&fake), state: Mutex::default() });
        Ok(Self { fake, kernel })
    }

    /// The machine as the rooms see it, with the kernel answering writes.
    pub fn host(&self) -> Host {
        let mut host = self.fake.host();
        host.sys = host.sys.with_hook(self.hook());
        host
    }

    /// The kernel alone, for machines put together elsewhere.
    pub fn hook(&self) -> Arc<dyn WriteHook> {
        Arc::clone(&self.kernel) as Arc<dyn WriteHook>
    }

    /// Plugs a function in; its natural driver binds it.
    pub fn plug(&self, device: &FakeDevice) -> io::Result<()> {
        let at = device.address;
        let place = self.kernel.place(at);
        let file = |name: &str, text: String| self.fake.file(&format!("{place}/{name}"), text);
        file("vendor", format!("0x{:04x}\n", device.id.0))?;
        file("device", format!("0x{:04x}\n", device.id.1))?;
        file("class", format!("0x{:06x}\n", device.class))?;
        file("driver_override", "(null)\n".to_owned())?;
        if let Some(boot) = device.boot_vga {
            file("boot_vga", format!("{}\n", u8::from(boot)))?;
        }
        self.fake.link(&folder(at), &place)?;
        if let Some(group) = device.group {
            self.fake.link(&format!("{place}/iommu_group"), &format!("{GROUPS}/{group}"))?;
            self.fake.link(&format!("{GROUPS}/{group}/devices/{at}"), &place)?;
        }
        if let Some(driver) = &device.natural {
            self.fake.dir(&format!("{DRIVERS}/{driver}"))?;
            self.kernel.lock().natural.insert(at, driver.clone());
            self.kernel.attach(at, driver)?;
        }
        Ok(())
    }

    /// The same behind a bridge that is plugged in: sysfs keeps the function in
    /// the bridge's folder.
    pub fn plug_behind(&self, bridge: PciAddress, device: &FakeDevice) -> io::Result<()> {
        self.kernel.lock().above.insert(device.address, bridge);
        self.plug(device)
    }

    /// Any other attribute of a function.
    pub fn attribute(
        &self,
        address: PciAddress,
        name: &str,
        bytes: impl AsRef<[u8]>,
    ) -> io::Result<()> {
        self.fake.file(&format!("{}/{name}", self.kernel.place(address)), bytes)
    }

    /// From now on we are not root, who alone may read files of this name.
    pub fn deny(&self, name: &str) {
        self.kernel.lock().denied.push(name.to_owned());
    }

    /// The lab's card at `0000:01:00`, picture and sound in group 11 behind a
    /// root port, each with a driver.
    pub fn plug_lab_card(&self) -> io::Result<()> {
        let at = |text: &str| text.parse().map_err(io::Error::other);
        let function = |address, id, class, natural: &str, boot_vga| FakeDevice {
            address,
            id,
            class,
            group: Some(11),
            natural: Some(natural.to_owned()),
            boot_vga,
        };
        self.plug(&FakeDevice {
            group: Some(10),
            ..function(at("0000:00:02.0")?, (0x1b36, 0x000c), 0x06_0400, "pcieport", None)
        })?;
        self.plug(&function(at("01:00.0")?, (0x1002, 0x5046), 0x03_0000, "aty128fb", Some(false)))?;
        self.plug(&function(at("01:00.1")?, (0x8086, 0x2668), 0x04_0300, "snd_hda_intel", None))
    }

    /// Pulls a function out.
    pub fn unplug(&self, address: PciAddress) -> io::Result<()> {
        self.kernel.detach(address)?;
        let place = self.kernel.place(address);
        let group = self.sys().link_name(format!("{place}/iommu_group"));
        if let Ok(group) = group {
            self.fake.remove(&format!("{GROUPS}/{group}/devices/{address}"))?;
        }
        self.kernel.lock().natural.remove(&address);
        self.fake.remove(&folder(address))?;
        self.fake.remove(&place)
    }

    /// Somebody else gives the function to another driver, or to none.
    pub fn take_over(&self, address: PciAddress, driver: Option<&str>) -> io::Result<()> {
        self.kernel.detach(address)?;
        match driver {
            Some(driver) => self.kernel.attach(address, driver),
            None => Ok(()),
        }
    }

    /// Somebody else sets the override.
    pub fn set_override(&self, address: PciAddress, driver: Option<&str>) -> io::Result<()> {
        let text = format!("{}\n", driver.unwrap_or("(null)"));
        self.fake.file(&format!("{}/driver_override", self.kernel.place(address)), text)
    }

    /// What drives a function now.
    pub fn driver(&self, address: PciAddress) -> Option<String> {
        self.kernel.driver(address)
    }

    /// The override of a function now.
    pub fn driver_override(&self, address: PciAddress) -> Option<String> {
        self.kernel.driver_override(address)
    }

    /// The machine starts anew: overrides are gone, natural drivers bind.
    pub fn reboot(&self, boot_id: &str) -> io::Result<()> {
        self.fake.file(BOOT_ID, format!("{boot_id}\n"))?;
        let natural = self.kernel.lock().natural.clone();
        let present = self.sys().list(DEVICES).map_err(io::Error::other)?;
        for address in present.iter().filter_map(|name| name.parse().ok()) {
            self.set_override(address, None)?;
            self.take_over(address, natural.get(&address).map(String::as_str))?;
        }
        Ok(())
    }

    /// Faults from now on; writes are counted from 0.
    pub fn inject(&self, chooser: impl FnMut(usize, &str, &str) -> Option<Fault> + Send + 'static) {
        let mut state = self.kernel.lock();
        state.chooser = Some(Box::new(chooser));
        state.writes.clear();
    }

    /// No more faults.
    pub fn heal(&self) {
        self.kernel.lock().chooser = None;
    }

    /// The writes since the last call: path and value.
    pub fn writes(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.kernel.lock().writes)
    }

    fn sys(&self) -> SysRoot {
        self.fake.host().sys
    }
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl Kernel {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A "crash" may have unwound through a holder; the maps are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function's natural driver shows the host's screen on it.
    pub(super) fn paints_on(&self, card: PciAddress) {
        self.lock().paints.insert(card);
    }

    pub(super) fn place(&self, address: PciAddress) -> String {
        let state = self.lock();
        let mut folders = vec![address];
        while let Some(bridge) = folders.last().and_then(|address| state.above.get(address)) {
            folders.push(*bridge);
        }
        let folders: Vec<_> = folders.iter().rev().map(ToString::to_string).collect();
        format!("/sys/devices/pci0000:00/{}", folders.join("/"))
    }

    fn driver(&self, address: PciAddress) -> Option<String> {
        self.fake.host().sys.link_name(format!("{}/driver", self.place(address))).ok()
    }

    fn driver_override(&self, address: PciAddress) -> Option<String> {
        let path = format!("{}/driver_override", self.place(address));
        parse::driver_override(&self.fake.host().sys.text(path).unwrap_or_default())
    }

    fn exists(&self, path: &str) -> bool {
        self.fake.host().sys.exists(path)
    }

    fn attach(&self, address: PciAddress, driver: &str) -> io::Result<()> {
        self.let_sleep(address, driver, "auto")?;
        let natural = self.lock().natural.get(&address).is_some_and(|natural| natural == driver);
        if natural && self.lock().paints.contains(&address) {
            self.fake.link(&format!("{FRAMEBUFFER}/device"), &self.place(address))?;
        }
        self.fake
            .link(&format!("{}/driver", self.place(address)), &format!("{DRIVERS}/{driver}"))?;
        self.fake.link(&format!("{DRIVERS}/{driver}/{address}"), &self.place(address))
    }

    /// vfio-pci lets a function sleep as it takes it, and forbids it as it goes
    /// (`pm_runtime_allow`, `pm_runtime_forbid` in `vfio_pci_core.c`).
    fn let_sleep(&self, address: PciAddress, driver: &str, control: &str) -> io::Result<()> {
        let file = format!("{}/power/control", self.place(address));
        if driver == "vfio-pci" && self.exists(&file) {
            return self.fake.file(&file, format!("{control}\n"));
        }
        Ok(())
    }

    fn detach(&self, address: PciAddress) -> io::Result<()> {
        let painter = self.fake.host().sys.link_name(format!("{FRAMEBUFFER}/device"));
        if painter.is_ok_and(|painter| painter == address.to_string()) {
            self.fake.remove(FRAMEBUFFER)?;
        }
        if let Some(driver) = self.driver(address) {
            self.let_sleep(address, &driver, "on")?;
            self.fake.remove(&format!("{DRIVERS}/{driver}/{address}"))?;
        }
        self.fake.remove(&format!("{}/driver", self.place(address)))
    }

    /// The driver that would take a function: only the override's when there
    /// is one, else the natural one; none that is not loaded.
    fn taker(&self, address: PciAddress) -> Option<String> {
        let natural = self.lock().natural.get(&address).cloned();
        self.driver_override(address)
            .or(natural)
            .filter(|driver| self.exists(&format!("{DRIVERS}/{driver}")))
    }

    fn apply(&self, path: &str, value: &str) -> io::Result<()> {
        let target = || value.trim().parse::<PciAddress>().map_err(|_| errno(libc::ENODEV));
        let here = |address| {
            if self.exists(&folder(address)) { Ok(address) } else { Err(errno(libc::ENODEV)) }
        };
        if path == "/sys/bus/pci/drivers_probe" {
            let address = here(target()?)?;
            return match (self.driver(address), self.taker(address)) {
                (None, Some(driver)) => self.attach(address, &driver),
                _ => Ok(()),
            };
        }
        let words: Vec<&str> = path.split('/').collect();
        match words[..] {
            ["", "sys", "bus", "pci", "drivers", driver, verb @ ("bind" | "unbind")] => {
                if !self.exists(&format!("{DRIVERS}/{driver}")) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let address = here(target()?)?;
                let bound = self.driver(address);
                match (verb, bound.as_deref()) {
                    ("unbind", Some(now)) if now == driver => self.detach(address),
                    ("bind", Some(_)) => Err(errno(libc::EBUSY)),
                    ("bind", None) if self.taker(address).as_deref() == Some(driver) => {
                        self.attach(address, driver)
                    }
                    _ => Err(errno(libc::ENODEV)),
                }
            }
            ["", "sys", "bus", "pci", "devices", address, "driver_override"] => {
                let address = here(address.parse().map_err(|_| errno(libc::ENODEV))?)?;
                let text = if value.trim().is_empty() { "(null)" } else { value.trim() };
                self.fake
                    .file(&format!("{}/driver_override", self.place(address)), format!("{text}\n"))
            }
            ["", "sys", "bus", "platform", "drivers", driver, "unbind"] => {
                let bound = format!("/sys/bus/platform/drivers/{driver}/{value}");
                if !self.exists(&bound) {
                    return Err(errno(libc::ENODEV));
                }
                self.fake.remove(FRAMEBUFFER)?;
                self.fake.remove(&bound)
            }
            ["", "sys", "bus", "pci", "devices", address, file] if file.ends_with("_resize") => {
                let address = here(address.parse().map_err(|_| errno(libc::ENODEV))?)?;
                if self.driver(address).is_some() {
                    return Err(errno(libc::EBUSY));
                }
                // Only BAR 0 is ever resized here.
                let bit: u32 = value.trim().parse().map_err(|_| errno(libc::EINVAL))?;
                let end = 0x80_0000_0000u64 + (1u64 << (bit + 20)) - 1;
                let text = format!("0x8000000000 {end:#x} 0x14220c\n");
                self.fake.file(&format!("{}/resource", self.place(address)), text)
            }
            _ if self.exists(path) => self.fake.file(path, value),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl WriteHook for Kernel {
    fn may_read(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        let denied = self.lock().denied.iter().any(|denied| name == denied.as_str());
        if denied { Err(errno(libc::EACCES)) } else { Ok(()) }
    }

    fn write(&self, _sys: &SysRoot, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (path, value) = (path.to_string_lossy(), String::from_utf8_lossy(bytes));
        let fault = {
            let mut state = self.lock();
            let number = state.writes.len();
            state.writes.push((path.to_string(), value.to_string()));
            state.chooser.as_mut().and_then(|choose| choose(number, &path, &value))
        };
        match fault {
            None => self.apply(&path, &value),
            Some(Fault::Errno(number)) => Err(errno(number)),
            Some(Fault::Ignored) => Ok(()),
            Some(Fault::Hang) => Err(io::ErrorKind::TimedOut.into()),
            Some(Fault::HangAfter) => {
                self.apply(&path, &value)?;
                Err(io::ErrorKind::TimedOut.into())
            }
            Some(Fault::CrashBefore) => std::panic::resume_unwind(Box::new(Crash)),
            Some(Fault::CrashAfter) => {
                self.apply(&path, &value)?;
                std::panic::resume_unwind(Box::new(Crash))
            }
        }
    }
}
