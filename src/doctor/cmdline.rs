//! The kernel command line that was meant, in the boot loaders' own files,
//! against the one that the kernel was started with. People edit the file of
//! another boot loader than the one that boots, or forget to make its
//! configuration anew.

use std::collections::BTreeSet;

use super::check::{Check, Id};
use crate::host::SysRoot;
use crate::host::sys::SysError;
use crate::passthrough::boot::grub::kernel_words;
use crate::pci::parse::cmdline_words;

/// What there is to compare.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// `/proc/cmdline`.
    pub running: Option<String>,
    /// What each file asks for.
    pub files: Vec<Asked>,
    /// Files and folders that are there and cannot be read.
    pub unread: Vec<String>,
}

/// One file of a boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where.
    pub path: String,
    /// Whose.
    pub loader: Loader,
    /// The parameters, on one line.
    pub line: String,
}

/// How a file comes to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    /// Made into grub.cfg by `update-grub`.
    GrubDefault,
    /// What GRUB reads.
    GrubMade,
    /// Made into boot entries by kernel-install or Proxmox' tool.
    KernelInstall,
    /// What systemd-boot reads.
    Entry,
}

/// Parameters that decide about passthrough; of the others no mismatch is said.
const MATTER: [&str; 18] = [
    "intel_iommu",
    "amd_iommu",
    "iommu",
    "intremap",
    "vfio-pci.ids",
    "vfio_iommu_type1.allow_unsafe_interrupts",
    "pcie_acs_override",
    "video",
    "initcall_blacklist",
    "module_blacklist",
    "modprobe.blacklist",
    "rd.driver.pre",
    "isolcpus",
    "nohz_full",
    "rcu_nocbs",
    "hugepages",
    "hugepagesz",
    "default_hugepagesz",
];

/// More files than any machine boots from.
const ENTRIES: usize = 64;

/// Files and folders; what is there and cannot be read is kept in mind.
struct Reader<'a> {
    sys: &'a SysRoot,
    unread: Vec<String>,
}

impl Reader<'_> {
    fn known<T>(&mut self, path: &str, read: Result<T, SysError>) -> Option<T> {
        if read.as_ref().is_err_and(|error| !error.is_missing()) {
            self.unread.push(path.to_owned());
        }
        read.ok()
    }

    fn text(&mut self, path: &str) -> Option<String> {
        self.known(path, self.sys.text(path))
    }

    /// The files of a folder that end so.
    fn files(&mut self, folder: &str, ending: &str) -> Vec<String> {
        let names = self.known(folder, self.sys.list(folder)).unwrap_or_default();
        let names = names.into_iter().filter(|name| is_a(name, ending)).take(ENTRIES);
        names.map(|name| format!("{folder}/{name}")).collect()
    }
}

/// Reads the files of all boot loaders that there are.
pub fn read(sys: &SysRoot) -> Facts {
    let mut from = Reader { sys, unread: Vec::new() };
    let mut files = Vec::new();
    let mut default = from.text("/etc/default/grub");
    for part in from.files("/etc/default/grub.d", "cfg") {
        if let (Some(all), Some(more)) = (&mut default, from.text(&part)) {
            *all += "\n";
            *all += &more;
        }
    }
    let asked = |path: &str, loader, line| Asked { path: path.to_owned(), loader, line };
    files.extend(default.map(|text| {
        asked("/etc/default/grub", Loader::GrubDefault, kernel_words(&text).join(" "))
    }));
    for path in ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"] {
        let line = from.text(path).and_then(|text| grub_made(&text));
        files.extend(line.map(|line| asked(path, Loader::GrubMade, line)));
    }
    let line = from.text("/etc/kernel/cmdline").map(|text| words(&text).join(" "));
    files.extend(line.map(|line| asked("/etc/kernel/cmdline", Loader::KernelInstall, line)));
    for folder in ["/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries"] {
        for path in from.files(folder, "conf") {
            files.extend(from.text(&path).map(|text| asked(&path, Loader::Entry, entry(&text))));
        }
    }
    Facts { running: sys.text("/proc/cmdline").ok(), files, unread: from.unread }
}

/// Whether a name ends so.
fn is_a(name: &str, ending: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, last)| last == ending)
}

/// The words of a command line, without the quotes that held some together.
fn words(line: &str) -> Vec<String> {
    let words = cmdline_words(line).map(|word| word.replace('"', ""));
    words.filter(|word| !word.is_empty()).collect()
}

