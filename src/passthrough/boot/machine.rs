//! What is read of the machine: its boot loader, who builds the initramfs, what
//! the kernel was started with and still needs, which modules would take a card.

use super::super::safe::words;
use super::files::Builders;
use super::words::{CMDLINE_FILE, GRUB_FILE, WORDS, grub_remove_any};
use super::{files, grub, text};
use crate::base::PciAddress;
use crate::host::SysRoot;
use crate::host::sys::Kind;
use crate::pci::parse::{Maker, cpu};
use crate::pci::read::{attribute, folder};

/// Where the kernel's words are written, and how they get into effect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loader {
    /// GRUB is in use; true when it reads `/etc/default/grub.d`.
    pub grub: Option<bool>,
    /// `/etc/kernel/cmdline` is in use.
    pub kernel_cmdline: bool,
    /// What makes it so, in words.
    pub evidence: String,
    /// Run after its files have changed.
    pub commands: Vec<Vec<String>>,
    /// What a person has to do, where hostd does not know how.
    pub by_hand: Option<String>,
}

/// Says which loader has started this kernel (systemd's Boot Loader Interface).
const LOADER_INFO: &str =
    "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Settings of GRUB in parts, where it is patched to read them.
const GRUB_PARTS: &str = "/etc/default/grub.d";
const PROXMOX: &str = "/etc/kernel/proxmox-boot-uuids";

fn is_file(sys: &SysRoot, path: &str) -> bool {
    matches!(sys.kind(path), Ok(Kind::File))
}

/// The first of these programs that is installed.
fn program(sys: &SysRoot, names: &[&str]) -> Option<String> {
    let found = names.iter().find(|name| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|folder| is_file(sys, &format!("{folder}/{name}")))
    });
    found.map(|name| (*name).to_owned())
}

/// Who builds the initramfs here.
pub fn builders(sys: &SysRoot) -> Builders {
    // Debian's dracut brings an update-initramfs of its own, but no hooks.
    let hooks = is_file(sys, "/usr/share/initramfs-tools/hook-functions");
    Builders {
        initramfs_tools: hooks && program(sys, &["update-initramfs"]).is_some(),
        dracut: program(sys, &["dracut"]).is_some(),
        mkinitcpio: program(sys, &["mkinitcpio"]).is_some(),
    }
}

/// Rebuilds every installed kernel's initramfs.
pub fn initramfs_commands(builders: Builders) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    if builders.initramfs_tools {
        all.push(command(&["update-initramfs", "-u", "-k", "all"]));
    }
    if builders.dracut {
        all.push(command(&["dracut", "--force", "--regenerate-all"]));
    }
    all
}

