//! What a start would do, as a value that can be printed. The supervisor walks
//! the same steps in the same order, and shows the one it is at in the same
//! words.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::argv::{self, Facts, Start, argv};
use super::devices::Lent;
use super::identity::{self, Identity, Mac, Uuid};
use super::paths::{self, Paths};
use super::preflight;
use crate::ask::view::PlanView;
use crate::ask::{Code, Refusal};
use crate::base::PciAddress;
use crate::config::{Firmware, GpuRef, Vm};
use crate::host::Host;

/// One step of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the runtime folder and rotate its log.
    Folder(PathBuf),
    /// Make the VM's own copy of the firmware's variables.
    Variables {
        /// The template.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
    },
    /// Bind the card.
    Bind(GpuRef),
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
            Self::Folder(path) => write!(f, "make the folder {}", path.display()),
            Self::Variables { from, to } => {
                write!(f, "copy UEFI variables from {} to {}", from.display(), to.display())
            }
            Self::Bind(GpuRef::Name(name)) => write!(f, "bind graphics card `{name}`"),
            Self::Bind(GpuRef::Address(address)) => write!(f, "bind graphics card {address}"),
            Self::Launch { qemu } => write!(f, "start {} with halted processors", qemu.display()),
            Self::Connect(socket) => write!(f, "connect to QEMU at {}", socket.display()),
            Self::Run => f.write_str("let the guest run"),
        }
    }
}

/// The steps of a start. `own_vars`: the VM has its own variables already.
pub fn steps(vm: &Vm, paths: &Paths, own_vars: bool) -> Vec<Step> {
    let folder = paths.qmp.parent().unwrap_or(&paths.qmp).to_owned();
    let mut steps = vec![Step::Folder(folder)];
    match &vm.firmware {
        Firmware::Ovmf { vars, .. } if !own_vars => {
            steps.push(Step::Variables { from: vars.clone(), to: paths.vars.clone() });
        }
        Firmware::Ovmf { .. } | Firmware::Seabios { .. } => {}
    }
    steps.extend(vm.gpu.clone().map(Step::Bind));
    steps.push(Step::Launch { qemu: vm.qemu.clone() });
    steps.push(Step::Connect(paths.qmp.clone()));
    steps.push(Step::Run);
    steps
}

/// A start that has not happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In their order.
    pub steps: Vec<Step>,
    /// What stands against it, and what is not known yet.
    pub warnings: Vec<String>,
    /// The command line, with a start token of zeros.
    pub argv: Vec<OsString>,
    /// The same for a shell.
    pub command: String,
}

/// What starting `vm` would do. Reads only; needs neither root nor a daemon.
/// `functions` are those of its card, where they are known.
pub fn plan(host: &Host, vm: &Vm, functions: &[PciAddress]) -> Result<Plan, Refusal> {
    let paths = Paths::new(host, &vm.name);
    let fail = |error: &dyn fmt::Display| Refusal::new(Code::Failed, error.to_string(), "");
    let problems = preflight::check(host, vm, &paths);
    let mut warnings: Vec<String> =
        problems.into_iter().map(|problem| format!("{}: {}", problem.what, problem.next)).collect();
    let identity = identity::read(host, &vm.name).map_err(|error| fail(&error))?;
    let identity = identity.unwrap_or_else(|| {
        warnings.push("UUID and network address are made at the first start".to_owned());
        Identity { uuid: Uuid::ZERO, mac: Mac([0x52, 0x54, 0, 0, 0, 0]), machine: None }
    });
    let guessed = match (&vm.gpu, functions) {
        (None, _) => Vec::new(),
        (Some(GpuRef::Address(address)), []) => vec![*address],
        (Some(GpuRef::Name(name)), []) => {
            warnings.push(format!("the functions of card `{name}` are not known here"));
            Vec::new()
        }
        (Some(_), functions) => functions.to_vec(),
    };
    let own_vars = paths::has_vars(host, &vm.name);
    let card = Lent { functions: guessed, ..Lent::default() };
    let facts = Facts::read(host, vm);
    let start = Start { identity: &identity, token: Uuid::ZERO, card: &card, facts: &facts };
    let argv = argv(vm, &paths, &start);
    let command = argv::show(vm, &argv);
    Ok(Plan { steps: steps(vm, &paths, own_vars), warnings, argv, command })
}

impl From<&Plan> for PlanView {
    fn from(plan: &Plan) -> Self {
        Self {
            steps: plan.steps.iter().map(ToString::to_string).collect(),
            warnings: plan.warnings.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::vm::tests::vm;

    #[test]
    fn says_every_step_in_order() {
        let vm = Vm {
            firmware: Firmware::Ovmf {
                code: "/fw/CODE".into(),
                vars: "/fw/VARS".into(),
                secure: false,
            },
            gpu: Some(GpuRef::Name("amd".parse().unwrap())),
            ..vm()
        };
        let shown: Vec<String> =
            steps(&vm, &crate::vm::tests::paths(), false).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "make the folder /run/hostd/vms/gaming",
                "copy UEFI variables from /fw/VARS to /var/lib/hostd/vms/gaming/OVMF_VARS.fd",
                "bind graphics card `amd`",
                "start /usr/bin/qemu-system-x86_64 with halted processors",
                "connect to QEMU at /run/hostd/vms/gaming/qmp.sock",
                "let the guest run",
            ]
        );
        assert_eq!(steps(&vm, &crate::vm::tests::paths(), true).len(), 5);
    }

    #[test]
    fn a_preview_touches_nothing_and_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path()).host();
        let vm = Vm { gpu: Some(GpuRef::Address("01:00.0".parse().unwrap())), ..vm() };
        let plan = plan(&host, &vm, &[]).unwrap();
        assert!(plan.command.contains("vfio-pci,host=0000:01:00.0"), "{}", plan.command);
        let warnings = PlanView::from(&plan).warnings.join("\n");
        assert!(warnings.contains("QEMU is not there"), "{warnings}");
        assert!(warnings.contains("made at the first start"), "{warnings}");
        assert!(crate::host::SysRoot::new(dir.path()).list("/").unwrap().is_empty());
    }
}
