//! What a start would do, as a value that can be printed. The supervisor walks
//! the same steps in the same order, and shows the one it is at in the same
//! words.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::argv::{self, Facts, Start, argv, unpinned};
use super::devices::{Devices, Lent};
use super::identity::{self, Identity, Mac, Uuid};
use super::paths::{self, Paths};
use super::performance;
use super::preflight::{self, Problem};
use super::qemu::{self, AskError, Capabilities};
use crate::ask::view::{VmArgvView, VmPlanView, VmProblemView};
use crate::ask::{Code, Refusal};
use crate::base::{PciAddress, with_sources};
use crate::config::{Firmware, GpuRef, Hook, Network, Pinning, Vm};
use crate::host::Host;
use crate::passthrough::Passthrough;

/// One step of a start, in the order of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Run a command of the owner.
    Hook(String),
    /// Make the runtime folder and rotate its log.
    Folder(PathBuf),
    /// Keep the version of the machine type for all later starts.
    Machine(String),
    /// Make the VM's own copy of the firmware's variables.
    Variables {
        /// The template.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
    },
    /// Make a snapshot of the disks.
    Snapshot {
        /// How many of those that hostd made by itself are kept.
        keep: u32,
    },
    /// Make room on the host, in words: memory, processors, quiet.
    Room(String),
    /// Make the tap that joins the guest to its bridge.
    Tap {
        /// The tap.
        tap: String,
        /// The bridge.
        bridge: String,
    },
    /// Bind the card.
    Bind(GpuRef),
    /// Bind an NVMe controller.
    BindNvme(PciAddress),
    /// Start swtpm.
    Tpm(PathBuf),
    /// Start QEMU, its processors halted.
    Launch {
        /// The program.
        qemu: PathBuf,
    },
    /// Talk to QEMU, and make sure that it is ours.
    Connect(PathBuf),
    /// Let the guest run.
    Run,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook(run) => write!(f, "run the hook {run}"),
            Self::Folder(path) => write!(f, "make the folder {}", path.display()),
            Self::Machine(machine) => {
                write!(f, "keep {machine} as its machine type, so that its hardware stays")
            }
            Self::Variables { from, to } => {
                write!(f, "copy UEFI variables from {} to {}", from.display(), to.display())
            }
            Self::Snapshot { keep } => {
                write!(f, "make a snapshot of its disks, and keep the last {keep}")
            }
            Self::Room(how) => f.write_str(how),
            Self::Tap { tap, bridge } => write!(f, "make the tap {tap} on the bridge {bridge}"),
            Self::Bind(GpuRef::Name(name)) => write!(f, "bind graphics card `{name}`"),
            Self::Bind(GpuRef::Address(address)) => write!(f, "bind graphics card {address}"),
            Self::BindNvme(address) => write!(f, "bind NVMe controller {address}"),
            Self::Tpm(socket) => write!(f, "start swtpm at {}", socket.display()),
            Self::Launch { qemu } => write!(f, "start {} with halted processors", qemu.display()),
            Self::Connect(socket) => write!(f, "connect to QEMU at {}", socket.display()),
            Self::Run => f.write_str("let the guest run"),
        }
    }
}

/// What a start finds already made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// The VM has firmware variables of its own.
    pub variables: bool,
    /// The machine type that this start would keep, where none is kept yet.
    pub machine: Option<String>,
    /// What the host would do for it, in words.
    pub room: Vec<String>,
}

