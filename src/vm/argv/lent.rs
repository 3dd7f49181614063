//! Devices of the host: graphics card, NVMe, USB, keyboard and mouse; and the
//! memory that Looking Glass shares with it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::facts::KVMFR;
use super::line::{Line, Opts};
use super::size;
use crate::config::{Display, Firmware, UsbRef, Vm};
use crate::vm::devices::Lent;
use crate::vm::paths;

/// The first slot of the host's NVMe controllers.
const NVME_SLOT: usize = 0x14;
/// The most NVMe controllers of the host that a VM can have.
pub const MAX_NVME: usize = 4;

pub(super) fn graphics(line: &mut Line, vm: &Vm, card: &Lent) {
    if card.functions.is_empty() {
        return;
    }
    line.root_port("gpu", 0x02);
    let mut functions = card.functions.clone();
    functions.sort_unstable();
    // The guest's firmware looks at function 0 first; a card that keeps its
    // function numbers is one that the guest's driver knows.
    let keep = functions.first().is_some_and(|first| first.function == 0);
    let options = &vm.gpu_options;
    let bios = matches!(vm.firmware, Firmware::Seabios { .. });
    for (index, function) in functions.iter().enumerate() {
        let number = if keep { usize::from(function.function) } else { index };
        let first = index == 0;
        // UEFI shows its picture without legacy VGA.
        let x_vga = first && bios && options.x_vga.unwrap_or(card.x_vga);
        let device = Opts::new(format!(
            "vfio-pci,host={function},id=gpu{index},bus=gpu,addr=0x0.{number:x}"
        ))
        .and_if(first, "multifunction=on")
        .and_if(x_vga, "x-vga=on");
        line.device(match &options.rom {
            Some(rom) if first => device.path("romfile", rom),
            Some(_) | None => device.and_if(card.rom_off.contains(function), "rombar=0"),
        });
    }
}

pub(super) fn nvme(line: &mut Line, vm: &Vm) {
    for (index, nvme) in vm.nvme.iter().enumerate() {
        line.root_port(&format!("nvme{index}"), NVME_SLOT + index);
        let device = format!("vfio-pci,host={},id=nvme{index}-device", nvme.address);
        line.device(
            Opts::new(format!("{device},bus=nvme{index}"))
                .and_if(nvme.boot > 0, &format!("bootindex={}", nvme.boot)),
        );
    }
}

/// QEMU's name of a USB device of the host.
pub fn usb_id(usb: &UsbRef) -> String {
    match usb {
        UsbRef::Id(vendor, product) => format!("usb-{vendor:04x}-{product:04x}"),
        // A name has letters, digits, `-`, `.` and `_`.
        UsbRef::Port { bus, path } => {
            let plain = |c: char| if c.is_ascii_digit() { c } else { '.' };
            format!("usb-port-{bus}-{}", path.chars().map(plain).collect::<String>())
        }
    }
}

/// The controller, and what of the host's devices is named: QEMU waits for
/// those that are not plugged in.
pub(super) fn usb(line: &mut Line, vm: &Vm) {
    line.pair("-device", "qemu-xhci,id=usb,bus=pcie.0,addr=0x18,p2=8,p3=8");
    if vm.display != Display::Off {
        // The mouse is where the viewer's is. On the last port: the others are
        // for what is plugged in.
        line.pair("-device", "usb-tablet,id=tablet,bus=usb.0,port=8");
    }
    for usb in &vm.usb {
        let device = Opts::new("usb-host,bus=usb.0").with("id", usb_id(usb));
        line.device(match usb {
            UsbRef::Id(vendor, product) => {
                device.and(&format!("vendorid=0x{vendor:04x},productid=0x{product:04x}"))
            }
            UsbRef::Port { bus, path } => {
                device.and(&format!("hostbus={bus}")).with("hostport", path)
            }
        });
    }
}

/// Its link's name says that it is a keyboard, as udev makes it.
fn is_keyboard(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"-kbd")
}

/// The keyboard takes and gives back all of them.
pub(super) fn evdev(line: &mut Line, vm: &Vm) {
    let Some(evdev) = &vm.evdev else { return };
    for (index, path) in evdev.devices.iter().enumerate() {
        let toggle = evdev.toggle.as_str();
        let object = Opts::new(format!("input-linux,id=evdev{index}"))
            .and_if(is_keyboard(path), "grab_all=on,repeat=on")
            .and(&format!("grab-toggle={toggle}"))
            .path("evdev", path);
        line.option("-object", object);
    }
    // Beside those of the chipset, which a guest without a driver uses.
    line.pair("-device", "virtio-keyboard-pci,id=keyboard,bus=pcie.0,addr=0x1d");
    line.pair("-device", "virtio-mouse-pci,id=mouse,bus=pcie.0,addr=0x1e");
}

pub(super) fn looking_glass(line: &mut Line, vm: &Vm, kvmfr: bool) {
    let Some(bytes) = vm.looking_glass else { return };
    let file = if kvmfr { KVMFR.into() } else { paths::looking_glass(&vm.name) };
    let size = size(bytes.0);
    let object = Opts::new(format!("memory-backend-file,id=looking-glass,size={size},share=on"));
    line.option("-object", object.path("mem-path", &file));
    line.pair("-device", "ivshmem-plain,memdev=looking-glass,bus=pcie.0,addr=0x1c");
}
