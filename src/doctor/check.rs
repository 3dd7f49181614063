//! One judged thing, and the table of all that there are.

use std::fmt::Write as _;

use crate::ask::view::CheckView;
use crate::base::Severity;

/// What is known about a kind of check, whatever it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The stable word for scripts.
    pub id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// The heading it stands under.
    pub theme: &'static str,
    /// What is asked, and when it is not fine.
    pub what: &'static str,
    /// Where the answer comes from.
    pub source: &'static str,
}

macro_rules! checks {
    ($($name:ident => $id:literal, $title:literal, $theme:ident, $what:literal, $source:literal;)*) => {
        /// The kinds of checks, in the order in which they are shown.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Id {
            $(#[doc = $title] $name,)*
        }

        impl Id {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What there is to say about it.
            pub const fn about(self) -> About {
                match self {
                    $(Self::$name => About {
                        id: $id,
                        title: $title,
                        theme: $theme,
                        what: $what,
                        source: $source,
                    },)*
                }
            }
        }
    };
}

const KERNEL: &str = "firmware and kernel";
const KVM: &str = "KVM";
const VFIO: &str = "VFIO";
const CARDS: &str = "cards";
const MEMORY: &str = "memory";
const PROCESSOR: &str = "processor";
const VMS: &str = "VMs";

