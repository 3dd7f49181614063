//! Why there are no IOMMU groups: what the firmware offers, what the kernel
//! was told, and which of the two is missing.

use std::fmt;

use super::parse::{Maker, cpu, parameter};
use crate::host::SysRoot;

/// What there is to tell it from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clues {
    /// Who made the processor.
    pub maker: Maker,
    /// This machine is itself a guest.
    pub guest: bool,
    /// What the kernel was started with; `None` when unreadable.
    pub cmdline: Option<String>,
    /// Whether firmware describes an IOMMU to the kernel (ACPI table DMAR or
    /// IVRS); `None` when the tables cannot be seen.
    pub table: Option<bool>,
    /// The kernel has registered IOMMU hardware all the same.
    pub hardware: bool,
}

/// The reason and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// What is missing.
    pub reason: String,
    /// What to turn on.
    pub fix: String,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no IOMMU groups: {}. {}", self.reason, self.fix)
    }
}

const TABLES: &str = "/sys/firmware/acpi/tables";

/// Reads the clues.
pub fn clues(sys: &SysRoot) -> Clues {
    let (maker, guest) = cpu(&sys.text("/proc/cpuinfo").unwrap_or_default());
    let table = sys.list(TABLES).ok().map(|names| {
        names.iter().any(|name| match maker {
            Maker::Intel => name == "DMAR",
            Maker::Amd => name == "IVRS",
            Maker::Other => name == "DMAR" || name == "IVRS",
        })
    });
    Clues {
        maker,
        guest,
        cmdline: sys.text("/proc/cmdline").ok(),
        table,
        hardware: sys.list("/sys/class/iommu").is_ok_and(|units| !units.is_empty()),
    }
}

/// One sentence that says which of firmware and kernel is missing.
pub fn explain(clues: &Clues) -> Absence {
    let (setting, technology, own) = match clues.maker {
        Maker::Intel => ("`Intel VT-d` (VT for Directed I/O)", "VT-d", "intel_iommu"),
        Maker::Amd => {
            ("`IOMMU` (AMD-Vi; next to `SVM`, often under AMD CBS)", "AMD-Vi", "amd_iommu")
        }
        Maker::Other => ("the IOMMU (`Intel VT-d`, `AMD-Vi`, `SMMU`)", "an IOMMU", "iommu"),
    };
    let cmdline = clues.cmdline.as_deref().unwrap_or("");
    let off = [own, "iommu"].into_iter().find(|name| parameter(cmdline, name).contains(&"off"));
    let needs_on = clues.maker == Maker::Intel && !parameter(cmdline, own).contains(&"on");
    let firmware = if clues.guest {
        format!(
            "Give this virtual machine an IOMMU on its own host (QEMU: `-device intel-iommu` or \
             `-device amd-iommu`) or, on a real machine, turn on {setting} in the firmware setup"
        )
    } else {
        format!("Turn on {setting} in the firmware setup")
    };
    let (reason, fix) = match (clues.table.or(clues.hardware.then_some(true)), off) {
        (Some(false), Some(name)) => (
            format!(
                "firmware does not offer {technology}, and the kernel was started with `{name}=off`"
            ),
            format!("{firmware}, remove `{name}=off` from {CMDLINE}, and restart"),
        ),
        (Some(false), None) if needs_on => (
            format!("firmware does not offer {technology}"),
            format!("{firmware}, add `{own}=on` to {CMDLINE}, and restart"),
        ),
        (Some(false), None) => {
            (format!("firmware does not offer {technology}"), format!("{firmware} and restart"))
        }
        (Some(true), Some(name)) => (
            format!("firmware offers {technology}, but the kernel was started with `{name}=off`"),
            format!("Remove it from {CMDLINE} and restart"),
        ),
        (Some(true), None) if needs_on => (
            format!("firmware offers {technology}, but the kernel was started without `{own}=on`"),
            format!("Add it to {CMDLINE} and restart"),
        ),
        (Some(true), None) => (
            format!(
                "firmware offers {technology} and nothing turns it off, yet the kernel uses none"
            ),
            "Look for the cause with `dmesg | grep -i -e iommu -e dmar -e amd-vi`".to_owned(),
        ),
        (None, _) => (
            "firmware's ACPI tables cannot be seen, so that either side may be missing".to_owned(),
            format!(
                "{firmware}{}, and restart",
                if needs_on { format!(", add `{own}=on` to {CMDLINE}") } else { String::new() }
            ),
        ),
    };
    Absence { reason, fix }
}

const CMDLINE: &str = "the kernel command line (`GRUB_CMDLINE_LINUX_DEFAULT` in /etc/default/grub, then `update-grub`)";

#[cfg(test)]
mod tests {
    use super::*;

    fn said(maker: Maker, table: Option<bool>, cmdline: &str) -> String {
        let cmdline = Some(cmdline.to_owned());
        explain(&Clues { maker, guest: false, cmdline, table, hardware: false }).to_string()
    }

    #[test]
    fn tells_firmware_from_kernel() {
        let text = said(Maker::Intel, Some(false), "quiet intel_iommu=on");
        assert!(text.contains("firmware does not offer VT-d") && text.contains("`Intel VT-d`"));
        assert!(!text.contains("add `intel_iommu=on`"), "{text}");

        let text = said(Maker::Intel, Some(true), "quiet");
        assert!(text.contains("started without `intel_iommu=on`"), "{text}");
        assert!(!text.contains("firmware setup"), "{text}");

        let text = said(Maker::Intel, Some(false), "quiet");
        assert!(text.contains("firmware setup") && text.contains("add `intel_iommu=on`"), "{text}");
    }

    #[test]
    fn amd_needs_no_parameter_but_may_have_been_told_off() {
        let text = said(Maker::Amd, Some(false), "quiet");
        assert!(
            text.contains("AMD-Vi") && text.contains("`SVM`") && !text.contains("=on"),
            "{text}"
        );
        let text = said(Maker::Amd, Some(true), "amd_iommu=off");
        assert!(text.contains("started with `amd_iommu=off`"), "{text}");
        assert!(said(Maker::Amd, Some(true), "").contains("dmesg"));
    }

    #[test]
    fn says_when_it_cannot_tell() {
        let text = said(Maker::Intel, None, "");
        assert!(text.contains("cannot be seen") && text.contains("intel_iommu=on"), "{text}");
        let guest = Clues {
            maker: Maker::Intel,
            guest: true,
            cmdline: None,
            table: Some(false),
            hardware: false,
        };
        assert!(explain(&guest).fix.contains("-device intel-iommu"));
    }
}
