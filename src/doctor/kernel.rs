//! Firmware and kernel: IOMMU, interrupt remapping, address width, modules.

use std::collections::BTreeSet;

use super::check::{Check, Id};
use super::scope::{Card, Scope};
use crate::config::{Accel, Vm};
use crate::host::SysRoot;
use crate::pci::Absence;
use crate::pci::parse::{Maker, cpu};
use crate::pci::read::{attribute, folder};

/// What there is to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// How many IOMMU groups.
    pub groups: usize,
    /// Why there are none.
    pub absence: Option<Absence>,
    /// Whether interrupts go through the IOMMU; `None` when it is not to be told.
    pub remapped: Option<bool>,
    /// Whether VFIO was told to do without.
    pub unsafe_interrupts: Option<bool>,
    /// Bits of the processor's physical addresses.
    pub processor_bits: Option<u32>,
    /// For each card, in the scope's order, bits of what its IOMMU translates.
    pub iommu_bits: Vec<Option<u32>>,
    /// Release of the kernel.
    pub release: Option<String>,
    /// The modules that are needed, and what there is of each.
    pub modules: Vec<(&'static str, Module)>,
}

/// What there is of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// In the kernel.
    Loaded,
    /// Not loaded; it can be.
    Available,
    /// Neither.
    Missing,
    /// The list of modules cannot be read.
    Unknown,
    /// The running kernel's modules are gone from the disk.
    Gone,
}

/// Reads it all.
pub fn read(sys: &SysRoot, scope: &Scope, groups: usize, absence: Option<Absence>) -> Facts {
    let cpuinfo = sys.text("/proc/cpuinfo").unwrap_or_default();
    let parameter = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
    let release = sys.text("/proc/sys/kernel/osrelease").ok();
    Facts {
        groups,
        absence,
        remapped: remapped(&sys.text("/proc/interrupts").unwrap_or_default()),
        unsafe_interrupts: attribute(sys, parameter).ok().and_then(|text| yes(&text)),
        processor_bits: address_bits(&cpuinfo),
        iommu_bits: scope.cards.iter().map(|card| iommu_bits(sys, card)).collect(),
        modules: modules(sys, release.as_deref(), cpu(&cpuinfo).0),
        release,
    }
}

/// A module's parameter.
fn yes(text: &str) -> Option<bool> {
    match text.trim() {
        "Y" | "1" => Some(true),
        "N" | "0" => Some(false),
        _ => None,
    }
}

/// Whether a chip of `/proc/interrupts` is one that remaps: `IR-PCI-MSI`,
/// `IR-IO-APIC` (Linux, arch/x86/kernel/apic and drivers/iommu).
fn remapped(interrupts: &str) -> Option<bool> {
    let words = || interrupts.lines().flat_map(str::split_ascii_whitespace);
    let named = |begin: &str| words().any(|word| word.starts_with(begin));
    if named("IR-") {
        return Some(true);
    }
    (named("IO-APIC") || named("PCI-MSI")).then_some(false)
}

/// `address sizes : 46 bits physical, 48 bits virtual`.
fn address_bits(cpuinfo: &str) -> Option<u32> {
    let (_, value) = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "address sizes")?;
    let bits = value.split_ascii_whitespace().next()?.parse().ok()?;
    (1..=64).contains(&bits).then_some(bits)
}

