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
    /// The guest agent's socket.
    pub agent: PathBuf,
    /// The serial port's socket.
    pub serial: PathBuf,
    /// What the guest has written to its serial port.
    pub serial_log: PathBuf,
    /// swtpm's socket for QEMU.
    pub tpm: PathBuf,
    /// The socket for those who look at the guest's picture.
    pub display: PathBuf,
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
            agent: runtime(AGENT),
            serial: runtime(SERIAL),
            serial_log: runtime(SERIAL_LOG),
            tpm: runtime(TPM),
            display: runtime(DISPLAY),
        }
    }
}

/// The folder that belongs to QEMU's user: what QEMU itself makes is in here,
/// and nothing that hostd would open. The one around it is hostd's.
pub const QEMU: &str = "q";
/// QEMU's control socket.
pub const QMP: &str = "q/qmp.sock";
/// QEMU's own note of its number.
pub const PIDFILE: &str = "q/qemu.pid";
/// swtpm's socket for QEMU.
pub const TPM: &str = "q/swtpm.sock";
/// QEMU's messages of this run.
pub const LOG: &str = "qemu.log";
/// QEMU's messages of the run before.
pub const OLD_LOG: &str = "qemu.log.1";
/// The firmware's messages of this run.
pub const FIRMWARE_LOG: &str = "firmware.log";
/// The guest's picture, while it is taken; beside [`QMP`], where QEMU may write.
pub const SCREEN: &str = "screen.png";
/// What the owner's hooks have said.
pub const HOOKS_LOG: &str = "hooks.log";
/// The guest agent's socket.
pub const AGENT: &str = "q/agent.sock";
/// The serial port's socket.
pub const SERIAL: &str = "q/serial.sock";
/// What the guest has written to its serial port.
pub const SERIAL_LOG: &str = "serial.log";
/// The socket for those who look at the guest's picture.
pub const DISPLAY: &str = "q/display.sock";
/// hostd's note of what it has done for the VM; see [`super::record`].
pub const RECORD: &str = "state.json";
/// What is in the name of a note that is being written.
pub const HALF_NOTE: &str = ".new-";
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

/// The tap that joins `vm` to its bridge. The kernel takes 15 bytes, a VM's
/// name may have more: a hash of it (FNV-1a) is the same at every start.
pub fn tap_name(vm: &Name) -> String {
    let hash = vm
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("hd-{hash:08x}")
}

/// The shared memory of `vm`'s Looking Glass, where its kernel module is not.
pub fn looking_glass(vm: &Name) -> PathBuf {
    PathBuf::from(format!("/dev/shm/looking-glass-{vm}"))
}

/// Whether `vm` has firmware variables of its own.
pub fn has_vars(host: &Host, vm: &Name) -> bool {
    host.state.list(folder(vm)).is_ok_and(|names| names.iter().any(|name| name == VARS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_has_a_name_that_the_kernel_takes_and_that_stays() {
        assert_eq!(tap_name(&"gaming".parse().unwrap()), "hd-7b685cf0");
        assert_ne!(tap_name(&"a".parse().unwrap()), tap_name(&"b".parse().unwrap()));
    }
}