/// What all `linux` lines of a grub.cfg have, recovery entries aside.
fn grub_made(text: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        matches!(words.next()?, "linux" | "linuxefi" | "linux16").then(|| line.trim())
    });
    lines
        .find(|line| !line.split_ascii_whitespace().any(|word| word == "single"))
        .map(str::to_owned)
}

/// The `options` lines of an entry of systemd-boot.
fn entry(text: &str) -> String {
    let options = text.lines().filter_map(|line| line.trim().strip_prefix("options"));
    let options = options.filter(|rest| rest.starts_with(char::is_whitespace));
    words(&options.collect::<Vec<_>>().join(" ")).join(" ")
}

/// The parameters that matter.
fn matter(line: &str) -> BTreeSet<String> {
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    words(line).into_iter().filter(|word| MATTER.contains(&name(word).as_str())).collect()
}

/// The check.
pub fn judge(facts: &Facts) -> Vec<Check> {
    let id = Id::Cmdline;
    let Some(running) = &facts.running else {
        return vec![Check::unknown(id, "/proc/cmdline cannot be read", "")];
    };
    let has = matter(running);
    let list = |words: &BTreeSet<String>| words.iter().cloned().collect::<Vec<_>>().join(" ");
    let lacks = |file: &Asked| -> BTreeSet<String> {
        matter(&file.line).difference(&has).cloned().collect()
    };
    // Old entries stay beside the one that was booted.
    let entry_fits = facts.files.iter().any(|file| {
        file.loader == Loader::Entry && lacks(file).is_empty() && matter(&file.line) == has
    });
    let differs =
        |file: &&Asked| !(lacks(file).is_empty() || (file.loader == Loader::Entry && entry_fits));
    let wrong: Vec<&Asked> = facts.files.iter().filter(differs).collect();
    if wrong.is_empty() {
        let seen = if has.is_empty() { "nothing about passthrough".into() } else { list(&has) };
        let seen = format!("running with: {seen}");
        return vec![match facts.unread.as_slice() {
            [] => Check::ok(id, seen),
            unread => self::unread(unread, &format!("{seen}; ")),
        }];
    }
    let made = facts.files.iter().find(|file| file.loader == Loader::GrubMade);
    let other = facts.files.iter().find(|file| lacks(file).is_empty() && !has.is_empty());
    wrong
        .into_iter()
        .map(|file| {
            let missing = lacks(file);
            let seen = format!(
                "{} says `{}`, and the running kernel has not got it",
                file.path,
                list(&missing)
            );
            let seen = match other {
                Some(other) if other.loader != file.loader => {
                    format!("{seen}; it seems to have been started from {}", other.path)
                }
                _ => seen,
            };
            let in_made = made.is_some_and(|made| missing.is_subset(&matter(&made.line)));
            Check::warning(id, seen, fix(file.loader, in_made))
        })
        .chain((!facts.unread.is_empty()).then(|| unread(&facts.unread, "")))
        .collect()
}

/// What a file that nobody can read asks for is not known.
fn unread(paths: &[String], before: &str) -> Check {
    let all = paths.join(", ");
    let seen = format!("{before}not readable, so what it asks for is not known: {all}");
    Check::unknown(Id::Cmdline, seen, "run it as root, or ask the daemon: systemctl start hostd")
}

