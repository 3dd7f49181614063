//! VMs without a usable file: it is wrong, or gone while its QEMU is not.
//!
//! What hostd noted at the start (token, process, card) is enough to find QEMU
//! again, to stop or kill it and to give its card back; only a start needs the
//! file. So such a VM has a supervisor like any other, which refuses to start
//! it and says why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::warn;

use super::{Deps, VmHandle, spawn_with};
use crate::ask::view::VmState;
use crate::ask::{Code, Refusal};
use crate::base::{Bytes, Name};
use crate::config::{Accel, AfterDeadline, Firmware, Network, Stop, Vm};
use crate::host::Host;
use crate::vm::lifecycle::Life;
use crate::vm::paths;

/// The guest's time when no file says another.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is the matter with a VM's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bar {
    /// It is wrong; all its problems, and how many in the last line.
    Wrong(String),
    /// It is gone.
    Gone,
}

impl Bar {
    /// In a few words, for a state's reason.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Wrong(problems) => {
                let count = problems.lines().last().unwrap_or_default();
                format!("its file is wrong: {count}; `hostctl config check` shows them")
            }
            Self::Gone => "its file is gone".to_owned(),
        }
    }

    /// To whoever wants to start the VM.
    pub(super) fn refusal(&self, vm: &Name) -> Refusal {
        match self {
            Self::Wrong(problems) => Refusal::new(
                Code::Usage,
                format!("VM {vm} cannot be used: its file is wrong\n{problems}"),
                "correct the file, then: systemctl restart hostd (running VMs go on)",
            ),
            Self::Gone => Refusal::new(
                Code::Usage,
                format!("VM {vm} cannot be started: its file is gone"),
                format!("write vms/{vm}.yaml again, then: systemctl restart hostd"),
            ),
        }
    }
}

/// A VM at rest whose file is wrong is not off: it could not be started.
pub(super) fn at_rest(bar: Option<&Bar>, life: Life) -> Life {
    match bar {
        Some(bar @ Bar::Wrong(_)) if life.state == VmState::Off => {
            Life::at(VmState::Failed, bar.reason())
        }
        Some(Bar::Wrong(_) | Bar::Gone) | None => life,
    }
}

/// Why it is in its state, and what is the matter with its file.
pub(super) fn reason(bar: Option<&Bar>, reason: &str) -> String {
    match bar.map(Bar::reason) {
        Some(bar) if bar != reason => format!("{reason}; {bar}"),
        Some(_) | None => reason.to_owned(),
    }
}

/// Supervises every VM that has no usable file: those of which it is `wrong`,
/// and those that an earlier hostd has left behind and are not `known`.
pub fn spawn_barred(
    deps: &Deps,
    known: &BTreeSet<Name>,
    wrong: &BTreeMap<Name, String>,
) -> Vec<(Name, VmHandle)> {
    let mut bars: BTreeMap<Name, Bar> =
        left_behind(&deps.host).into_iter().map(|name| (name, Bar::Gone)).collect();
    bars.extend(wrong.iter().map(|(name, problems)| (name.clone(), Bar::Wrong(problems.clone()))));
    bars.retain(|name, _| !known.contains(name));
    bars.into_iter()
        .map(|(name, bar)| {
            warn!(vm = %name, "cannot be started: {}", bar.reason());
            (name.clone(), spawn_with(deps.clone(), faceless(name), Some(bar)))
        })
        .collect()
}

/// The VMs of which a note or a control socket lies in the runtime folder.
fn left_behind(host: &Host) -> Vec<Name> {
    let names = host.runtime.list(paths::FOLDER).unwrap_or_default();
    let names = names.iter().filter_map(|name| name.parse::<Name>().ok());
    let left = |name: &Name| {
        let files = host.runtime.list(paths::folder(name)).unwrap_or_default();
        files.iter().any(|file| [paths::RECORD, paths::QMP].contains(&file.as_str()))
    };
    names.filter(left).collect()
}

/// A VM of which only the name is known. Nothing is ever started from it.
fn faceless(name: Name) -> Vm {
    Vm {
        cpus: 0,
        qemu: "".into(),
        accel: Accel::Tcg,
        machine: String::new(),
        // Its firmware log is shown if there is one.
        firmware: Firmware::Seabios { log: true },
        network: Network::None,
        stop: Stop { deadline: DEADLINE, then: AfterDeadline::Ask },
        ..Vm::plain(name, Bytes(0))
    }
}
