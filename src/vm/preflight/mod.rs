//! What can be known to go wrong before anything is touched. Needs no root,
//! reads only; all problems at once, each with the next step. What cannot be
//! known is among the warnings, as is what a VM can do without.
//!
//! - here: QEMU, firmware, network, disks, files and sockets
//! - `host`: processors and memory
//! - `lent`: devices of the host

mod host;
mod lent;

use std::path::Path;

use super::argv::{MAX_DISKS, MAX_SATA, on_ahci};
use super::paths::{self, Paths};
use super::qemu::program;
use crate::ask::{Code, Refusal};
use crate::base::with_sources;
use crate::config::{
    Accel, Disk, DiskFormat, Display, Firmware, Hook, Network, Sound, Viewers, Vm,
};
use crate::host::Host;
use crate::host::sys::Kind;

/// One reason why a start would fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is the case; names the object.
    pub what: String,
    /// What to do.
    pub next: String,
    /// The key of the VM's file that it is about; empty for none or several.
    pub key: &'static str,
}

impl Problem {
    /// What is the case, and what to do.
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into(), key: "" }
    }

    /// The same, about a key of the VM's file.
    #[must_use]
    pub fn about(self, key: &'static str) -> Self {
        Self { key, ..self }
    }
}

/// The longest path of a unix socket, without the end mark.
const SOCKET_LIMIT: usize = 107;

/// How a qcow2 image begins.
const QCOW2: &[u8] = b"QFI\xfb";

/// Everything that stands against starting `vm`.
pub fn check(host: &Host, vm: &Vm, paths: &Paths) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut about = |key: &'static str, problems: Vec<Problem>| {
        found.extend(problems.into_iter().map(|problem| problem.about(key)));
    };
    let one = |problem: Option<Problem>| problem.into_iter().collect();
    about("qemu", one(check_qemu(host, &vm.qemu)));
    about("machine", one(check_machine(vm)));
    about("accel", one(check_accel(host, vm.accel)));
    about("firmware", check_firmware(host, vm));
    about("network", one(check_network(host, &vm.network)));
    about("disks", vm.disks.iter().filter_map(|disk| check_disk(host, disk)).collect());
    about("disks", check_places(vm).into_iter().collect());
    host::check(host, vm, &mut about);
    lent::check(host, vm, &mut about);
    about("tpm", check_tpm(host, vm).into_iter().collect());
    about("display", check_display(host, vm).into_iter().collect());
    let hooks = vm.hooks.before_start.iter().chain(&vm.hooks.after_stop);
    about("hooks", hooks.filter_map(|hook| check_hook(host, hook)).collect());
    if let Some((what, next)) = super::snapshot::unfinished(host, &vm.name) {
        found.push(Problem::new(what, next));
    }
    // The longest of them all: which ones there are is up to the VM's file.
    let longest = [&paths.qmp, &paths.agent, &paths.serial, &paths.tpm, &paths.display];
    let longest = longest.into_iter().max_by_key(|path| path.as_os_str().len());
    if let Some(path) = longest.filter(|path| path.as_os_str().len() > SOCKET_LIMIT) {
        let what = format!("{} is too long for a socket's path", path.display());
        found.push(Problem::new(what, "use a shorter --runtime-dir or VM name"));
    }
    found
}

/// What is no reason not to start, and what cannot be known.
pub fn warnings(host: &Host, vm: &Vm) -> Vec<String> {
    let mut found = host::warnings(host, vm);
    found.extend(lent::warnings(host, vm));
    if vm.hyperv && vm.accel == Accel::Tcg {
        found.push("Hyper-V's enlightenments are left out: QEMU has them with KVM only".to_owned());
    }
    found
}

/// All problems as one refusal; `None` when there are none.
pub fn refusal(vm: &Vm, problems: &[Problem]) -> Option<Refusal> {
    let (first, rest) = problems.split_first()?;
    let list = |of: fn(&Problem) -> &str| -> String {
        std::iter::once(first).chain(rest).map(of).collect::<Vec<_>>().join("\n")
    };
    let message = format!("`{}` cannot start: {}", vm.name, list(|problem| &problem.what));
    Some(Refusal::new(Code::Refused, message, list(|problem| &problem.next)))
}

