//! Machine type, processor, memory, clock, firmware, SMBIOS.

use super::line::{Line, Opts};
use super::{Start, size};
use crate::config::{Accel, Firmware, GuestClock, Hugepages, Pinning, Vm};
use crate::vm::paths::Paths;

/// What keeps a guest from seeing that it is one. The vendor is any twelve
/// letters that are not a hypervisor's.
const HIDDEN: &str = ",kvm=off,hv-vendor-id=HomeServer00";

/// What Windows knows how to use, and QEMU's manual recommends for it
/// (docs/system/i386/hyperv). `hv-stimer` is refused without `hv-time`.
const HYPERV: &str = ",hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-vpindex,hv-runtime,hv-synic,\
                      hv-time,hv-stimer,hv-reset,hv-frequencies,hv-tlbflush,hv-ipi";

/// The threads that touch a guest's memory before it starts.
const PREALLOC: u32 = 8;

/// Whether a machine type is whatever this QEMU has newest.
pub fn unpinned(machine: &str) -> bool {
    machine == "q35"
}

pub(super) fn add(line: &mut Line, vm: &Vm, paths: &Paths, start: &Start<'_>) {
    let uuid = vm.uuid.clone().unwrap_or_else(|| start.identity.uuid.to_string());
    line.pair("-uuid", uuid);
    machine(line, vm, start);
    line.pair("-cpu", cpu(vm, start.facts.amd));
    memory(line, vm);
    smp(line, vm);
    clock(line, vm);
    firmware(line, vm, paths);
    smbios(line, vm);
}

fn machine(line: &mut Line, vm: &Vm, start: &Start<'_>) {
    let kept = start.identity.machine.as_ref().filter(|_| unpinned(&vm.machine));
    let accel = match vm.accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg",
    };
    // No hpet, as every guest has a better clock; no port of VMware's.
    let machine = Opts::new(format!("accel={accel}"))
        .with("type", kept.unwrap_or(&vm.machine))
        .and("hpet=off,vmport=off,usb=off,dump-guest-core=off")
        .and_if(vm.accel == Accel::Kvm, "kernel-irqchip=on")
        // Memory that is locked anyway is not looked through for equal pages.
        .and_if(vm.has_host_devices() || vm.hugepages != Hugepages::Off, "mem-merge=off")
        .and_if(backend(vm), "memory-backend=ram");
    let machine = match &vm.firmware {
        Firmware::Seabios { .. } => machine,
        // Only code in SMM writes the variables: that is what `secure` says below.
        Firmware::Ovmf { secure, .. } => {
            machine.and("pflash0=code,pflash1=vars").and_if(*secure, "smm=on")
        }
    };
    line.option("-machine", machine);
    if matches!(vm.firmware, Firmware::Ovmf { secure: true, .. }) {
        line.pair("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
    // A guest that sleeps does not wake with a card.
    line.pair("-global", "ICH9-LPC.disable_s3=1").pair("-global", "ICH9-LPC.disable_s4=1");
}

/// The model with its properties.
fn cpu(vm: &Vm, amd: bool) -> String {
    let kvm = vm.accel == Accel::Kvm;
    let threads = vm.topology.is_some_and(|topology| topology.threads > 1);
    // The owner's text may carry properties: `EPYC,topoext=on`.
    let mut cpu = match (&vm.cpu, vm.accel) {
        (Some(cpu), _) => cpu.clone(),
        (None, Accel::Tcg) => "max".to_owned(),
        (None, Accel::Kvm) => "host,migratable=off".to_owned(),
    };
    if vm.cpu.is_none() && kvm {
        // QEMU does not save a guest that has an invariant clock. One with a
        // card cannot be saved anyway.
        if vm.has_host_devices() {
            cpu += ",+invtsc";
        }
        // The caches are shared as on the host if the processors are, too.
        if vm.pinning != Pinning::Off {
            cpu += ",host-cache-info=on";
        }
        if amd && threads {
            cpu += ",topoext=on";
        }
    }
    // Without KVM QEMU refuses them.
    if vm.hyperv && kvm {
        cpu += HYPERV;
    }
    if vm.gpu_options.hide_hypervisor {
        cpu += HIDDEN;
    }
    cpu
}

/// Whether the guest's memory is described on its own.
fn backend(vm: &Vm) -> bool {
    vm.hugepages != Hugepages::Off || vm.numa_node.is_some()
}

/// Huge pages by memfd: they need no mounted file system that QEMU's user may
/// write to, and are free again when QEMU ends, however it does.
fn memory(line: &mut Line, vm: &Vm) {
    line.pair("-m", format!("size={}", size(vm.memory.0)));
    if !backend(vm) {
        return;
    }
    let bytes = size(vm.memory.0);
    let object = match vm.hugepages {
        Hugepages::Off => Opts::new(format!("memory-backend-ram,id=ram,size={bytes}")),
        Hugepages::Size(page) => {
            let threads = vm.cpus.clamp(1, PREALLOC);
            let page = size(page.0);
            Opts::new(format!("memory-backend-memfd,id=ram,size={bytes},hugetlb=on"))
                .and(&format!("hugetlbsize={page},prealloc=on,prealloc-threads={threads}"))
        }
    };
    let object = match vm.numa_node {
        Some(node) => object.and(&format!("host-nodes={node},policy=bind")),
        None => object,
    };
    line.option("-object", object);
}

fn smp(line: &mut Line, vm: &Vm) {
    let (sockets, dies, cores, threads) = match vm.topology {
        Some(seen) => (seen.sockets, seen.dies, seen.cores, seen.threads),
        None => (1, 1, vm.cpus, 1),
    };
    let shape = format!("sockets={sockets},dies={dies},cores={cores},threads={threads}");
    line.pair("-smp", format!("cpus={},{shape}", vm.cpus));
}

/// Ticks that a guest has missed come later, not all at once.
fn clock(line: &mut Line, vm: &Vm) {
    let base = match vm.clock {
        GuestClock::Utc => "utc",
        GuestClock::Local => "localtime",
    };
    line.pair("-rtc", format!("base={base},clock=host,driftfix=slew"));
    if vm.accel == Accel::Kvm {
        line.pair("-global", "kvm-pit.lost_tick_policy=delay");
    }
}

fn firmware(line: &mut Line, vm: &Vm, paths: &Paths) {
    match &vm.firmware {
        Firmware::Seabios { log: false } => {}
        Firmware::Seabios { log: true } => {
            // Appending, so that it can be cut.
            let file = Opts::new("file,id=fw,append=on").path("path", &paths.firmware_log);
            line.option("-chardev", file);
            line.pair("-device", "isa-debugcon,iobase=0x402,chardev=fw");
        }
        Firmware::Ovmf { code, .. } => {
            let flash = |name| Opts::new(format!("driver=file,node-name={name}"));
            line.option("-blockdev", flash("code").and("read-only=on").path("filename", code));
            line.option("-blockdev", flash("vars").path("filename", &paths.vars));
        }
    }
}

fn smbios(line: &mut Line, vm: &Vm) {
    let said = &vm.smbios;
    if *said == crate::config::Smbios::default() {
        return;
    }
    let system = Opts::new("type=1")
        .maybe("manufacturer", said.manufacturer.as_ref())
        .maybe("product", said.product.as_ref())
        .maybe("version", said.version.as_ref())
        .maybe("serial", said.serial.as_ref())
        .maybe("sku", said.sku.as_ref())
        .maybe("family", said.family.as_ref());
    line.option("-smbios", system);
}
