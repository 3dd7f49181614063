//! Files of our own: cards and tools in, texts out. Pure; the texts that stay
//! the same are in the folder `udev/` of the repository.

use std::fmt::Write;

use crate::base::PciAddress;

/// Sorts before `80-drivers.rules`, which loads the host's drivers.
pub const RULE: &str = "/etc/udev/rules.d/70-hostd-passthrough.rules";
/// For modprobe, on the machine and in the initramfs.
pub const MODPROBE: &str = "/etc/modprobe.d/hostd-passthrough.conf";
/// For update-initramfs.
pub const HOOK: &str = "/etc/initramfs-tools/hooks/hostd-passthrough";
/// For dracut.
pub const DRACUT: &str = "/etc/dracut.conf.d/hostd-passthrough.conf";
/// For GRUB where it reads a folder of settings.
pub const GRUB: &str = "/etc/default/grub.d/hostd-passthrough.cfg";

/// Every file that is ours alone.
pub const OWN: [&str; 5] = [RULE, MODPROBE, HOOK, DRACUT, GRUB];

/// Begins a line of each of them: whoever has lost the record still knows whose they are.
pub const MARK: &str = "# Made by hostd: hostctl boot setup. `hostctl boot remove` takes it away.";

/// What vfio-pci needs in an initramfs: it depends on `vfio-pci-core` and
/// `vfio`, and asks for its IOMMU backend by name (Linux, `drivers/vfio`).
const MODULES: &str = "vfio_pci vfio_iommu_type1 vfio";

/// One function of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor and device.
    pub id: (u16, u16),
    /// The board it has to be on, where the configuration says so.
    pub subsystem: Option<(u16, u16)>,
    /// The host's modules that would take it.
    pub modules: Vec<String>,
}

/// One card: everything in its slot but bridges, function 0 first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Configured name; the address where there is none.
    pub name: String,
    /// Its functions.
    pub functions: Vec<Function>,
}

/// A file of ours as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: &'static str,
    /// Permission bits: a hook is run.
    pub mode: u32,
    /// What.
    pub text: String,
}

/// Who builds the initramfs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Builders {
    /// Debian's and Ubuntu's.
    pub initramfs_tools: bool,
    /// Fedora's and openSUSE's; Debian has it too.
    pub dracut: bool,
    /// Arch's, which hostd does not set up.
    pub mkinitcpio: bool,
}

/// The mode of a file of ours: a hook is run.
pub fn mode(path: &str) -> u32 {
    if path == HOOK { 0o755 } else { 0o644 }
}

/// The files for these cards; `grub` are the words for GRUB's folder.
pub fn files(cards: &[Card], builders: Builders, disable_vga: bool, grub: &[String]) -> Vec<File> {
    let file = |path, text| File { path, mode: mode(path), text };
    let mut all = vec![file(RULE, rule(cards)), file(MODPROBE, modprobe(cards, disable_vga))];
    if builders.initramfs_tools {
        let text = include_str!("../../../udev/initramfs-tools-hook.in");
        let text = text.replace("# shellcheck source=/dev/null\n", "");
        all.push(file(HOOK, filled(&text)));
    }
    if builders.dracut {
        all.push(file(DRACUT, filled(include_str!("../../../udev/dracut.conf.in"))));
    }
    if !grub.is_empty() {
        let words = grub.join(" ");
        let text = format!(
            "{MARK}\n#\n# What the kernel needs for its IOMMU.\n\
             GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {words}\"\n"
        );
        all.push(file(GRUB, text));
    }
    all
}

fn filled(template: &str) -> String {
    let text = template.replace("@RULE@", RULE).replace("@MODPROBE@", MODPROBE);
    text.replace("@MODULES@", MODULES)
}

/// The udev rule. Two lines a function: the first is tried at every PCI device
/// that appears, through udev's `[subsystem/kernel]attribute` form; the second
/// at the function itself, and loads the module.
fn rule(cards: &[Card]) -> String {
    let mut lines = String::new();
    for card in cards {
        // A string takes what it is given.
        let _ = write!(lines, "\n# {}\n", card.name);
        let Some(first) = card.functions.first() else { continue };
        for function in &card.functions {
            let address = function.address;
            // It is this card only if its function 0 is.
            let whole = if address == first.address {
                String::new()
            } else {
                format!("{}, ", is(first, &format!("[pci/{}]", first.address)))
            };
            let from_afar = is(function, &format!("[pci/{address}]"));
            let itself = is(function, "");
            let _ = write!(
                lines,
                "{whole}{from_afar}, TEST!=\"[pci/{address}]driver\", \
                 ATTR{{[pci/{address}]driver_override}}=\"vfio-pci\"\n\
                 {whole}KERNEL==\"{address}\", {itself}, TEST!=\"driver\", \
                 ATTR{{driver_override}}=\"vfio-pci\", RUN{{builtin}}+=\"kmod load vfio-pci\"\n",
            );
        }
    }
    include_str!("../../../udev/70-hostd-passthrough.rules.in")
        .replace("@CARDS@\n", &(lines + "\n"))
}

