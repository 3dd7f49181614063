//! The serial ports of guests: a conversation in calls, because a file
//! descriptor does not pass through ssh.

use zbus::message::Header;
use zbus::{Connection, interface};

use super::name;
use crate::api::gate::Door;
use crate::api::wire::Refused;
use crate::ask::{Ask, Hex, Secret};

/// The serial ports of guests.
pub struct Console(pub Door);

#[interface(name = "org.hostd.Host1.Console")]
impl Console {
    /// For `hostctl vm console`: takes hold of the guest's serial port, and
    /// returns a session. One at a time; `take` takes it from whoever has it.
    /// Who does not read for a minute loses it. Needs
    /// `org.hostd.Host1.vm.console`.
    async fn open(
        &self,
        name: &str,
        take: bool,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::VmConsoleOpen { name: self::name(name)?, take }, on, &from).await
    }

    /// What the guest has written, in hexadecimal digits. Waits some seconds
    /// for something; nothing is fine. `ended` says why there will be no more.
    async fn read(
        &self,
        name: &str,
        session: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let (name, session) = (self::name(name)?, Secret::new(session));
        self.0.ask(Ask::VmConsoleRead { name, session }, on, &from).await
    }

    /// Types into the guest's serial port; `taken` says how much of it the
    /// guest has taken.
    async fn write(
        &self,
        name: &str,
        session: String,
        data: Vec<u8>,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let (name, session) = (self::name(name)?, Secret::new(session));
        self.0.ask(Ask::VmConsoleWrite { name, session, data: Hex(data) }, on, &from).await
    }

    /// Lets go of the guest's serial port.
    async fn close(
        &self,
        name: &str,
        session: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let (name, session) = (self::name(name)?, Secret::new(session));
        self.0.ask(Ask::VmConsoleClose { name, session }, on, &from).await
    }
}
