//! The D-Bus interfaces: `org.hostd.Host1` and one for each kind of thing, all
//! on the object `/org/hostd/Host1`; below it each VM has an object of its own
//! ([`machine`]). What is watched is in `watched.rs`.
//!
//! Every method returns one string, the JSON document that the command named
//! in its comment prints with `--json`. Their shape is in `ask/view/`.
//! Errors are in `wire.rs`. `snapshots/` pins the whole of it.

mod console;
pub mod machine;
mod watched;

use zbus::connection::Builder;
use zbus::fdo::ObjectManager;
use zbus::message::Header;
use zbus::object_server::Interface;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, interface};

pub use self::console::Console;
pub use self::machine::VirtualMachine;
pub use self::watched::{Care, Disk, Event, History, Machine, Pool, Service};

use super::gate::Door;
use super::wire::Refused;
use super::{names, wire};
use crate::ask::view::VmView;
use crate::ask::{Ask, Code, Refusal, Secret};
use crate::base::Name;

fn name(text: &str) -> Result<Name, Refused> {
    text.parse::<Name>().map_err(|error| Refusal::new(Code::Usage, error.to_string(), "").into())
}

/// On the bus an empty string says "none": it has no null.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Overview, the doctor, and version.
pub struct Host(pub Door);

#[interface(name = "org.hostd.Host1")]
impl Host {
    /// `hostctl status`.
    async fn status(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::Status, on, &from).await
    }

    /// `hostctl doctor`. With `probe` it opens the devices of cards that nobody
    /// uses, which resets them, and needs `org.hostd.Host1.gpu.operate`.
    async fn doctor(
        &self,
        probe: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::Doctor { probe }, on, &from).await
    }

    /// Version of the daemon.
    #[allow(clippy::unused_self, reason = "the interface wants a method")]
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// IOMMU groups.
pub struct Iommu(pub Door);

#[interface(name = "org.hostd.Host1.Iommu")]
impl Iommu {
    /// `hostctl iommu list`.
    async fn list(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::IommuList, on, &from).await
    }

    /// `hostctl iommu show`: one group in full. Wakes devices that sleep.
    async fn show(
        &self,
        group: u32,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::IommuShow { group: Some(group) }, on, &from).await
    }

    /// `hostctl iommu list --full`: all groups in full. Wakes devices that sleep.
    async fn full(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::IommuShow { group: None }, on, &from).await
    }
}

/// Graphics cards. `gpu` is a configured name or an address; empty is the only one.
pub struct Gpu(pub Door);

#[interface(name = "org.hostd.Host1.Gpu")]
impl Gpu {
    /// `hostctl gpu list`.
    async fn list(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::GpuList, on, &from).await
    }

    /// `hostctl gpu quirks`; empty is all cards.
    async fn quirks(
        &self,
        gpu: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::GpuQuirks { gpu: given(gpu) }, on, &from).await
    }

    /// For `hostctl gpu rom dump`: the ROM in hexadecimal digits, and what it
    /// is. Needs `org.hostd.Host1.gpu.operate`.
    async fn rom_dump(
        &self,
        gpu: String,
        strip: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::GpuRomDump { gpu, strip }, on, &from).await
    }

    /// `hostctl gpu plan`: what `Bind`, or `Release`, would do.
    async fn plan(
        &self,
        gpu: String,
        release: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::GpuPlan { gpu: given(gpu), release }, on, &from).await
    }

    /// `hostctl gpu bind`. Needs `org.hostd.Host1.gpu.operate`.
    async fn bind(
        &self,
        gpu: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::GpuBind { gpu: given(gpu) }, on, &from).await
    }

    /// `hostctl gpu reset`. Needs `org.hostd.Host1.gpu.operate`.
    async fn reset(
        &self,
        gpu: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::GpuReset { gpu: given(gpu) }, on, &from).await
    }

    /// `hostctl gpu release`. Needs `org.hostd.Host1.gpu.operate`.
    async fn release(
        &self,
        gpu: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::GpuRelease { gpu: given(gpu) }, on, &from).await
    }
}

/// What is set up for the next boot. `gpus` are configured names or addresses;
/// none of them is all configured ones.
pub struct Boot(pub Door);

