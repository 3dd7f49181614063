//! Where the files of a VM lie.

use std::path::PathBuf;

use crate::base::Name;
use crate::host::Host;

/// The folder of all VMs below the runtime and the state folder.
pub const FOLDER: &str = "vms";

/// The files of one VM, as paths for QEMU and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// QEMU's control socket.
    pub qmp: PathBuf,
    /// QEMU's own note of its number.
    pub pidfile: PathBuf,
    /// What QEMU says on standard output and error.
    pub log: PathBuf,
    /// What the firmware says on its debug port.
    pub firmware_log: PathBuf,
    /// The variables of UEFI firmware: outlives boots.
    pub vars: PathBuf,
    /// The serial port's socket.
    pub serial: PathBuf,
    /// What the guest has written to its serial port.
    pub serial_log: PathBuf,
}

impl Paths {
    /// The files of `vm` on this host.
    pub fn new(host: &Host, vm: &Name) -> Self {
        let runtime = |file| host.runtime.path(name(vm, file));
        Self {
            qmp: runtime(QMP),
            pidfile: runtime(PIDFILE),
            log: runtime(LOG),
            firmware_log: runtime(FIRMWARE_LOG),
            vars: host.state.path(name(vm, VARS)),
            serial: runtime(SERIAL),
            serial_log: runtime(SERIAL_LOG),
        }
    }
}

/// QEMU's control socket.
pub const QMP: &str = "qmp.sock";
/// QEMU's own note of its number.
pub const PIDFILE: &str = "qemu.pid";
/// QEMU's messages of this run.
pub const LOG: &str = "qemu.log";
/// QEMU's messages of the run before.
pub const OLD_LOG: &str = "qemu.log.1";
/// The firmware's messages of this run.
pub const FIRMWARE_LOG: &str = "firmware.log";
/// The serial port's socket.
pub const SERIAL: &str = "serial.sock";
/// What the guest has written to its serial port.
pub const SERIAL_LOG: &str = "serial.log";
/// The guest's picture, while it is taken; beside [`QMP`], where QEMU may write.
pub const SCREEN: &str = "screen.png";
/// What the owner's hooks have said.
pub const HOOKS_LOG: &str = "hooks.log";
/// hostd's note of what it has done for the VM; see [`super::record`].
pub const RECORD: &str = "state.json";
/// How the name of a note begins that is being written.
pub const HALF_RECORD: &str = "state.new-";
/// UEFI variables.
pub const VARS: &str = "OVMF_VARS.fd";
/// UUID and hardware address; see [`super::identity`].
pub const IDENTITY: &str = "identity.json";

/// The folder of `vm` as the stores name it.
pub fn folder(vm: &Name) -> PathBuf {
    PathBuf::from(FOLDER).join(vm.as_str())
}

/// A file of `vm` as the stores name it.
pub fn name(vm: &Name, file: &str) -> PathBuf {
    folder(vm).join(file)
}

/// Whether `vm` has firmware variables of its own.
pub fn has_vars(host: &Host, vm: &Name) -> bool {
    host.state.list(folder(vm)).is_ok_and(|names| names.iter().any(|name| name == VARS))
}