/// The steps of a start.
pub fn steps(vm: &Vm, paths: &Paths, made: &Made) -> Vec<Step> {
    let folder = paths.qmp.parent().unwrap_or(&paths.qmp).to_owned();
    let mut steps: Vec<Step> = vm.hooks.before_start.iter().map(hook).collect();
    steps.push(Step::Folder(folder));
    steps.extend(made.machine.clone().map(Step::Machine));
    match &vm.firmware {
        Firmware::Ovmf { vars, .. } if !made.variables => {
            steps.push(Step::Variables { from: vars.clone(), to: paths.vars.clone() });
        }
        Firmware::Ovmf { .. } | Firmware::Seabios { .. } => {}
    }
    if vm.snapshots.before_start {
        steps.push(Step::Snapshot { keep: vm.snapshots.keep });
    }
    steps.extend(made.room.iter().cloned().map(Step::Room));
    if let Network::Bridge(bridge) = &vm.network {
        let tap = paths::tap_name(&vm.name);
        steps.push(Step::Tap { tap, bridge: bridge.clone() });
    }
    steps.extend(vm.gpu.clone().map(Step::Bind));
    steps.extend(vm.nvme.iter().map(|nvme| Step::BindNvme(nvme.address)));
    if vm.tpm {
        steps.push(Step::Tpm(paths.tpm.clone()));
    }
    steps.push(Step::Launch { qemu: vm.qemu.clone() });
    steps.push(Step::Connect(paths.qmp.clone()));
    steps.push(Step::Run);
    steps
}

fn hook(hook: &Hook) -> Step {
    let words = hook.run.iter().map(|word| crate::host::run::quoted(word.as_ref()));
    Step::Hook(words.collect::<Vec<_>>().join(" "))
}

/// A start that has not happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In their order.
    pub steps: Vec<Step>,
    /// What stands against it.
    pub problems: Vec<Problem>,
    /// What to know, and what is not known.
    pub warnings: Vec<String>,
    /// QEMU's machine type, with its version where it is known.
    pub machine: String,
    /// QEMU's version, where it is known.
    pub version: Option<String>,
    /// The command line, with a start token of zeros.
    pub argv: Vec<OsString>,
    /// The same for a shell.
    pub command: String,
}

/// What is known from elsewhere.
#[derive(Debug, Default)]
pub struct Known {
    /// The functions of the VM's card, where they are known.
    pub functions: Vec<PciAddress>,
    /// What its QEMU can do; `None` where it was not asked.
    pub qemu: Option<Result<Capabilities, AskError>>,
}

/// What starting `vm` would do, with everything asked that can be. Changes
/// nothing; needs neither root nor a daemon.
pub async fn preview(host: &Host, cards: &Passthrough, vm: &Vm) -> Result<Plan, Refusal> {
    let mut known = Known::default();
    // The programs of another machine's files are not run here.
    if host.sys.is_real() {
        known.qemu = Some(qemu::look(host, &vm.qemu).await);
    }
    let mut said = Vec::new();
    let mut against = None;
    if let Some(gpu) = &vm.gpu {
        known.functions = cards.functions(vm).await;
        match cards.plan(gpu, false).await.map_err(Refusal::from) {
            Ok(plan) => said = plan.warnings,
            // Who may not look has not seen a reason.
            Err(refusal) if refusal.code == Code::Failed || refusal.code == Code::Denied => {
                said.push(format!("whether the card can be bound is not known: {refusal}"));
            }
            Err(refusal) => {
                against = Some(Problem::new(refusal.message, refusal.hint).about("gpu"));
            }
        }
    }
    let (host, vm) = (host.clone(), vm.clone());
    // A disk may hang; who asks does not hang with it.
    let planned = tokio::task::spawn_blocking(move || plan(&host, &vm, &known)).await;
    let fail = |error: tokio::task::JoinError| Refusal::new(Code::Failed, error.to_string(), "");
    let mut plan = planned.map_err(fail)??;
    plan.problems.extend(against);
    plan.warnings.extend(said);
    Ok(plan)
}

/// What to do about a host that has not enough room.
const ROOM: &str = "give the VM less, or correct `pinning`, `hugepages` or `performance`";

/// NUMA node of a device; nothing where there is only one.
pub fn pci_node(host: &Host, device: PciAddress) -> Option<u32> {
    host.sys.text(format!("/sys/bus/pci/devices/{device}/numa_node")).ok()?.parse().ok()
}