checks! {
    Configuration => "configuration", "configuration", KERNEL,
        "The configuration can be read. Critical when it is wrong: nothing of it is judged then.",
        "host.yaml, vms/*.yaml";
    Iommu => "iommu", "IOMMU", KERNEL,
        "The kernel has IOMMU groups. If not: whether firmware or the command line is missing.",
        "/sys/kernel/iommu_groups, /sys/firmware/acpi/tables (DMAR, IVRS), /proc/cmdline";
    Cmdline => "cmdline", "kernel command line", KERNEL,
        "What the boot loader's own files ask for is what the running kernel was started with.",
        "/proc/cmdline against /etc/default/grub, /etc/default/grub.d, /boot/grub/grub.cfg, /etc/kernel/cmdline, loader/entries";
    SafeMode => "safe-mode", "safe mode", KERNEL,
        "`hostd.safe` is not on the kernel command line. With it nothing is bound, at boot or later.",
        "/proc/cmdline";
    Remapping => "interrupt-remapping", "interrupt remapping", KERNEL,
        "The IOMMU remaps interrupts; without it VFIO refuses, or is told to accept a guest that can fake the host's interrupts.",
        "/proc/interrupts (chips named IR-…), vfio_iommu_type1's allow_unsafe_interrupts";
    Width => "address-width", "address width", KERNEL,
        "A guest's addresses fit the IOMMU's; otherwise `vfio_dma_map … = -22`.",
        "/proc/cpuinfo, /sys/class/iommu/*/intel-iommu/cap ((cap >> 16) & 0x3f) + 1, amd-iommu/features (HATS)";
    Modules => "modules", "kernel modules", KERNEL,
        "vfio_pci, vfio_iommu_type1 and KVM's module are loaded, built in, or can be loaded.",
        "/sys/module, /lib/modules/RELEASE/modules.dep and modules.builtin";
    KvmDevice => "kvm-device", "/dev/kvm", KVM,
        "/dev/kvm is there and opens.",
        "open(2), /proc/cpuinfo (svm, vmx)";
    KvmRun => "kvm-run", "KVM, tried with a guest", KVM,
        "A guest in 64-bit mode with paging runs to its end with the right result, and so do guests with BMI2, AVX and AVX2 where KVM offers these.",
        "KVM_RUN on guests of a few instructions, in a process of their own with a deadline";
    KvmCapabilities => "kvm-capabilities", "KVM capabilities", KVM,
        "KVM has what a VM with UEFI firmware and a card uses; Hyper-V's interfaces are wanted for Windows.",
        "KVM_GET_API_VERSION, KVM_CHECK_EXTENSION";
    KvmVcpus => "kvm-vcpus", "processors of VMs", KVM,
        "No VM has more processors than KVM can give, or than it recommends.",
        "KVM_CAP_NR_VCPUS, KVM_CAP_MAX_VCPUS";
    VfioContainer => "vfio-container", "VFIO container", VFIO,
        "/dev/vfio/vfio speaks version 0 of its interface and has the type 1 IOMMU, version 2.",
        "VFIO_GET_API_VERSION, VFIO_CHECK_EXTENSION";
    VfioGroup => "vfio-group", "VFIO group", VFIO,
        "The group of a card that is on vfio-pci is viable, and nobody has it open. Not asked while a VM has the card, nor while a card is being changed: a group opens once.",
        "VFIO_GROUP_GET_STATUS";
    VfioDevice => "vfio-device", "VFIO device", VFIO,
        "A card's functions open and answer, and which functions a hot reset takes along. Only with --probe, for cards on vfio-pci that nobody uses: opening a function resets it.",
        "VFIO_DEVICE_GET_INFO, _GET_REGION_INFO, _GET_IRQ_INFO, _GET_PCI_HOT_RESET_INFO";
    Card => "card", "card", CARDS,
        "The configured card is in its slot, and is the one that was configured.",
        "/sys/bus/pci/devices";
    CardRecord => "card-record", "card's record", CARDS,
        "What hostd has done with the card is done: nothing hangs, nothing was left half-way. A record of an earlier boot is void.",
        "hostd's records, in passthrough/ of its state folder; the boot's id";
    CardGroup => "card-group", "card's group", CARDS,
        "Nothing else in the card's IOMMU groups is in the way.",
        "/sys/kernel/iommu_groups; rules of the kernel since 5.19";
    Quirks => "quirks", "quirks", CARDS,
        "What is known to go wrong with this very card. Warning for what hostd cannot work around.",
        "hostd's list and quirks.d (`hostctl gpu quirks`)";
    BootDisplay => "boot-display", "boot display", CARDS,
        "The card is not the one that firmware drew its first picture on: its ROM can only be read as a used copy then, and the console goes dark.",
        "boot_vga";
    Framebuffer => "framebuffer", "framebuffers", CARDS,
        "No framebuffer of the boot console sits in the card's memory; otherwise `BAR can't reserve`.",
        "/proc/iomem (addresses need root), resource, /sys/class/graphics, /sys/class/vtconsole";
    Users => "users", "processes on the card", CARDS,
        "No process of the host has the card's files open: unbinding would hang, or take the process's picture or sound. Of a card on vfio-pci: nobody but a VM of hostd has it.",
        "/proc/*/fd against /dev/dri, /dev/snd, /dev/nvidia*, /dev/vfio";
    Memlock => "memlock", "locked memory", MEMORY,
        "hostd's QEMU may lock the whole memory of a VM with a card.",
        "/proc/self/limits and CAP_IPC_LOCK of the daemon";
    Free => "memory", "free memory", MEMORY,
        "There is memory for each VM that does not run; with a card all of it is taken at the start.",
        "/proc/meminfo (MemAvailable), ZFS's arcstats";
    HugePages => "hugepages", "huge pages", MEMORY,
        "Huge pages reserved per NUMA node: hostd's VMs do not use them yet, so they are lost to them.",
        "/sys/devices/system/node/node*/hugepages";
    Governor => "governor", "frequency governor", PROCESSOR,
        "The processor is not slowed down for saving power while there are VMs.",
        "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor";
    Isolated => "isolated-cores", "isolated cores", PROCESSOR,
        "No core is kept from the scheduler without a use: hostd does not pin VMs to cores yet.",
        "/sys/devices/system/cpu/isolated, smt/active";
    VmFiles => "vm", "VM", VMS,
        "Everything that the VM's file names is there: QEMU, firmware, disks, bridge.",
        "the checks before a start";
    Firmware => "vm-firmware", "VM's firmware", VMS,
        "The UEFI images are UEFI images.",
        "`_FVH` at byte 40 (UEFI Platform Initialization, volume 3)";
    Rom => "vm-rom", "VM's ROM file", VMS,
        "The ROM that a VM's file names for its card is one that a guest may be given.",
        "every image walked: signature, PCIR, ids, lengths, checksum, EFI part";
    LastGood => "last-good", "last good start", VMS,
        "What has changed since the VM with a card last ran. Warning only when it does not start any more.",
        "the note that hostd writes when the guest runs";
}

