//! What the tests of this room share.

use std::time::Duration;

use super::identity::Identity;
use super::paths::Paths;
use crate::base::Bytes;
use crate::config::{Accel, AfterDeadline, Network, Stop, Vm};

/// A VM that runs anywhere.
pub(crate) fn vm() -> Vm {
    Vm {
        cpus: 1,
        accel: Accel::Tcg,
        network: Network::None,
        stop: Stop { deadline: Duration::from_secs(1), then: AfterDeadline::Quit },
        ..Vm::plain("gaming".parse().unwrap(), Bytes(64 << 20))
    }
}

/// Its identity.
pub(crate) fn identity() -> Identity {
    let text = r#"{"uuid":"6f9619ff-8b86-4011-b42d-00cf4fc964ff","mac":"52:54:00:6f:96:19"}"#;
    serde_json::from_str(text).unwrap()
}

/// Its files where a server has them.
pub(crate) fn paths() -> Paths {
    Paths {
        qmp: "/run/hostd/vms/gaming/qmp.sock".into(),
        pidfile: "/run/hostd/vms/gaming/qemu.pid".into(),
        log: "/run/hostd/vms/gaming/qemu.log".into(),
        firmware_log: "/run/hostd/vms/gaming/firmware.log".into(),
        vars: "/var/lib/hostd/vms/gaming/OVMF_VARS.fd".into(),
        serial: "/run/hostd/vms/gaming/serial.sock".into(),
        serial_log: "/run/hostd/vms/gaming/serial.log".into(),
    }
}