fn check_qemu(host: &Host, qemu: &Path) -> Option<Problem> {
    program(host, qemu).is_none().then(|| {
        Problem::new(
            format!("QEMU is not there: {} does not exist", qemu.display()),
            "install it (Debian: `apt install qemu-system-x86`) or correct `qemu:` in the VM's file",
        )
    })
}

fn check_machine(vm: &Vm) -> Option<Problem> {
    (!vm.machine.contains("q35")).then(|| {
        Problem::new(
            format!("machine `{}` has no PCI Express ports", vm.machine),
            "use `machine: q35` or one of its versions, such as `pc-q35-7.2`",
        )
    })
}

fn check_accel(host: &Host, accel: Accel) -> Option<Problem> {
    match accel {
        Accel::Tcg => None,
        // Opening it is what QEMU will do; nothing is read from it.
        Accel::Kvm => match host.sys.head("/dev/kvm", 0) {
            Ok(_) => None,
            Err(error) if error.is_missing() => Some(Problem::new(
                "there is no /dev/kvm",
                "turn on virtualization (SVM, VT-x) in the firmware setup and load kvm_amd or \
                 kvm_intel; or use `accel: tcg`, which is slow",
            )),
            Err(error) => Some(Problem::new(
                with_sources(&error),
                "run hostd as root or in the group of /dev/kvm",
            )),
        },
    }
}

fn check_firmware(host: &Host, vm: &Vm) -> Vec<Problem> {
    match &vm.firmware {
        Firmware::Seabios { .. } => Vec::new(),
        Firmware::Ovmf { code, vars, .. } => {
            let next = "install OVMF (Debian: `apt install ovmf`) or correct `firmware:`";
            // The template is needed for the first start only.
            let template = (!paths::has_vars(host, &vm.name)).then_some(vars);
            std::iter::once(code)
                .chain(template)
                .filter_map(|file| readable_file(host, file, next))
                .collect()
        }
    }
}

fn readable_file(host: &Host, file: &Path, next: &str) -> Option<Problem> {
    match host.sys.kind(file).and_then(|kind| host.sys.head(file, 1).map(|_| kind)) {
        Ok(Kind::File) => None,
        Ok(Kind::Folder | Kind::Block | Kind::Char | Kind::Other) => {
            Some(Problem::new(format!("{} is not a file", file.display()), next))
        }
        Err(error) => Some(Problem::new(with_sources(&error), next)),
    }
}

fn check_network(host: &Host, network: &Network) -> Option<Problem> {
    match network {
        Network::None | Network::User => None,
        Network::Tap(name) => {
            let tap = format!("/sys/class/net/{name}/tun_flags");
            (name.contains('/') || !host.sys.exists(tap)).then(|| {
                Problem::new(
                    format!("there is no tap `{name}`"),
                    format!("make it (`ip tuntap add {name} mode tap`), or use a bridge"),
                )
            })
        }
        Network::Bridge(name) => {
            let bridge = format!("/sys/class/net/{name}/bridge");
            (name.contains('/') || !host.sys.exists(bridge)).then(|| {
                Problem::new(
                    format!("there is no bridge `{name}`"),
                    format!("make it (`ip link add {name} type bridge`), or use `network: user`"),
                )
            })
        }
    }
}

/// Whether there is room for everything.
fn check_places(vm: &Vm) -> Vec<Problem> {
    let mut found = Vec::new();
    let sata = vm.disks.iter().filter(|disk| on_ahci(disk)).count();
    if vm.disks.len() > MAX_DISKS {
        let what = format!("{} disks are more than the machine has slots for", vm.disks.len());
        found.push(Problem::new(what, format!("use at most {MAX_DISKS}")));
    }
    if sata > MAX_SATA {
        let what = format!("{sata} SATA disks and CD-ROM drives are more than there are ports");
        found.push(Problem::new(what, format!("use at most {MAX_SATA}; the others on `scsi`")));
    }
    found
}