/// The same with what is known from elsewhere.
pub fn plan(host: &Host, vm: &Vm, known: &Known) -> Result<Plan, Refusal> {
    let paths = Paths::new(host, &vm.name);
    let fail = |error: &dyn fmt::Display| Refusal::new(Code::Failed, error.to_string(), "");
    let mut problems = preflight::check(host, vm, &paths);
    let mut warnings = preflight::warnings(host, vm);
    let can = match &known.qemu {
        Some(Ok(can)) => Some(can),
        // That is among the problems.
        Some(Err(AskError::Missing(_))) => None,
        Some(Err(error)) => {
            warnings.push(format!("what QEMU can do is not known: {}", with_sources(error)));
            None
        }
        None => {
            warnings.push("what QEMU can do was not asked".to_owned());
            None
        }
    };
    let kept = identity::read(host, &vm.name).map_err(|error| fail(&error))?;
    if kept.is_none() {
        warnings.push("UUID and network address are made at the first start".to_owned());
    }
    let made = Identity { uuid: Uuid::ZERO, mac: Mac([0x52, 0x54, 0, 0, 0, 0]), machine: None };
    let mut identity = kept.unwrap_or(made);
    let mut first = Made { variables: paths::has_vars(host, &vm.name), ..Made::default() };
    if unpinned(&vm.machine) && identity.machine.is_none() {
        first.machine = can.and_then(|can| can.resolve(&vm.machine)).map(str::to_owned);
        identity.machine.clone_from(&first.machine);
    }
    let card = Lent { functions: guessed(vm, known, &mut warnings), ..Lent::default() };
    let node = card.functions.first().and_then(|device| pci_node(host, *device));
    let room = performance::plan(host, vm, node);
    let key = if vm.pinning == Pinning::Off { "memory" } else { "pinning" };
    problems.extend(room.problems.into_iter().map(|what| Problem::new(what, ROOM).about(key)));
    first.room = room.words;
    let facts = Facts::read(host, vm);
    let start = Start { identity: &identity, token: Uuid::ZERO, card: &card, facts: &facts };
    let argv = argv(vm, &paths, &start);
    problems.extend(can.map(|can| qemu::judge(vm, &argv, can)).unwrap_or_default());
    let pinned = identity.machine.filter(|_| unpinned(&vm.machine));
    Ok(Plan {
        steps: steps(vm, &paths, &first),
        problems,
        warnings,
        machine: pinned.unwrap_or_else(|| vm.machine.clone()),
        version: can.map(Capabilities::shown),
        command: argv::show(vm, &argv),
        argv,
    })
}

/// The functions that the card will have had.
fn guessed(vm: &Vm, known: &Known, warnings: &mut Vec<String>) -> Vec<PciAddress> {
    match (&vm.gpu, known.functions.as_slice()) {
        (None, _) => Vec::new(),
        (Some(GpuRef::Address(address)), []) => vec![*address],
        (Some(GpuRef::Name(name)), []) => {
            warnings.push(format!("the functions of card `{name}` are not known here"));
            Vec::new()
        }
        (Some(_), functions) => functions.to_vec(),
    }
}

impl From<Plan> for VmPlanView {
    fn from(plan: Plan) -> Self {
        let problem = |problem: Problem| VmProblemView { what: problem.what, next: problem.next };
        Self {
            steps: plan.steps.iter().map(ToString::to_string).collect(),
            problems: plan.problems.into_iter().map(problem).collect(),
            warnings: plan.warnings,
            machine: plan.machine,
            qemu: plan.version,
        }
    }
}

impl From<Plan> for VmArgvView {
    fn from(plan: Plan) -> Self {
        let words = plan.argv.iter().map(|arg| arg.to_string_lossy().into_owned());
        Self { args: words.collect(), command: plan.command }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Hooks, Nvme, Snapshots};
    use crate::host::fake::FakeHost;
    use crate::vm::tests::vm;
    use std::time::Duration;