/// Hexadecimal without a prefix, as the IOMMU's attributes are.
fn bare_hex(text: &str) -> Option<u64> {
    let text = text.trim().trim_start_matches("0x");
    let plain = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// VT-d's capability register: the maximum guest address width.
fn intel_bits(cap: u64) -> u32 {
    u32::try_from(((cap >> 16) & 0x3f) + 1).unwrap_or(64)
}

/// AMD's extended features: levels of host page tables (HATS, bits 11:10).
fn amd_bits(features: u64) -> u32 {
    match (features >> 10) & 3 {
        0 => 48,
        1 => 57,
        _ => 64,
    }
}

/// Of the unit that a card is behind; the narrowest where that is not to be told.
fn iommu_bits(sys: &SysRoot, card: &Card) -> Option<u32> {
    let own = sys.link_name(format!("{}/iommu", folder(card.target.slot))).ok();
    let units = match own {
        Some(own) => vec![own],
        None => sys.list("/sys/class/iommu").unwrap_or_default(),
    };
    let one = |unit: &String| {
        let number = |file: &str| {
            attribute(sys, &format!("/sys/class/iommu/{unit}/{file}"))
                .ok()
                .as_deref()
                .and_then(bare_hex)
        };
        let intel = number("intel-iommu/cap").map(intel_bits);
        intel.or_else(|| number("amd-iommu/features").map(amd_bits))
    };
    units.iter().filter_map(one).min()
}

fn modules(sys: &SysRoot, release: Option<&str>, maker: Maker) -> Vec<(&'static str, Module)> {
    let kvm = match maker {
        Maker::Intel => Some("kvm_intel"),
        Maker::Amd => Some("kvm_amd"),
        Maker::Other => None,
    };
    let known = release.map(|release| {
        let folder = format!("/lib/modules/{release}");
        let list = |file: &str| sys.text(format!("{folder}/{file}")).map(|text| listed(&text));
        match (list("modules.dep"), list("modules.builtin")) {
            (Ok(available), builtin) => Ok((available, builtin.unwrap_or_default())),
            (Err(error), _) if error.is_missing() && sys.list("/lib/modules").is_ok() => {
                Err(Module::Gone)
            }
            (Err(_), _) => Err(Module::Unknown),
        }
    });
    let state = |name: &'static str| {
        if sys.exists(format!("/sys/module/{name}")) {
            return Module::Loaded;
        }
        match &known {
            Some(Ok((_, builtin))) if builtin.contains(name) => Module::Loaded,
            Some(Ok((available, _))) if available.contains(name) => Module::Available,
            Some(Ok(_)) => Module::Missing,
            Some(Err(why)) => *why,
            None => Module::Unknown,
        }
    };
    ["vfio_pci", "vfio_iommu_type1"]
        .into_iter()
        .chain(kvm)
        .map(|name| (name, state(name)))
        .collect()
}

/// The names in `modules.dep` and `modules.builtin`: `kernel/…/vfio-pci.ko.xz: …`.
fn listed(text: &str) -> BTreeSet<String> {
    let file = |line: &str| {
        let path = line.split(':').next()?;
        let (name, _) = path.rsplit('/').next()?.split_once(".ko")?;
        Some(name.replace('-', "_"))
    };
    text.lines().filter_map(file).collect()
}

/// The checks.
pub fn judge(facts: &Facts, scope: &Scope) -> Vec<Check> {
    let mut checks = vec![iommu(facts, scope)];
    if facts.groups > 0 {
        checks.push(remapping(facts, scope));
        checks.extend(scope.vms_with_card().filter_map(|vm| width(facts, scope, vm)));
    }
    checks.push(loadable(facts, scope));
    checks
}

fn iommu(facts: &Facts, scope: &Scope) -> Check {
    match &facts.absence {
        _ if facts.groups > 0 => Check::ok(Id::Iommu, format!("{} groups", facts.groups)),
        Some(why) if scope.cards.is_empty() => {
            let reason = &why.reason;
            Check::ok(Id::Iommu, format!("off ({reason}); no card here needs it"))
        }
        Some(why) => Check::critical(Id::Iommu, format!("no groups: {}", why.reason), &why.fix)
            .only_if(scope.wanted),
        None => Check::unknown(Id::Iommu, "the groups cannot be read", "run it as root"),
    }
}

fn remapping(facts: &Facts, scope: &Scope) -> Check {
    let id = Id::Remapping;
    match (facts.remapped, facts.unsafe_interrupts) {
        (Some(true), Some(true)) => Check::warning(
            id,
            "it is on, and yet VFIO is told to do without it (allow_unsafe_interrupts=Y)",
            "remove `allow_unsafe_interrupts` from /etc/modprobe.d and from the kernel command line",
        ),
        (Some(true), _) => Check::ok(id, "on: interrupts have chips named IR-…"),
        (Some(false), Some(true)) => Check::warning(
            id,
            "off, and VFIO is told to accept that: a guest can fake interrupts of the host",
            "turn on x2APIC or interrupt remapping in the firmware setup, and remove \
             `intremap=off` from the kernel command line",
        ),
        (Some(false), _) => Check::critical(
            id,
            "off: VFIO refuses to give devices to guests",
            "turn on x2APIC or interrupt remapping in the firmware setup, and remove \
             `intremap=off` from the kernel command line; only if the board cannot do it: `options \
             vfio_iommu_type1 allow_unsafe_interrupts=1` in /etc/modprobe.d, for a guest you trust",
        )
        .only_if(scope.wanted),
        (None, _) => Check::unknown(
            id,
            "/proc/interrupts does not show it",
            "dmesg | grep -i -e 'interrupt remapping' -e 'DMAR-IR'",
        ),
    }
}

