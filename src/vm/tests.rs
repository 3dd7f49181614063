//! What the tests of this room share.

use std::time::Duration;

use super::identity::Identity;
use super::paths::Paths;
use crate::base::Bytes;
use crate::config::{Accel, AfterDeadline, Firmware, GpuOptions, Network, Stop, Vm};

/// A VM that runs anywhere.
pub(crate) fn vm() -> Vm {
    Vm {
        name: "gaming".parse().unwrap(),
        memory: Bytes(64 << 20),
        cpus: 1,
        qemu: "/usr/bin/qemu-system-x86_64".into(),
        accel: Accel::Tcg,
        machine: "q35".into(),
        cpu: None,
        firmware: Firmware::Seabios { log: false },
        gpu: None,
        gpu_options: GpuOptions::default(),
        disks: Vec::new(),
        network: Network::None,
        stop: Stop { deadline: Duration::from_secs(1), then: AfterDeadline::Quit },
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
    }
}