    fn full() -> Vm {
        Vm {
            firmware: Firmware::Ovmf {
                code: "/fw/CODE".into(),
                vars: "/fw/VARS".into(),
                secure: false,
            },
            gpu: Some(GpuRef::Name("amd".parse().unwrap())),
            nvme: vec![Nvme { address: "04:00.0".parse().unwrap(), boot: 0 }],
            tpm: true,
            network: Network::Bridge("br0".into()),
            snapshots: Snapshots { before_start: true, keep: 3 },
            hooks: Hooks {
                before_start: vec![Hook {
                    run: vec!["/etc/hostd/up".into(), "it's".into()],
                    deadline: Duration::from_secs(1),
                }],
                after_stop: Vec::new(),
            },
            ..vm()
        }
    }

    fn shown(vm: &Vm, made: &Made) -> String {
        let steps = steps(vm, &crate::vm::tests::paths(), made);
        steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn says_every_step_in_order() {
        let room = vec!["set the governor to `performance`".into()];
        let made = Made { variables: false, machine: Some("pc-q35-7.2".into()), room };
        insta::assert_snapshot!(shown(&full(), &made), @r"
        run the hook /etc/hostd/up 'it'\''s'
        make the folder /run/hostd/vms/gaming
        keep pc-q35-7.2 as its machine type, so that its hardware stays
        copy UEFI variables from /fw/VARS to /var/lib/hostd/vms/gaming/OVMF_VARS.fd
        make a snapshot of its disks, and keep the last 3
        set the governor to `performance`
        make the tap hd-7b685cf0 on the bridge br0
        bind graphics card `amd`
        bind NVMe controller 0000:04:00.0
        start swtpm at /run/hostd/vms/gaming/swtpm.sock
        start /usr/bin/qemu-system-x86_64 with halted processors
        connect to QEMU at /run/hostd/vms/gaming/qmp.sock
        let the guest run
        ");
        let made = Made { variables: true, ..Made::default() };
        insta::assert_snapshot!(shown(&vm(), &made), @r"
        make the folder /run/hostd/vms/gaming
        start /usr/bin/qemu-system-x86_64 with halted processors
        connect to QEMU at /run/hostd/vms/gaming/qmp.sock
        let the guest run
        ");
    }

    #[test]
    fn a_preview_touches_nothing_and_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path()).host();
        let vm = Vm { gpu: Some(GpuRef::Address("01:00.0".parse().unwrap())), ..vm() };
        let plan = plan(&host, &vm, &Known::default()).unwrap();
        assert!(plan.command.contains("vfio-pci,host=0000:01:00.0"), "{}", plan.command);
        let view = VmPlanView::from(plan);
        assert!(view.problems[0].what.contains("QEMU is not there"), "{view:?}");
        let warnings = view.warnings.join("\n");
        assert!(warnings.contains("made at the first start"), "{warnings}");
        assert!(crate::host::SysRoot::new(dir.path()).list("/").unwrap().is_empty());
    }

    #[test]
    fn the_first_start_keeps_the_machine_that_it_finds() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/proc/sys/kernel/random/uuid", "6f9619ff-8b86-4011-b42d-00cf4fc964ff").unwrap();
        let host = fake.host();
        let newest = |name: &str| Known {
            qemu: Some(Ok(Capabilities {
                machines: [(name.to_owned(), Some("q35".to_owned()))].into(),
                ..Capabilities::default()
            })),
            ..Known::default()
        };
        let first = plan(&host, &vm(), &newest("pc-q35-7.2")).unwrap();
        assert!(first.steps.contains(&Step::Machine("pc-q35-7.2".into())));
        assert!(first.command.contains("type=pc-q35-7.2"), "{}", first.command);
        identity::pin_machine(&host, &vm().name, "pc-q35-7.2").unwrap();
        let later = plan(&host, &vm(), &newest("pc-q35-10.0")).unwrap();
        assert_eq!(later.machine, "pc-q35-7.2");
        assert!(!later.steps.iter().any(|step| matches!(step, Step::Machine(_))));
        // A QEMU without it is said before anything is touched.
        assert!(later.problems.iter().any(|one| one.what.contains("no machine type `pc-q35-7.2`")));
    }
}
