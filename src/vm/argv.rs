//! The QEMU command line: a pure function of the VM's file, the functions it
//! was given and the places of its files. QEMU 7.2 and 10 both take it.
//!
//! Slots of the root bus are fixed, so that a guest finds its devices where
//! they were after another disk was added:
//!
//! | slot | device |
//! |---|---|
//! | 01 | VGA, when no card is passed through |
//! | 02 | root port of the graphics card |
//! | 03 | root port of the network card |
//! | 04–1e | root ports of the disks |
//!
//! The start token is the name of a character device that leads nowhere
//! (`-chardev null,id=start-…`): it costs nothing, the guest cannot see it, it
//! is in `/proc/<pid>/cmdline`, and QMP's `query-chardev` repeats it, so that
//! both the process and whoever answers on its socket can be known by it.
//!
//! QEMU starts with halted processors (`-S`); the guest runs when hostd has
//! recorded the process, speaks to it and says `cont`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::devices::Lent;
use super::identity::{Identity, Uuid};
use super::paths::Paths;
use crate::config::{Accel, Disk, DiskFormat, Firmware, Network, Vm};

/// What keeps a guest from seeing that it is one. The vendor is any twelve
/// letters that are not a hypervisor's.
const HIDDEN: &str = ",kvm=off,hv-vendor-id=HomeServer00";

/// The first slot for disks, and how many there are.
const DISK_SLOT: usize = 0x04;
/// The most disks a VM can have.
pub const MAX_DISKS: usize = 0x1f - DISK_SLOT;

/// What a start adds to the VM's file.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Made once for this VM.
    pub identity: &'a Identity,
    /// Made for this start.
    pub token: Uuid,
    /// The card that is passed through; without functions for none.
    pub card: &'a Lent,
}

/// The name that the start token has on the command line and in QMP.
pub fn token_id(token: Uuid) -> String {
    format!("start-{token}")
}

/// The arguments for `vm.qemu`.
pub fn argv(vm: &Vm, paths: &Paths, start: &Start<'_>) -> Vec<OsString> {
    let mut line = Line::default();
    line.option("-name", Opts::new("guest=").value(vm.name.as_str()).and("debug-threads=on"));
    line.pair("-uuid", start.identity.uuid.to_string());
    line.flag("-nodefaults").flag("-no-user-config");
    let accel = match vm.accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg",
    };
    line.option("-machine", Opts::new("type=").value(&vm.machine).key("accel").value(accel));
    let cpu = match vm.accel {
        Accel::Kvm => "host",
        Accel::Tcg => "max",
    };
    // The owner's text may carry properties: `EPYC,topoext=on`.
    let cpu = vm.cpu.as_deref().unwrap_or(cpu);
    let hidden = if vm.gpu_options.hide_hypervisor { HIDDEN } else { "" };
    line.pair("-cpu", format!("{cpu}{hidden}"));
    line.pair("-m", format!("size={}", memory(vm.memory.0)));
    line.pair("-smp", format!("cpus={}", vm.cpus));
    control(&mut line, paths, start.token);
    firmware(&mut line, vm, paths);
    graphics(&mut line, vm, start.card);
    if vm.serial {
        let socket =
            Opts::new("socket,id=serial,server=on,wait=off").key("path").path(&paths.serial);
        // Appending, so that it can be cut.
        let socket = socket.key("logfile").path(&paths.serial_log).and("logappend=on");
        line.option("-chardev", socket);
        line.pair("-device", "isa-serial,chardev=serial");
    }
    network(&mut line, &vm.network, start.identity);
    for (index, disk) in vm.disks.iter().enumerate() {
        add_disk(&mut line, index, disk);
    }
    line.0
}

/// Whole mebibytes where it is so: people read this.
fn memory(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{}M", bytes >> 20) } else { format!("{bytes}B") }
}

fn control(line: &mut Line, paths: &Paths, token: Uuid) {
    line.pair("-chardev", format!("null,id={}", token_id(token)));
    let socket = Opts::new("socket,id=qmp").key("path").path(&paths.qmp);
    line.option("-chardev", socket.and("server=on,wait=off"));
    line.pair("-mon", "chardev=qmp,mode=control");
    // Not an option of many parts: the path stands as it is.
    line.pair("-pidfile", &paths.pidfile);
    line.flag("-S");
}

fn firmware(line: &mut Line, vm: &Vm, paths: &Paths) {
    match &vm.firmware {
        Firmware::Seabios { log: false } => {}
        Firmware::Seabios { log: true } => {
            let file = Opts::new("file,id=fw").key("path").path(&paths.firmware_log);
            // Appending, so that it can be cut.
            line.option("-chardev", file.and("append=on"));
            line.pair("-device", "isa-debugcon,iobase=0x402,chardev=fw");
        }
        Firmware::Ovmf { code, .. } => {
            let flash = |unit| Opts::new("if=pflash,format=raw").key("unit").value(unit);
            line.option("-drive", flash("0").and("readonly=on").key("file").path(code));
            line.option("-drive", flash("1").key("file").path(&paths.vars));
        }
    }
}

