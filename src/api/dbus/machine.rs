//! One VM as an object: `/org/hostd/Host1/vm/<name>`. How it is are properties,
//! what can be done to it are methods; `GetManagedObjects` on
//! `/org/hostd/Host1` lists all of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use zbus::fdo::Properties;
use zbus::message::Header;
use zbus::names::InterfaceName;
use zbus::{Connection, Variant, interface};

use crate::api::gate::Door;
use crate::api::names;
use crate::api::wire::{Refused, clean};
use crate::ask::Ask;
use crate::ask::view::{VmState, VmView};
use crate::base::{Name, Timestamp};

/// The object of a VM. What cannot stand in a path is written as `_` and two
/// hexadecimal digits, as systemd does (`sd_bus_path_encode(3)`).
pub fn path(vm: &Name) -> String {
    let mut path = format!("{}/vm/", names::OBJECT);
    for (at, byte) in vm.as_str().bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            path.push(char::from(byte));
        } else {
            path.push('_');
            path.push_str(&crate::base::hex::hex(&[byte]));
        }
    }
    path
}

/// One VM.
pub struct VirtualMachine {
    door: Door,
    name: Name,
    /// A lock of its own: whoever waits for a start holds the object.
    view: Mutex<VmView>,
}

impl VirtualMachine {
    /// As it is now.
    pub fn new(door: Door, view: VmView) -> Self {
        Self { door, name: view.name.clone(), view: Mutex::new(view) }
    }

    /// One that is not there, for who only looks at the interface.
    pub(super) fn example(door: Door) -> Option<Self> {
        let name = "example".parse().ok()?;
        let view = VmView::new(name, VmState::Off, Timestamp::from_secs(0), "");
        Some(Self::new(door, view))
    }

    fn view(&self) -> VmView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in how it is now; what has changed by that.
    fn take(&self, now: &VmView) -> HashMap<&'static str, Variant<'static>> {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let old = properties(&view);
        view.clone_from(now);
        let new = properties(now).into_iter();
        new.filter(|(name, value)| old.get(name) != Some(value)).collect()
    }
}

/// All that may change.
fn properties(vm: &VmView) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([
        ("State", Variant::from(vm.state.as_str())),
        ("Since", Variant::from(since(vm))),
        ("Reason", Variant::from(clean(&vm.reason))),
        ("Step", Variant::from(clean(&vm.step))),
        ("Responsive", Variant::from(vm.responsive)),
        ("Held", Variant::from(vm.held)),
        ("Pid", Variant::from(vm.pid.unwrap_or(0))),
    ])
}

fn since(vm: &VmView) -> u64 {
    u64::try_from(vm.since.0).unwrap_or(0)
}

/// Sets the properties of a VM's object, and tells which have changed. One that
/// is not there yet is made.
pub async fn update(connection: &Connection, door: &Door, vm: &VmView) -> zbus::Result<()> {
    let server = connection.object_server();
    let path = path(&vm.name);
    let Ok(object) = server.interface::<_, VirtualMachine>(path.as_str()).await else {
        let made = VirtualMachine::new(door.clone(), vm.clone());
        return server.at(path, made).await.map(drop);
    };
    let changed = object.get().await.take(vm);
    if changed.is_empty() {
        return Ok(());
    }
    let interface = InterfaceName::from_static_str_unchecked(names::VIRTUAL_MACHINE);
    let none = Cow::Borrowed(&[][..]);
    Properties::properties_changed(object.signal_emitter(), interface, changed, none).await
}

#[interface(name = "org.hostd.Host1.VirtualMachine")]
impl VirtualMachine {
    /// From its file.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.to_string()
    }

    /// `off`, `preparing`, `starting`, `running`, `paused`, `stopping`,
    /// `crashed`, `failed`.
    #[zbus(property)]
    fn state(&self) -> String {
        self.view().state.as_str().to_owned()
    }

    /// Since when it is in this state, in microseconds since 1970.
    #[zbus(property)]
    fn since(&self) -> u64 {
        since(&self.view())
    }

    /// Why it is in this state.
    #[zbus(property)]
    fn reason(&self) -> String {
        clean(&self.view().reason)
    }

    /// What is being done; empty when at rest.
    #[zbus(property)]
    fn step(&self) -> String {
        clean(&self.view().step)
    }

    /// False when QEMU lives and does not answer.
    #[zbus(property)]
    fn responsive(&self) -> bool {
        self.view().responsive
    }

    /// True when it is paused because somebody wanted it so.
    #[zbus(property)]
    fn held(&self) -> bool {
        self.view().held
    }

    /// Of QEMU; 0 when there is none.
    #[zbus(property)]
    fn pid(&self) -> u32 {
        self.view().pid.unwrap_or(0)
    }

    /// `hostctl vm start`; answers when the VM runs or has failed to. Needs
    /// `org.hostd.Host1.vm.operate`, as do all of these.
    async fn start(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.door.ask(Ask::VmStart { name: self.name.clone() }, on, &from).await
    }

    /// `hostctl vm stop`; answers when the VM is off or has refused to go.
    async fn stop(
        &self,
        force: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.door.ask(Ask::VmStop { name: self.name.clone(), force }, on, &from).await
    }

    /// `hostctl vm restart`.
    async fn restart(
        &self,
        force: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.door.ask(Ask::VmRestart { name: self.name.clone(), force }, on, &from).await
    }

    /// `hostctl vm kill`.
    async fn kill(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.door.ask(Ask::VmKill { name: self.name.clone() }, on, &from).await
    }

    /// `hostctl vm pause`.
    async fn pause(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.door.ask(Ask::VmPause { name: self.name.clone() }, on, &from).await
    }

    /// `hostctl vm resume`.
    async fn resume(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.door.ask(Ask::VmResume { name: self.name.clone() }, on, &from).await
    }

    /// `hostctl vm reset`.
    async fn reset(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.door.ask(Ask::VmReset { name: self.name.clone() }, on, &from).await
    }

    /// `hostctl vm hibernate`.
    async fn hibernate(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.door.ask(Ask::VmHibernate { name: self.name.clone() }, on, &from).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str) -> VmView {
        VmView::new(name.parse().unwrap(), VmState::Off, Timestamp::from_secs(1), "never started")
    }

    #[test]
    fn every_name_is_a_path_of_its_own() {
        let all = ["gaming", "win-11", "win_11", "win_2d11", "2nd", "a.b"];
        let paths = all.map(|name| path(&name.parse().unwrap()));
        let ends: Vec<_> = paths.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
        assert_eq!(ends, ["gaming", "win_2d11", "win_5f11", "win_5f2d11", "_32nd", "a_2eb"]);
        for path in paths {
            zbus::ObjectPath::try_from(path).unwrap();
        }
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let object = VirtualMachine::new(Door::nowhere(), vm("gaming"));
        assert!(object.take(&vm("gaming")).is_empty());
        let now = VmView { state: VmState::Running, pid: Some(7), ..vm("gaming") };
        let mut changed: Vec<_> = object.take(&now).into_keys().collect();
        changed.sort_unstable();
        assert_eq!(changed, ["Pid", "State"]);
        assert!(object.take(&now).is_empty());
    }
}
