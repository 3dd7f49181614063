//! A VM file that would mean the same, every default written out: with its
//! profile, but without need of it.

use serde_json::{Value as Json, json};

use super::without_null;
use crate::base::Bytes;
use crate::config::desk::exact;
use crate::config::types::{
    Accel, AfterDeadline, Agent, Autostart, Disk, DiskBus, DiskCache, DiskFormat, Display, Evdev,
    Firmware, GpuRef, GuestClock, Hook, Hooks, Hugepages, Network, NicModel, OnCrash, Performance,
    Pinning, Profile, ResizableBar, Smbios, Sound, Topology, Viewers, Vm,
};
use crate::config::words::{mac, usb};

/// A VM file.
pub fn vm(vm: &Vm) -> Json {
    let (firmware, secure) = firmware(&vm.firmware);
    without_null(json!({
        "profile": vm.profile.map(profile),
        "memory": size(vm.memory),
        "hugepages": match vm.hugepages {
            Hugepages::Off => "off".to_owned(),
            Hugepages::Size(page) => size(page),
        },
        "numa-node": vm.numa_node,
        "cpus": vm.cpus,
        "topology": vm.topology.map(topology),
        "pinning": pinning(&vm.pinning),
        "gpu": gpu(vm),
        "disks": disks(vm),
        "network": network(vm),
        "usb": vm.usb.iter().map(usb).collect::<Vec<_>>(),
        "evdev": vm.evdev.as_ref().map(evdev),
        "looking-glass": vm.looking_glass.map_or_else(|| "off".to_owned(), size),
        "sound": sound(vm.sound),
        "display": display(&vm.display),
        "serial": vm.serial,
        "agent": agent(vm.agent),
        "firmware": firmware,
        "secure-boot": secure,
        "tpm": vm.tpm,
        "accel": match vm.accel {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        },
        "machine": vm.machine,
        "cpu": vm.cpu,
        "hyperv": vm.hyperv,
        "clock": match vm.clock {
            GuestClock::Utc => "utc",
            GuestClock::Local => "local",
        },
        "qemu": vm.qemu,
        "qemu-args": vm.qemu_args,
        "user": vm.user,
        "uuid": vm.uuid,
        "smbios": smbios(&vm.smbios),
        "resources": without_null(json!({
            "cpu-weight": vm.resources.cpu_weight,
            "io-weight": vm.resources.io_weight,
            "memory-overhead": vm.resources.memory_overhead.map(size),
        })),
        "performance": performance(vm.performance.as_ref()),
        "snapshots": { "before-start": vm.snapshots.before_start, "keep": vm.snapshots.keep },
        "autostart": vm.autostart.map_or(json!(false), |Autostart { order, delay }| {
            json!({ "order": order, "delay": exact(delay) })
        }),
        "on-crash": match vm.on_crash {
            OnCrash::Stay => json!("stay"),
            OnCrash::Restart { times, delay } => {
                json!({ "restart": { "times": times, "delay": exact(delay) } })
            }
        },
        "hooks": hooks(&vm.hooks),
        "stop": {
            "deadline": exact(vm.stop.deadline),
            "then": match vm.stop.then {
                AfterDeadline::Ask => "ask",
                AfterDeadline::Quit => "quit",
            },
        },
    }))
}

fn profile(profile: Profile) -> &'static str {
    match profile {
        Profile::Windows11 => "windows-11",
        Profile::Windows10 => "windows-10",
        Profile::Windows7 => "windows-7",
        Profile::Linux => "linux",
    }
}

fn topology(topology: Topology) -> Json {
    let Topology { sockets, dies, cores, threads } = topology;
    json!({ "sockets": sockets, "dies": dies, "cores": cores, "threads": threads })
}

fn pinning(pinning: &Pinning) -> Json {
    match pinning {
        Pinning::Off => json!("off"),
        Pinning::Auto { leave } => json!({ "leave": leave }),
        Pinning::Exact { vcpus, emulator, iothreads } => {
            let some = |list: &[u32]| (!list.is_empty()).then(|| list.to_owned());
            without_null(json!({
                "vcpus": vcpus,
                "emulator": some(emulator),
                "iothreads": some(iothreads),
            }))
        }
    }
}

fn gpu(vm: &Vm) -> Json {
    let card = match &vm.gpu {
        None => return Json::Null,
        Some(GpuRef::Name(name)) => name.to_string(),
        Some(GpuRef::Address(address)) => address.to_string(),
    };
    let options = &vm.gpu_options;
    without_null(json!({
        "card": card,
        "rom": options.rom,
        "resizable-bar": match options.resizable_bar {
            ResizableBar::Keep => "keep".to_owned(),
            ResizableBar::Max => "max".to_owned(),
            ResizableBar::Size(bytes) => size(bytes),
        },
        "x-vga": options.x_vga,
        "hide-hypervisor": options.hide_hypervisor,
    }))
}