fn graphics(line: &mut Line, vm: &Vm, card: &Lent) {
    line.pair("-display", "none").pair("-vga", "none");
    if card.functions.is_empty() {
        line.pair("-device", "VGA,bus=pcie.0,addr=0x1");
        return;
    }
    root_port(line, "gpu", 0x02);
    let mut functions = card.functions.clone();
    functions.sort_unstable();
    // The guest's firmware looks at function 0 first; a card that keeps its
    // function numbers is one that the guest's driver knows.
    let keep = functions.first().is_some_and(|first| first.function == 0);
    let options = &vm.gpu_options;
    let bios = matches!(vm.firmware, Firmware::Seabios { .. });
    for (index, function) in functions.iter().enumerate() {
        let number = if keep { usize::from(function.function) } else { index };
        let multi = if index == 0 { ",multifunction=on" } else { "" };
        let mut device =
            Opts::new(&format!("vfio-pci,host={function},bus=gpu,addr=0x0.{number:x}{multi}"));
        // UEFI shows its picture without legacy VGA.
        if index == 0 && bios && options.x_vga.unwrap_or(card.x_vga) {
            device = device.and("x-vga=on");
        }
        device = match &options.rom {
            Some(rom) if index == 0 => device.key("romfile").path(rom),
            Some(_) | None if card.rom_off.contains(function) => device.and("rombar=0"),
            Some(_) | None => device,
        };
        line.option("-device", device);
    }
}

fn network(line: &mut Line, network: &Network, identity: &Identity) {
    match network {
        Network::None => return,
        Network::User => line.pair("-netdev", "user,id=net0"),
        Network::Bridge(bridge) => {
            line.option("-netdev", Opts::new("bridge,id=net0").key("br").value(bridge))
        }
        Network::Tap(tap) => {
            let tap = Opts::new("tap,id=net0").key("ifname").value(tap);
            line.option("-netdev", tap.and("script=no,downscript=no"))
        }
    };
    root_port(line, "net", 0x03);
    // Without a ROM: it is for booting from the network, and its file comes
    // with a package that may be missing.
    let mac = identity.mac;
    line.pair("-device", format!("virtio-net-pci,netdev=net0,bus=net,mac={mac},romfile="));
}

fn add_disk(line: &mut Line, index: usize, disk: &Disk) {
    let format = match disk.format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    };
    let how = if disk.readonly { "readonly=on" } else { "discard=unmap" };
    let drive = Opts::new(&format!("if=none,id=disk{index},format={format}")).and(how);
    root_port(line, &format!("port{index}"), DISK_SLOT + index);
    line.option("-drive", drive.key("file").path(&disk.path));
    let boot = index + 1;
    line.pair(
        "-device",
        format!("virtio-blk-pci,drive=disk{index},bus=port{index},bootindex={boot}"),
    );
}

/// The chassis number tells ports apart and must be unique: the slot is.
fn root_port(line: &mut Line, id: &str, slot: usize) {
    let port = format!("pcie-root-port,id={id},bus=pcie.0,addr={slot:#x},chassis={slot}");
    line.pair("-device", port);
}

/// The arguments so far.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn pair(&mut self, option: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(option.into());
        self.0.push(value.into());
        self
    }

    fn option(&mut self, option: &str, value: Opts) -> &mut Self {
        self.pair(option, OsString::from_vec(value.0))
    }
}

/// One argument in QEMU's `key=value,key=value` syntax, where a comma inside a
/// value is written twice.
struct Opts(Vec<u8>);

impl Opts {
    /// Begins with text of ours.
    fn new(begin: &str) -> Self {
        Self(begin.as_bytes().to_vec())
    }