/// What makes a function the one that is meant; `at` leads to its attributes.
fn is(function: &Function, at: &str) -> String {
    let Function { id: (vendor, device), subsystem, .. } = function;
    let mut all =
        format!("ATTR{{{at}vendor}}==\"0x{vendor:04x}\", ATTR{{{at}device}}==\"0x{device:04x}\"");
    if let Some((vendor, device)) = subsystem {
        // A string takes what it is given.
        let _ = write!(
            all,
            ", ATTR{{{at}subsystem_vendor}}==\"0x{vendor:04x}\", \
             ATTR{{{at}subsystem_device}}==\"0x{device:04x}\""
        );
    }
    all
}

fn modprobe(cards: &[Card], disable_vga: bool) -> String {
    let functions = cards.iter().flat_map(|card| &card.functions);
    let mut modules: Vec<&String> = functions.flat_map(|function| &function.modules).collect();
    modules.sort();
    modules.dedup();
    let mut lines = String::new();
    for module in modules {
        let _ = writeln!(lines, "softdep {module} pre: vfio-pci");
    }
    if disable_vga {
        lines += "\n# Every guest with a card boots by UEFI: the card's old VGA ports are not needed,\n\
                  # and the host's VGA arbiter can forget them (Linux, vfio_pci.c).\n\
                  options vfio-pci disable_vga=1\n";
    }
    include_str!("../../../udev/modprobe.conf.in").replace("@SOFTDEPS@\n", &lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::passthrough::boot) fn lab_card() -> Card {
        let function = |address: &str, id, module: &str| Function {
            address: address.parse().unwrap(),
            id,
            subsystem: None,
            modules: vec![module.to_owned()],
        };
        Card {
            name: "gaming".into(),
            functions: vec![
                function("0000:01:00.0", (0x1002, 0x5046), "aty128fb"),
                function("0000:01:00.1", (0x8086, 0x2668), "snd_hda_intel"),
            ],
        }
    }

    fn shown(files: &[File]) -> String {
        let one = |file: &File| format!("=== {} {:o}\n{}", file.path, file.mode, file.text);
        files.iter().map(one).collect()
    }

    #[test]
    fn golden() {
        let all = Builders { initramfs_tools: true, dracut: true, mkinitcpio: false };
        let words = ["intel_iommu=on".to_owned(), "iommu=pt".to_owned()];
        insta::assert_snapshot!("files_all", shown(&files(&[lab_card()], all, true, &words)));
        let mut other = lab_card();
        other.name = "0000:41:00.0".into();
        for function in &mut other.functions {
            (function.address.bus, function.modules) = (0x41, Vec::new());
        }
        let two = files(&[lab_card(), other], Builders::default(), false, &[]);
        insta::assert_snapshot!("files_two_cards", shown(&two));
    }

    #[test]
    fn every_file_says_whose_it_is_and_keeps_no_place_holder() {
        let all = Builders { initramfs_tools: true, dracut: true, mkinitcpio: true };
        let made = files(&[lab_card()], all, true, &["iommu=pt".to_owned()]);
        assert_eq!(made.iter().map(|file| file.path).collect::<Vec<_>>(), OWN);
        for file in made {
            assert!(file.text.lines().any(|line| line == MARK), "{}", file.path);
            assert!(!file.text.contains('@') && file.text.ends_with('\n'), "{}", file.text);
            assert_eq!(file.mode == 0o755, file.text.starts_with("#!"), "{}", file.path);
        }
    }

    #[test]
    fn a_board_that_is_configured_is_asked_for_at_every_function() {
        let mut card = lab_card();
        card.functions[0].subsystem = Some((0x1da2, 0xe353));
        let text = rule(&[card]);
        let lines: Vec<_> = text.lines().filter(|line| line.contains("driver_override")).collect();
        let (near, far) = ("ATTR{subsystem_", "ATTR{[pci/0000:01:00.0]subsystem_");
        for (line, at) in lines.iter().zip([far, near, far, far]) {
            let wanted = format!("{at}vendor}}==\"0x1da2\", {at}device}}==\"0xe353\"");
            assert!(line.contains(&wanted), "{line}");
            assert_eq!(line.matches("subsystem_vendor").count(), 1, "{line}");
        }
        assert_eq!(lines.len(), 4);
    }

    proptest! {
        #[test]
        fn each_function_is_named_with_its_identity(
            ids in prop::collection::vec((any::<u16>(), any::<u16>()), 1..8), bus in any::<u8>()
        ) {
            let functions: Vec<Function> = (0..).zip(&ids).map(|(number, id)| Function {
                address: PciAddress { domain: 0, bus, device: 3, function: number },
                id: *id,
                subsystem: None,
                modules: Vec::new(),
            }).collect();
            let text = rule(&[Card { name: "x".into(), functions: functions.clone() }]);
            for Function { address, id, .. } in functions {
                let of: Vec<_> = text.lines().filter(|line| {
                    line.contains(&format!("KERNEL==\"{address}\""))
                        || line.contains(&format!("{{[pci/{address}]driver_override}}="))
                }).collect();
                prop_assert_eq!(of.len(), 2);
                for line in of {
                    let device = format!("==\"0x{:04x}\"", id.1);
                    prop_assert!(line.contains(&device), "{}", line);
                    // No line is longer than udev reads (16 KiB; 8 KiB once).
                    prop_assert!(line.len() < 1000);
                }
            }
        }
    }
}