/// Disks, then controllers; the boot order is written out.
fn disks(vm: &Vm) -> Vec<Json> {
    let nvme = vm.nvme.iter().map(|nvme| json!({ "nvme": nvme.address, "boot": nvme.boot }));
    vm.disks.iter().map(disk).chain(nvme).collect()
}

fn disk(disk: &Disk) -> Json {
    without_null(json!({
        "path": disk.path,
        "format": match disk.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        },
        "readonly": disk.readonly,
        "cdrom": disk.cdrom,
        "bus": match disk.bus {
            DiskBus::Virtio => "virtio",
            DiskBus::Scsi => "scsi",
            DiskBus::Sata => "sata",
            DiskBus::Nvme => "nvme",
        },
        "cache": match disk.cache {
            DiskCache::None => "none",
            DiskCache::Writeback => "writeback",
        },
        "serial": disk.serial,
        "boot": disk.boot,
    }))
}

fn network(vm: &Vm) -> Json {
    let (key, value) = match &vm.network {
        Network::None => return json!("none"),
        Network::User => ("kind", "user"),
        Network::Bridge(bridge) => ("bridge", bridge.as_str()),
        Network::Tap(tap) => ("tap", tap.as_str()),
    };
    let model = match vm.nic.model {
        NicModel::Virtio => "virtio",
        NicModel::E1000e => "e1000e",
    };
    without_null(json!({ (key): value, "model": model, "mac": vm.nic.mac.map(mac) }))
}

fn evdev(evdev: &Evdev) -> Json {
    json!({ "devices": evdev.devices, "toggle": evdev.toggle.as_str() })
}

fn sound(sound: Sound) -> &'static str {
    match sound {
        Sound::Off => "off",
        Sound::Silent => "silent",
        Sound::Spice => "spice",
        Sound::Alsa => "alsa",
        Sound::Pulse => "pulse",
        Sound::Pipewire => "pipewire",
    }
}

fn display(display: &Display) -> Json {
    let (kind, viewers) = match display {
        Display::Off => return json!("off"),
        Display::Spice(viewers) => ("spice", viewers),
        Display::Vnc(viewers) => ("vnc", viewers),
    };
    match viewers {
        Viewers::Socket => json!(kind),
        Viewers::Tcp { address, password_file } => without_null(json!({
            "kind": kind,
            "listen": address,
            "password-file": password_file,
        })),
    }
}

fn agent(agent: Agent) -> Json {
    if agent.channel { json!({ "silent-after": exact(agent.silent_after) }) } else { json!(false) }
}

fn firmware(firmware: &Firmware) -> (Json, bool) {
    match firmware {
        Firmware::Seabios { log } => (json!({ "kind": "seabios", "log": log }), false),
        Firmware::Ovmf { code, vars, secure } => {
            (json!({ "kind": "ovmf", "code": code, "vars": vars }), *secure)
        }
    }
}

fn smbios(smbios: &Smbios) -> Json {
    without_null(json!({
        "manufacturer": smbios.manufacturer,
        "product": smbios.product,
        "version": smbios.version,
        "serial": smbios.serial,
        "sku": smbios.sku,
        "family": smbios.family,
    }))
}

fn performance(performance: Option<&Performance>) -> Json {
    let Some(performance) = performance else { return json!(false) };
    json!({
        "governor": performance.governor.as_deref().unwrap_or("keep"),
        "isolate": performance.isolate,
        "pause-scrub": performance.pause_scrub,
        "stop-services": performance.stop_services,
        "reserve": size(performance.reserve),
    })
}

fn hooks(hooks: &Hooks) -> Json {
    let hook = |hook: &Hook| json!({ "run": hook.run, "deadline": exact(hook.deadline) });
    json!({
        "before-start": hooks.before_start.iter().map(hook).collect::<Vec<_>>(),
        "after-stop": hooks.after_stop.iter().map(hook).collect::<Vec<_>>(),
    })
}

/// Without loss: what a file says is a whole number of kilobytes.
fn size(bytes: Bytes) -> String {
    let units = [(30, 'G'), (20, 'M')];
    let fits = |(shift, _): &&(u32, char)| bytes.0 > 0 && bytes.0.trailing_zeros() >= *shift;
    match units.iter().find(fits) {
        Some((shift, unit)) => format!("{}{unit}", bytes.0 >> shift),
        None => format!("{}K", bytes.0 >> 10),
    }
}
