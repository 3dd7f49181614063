//! The names of the D-Bus contract.

/// Well-known name on the system bus.
pub const BUS: &str = "org.hostd.Host1";
/// The object of everything; those of VMs are below it.
pub const OBJECT: &str = "/org/hostd/Host1";
/// Overview and version.
pub const HOST: &str = "org.hostd.Host1";
/// IOMMU groups.
pub const IOMMU: &str = "org.hostd.Host1.Iommu";
/// Graphics cards.
pub const GPU: &str = "org.hostd.Host1.Gpu";
/// What is set up for the next boot.
pub const BOOT: &str = "org.hostd.Host1.Boot";
/// VMs.
pub const VM: &str = "org.hostd.Host1.Vm";
/// USB devices.
pub const USB: &str = "org.hostd.Host1.Usb";
/// The serial ports of guests.
pub const CONSOLE: &str = "org.hostd.Host1.Console";
/// One VM, on an object of its own.
pub const VIRTUAL_MACHINE: &str = "org.hostd.Host1.VirtualMachine";
/// Pools.
pub const POOL: &str = "org.hostd.Host1.Pool";
/// What is done by itself.
pub const CARE: &str = "org.hostd.Host1.Care";
/// Disks.
pub const DISK: &str = "org.hostd.Host1.Disk";
/// The machine itself.
pub const MACHINE: &str = "org.hostd.Host1.Machine";
/// Watched services.
pub const SERVICE: &str = "org.hostd.Host1.Service";
/// What was.
pub const HISTORY: &str = "org.hostd.Host1.History";
/// Events of the index.
pub const EVENT: &str = "org.hostd.Host1.Event";
/// Prefix of the error names.
pub const ERROR: &str = "org.hostd.Error.";

/// The private socket of an installed hostd.
pub const SOCKET: &str = "/run/hostd/control.sock";
/// The group whose members act over the private socket.
pub const GROUP: &str = "hostd";