fn check_tpm(host: &Host, vm: &Vm) -> Option<Problem> {
    (vm.tpm && program(host, Path::new("swtpm")).is_none()).then(|| {
        Problem::new(
            "the TPM's program is not there: swtpm",
            "install it (Debian: `apt install swtpm`), or take `tpm` out of the VM's file",
        )
    })
}

fn check_display(host: &Host, vm: &Vm) -> Vec<Problem> {
    let mut found = Vec::new();
    if vm.sound == Sound::Spice && !matches!(vm.display, Display::Spice(_)) {
        found.push(Problem::new(
            "sound goes to SPICE, and there is no SPICE display",
            "use another `sound`, or a `display` with SPICE",
        ));
    }
    let (viewers, vnc) = match &vm.display {
        Display::Off => return found,
        Display::Spice(viewers) => (viewers, false),
        Display::Vnc(viewers) => (viewers, true),
    };
    let Viewers::Tcp { address, password_file } = viewers else { return found };
    if vnc && address.port() < 5900 {
        let what = format!("VNC has no display at port {}", address.port());
        found.push(Problem::new(what, "use a port from 5900 on"));
    }
    if let Some(file) = password_file {
        found.extend(readable_file(host, file, "write the display's password into it"));
    }
    found
}

fn check_hook(host: &Host, hook: &Hook) -> Option<Problem> {
    let run = hook.run.first().map_or("", String::as_str);
    program(host, Path::new(run)).is_none().then(|| {
        Problem::new(format!("hook `{run}` does not exist"), "write it, or correct `hooks:`")
    })
}