fn command(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Which loader starts this machine, from what it has left behind.
pub fn loader(sys: &SysRoot, cmdline: &str) -> Loader {
    let grub_tool = program(sys, &["update-grub", "grub-mkconfig", "grub2-mkconfig"]);
    let has_grub = is_file(sys, GRUB_FILE) && grub_tool.is_some();
    let has_cmdline = is_file(sys, CMDLINE_FILE);
    let info = sys.bytes(LOADER_INFO, 4096).unwrap_or_default();
    // UTF-16 behind four bytes of attributes; what is asked for is plain ASCII.
    let info: String = info
        .iter()
        .skip(4)
        .filter(|byte| byte.is_ascii_graphic())
        .map(|b| char::from(*b))
        .collect();
    let started_by_grub = words(cmdline).any(|word| word.starts_with("BOOT_IMAGE="));
    let (grub, cmdline, evidence) = if info.starts_with("systemd-boot") {
        (false, has_cmdline, "systemd-boot has started this kernel (LoaderInfo)")
    } else if started_by_grub && has_grub {
        (true, false, "GRUB has started this kernel (BOOT_IMAGE= on its command line)")
    } else if words(cmdline).any(|word| word.starts_with("initrd=")) && has_cmdline {
        (false, true, "an EFI loader has started this kernel (initrd= on its command line)")
    } else {
        match (has_grub, has_cmdline) {
            (true, true) => {
                (true, true, "GRUB and /etc/kernel/cmdline are both here: both are set")
            }
            (true, false) => (true, false, "/etc/default/grub is here"),
            (false, true) => (false, true, "/etc/kernel/cmdline is here"),
            (false, false) => (false, false, "no boot loader that hostd knows was found"),
        }
    };
    let mut loader = Loader {
        grub: grub.then(|| reads_folder(sys)),
        kernel_cmdline: cmdline,
        evidence: evidence.to_owned(),
        ..Loader::default()
    };
    if grub {
        let settings = said(sys, GRUB_FILE);
        if settings.lines().any(|line| line.trim() == "GRUB_ENABLE_BLSCFG=true") {
            // Fedora: the entries are files of their own, which grub-mkconfig leaves alone.
            loader.grub = None;
            loader.by_hand = Some("grubby --update-kernel=ALL --args=\"WORDS\"".to_owned());
        } else {
            loader.commands.extend(grub_tool.map(|tool| match tool.as_str() {
                "update-grub" => vec![tool],
                "grub-mkconfig" => command(&["grub-mkconfig", "-o", "/boot/grub/grub.cfg"]),
                _ => command(&["grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"]),
            }));
        }
    }
    let proxmox = program(sys, &["proxmox-boot-tool"]).is_some()
        && sys.text(PROXMOX).is_ok_and(|text| !text.trim().is_empty());
    if proxmox {
        loader.commands.push(command(&["proxmox-boot-tool", "refresh"]));
    } else if cmdline {
        loader.commands.extend(kernel_install(sys));
    }
    if loader.grub.is_none() && !cmdline && loader.by_hand.is_none() {
        loader.by_hand = Some(
            "add WORDS to the `options` line of each entry, such as /boot/loader/entries/*.conf"
                .to_owned(),
        );
    }
    loader
}

/// Debian and Ubuntu patch grub-mkconfig to read a folder of settings; GRUB's own does not.
fn reads_folder(sys: &SysRoot) -> bool {
    ["/usr/sbin/grub-mkconfig", "/sbin/grub-mkconfig", "/usr/bin/grub-mkconfig"]
        .iter()
        .any(|path| sys.text(path).is_ok_and(|text| text.contains("/default/grub.d/")))
}

/// One entry for each kernel that has a place; every version of kernel-install knows `add`.
fn kernel_install(sys: &SysRoot) -> Vec<Vec<String>> {
    if program(sys, &["kernel-install"]).is_none() {
        return Vec::new();
    }
    let versions = sys.list("/lib/modules").unwrap_or_default();
    let plain = |version: &&String| version.bytes().all(|b| b.is_ascii_graphic());
    let add = |version: &String| {
        let places =
            [format!("/boot/vmlinuz-{version}"), format!("/lib/modules/{version}/vmlinuz")];
        let image = places.into_iter().find(|path| is_file(sys, path))?;
        Some(command(&["kernel-install", "add", version, &image]))
    };
    versions.iter().filter(plain).filter_map(add).collect()
}

/// A file as far as it can be read.
fn said(sys: &SysRoot, path: &str) -> String {
    text::read(sys, path).map(|text| text.as_str().to_owned()).unwrap_or_default()
}

/// Whether these words have this one; `iommu=pt,strict` has `iommu=pt`.
fn has(words: &[String], word: &str) -> bool {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    words.iter().any(|one| match one.trim_matches('"').split_once('=') {
        Some((name, values)) => name == key && values.split(',').any(|one| one == value),
        None => one == word,
    })
}

/// More files than any machine boots from.
const MANY: usize = 64;

/// What each file that the loader starts kernels by gives to them, without
/// hostd's own; none when there is no such file that can be read.
fn given(sys: &SysRoot, loader: &Loader) -> Vec<Vec<String>> {
    let plain = |line: &str| words(line).map(str::to_owned).collect::<Vec<_>>();
    let mut sources = Vec::new();
    if let Some(folder) = loader.grub {
        let settings = said(sys, GRUB_FILE);
        let mut settings = grub_remove_any(&settings).unwrap_or_else(|left| left);
        let parts = if folder { sys.list(GRUB_PARTS) } else { Ok(Vec::new()) }.unwrap_or_default();
        let read = |part: &&String| part.rsplit_once('.').is_some_and(|(_, end)| end == "cfg");
        let paths = parts.iter().filter(read).take(MANY).map(|part| format!("{GRUB_PARTS}/{part}"));
        for path in paths.filter(|path| path != files::GRUB) {
            settings.push('\n');
            settings += &said(sys, &path);
        }
        sources.push(grub::kernel_words(&settings));
    }
    if loader.kernel_cmdline {
        sources.push(plain(&said(sys, CMDLINE_FILE)));
    }
    if sources.is_empty() {
        // Old entries stay beside the one that is booted: one that has a word is enough.
        let mut entries = Vec::new();
        for folder in ["/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries"] {
            for name in sys.list(folder).unwrap_or_default().iter().take(MANY) {
                let entry = said(sys, &format!("{folder}/{name}"));
                let options = entry.lines().filter_map(|line| line.trim().strip_prefix("options"));
                entries.extend(options.flat_map(plain));
            }
        }
        sources.extend((!entries.is_empty()).then_some(entries));
    }
    sources
}

/// The words the kernel needs and is not given by somebody else; `ours` are
/// those that hostd has added before. The loader's files say what the next
/// kernel is given: the line of the running one may still have words that a
/// removal has taken out, or that somebody has typed for one boot.
pub fn needed(
    sys: &SysRoot,
    loader: &Loader,
    cmdline: &str,
    groups: bool,
    ours: &[String],
) -> Vec<String> {
    let tables = sys.list("/sys/firmware/acpi/tables").unwrap_or_default();
    let has_table = |table: &str| tables.iter().any(|name| name == table);
    let (maker, _) = cpu(&sys.text("/proc/cpuinfo").unwrap_or_default());
    // Firmware knows best; VT-d may also be off in it.
    let vt_d = has_table("DMAR") || (maker == Maker::Intel && !has_table("IVRS"));
    let running: Vec<String> = words(cmdline).map(str::to_owned).collect();
    let mut needed = Vec::new();
    // Many kernels turn VT-d on by themselves; AMD's does where firmware offers
    // it. Groups that are there may be there because of the word.
    if vt_d && (!groups || has(&running, "intel_iommu=on")) {
        needed.push("intel_iommu=on".to_owned());
    }
    needed.push("iommu=pt".to_owned());
    let mut sources = given(sys, loader);
    if sources.is_empty() {
        // hostd writes nothing here; the running kernel is all that tells.
        sources.push(running);
    }
    let theirs = |word: &str| sources.iter().all(|source| has(source, word));
    let mut all: Vec<String> = needed.into_iter().filter(|word| !theirs(word)).collect();
    // What we have added stays, whatever it has brought about since.
    all.extend(ours.iter().cloned());
    WORDS.iter().filter(|word| all.iter().any(|w| w == *word)).map(|w| (*w).to_owned()).collect()
}

/// The host's modules that would take a function: by the alias table of the
/// running kernel, and the one that has it now.
pub fn modules(sys: &SysRoot, address: PciAddress) -> Vec<String> {
    let place = folder(address);
    let mut found: Vec<String> =
        sys.link_name(format!("{place}/driver/module")).into_iter().collect();
    let release = sys.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let table = sys.text(format!("/lib/modules/{}/modules.alias", release.trim()));
    if let (Ok(alias), Ok(table)) = (attribute(sys, &format!("{place}/modalias")), table) {
        found.extend(matching(&table, alias.trim()));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    found.retain(|name| !name.is_empty() && name.bytes().all(plain) && !name.starts_with("vfio"));
    for name in &mut found {
        *name = name.replace('-', "_");
    }
    found.sort();
    found.dedup();
    found
}

/// The modules whose aliases match; lines are `alias PATTERN MODULE`.
fn matching(table: &str, alias: &str) -> Vec<String> {
    let lines = table.lines().filter_map(|line| line.strip_prefix("alias pci:"));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    let alias = alias.strip_prefix("pci:").unwrap_or(alias);
    pairs.filter(|(pattern, _)| fits(pattern, alias)).map(|(_, m)| m.trim().to_owned()).collect()
}

/// `*` stands for anything; PCI aliases have no other pattern (Linux, `file2alias.c`).
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use proptest::prelude::*;

    fn fake() -> (tempfile::TempDir, FakeHost) {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        (dir, fake)
    }

    #[test]
    fn aliases_fit_like_the_kernels() {
        let alias = "pci:v00001002d00005046sv00000000sd00000000bc03sc00i00";
        let table = "# Aliases\nalias pci:v00001002d00005046sv*sd*bc*sc*i* aty128fb\n\
                     alias pci:v00001002d00006798sv*sd*bc03sc*i* radeon\n\
                     alias pci:v00001002d*sv*sd*bc03sc00i00* amdgpu\n\
                     alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\nalias usb:x y\n";
        assert_eq!(matching(table, alias), ["aty128fb", "amdgpu"]);
        assert!(fits("a*b", "ab") && fits("a*", "a") && !fits("a*ba", "aba-") && !fits("a", "ab"));
    }

    #[test]
    fn loaders_are_told_by_what_they_leave() {
        let (_dir, fake) = fake();
        let sys = fake.host().sys;
        assert!(loader(&sys, "").by_hand.unwrap().contains("/boot/loader/entries"));
        fake.file(CMDLINE_FILE, "root=x\n").unwrap();
        fake.file("/usr/bin/kernel-install", "").unwrap();
        fake.file("/lib/modules/6.1/modules.alias", "").unwrap();
        fake.file("/boot/vmlinuz-6.1", "").unwrap();
        let plain = loader(&sys, "root=x");
        assert!(plain.kernel_cmdline && plain.grub.is_none());
        assert_eq!(plain.commands, [["kernel-install", "add", "6.1", "/boot/vmlinuz-6.1"]]);
        fake.file(GRUB_FILE, "GRUB_TIMEOUT=1\n").unwrap();
        fake.file("/usr/sbin/update-grub", "").unwrap();
        fake.file("/usr/sbin/grub-mkconfig", "for x in ${sysconfdir}/default/grub.d/*.cfg")
            .unwrap();
        let grub = loader(&sys, "BOOT_IMAGE=/vmlinuz root=x");
        assert_eq!((grub.grub, grub.kernel_cmdline), (Some(true), false));
        assert_eq!(grub.commands, [["update-grub"]]);
        let both = loader(&sys, "root=x");
        assert!(both.grub.is_some() && both.kernel_cmdline && both.evidence.contains("both"));
        fake.file("/usr/sbin/proxmox-boot-tool", "").unwrap();
        fake.file(PROXMOX, "ABCD-1234\n").unwrap();
        let proxmox = loader(&sys, "initrd=\\EFI\\proxmox\\initrd root=x");
        assert_eq!(proxmox.commands, [["proxmox-boot-tool", "refresh"]]);
        assert!(proxmox.grub.is_none());
        let mut info = vec![6, 0, 0, 0];
        info.extend("systemd-boot 257".encode_utf16().flat_map(u16::to_le_bytes));
        fake.file(LOADER_INFO, info).unwrap();
        assert!(loader(&sys, "BOOT_IMAGE=x").evidence.starts_with("systemd-boot"));
        fake.remove(LOADER_INFO).unwrap();
        fake.file(GRUB_FILE, "GRUB_ENABLE_BLSCFG=true\n").unwrap();
        let fedora = loader(&sys, "BOOT_IMAGE=x");
        assert!(fedora.grub.is_none() && fedora.by_hand.unwrap().contains("grubby"));
    }

    #[test]
    fn only_words_that_are_missing_are_needed() {
        let (_dir, fake) = fake();
        let sys = fake.host().sys;
        fake.file("/proc/cpuinfo", "vendor_id\t: GenuineIntel\n").unwrap();
        let none: [String; 0] = [];
        let needed = |line: &str, groups, ours: &[String]| {
            needed(&sys, &Loader::default(), line, groups, ours)
        };
        assert_eq!(needed("quiet", false, &none), ["intel_iommu=on", "iommu=pt"]);
        assert_eq!(needed("quiet", true, &none), ["iommu=pt"]);
        // No file of a loader is known.
        assert_eq!(needed("intel_iommu=on,sm_on iommu=pt", true, &none), none);
        // What hostd has added before it keeps, though the kernel now has it.
        let ours = ["intel_iommu=on".to_owned(), "iommu=pt".to_owned()];
        assert_eq!(needed("intel_iommu=on iommu=pt", true, &ours), ours);
        fake.file("/boot/loader/entries/new.conf", "title x\noptions a iommu=pt\n").unwrap();
        assert_eq!(needed("intel_iommu=on", true, &none), ["intel_iommu=on"]);
        fake.file("/proc/cpuinfo", "vendor_id\t: AuthenticAMD\n").unwrap();
        assert_eq!(needed("quiet", false, &none), none);
        fake.file("/sys/firmware/acpi/tables/DMAR", "").unwrap();
        assert_eq!(needed("quiet", false, &none), ["intel_iommu=on"]);
    }

    #[test]
    fn files_count_and_not_what_one_boot_was_given() {
        let (_dir, fake) = fake();
        let sys = fake.host().sys;
        fake.file("/proc/cpuinfo", "vendor_id\t: GenuineIntel\n").unwrap();
        let both = ["intel_iommu=on".to_owned(), "iommu=pt".to_owned()];
        let line = "BOOT_IMAGE=x intel_iommu=on iommu=pt";
        let needed = |grub, kernel_cmdline| {
            let loader = Loader { grub, kernel_cmdline, ..Loader::default() };
            needed(&sys, &loader, line, true, &[])
        };
        // Typed once, or taken out since: the next kernel will not have them.
        fake.file(GRUB_FILE, b"# caf\xe9\nGRUB_CMDLINE_LINUX=quiet\n").unwrap();
        fake.file(CMDLINE_FILE, "root=x\n").unwrap();
        assert_eq!(needed(Some(true), false), both);
        assert_eq!(needed(None, true), both);
        // hostd's own are nobody else's, whatever became of the record.
        let ours = super::super::words::grub_add("GRUB_CMDLINE_LINUX=quiet\n", &both);
        fake.file(GRUB_FILE, ours).unwrap();
        fake.file(files::GRUB, "GRUB_CMDLINE_LINUX=\"intel_iommu=on iommu=pt\"\n").unwrap();
        assert_eq!(needed(Some(true), false), both);
        // The owner's, where they are read.
        fake.file("/etc/default/grub.d/mine.cfg", "GRUB_CMDLINE_LINUX+=\" iommu=pt\"\n").unwrap();
        assert_eq!(needed(Some(true), false), ["intel_iommu=on"]);
        assert_eq!(needed(Some(false), false), both);
        fake.file(CMDLINE_FILE, "root=x intel_iommu=on iommu=pt\n").unwrap();
        assert_eq!(needed(None, true), [""; 0]);
        assert_eq!(needed(Some(true), true), ["intel_iommu=on"]);
    }

    proptest! {
        #[test]
        fn any_pattern_and_table_is_taken(pattern in "[a-z*]{0,9}", text in "[a-z]{0,9}", any in "\\PC{0,60}") {
            if !pattern.contains('*') {
                prop_assert_eq!(fits(&pattern, &text), pattern == text);
            }
            let all = format!("*{text}*");
            prop_assert!(fits(&all, &text));
            let _ = (fits(&pattern, &text), matching(&any, &text));
        }
    }
}