/// One judged thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which.
    pub id: Id,
    /// The card or VM; empty for the whole machine.
    pub object: String,
    /// How it is.
    pub status: Severity,
    /// What was seen.
    pub evidence: String,
    /// What to do; empty when nothing.
    pub fix: String,
}

impl Check {
    fn new(id: Id, status: Severity, evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        let (evidence, fix) = (evidence.into(), fix.into());
        Self { id, object: String::new(), status, evidence, fix }
    }

    /// As it should be.
    pub fn ok(id: Id, evidence: impl Into<String>) -> Self {
        Self::new(id, Severity::Ok, evidence, "")
    }

    /// It may go wrong.
    pub fn warning(id: Id, evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(id, Severity::Warning, evidence, fix)
    }

    /// It will not work.
    pub fn critical(id: Id, evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(id, Severity::Critical, evidence, fix)
    }

    /// It could not be seen, which is never fine.
    pub fn unknown(id: Id, evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(id, Severity::Unknown, evidence, fix)
    }

    /// About a card or VM.
    #[must_use]
    pub fn of(mut self, object: impl Into<String>) -> Self {
        self.object = object.into();
        self
    }

    /// What would be critical is a warning where nobody has asked for it.
    #[must_use]
    pub fn only_if(mut self, wanted: bool) -> Self {
        if !wanted && self.status == Severity::Critical {
            self.status = Severity::Warning;
        }
        self
    }
}

impl From<Check> for CheckView {
    fn from(check: Check) -> Self {
        let about = check.id.about();
        Self {
            id: about.id.to_owned(),
            status: check.status,
            evidence: check.evidence,
            fix: check.fix,
            title: about.title.to_owned(),
            object: check.object,
            theme: about.theme.to_owned(),
        }
    }
}

const HEAD: &str = "# What `hostctl doctor` checks

<!-- Made from src/doctor/check.rs. After a change there:
     HOSTD_BLESS=1 cargo test --test docs -->

`hostctl doctor` looks at everything that decides whether a VM with a card will work. Each check \
is `ok`, `warning`, `critical` or `unknown`, with what was seen and what to type. What could not \
be seen is `unknown`, never `ok`: without root, or of another machine's files, some of it cannot. \
Exit code 1 when anything is not `ok`. The keys of `--json` are in [json.md](json.md).

Checks of a card or VM are made for each; where nothing is configured, for the graphics cards that \
are found, and then nothing about them is worse than a warning.
";

/// The page of all checks.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    let mut theme = "";
    for about in Id::ALL.iter().map(|id| id.about()) {
        if about.theme != theme {
            theme = about.theme;
            // A string takes what it is given.
            let _ = write!(out, "\n## {theme}\n\n| id | what | source |\n|---|---|---|\n");
        }
        let _ = writeln!(out, "| `{}` | {} | {} |", about.id, about.what, about.source);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_has_a_word_of_its_own() {
        let words: BTreeSet<&str> = Id::ALL.iter().map(|id| id.about().id).collect();
        assert_eq!(words.len(), Id::ALL.len());
        let plain = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(words.iter().all(|word| word.chars().all(plain)));
        // In tables and under headings.
        assert!(Id::ALL.iter().all(|id| !id.about().what.contains('|')));
        assert!(Id::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn nobody_has_asked_is_at_most_a_warning() {
        let bad = Check::critical(Id::Iommu, "x", "y");
        assert_eq!(bad.clone().only_if(false).status, Severity::Warning);
        assert_eq!(bad.only_if(true).status, Severity::Critical);
        let unseen = Check::unknown(Id::Iommu, "x", "y").only_if(false);
        assert_eq!(unseen.status, Severity::Unknown);
    }
}