    /// More text of ours.
    fn and(mut self, text: &str) -> Self {
        self.0.push(b',');
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A key; its value follows.
    fn key(self, key: &str) -> Self {
        let mut this = self.and(key);
        this.0.push(b'=');
        this
    }

    /// Text of others.
    fn value(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    /// A path, which may hold any byte but 0.
    fn path(self, path: &Path) -> Self {
        self.bytes(path.as_os_str().as_bytes())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0.push(*byte);
            if *byte == b',' {
                self.0.push(b',');
            }
        }
        self
    }
}

/// The whole command as a shell would take it, one option a line: for
/// `vm argv` and the log.
pub fn show(vm: &Vm, args: &[OsString]) -> String {
    let mut text = crate::host::run::quoted(vm.qemu.as_os_str());
    for arg in args {
        let begins = if arg.as_bytes().starts_with(b"-") { " \\\n  " } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{begins}{}", crate::host::run::quoted(arg));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PciAddress;
    use crate::config::GpuOptions;
    use crate::vm::tests::{identity, paths, vm};
    use proptest::prelude::*;

    fn golden(vm: &Vm, functions: &[PciAddress]) -> String {
        let card = Lent { functions: functions.to_vec(), ..Lent::default() };
        with_card(vm, &card)
    }

    fn with_card(vm: &Vm, card: &Lent) -> String {
        let start = Start { identity: &identity(), token: identity().uuid, card };
        show(vm, &argv(vm, &paths(), &start))
    }

    fn card() -> Vec<PciAddress> {
        ["01:00.1", "01:00.0"].map(|text| text.parse().unwrap()).to_vec()
    }

    #[test]
    fn the_smallest_vm() {
        insta::assert_snapshot!(golden(&vm(), &[]));
    }

    #[test]
    fn a_card_with_its_audio_function_and_a_firmware_log() {
        let vm = Vm { firmware: Firmware::Seabios { log: true }, ..vm() };
        insta::assert_snapshot!(golden(&vm, &card()));
    }

    #[test]
    fn a_gaming_vm() {
        let disk = |path: &str, format, readonly| Disk { format, readonly, ..Disk::plain(path, 1) };
        let vm = Vm {
            accel: Accel::Kvm,
            cpu: Some("EPYC,topoext=on".into()),
            machine: "pc-q35-7.2".into(),
            firmware: Firmware::Ovmf {
                code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
                vars: "/usr/share/OVMF/OVMF_VARS_4M.fd".into(),
                secure: false,
            },
            disks: vec![
                disk("/dev/zvol/tank/win, old", DiskFormat::Raw, false),
                disk("/srv/games.qcow2", DiskFormat::Qcow2, false),
                disk("/srv/it's virtio-win.iso", DiskFormat::Raw, true),
            ],
            network: Network::Bridge("br0".into()),
            ..vm()
        };
        insta::assert_snapshot!(golden(&vm, &card()));
    }

    #[test]
    fn behind_address_translation() {
        insta::assert_snapshot!(golden(&Vm { network: Network::User, ..vm() }, &[]));
    }

    #[test]
    fn a_lone_virtual_function_becomes_function_0() {
        let text = golden(&vm(), &["0000:01:00.4".parse().unwrap()]);
        assert!(text.contains("host=0000:01:00.4,bus=gpu,addr=0x0.0"), "{text}");
    }

    #[test]
    fn a_card_as_its_vm_file_and_its_quirks_want_it() {
        let gpu_options = GpuOptions {
            rom: Some("/etc/hostd/roms/old, good.rom".into()),
            hide_hypervisor: true,
            ..GpuOptions::default()
        };
        let card = Lent { rom_off: card(), functions: card(), x_vga: true, ..Lent::default() };
        let text = with_card(&Vm { gpu_options: gpu_options.clone(), ..vm() }, &card);
        for part in [
            "multifunction=on,x-vga=on,romfile=/etc/hostd/roms/old,, good.rom'",
            "addr=0x0.1,rombar=0",
            "-cpu max,kvm=off,hv-vendor-id=",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        // The VM's file decides over the quirk; UEFI never wants legacy VGA.
        let off = GpuOptions { x_vga: Some(false), ..gpu_options };
        assert!(!with_card(&Vm { gpu_options: off, ..vm() }, &card).contains("x-vga"));
        let (code, vars) = ("/c".into(), "/v".into());
        let uefi = Vm { firmware: Firmware::Ovmf { code, vars, secure: false }, ..vm() };
        assert!(!with_card(&uefi, &card).contains("x-vga"));
    }

    #[test]
    fn odd_sizes_are_kept_to_the_byte() {
        assert_eq!(memory(64 << 20), "64M");
        assert_eq!(memory((64 << 20) + 1), "67108865B");
    }

    /// What QEMU's parser makes of an option's text.
    fn split(text: &str) -> Vec<String> {
        text.replace(",,", "\0").split(',').map(|part| part.replace('\0', ",")).collect()
    }

    proptest! {
        #[test]
        fn no_path_can_add_an_option(name in "/[^\0]{0,30}") {
            let disk = Disk { readonly: true, ..Disk::plain(name.clone(), 1) };
            let vm = Vm { disks: vec![disk], ..vm() };
            let card = Lent::default();
            let start = Start { identity: &identity(), token: identity().uuid, card: &card };
            let args = argv(&vm, &paths(), &start);
            let at = args.iter().position(|arg| arg == "-drive").unwrap() + 1;
            let parts = split(args[at].to_str().unwrap());
            prop_assert_eq!(parts.len(), 5);
            prop_assert_eq!(&parts[4], &format!("file={name}"));
        }
    }
}