fn fix(loader: Loader, in_made: bool) -> &'static str {
    match loader {
        Loader::GrubDefault if !in_made => {
            "update-grub, then restart (grub2-mkconfig -o /boot/grub2/grub.cfg where there is no \
             update-grub); if it stays so, another loader boots: `bootctl status`, `efibootmgr -v`"
        }
        Loader::GrubDefault | Loader::GrubMade => {
            "restart; if it stays so, another boot loader boots this machine: `bootctl status`, \
             `efibootmgr -v`"
        }
        Loader::KernelInstall => {
            "proxmox-boot-tool refresh (Proxmox) or kernel-install add-all, then restart; if it \
             stays so, GRUB boots this machine: write it to /etc/default/grub and run update-grub"
        }
        Loader::Entry => {
            "restart, and choose this entry; `bootctl list` shows which is the default"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::host::fake::FakeHost;
    use proptest::prelude::*;

    fn machine(running: &str, files: &[(&str, &str)]) -> Vec<Check> {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/proc/cmdline", format!("{running}\n")).unwrap();
        for (path, text) in files {
            fake.file(path, text).unwrap();
        }
        judge(&read(&fake.host().sys))
    }

    const GRUB: &str = "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet intel_iommu=on\" # x\n\
                        GRUB_CMDLINE_LINUX='iommu=pt'\n";

    #[test]
    fn what_was_asked_for_is_there() {
        let checks =
            machine("root=/dev/sda1 quiet intel_iommu=on iommu=pt", &[("/etc/default/grub", GRUB)]);
        assert_eq!(checks.len(), 1);
        assert_eq!(checks[0].status, Severity::Ok);
        assert_eq!(checks[0].evidence, "running with: intel_iommu=on iommu=pt");
        assert_eq!(machine("quiet", &[])[0].status, Severity::Ok);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_unknown_and_so_is_a_folder() {
        let with = |make: &dyn Fn(&FakeHost)| {
            let dir = tempfile::tempdir().unwrap();
            let fake = FakeHost::new(dir.path());
            fake.file("/proc/cmdline", "quiet\n").unwrap();
            make(&fake);
            judge(&read(&fake.host().sys))
        };
        let dir = with(&|fake| fake.dir("/boot/grub/grub.cfg").unwrap());
        assert_eq!((dir.len(), dir[0].status), (1, Severity::Unknown), "{dir:?}");
        assert!(dir[0].evidence.ends_with("not known: /boot/grub/grub.cfg"), "{dir:?}");
        let list = with(&|fake| fake.file("/boot/loader/entries", "no folder").unwrap());
        assert_eq!((list.len(), list[0].status), (1, Severity::Unknown), "{list:?}");
        // What is wrong elsewhere does not hide it.
        let both = with(&|fake| {
            fake.file("/etc/default/grub", GRUB).unwrap();
            fake.dir("/boot/grub/grub.cfg").unwrap();
        });
        let all: Vec<Severity> = both.iter().map(|check| check.status).collect();
        assert_eq!(all, [Severity::Warning, Severity::Unknown], "{both:?}");
    }

    #[test]
    fn the_file_was_edited_and_not_taken_over() {
        let checks = machine(
            "quiet",
            &[
                ("/etc/default/grub", GRUB),
                ("/boot/grub/grub.cfg", "menuentry x {\n\tlinux /vmlinuz root=x quiet\n}\n"),
            ],
        );
        assert_eq!((checks.len(), checks[0].status), (1, Severity::Warning));
        assert!(checks[0].evidence.starts_with("/etc/default/grub says `intel_iommu=on iommu=pt`"));
        assert!(checks[0].fix.starts_with("update-grub"), "{:?}", checks[0]);
    }

    #[test]
    fn the_file_of_another_loader_was_edited() {
        let checks = machine(
            "root=ZFS=rpool quiet amd_iommu=on",
            &[
                ("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"iommu=pt video=efifb:off\"\n"),
                ("/etc/kernel/cmdline", "root=ZFS=rpool quiet amd_iommu=on\n"),
            ],
        );
        assert_eq!((checks.len(), checks[0].status), (1, Severity::Warning));
        let seen = "it seems to have been started from /etc/kernel/cmdline";
        assert!(checks[0].evidence.contains(seen), "{:?}", checks[0]);
    }

    #[test]
    fn old_entries_beside_the_booted_one_are_fine() {
        let new = ("/boot/efi/loader/entries/new.conf", "title x\noptions quiet intel_iommu=on\n");
        let old = ("/boot/efi/loader/entries/old.conf", "options quiet isolcpus=2-7\n");
        assert_eq!(machine("quiet intel_iommu=on", &[new, old])[0].status, Severity::Ok);
        let checks = machine("quiet", &[new]);
        assert!(checks[0].fix.contains("choose this entry"), "{checks:?}");
    }

    #[test]
    fn made_files_and_quotes_are_read() {
        let made = "linux /vmlinuz single\n linux /vmlinuz quiet iommu=pt\n";
        assert_eq!(grub_made(made).as_deref(), Some("linux /vmlinuz quiet iommu=pt"));
        assert_eq!(words("a=\"b c\"  d"), ["a=b c", "d"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(GRUB_CMDLINE_LINUX=|linux |options |['\"$+=]|\\PC|\n){0,40}") {
            let _ = (kernel_words(&text), grub_made(&text), entry(&text), words(&text));
        }
    }
}
