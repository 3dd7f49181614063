//! What of this machine decides how a VM's line is written.

use crate::config::Vm;
use crate::host::Host;
use crate::host::sys::Kind;

/// Looking Glass's kernel module has made its device.
pub const KVMFR: &str = "/dev/kvmfr0";

/// What of this machine decides how the line is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The kernel moves the packets of a tap.
    pub vhost: bool,
    /// Looking Glass's memory is that of its kernel module.
    pub kvmfr: bool,
    /// The processor is AMD's, whose threads a guest sees with `topoext` only.
    pub amd: bool,
    /// Of the VM's disks, in their order.
    pub disks: Vec<DiskFacts>,
}

/// What is known about a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// A block device, not a file.
    pub block: bool,
    /// It can be opened past the host's page cache.
    pub direct: bool,
}

impl Facts {
    /// Looks at the machine. May hang where a disk does.
    pub fn read(host: &Host, vm: &Vm) -> Self {
        let there = |path: &str| matches!(host.sys.kind(path), Ok(Kind::Char));
        // The first processor speaks for all.
        let processor = host.sys.head("/proc/cpuinfo", 4096).unwrap_or_default();
        Self {
            vhost: there("/dev/vhost-net"),
            kvmfr: there(KVMFR),
            amd: String::from_utf8_lossy(&processor).contains("AuthenticAMD"),
            disks: vm
                .disks
                .iter()
                .map(|disk| DiskFacts {
                    block: matches!(host.sys.kind(&disk.path), Ok(Kind::Block)),
                    direct: host.sys.takes_direct(&disk.path),
                })
                .collect(),
        }
    }
}