#[interface(name = "org.hostd.Host1.Boot")]
impl Boot {
    /// `hostctl boot plan`: what `Setup`, or `Remove`, would do.
    async fn plan(
        &self,
        gpus: Vec<String>,
        remove: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::BootPlan { gpus, remove }, on, &from).await
    }

    /// `hostctl boot setup`. Needs `org.hostd.Host1.boot.setup`; takes minutes.
    async fn setup(
        &self,
        gpus: Vec<String>,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::BootSetup { gpus }, on, &from).await
    }

    /// `hostctl boot remove`. Needs `org.hostd.Host1.boot.setup`; takes minutes.
    async fn remove(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::BootRemove, on, &from).await
    }

    /// `hostctl boot status`.
    async fn status(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::BootStatus, on, &from).await
    }
}

/// VMs.
pub struct Vm(pub Door);

#[interface(name = "org.hostd.Host1.Vm")]
impl Vm {
    /// `hostctl vm list`.
    async fn list(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmList, on, &from).await
    }

    /// `hostctl vm status`.
    async fn status(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmStatus { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm start`; answers when the VM runs or has failed to. Needs
    /// `org.hostd.Host1.vm.operate`.
    async fn start(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmStart { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm stop`; answers when the VM is off or has refused to go.
    /// Needs `org.hostd.Host1.vm.operate`.
    async fn stop(
        &self,
        name: &str,
        force: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmStop { name: self::name(name)?, force }, on, &from).await
    }

    /// `hostctl vm restart`. Needs `org.hostd.Host1.vm.operate`.
    async fn restart(
        &self,
        name: &str,
        force: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmRestart { name: self::name(name)?, force }, on, &from).await
    }

    /// `hostctl vm pause`. Needs `org.hostd.Host1.vm.operate`.
    async fn pause(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmPause { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm resume`. Needs `org.hostd.Host1.vm.operate`.
    async fn resume(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmResume { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm reset`. Needs `org.hostd.Host1.vm.operate`.
    async fn reset(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmReset { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm hibernate`. Needs `org.hostd.Host1.vm.operate`.
    async fn hibernate(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmHibernate { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm kill`. Needs `org.hostd.Host1.vm.operate`.
    async fn kill(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmKill { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm plan`: what `Start` would do, and what stands against it.
    async fn plan(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmPlan { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm argv`: QEMU's command line.
    async fn argv(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmArgv { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm log`.
    async fn log(
        &self,
        name: &str,
        firmware: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmLog { name: self::name(name)?, firmware }, on, &from).await
    }

    /// `hostctl vm attach … usb`; `device` is an id, a port or a part of the
    /// name. Needs `org.hostd.Host1.vm.operate`.
    async fn attach_usb(
        &self,
        name: &str,
        device: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmAttach { name: self::name(name)?, device }, on, &from).await
    }

    /// `hostctl vm detach … usb`. Needs `org.hostd.Host1.vm.operate`.
    async fn detach_usb(
        &self,
        name: &str,
        device: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmDetach { name: self::name(name)?, device }, on, &from).await
    }

    /// `hostctl vm media`; an empty `drive` is the only one, an empty `file`
    /// takes out what is in it. Needs `org.hostd.Host1.vm.operate`.
    async fn media(
        &self,
        name: &str,
        drive: String,
        file: String,
        force: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let (name, drive, file) = (self::name(name)?, given(drive), given(file));
        self.0.ask(Ask::VmMedia { name, drive, file, force }, on, &from).await
    }
    /// `hostctl vm snapshot list`.
    async fn snapshots(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmSnapshots { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm snapshot create`; a name is made up when `snapshot` is
    /// empty. Needs `org.hostd.Host1.vm.operate`.
    async fn snapshot_create(
        &self,
        name: &str,
        snapshot: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let snapshot = given(snapshot).map(|text| self::name(&text)).transpose()?;
        self.0.ask(Ask::VmSnapshotCreate { name: self::name(name)?, snapshot }, on, &from).await
    }

    /// `hostctl vm snapshot revert`; with `yes` newer snapshots of hostd's may
    /// go. Needs `org.hostd.Host1.vm.operate`.
    async fn snapshot_revert(
        &self,
        name: &str,
        snapshot: &str,
        yes: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let (name, snapshot) = (self::name(name)?, self::name(snapshot)?);
        self.0.ask(Ask::VmSnapshotRevert { name, snapshot, yes }, on, &from).await
    }

    /// `hostctl vm snapshot delete`. Needs `org.hostd.Host1.vm.operate`.
    async fn snapshot_delete(
        &self,
        name: &str,
        snapshot: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let (name, snapshot) = (self::name(name)?, self::name(snapshot)?);
        self.0.ask(Ask::VmSnapshotDelete { name, snapshot }, on, &from).await
    }
    /// `hostctl vm log --serial`. Needs `org.hostd.Host1.vm.console`.
    async fn serial_log(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmSerialLog { name: self::name(name)? }, on, &from).await
    }

    /// For `hostctl vm screenshot`: a PNG in hexadecimal digits. Needs
    /// `org.hostd.Host1.vm.console`.
    async fn screenshot(
        &self,
        name: &str,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmScreenshot { name: self::name(name)? }, on, &from).await
    }

    /// `hostctl vm sendkey`: each of `keys` is pressed and released, then `text`
    /// is typed. `hold` is in milliseconds, 0 is the usual time. Needs
    /// `org.hostd.Host1.vm.console`.
    async fn send_key(
        &self,
        name: &str,
        keys: Vec<String>,
        text: String,
        hold: u32,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let keys = keys.into_iter().map(Secret::new).collect();
        let (name, text) = (self::name(name)?, Secret::new(text));
        let hold = Some(hold).filter(|hold| *hold != 0);
        self.0.ask(Ask::VmSendKey { name, keys, text, hold }, on, &from).await
    }

    /// A VM has moved; `step` is what is being done, empty when at rest.
    #[zbus(signal)]
    async fn changed(
        emitter: &SignalEmitter<'_>,
        name: &str,
        state: &str,
        reason: &str,
        step: &str,
    ) -> zbus::Result<()>;
}

/// USB devices of the host.
pub struct Usb(pub Door);

#[interface(name = "org.hostd.Host1.Usb")]
impl Usb {
    /// `hostctl usb list`.
    async fn list(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::UsbList, on, &from).await
    }
}

/// A connection with all interfaces on its object, and an object for each of
/// `vms`. They are there before the first message is read: one that comes
/// earlier would never be answered.
pub fn publish<'a>(builder: Builder<'a>, door: &Door, vms: &[VmView]) -> Builder<'a> {
    let builder = builder
        .serve_at(names::OBJECT, ObjectManager)
        .serve_at(names::OBJECT, Host(door.clone()))
        .serve_at(names::OBJECT, Iommu(door.clone()))
        .serve_at(names::OBJECT, Gpu(door.clone()))
        .serve_at(names::OBJECT, Boot(door.clone()))
        .serve_at(names::OBJECT, Vm(door.clone()))
        .serve_at(names::OBJECT, Usb(door.clone()))
        .serve_at(names::OBJECT, Console(door.clone()))
        .serve_at(names::OBJECT, Pool(door.clone()))
        .serve_at(names::OBJECT, Care(door.clone()))
        .serve_at(names::OBJECT, Disk(door.clone()))
        .serve_at(names::OBJECT, Machine(door.clone()))
        .serve_at(names::OBJECT, Service(door.clone()))
        .serve_at(names::OBJECT, History(door.clone()))
        .serve_at(names::OBJECT, Event(door.clone()));
    vms.iter().fold(builder, |builder, vm| {
        builder.serve_at(machine::path(&vm.name), VirtualMachine::new(door.clone(), vm.clone()))
    })
}

/// Tells whoever listens on this connection how a VM is now.
pub async fn emit(connection: &Connection, door: &Door, vm: &VmView) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(connection, names::OBJECT)?;
    let (reason, step) = (wire::clean(&vm.reason), wire::clean(&vm.step));
    Vm::changed(&emitter, vm.name.as_str(), vm.state.as_str(), &reason, &step).await?;
    machine::update(connection, door, vm).await
}

/// What the interfaces say about themselves, by name.
pub(super) fn introspected() -> Vec<(String, String)> {
    fn one<I: Interface>(interface: &I) -> (String, String) {
        let mut xml = String::new();
        interface.introspect_to_writer(&mut xml, 0);
        (I::name().to_string(), xml)
    }
    let door = Door::nowhere();
    let mut all = vec![
        one(&Host(door.clone())),
        one(&Iommu(door.clone())),
        one(&Gpu(door.clone())),
        one(&Boot(door.clone())),
        one(&Vm(door.clone())),
        one(&Console(door.clone())),
        one(&Pool(door.clone())),
        one(&Care(door.clone())),
        one(&Disk(door.clone())),
        one(&Machine(door.clone())),
        one(&Service(door.clone())),
        one(&History(door.clone())),
        one(&Event(door.clone())),
    ];
    all.extend(VirtualMachine::example(door).as_ref().map(one));
    all.sort_unstable();
    all
}