/// `host-phys-bits-limit=N` in a VM's processor model.
fn limit(vm: &Vm) -> Option<u32> {
    let parts = vm.cpu.as_deref()?.split(',');
    parts.filter_map(|part| part.strip_prefix("host-phys-bits-limit=")).next_back()?.parse().ok()
}

fn width(facts: &Facts, scope: &Scope, vm: &Vm) -> Option<Check> {
    let at = scope.cards.iter().position(|card| {
        scope.card_of(vm).is_some_and(|own| own.target.slot == card.target.slot)
    })?;
    let iommu = facts.iommu_bits.get(at).copied().flatten();
    // Only the host's own model takes over the host's width.
    let is_host = vm.accel == Accel::Kvm
        && vm.cpu.as_deref().is_none_or(|cpu| cpu.split(',').next() == Some("host"));
    let check = match (facts.processor_bits, iommu) {
        (Some(processor), Some(iommu)) => {
            let guest = limit(vm).map_or(processor, |limit| limit.min(processor));
            let seen = format!("guest {guest} bits, IOMMU {iommu} bits");
            let cpu = vm.cpu.as_deref().unwrap_or("host");
            if guest <= iommu || !is_host {
                Check::ok(Id::Width, seen)
            } else {
                Check::warning(
                    Id::Width,
                    format!("{seen}: a guest that uses its upper addresses loses the card"),
                    format!("in {}.yaml: cpu: {cpu},host-phys-bits-limit={iommu}", vm.name),
                )
            }
        }
        (None, _) => Check::unknown(Id::Width, "the processor's address width cannot be read", ""),
        (_, None) => Check::unknown(
            Id::Width,
            "the IOMMU does not show its address width",
            "dmesg | grep -i 'host address width'",
        ),
    };
    Some(check.of(vm.name.to_string()))
}

fn loadable(facts: &Facts, scope: &Scope) -> Check {
    let id = Id::Modules;
    let is = |state| -> Vec<&str> {
        let all = facts.modules.iter().filter(|(_, is)| *is == state);
        all.map(|(name, _)| *name).collect()
    };
    let release = facts.release.as_deref().unwrap_or("?");
    if scope.cards.is_empty() && scope.vms.is_empty() {
        return Check::ok(id, "no card or VM here needs any");
    }
    let (gone, missing, unknown) = (is(Module::Gone), is(Module::Missing), is(Module::Unknown));
    if !gone.is_empty() {
        let seen = format!(
            "{}: not loaded, and the running kernel's modules ({release}) are gone from \
             /lib/modules: it was updated",
            gone.join(", ")
        );
        return Check::critical(id, seen, "restart into the new kernel").only_if(scope.wanted);
    }
    if !missing.is_empty() {
        let seen = format!("kernel {release} has no {}", missing.join(", "));
        let fix = "install the distribution's full kernel (Debian: `apt install linux-image-amd64`; \
                   a -cloud kernel has no VFIO)";
        return Check::critical(id, seen, fix).only_if(scope.wanted);
    }
    if !unknown.is_empty() {
        let seen = format!(
            "{}: not loaded, and /lib/modules/{release} cannot be read",
            unknown.join(", ")
        );
        return Check::unknown(id, seen, format!("modprobe -a {}", unknown.join(" ")));
    }
    let (loaded, available) = (is(Module::Loaded), is(Module::Available));
    let mut parts = Vec::new();
    parts.extend((!loaded.is_empty()).then(|| format!("{} in the kernel", loaded.join(", "))));
    parts
        .extend((!available.is_empty()).then(|| format!("{} can be loaded", available.join(", "))));
    Check::ok(id, parts.join("; "))
}

#[cfg(test)]
mod tests;