fn check_disk(host: &Host, disk: &Disk) -> Option<Problem> {
    let shown = disk.path.display();
    if !disk.path.is_absolute() {
        let what = format!("disk {shown}: the path does not begin with /");
        return Some(Problem::new(what, "write the whole path"));
    }
    let kind = match host.sys.kind(&disk.path) {
        Ok(kind) => kind,
        Err(error) => {
            let next = "create it, or correct `disks:` in the VM's file";
            return Some(Problem::new(format!("disk {}", with_sources(&error)), next));
        }
    };
    match kind {
        Kind::File | Kind::Block => {}
        Kind::Folder | Kind::Char | Kind::Other => {
            let what = format!("disk {shown} is neither a file nor a block device");
            return Some(Problem::new(what, "name an image file or a block device"));
        }
    }
    let head = match host.sys.head(&disk.path, QCOW2.len() as u64) {
        Ok(head) => head,
        Err(error) => {
            let next = "run hostd as root, or let it read the disk";
            return Some(Problem::new(format!("disk {}", with_sources(&error)), next));
        }
    };
    match (disk.format, head == QCOW2) {
        (DiskFormat::Qcow2, true) | (DiskFormat::Raw, false) => None,
        (DiskFormat::Qcow2, false) => Some(Problem::new(
            format!("disk {shown} is not a qcow2 image"),
            "use `format: raw`, or convert it with `qemu-img convert -O qcow2`",
        )),
        (DiskFormat::Raw, true) => Some(Problem::new(
            format!("disk {shown} is a qcow2 image; as raw the guest would see its inside"),
            "use `format: qcow2`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::vm::tests::vm;

    fn disk(path: &str, format: DiskFormat) -> Disk {
        Disk { format, ..Disk::plain(path, 1) }
    }

    fn problems(fake: &FakeHost, vm: &Vm) -> Vec<String> {
        let host = fake.host();
        let found = check(&host, vm, &Paths::new(&host, &vm.name));
        assert!(found.iter().all(|problem| !problem.next.is_empty()));
        found.into_iter().map(|problem| problem.what).collect()
    }

    #[test]
    fn lists_everything_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/srv/qcow", b"QFI\xfb and more").unwrap();
        fake.file("/srv/raw", b"").unwrap();
        fake.dir("/srv/folder").unwrap();
        let vm = Vm {
            machine: "pc".into(),
            accel: Accel::Kvm,
            firmware: Firmware::Ovmf {
                code: "/no/CODE.fd".into(),
                vars: "/no/VARS.fd".into(),
                secure: false,
            },
            network: Network::Bridge("br0".into()),
            disks: vec![
                disk("/srv/none", DiskFormat::Raw),
                disk("/srv/qcow", DiskFormat::Raw),
                disk("/srv/raw", DiskFormat::Qcow2),
                disk("/srv/folder", DiskFormat::Raw),
                disk("relative", DiskFormat::Raw),
            ],
            ..vm()
        };
        insta::assert_snapshot!(problems(&fake, &vm).join("\n"), @r"
        QEMU is not there: /usr/bin/qemu-system-x86_64 does not exist
        machine `pc` has no PCI Express ports
        there is no /dev/kvm
        /no/CODE.fd does not exist
        /no/VARS.fd does not exist
        there is no bridge `br0`
        disk /srv/none does not exist
        disk /srv/qcow is a qcow2 image; as raw the guest would see its inside
        disk /srv/raw is not a qcow2 image
        disk /srv/folder is neither a file nor a block device
        disk relative: the path does not begin with /
        ");
    }

    #[test]
    fn a_machine_in_order_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        for file in ["/usr/bin/qemu-system-x86_64", "/dev/kvm", "/srv/raw", "/fw/CODE", "/fw/VARS"]
        {
            fake.file(file, b"x").unwrap();
        }
        fake.dir("/sys/class/net/br0/bridge").unwrap();
        let mut vm = Vm {
            qemu: "qemu-system-x86_64".into(),
            accel: Accel::Kvm,
            firmware: Firmware::Ovmf {
                code: "/fw/CODE".into(),
                vars: "/fw/VARS".into(),
                secure: false,
            },
            network: Network::Bridge("br0".into()),
            disks: vec![disk("/srv/raw", DiskFormat::Raw)],
            ..vm()
        };
        assert_eq!(problems(&fake, &vm), [""; 0]);
        // Once the variables are the VM's own, the template is not needed.
        fake.remove("/fw/VARS").unwrap();
        assert_eq!(problems(&fake, &vm), ["/fw/VARS does not exist"]);
        fake.host().state.write("vms/gaming/OVMF_VARS.fd", "").unwrap();
        assert_eq!(problems(&fake, &vm), [""; 0]);
        vm.disks = vec![vm.disks[0].clone(); MAX_DISKS + 1];
        assert_eq!(problems(&fake, &vm).len(), 1);
    }

    #[test]
    fn programs_places_and_passwords() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/usr/bin/qemu-system-x86_64", b"x").unwrap();
        fake.file("/srv/raw", b"").unwrap();
        let hook = |run: &str| Hook {
            run: vec![run.to_owned()],
            deadline: std::time::Duration::from_secs(1),
        };
        let address = "127.0.0.1:80".parse().unwrap();
        let sata = Disk { cdrom: true, ..disk("/srv/raw", DiskFormat::Raw) };
        let vm = Vm {
            tpm: true,
            hyperv: true,
            disks: vec![sata; MAX_SATA + 1],
            sound: Sound::Spice,
            display: Display::Vnc(Viewers::Tcp { address, password_file: Some("/pw".into()) }),
            hooks: crate::config::Hooks {
                before_start: vec![hook("qemu-system-x86_64"), hook("/opt/a")],
                after_stop: vec![hook("b")],
            },
            ..vm()
        };
        insta::assert_snapshot!(problems(&fake, &vm).join("\n"), @r"
        7 SATA disks and CD-ROM drives are more than there are ports
        the TPM's program is not there: swtpm
        sound goes to SPICE, and there is no SPICE display
        VNC has no display at port 80
        /pw does not exist
        hook `/opt/a` does not exist
        hook `b` does not exist
        ");
        insta::assert_snapshot!(warnings(&fake.host(), &vm).join("\n"), @r"
        how much memory there is is not known: /proc/meminfo does not say
        Hyper-V's enlightenments are left out: QEMU has them with KVM only
        ");
    }

    #[test]
    fn one_refusal_carries_all() {
        let problem = |n: u8| Problem::new(format!("what {n}"), format!("next {n}"));
        let refusal = refusal(&vm(), &[problem(1), problem(2)]).unwrap();
        assert_eq!(refusal.message, "`gaming` cannot start: what 1\nwhat 2");
        assert_eq!(refusal.hint, "next 1\nnext 2");
        assert_eq!(super::refusal(&vm(), &[]), None);
    }
}
