//! The interfaces of what is watched: pools, disks, the machine, services,
//! events, and what was.

use zbus::message::Header;
use zbus::{Connection, interface};

use super::given;
use crate::api::gate::Door;
use crate::api::wire::Refused;
use crate::ask::{Ask, Code, Refusal, ScrubAct};

/// Pools.
pub struct Pool(pub Door);

#[interface(name = "org.hostd.Host1.Pool")]
impl Pool {
    /// `hostctl pool status`; all pools when `pool` is empty.
    async fn status(
        &self,
        pool: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::PoolStatus { pool: given(pool) }, on, &from).await
    }

    /// `hostctl pool scrub`: `act` is `start`, `pause` or `stop`. Needs
    /// `org.hostd.Host1.pool.operate`.
    async fn scrub(
        &self,
        pool: String,
        act: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let act = match act.as_str() {
            "start" => ScrubAct::Start,
            "pause" => ScrubAct::Pause,
            "stop" => ScrubAct::Stop,
            other => {
                let message = format!("a scrub can be start, pause or stop, not {other:?}");
                return Err(Refusal::new(Code::Usage, message, "").into());
            }
        };
        self.0.ask(Ask::PoolScrub { pool, act }, on, &from).await
    }
}

/// What hostd does by itself.
pub struct Care(pub Door);

#[interface(name = "org.hostd.Host1.Care")]
impl Care {
    /// `hostctl care list`; `kind` is `scrub`, `snapshots`, or empty for all.
    async fn list(
        &self,
        kind: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::CareList { kind: given(kind) }, on, &from).await
    }
}

/// Disks.
pub struct Disk(pub Door);

#[interface(name = "org.hostd.Host1.Disk")]
impl Disk {
    /// `hostctl disk status`; all disks when `disk` is empty.
    async fn status(
        &self,
        disk: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::DiskStatus { disk: given(disk) }, on, &from).await
    }
}

/// The machine itself.
pub struct Machine(pub Door);

#[interface(name = "org.hostd.Host1.Machine")]
impl Machine {
    /// `hostctl host status`.
    async fn status(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::MachineStatus, on, &from).await
    }
}

/// Watched services.
pub struct Service(pub Door);

#[interface(name = "org.hostd.Host1.Service")]
impl Service {
    /// `hostctl service list`.
    async fn list(
        &self,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::ServiceList, on, &from).await
    }

    /// `hostctl service status`; all services when `service` is empty.
    async fn status(
        &self,
        service: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::ServiceStatus { service: given(service) }, on, &from).await
    }

    /// `hostctl service restart`. Needs `org.hostd.Host1.service.operate`.
    async fn restart(
        &self,
        name: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::ServiceRestart { name }, on, &from).await
    }
}

/// Events of the index.
pub struct Event(pub Door);

#[interface(name = "org.hostd.Host1.Event")]
impl Event {
    /// `hostctl event query`; `query` is in the query language, `true` for all.
    async fn query(
        &self,
        query: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::EventQuery { query }, on, &from).await
    }

    /// `hostctl event tail`: what is published from now on and matches `query`.
    /// `session` is 0 at first, then what the answer says; each call waits up
    /// to ten seconds for something, and a session that is not read for a
    /// minute ends.
    async fn tail(
        &self,
        query: String,
        session: u64,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let session = (session != 0).then_some(session);
        self.0.ask(Ask::EventTail { query, session }, on, &from).await
    }

    /// `hostctl event send`: a JSON list of events as `Query` gives them; any
    /// key may be left out. Needs `org.hostd.Host1.event.send`.
    async fn send(
        &self,
        events: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::EventSend { events }, on, &from).await
    }
}

/// What was.
pub struct History(pub Door);

#[interface(name = "org.hostd.Host1.History")]
impl History {
    /// `hostctl history list`; `query` is `true` for all.
    async fn list(
        &self,
        query: String,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        self.0.ask(Ask::HistoryList { query }, on, &from).await
    }

    /// `hostctl history show`; `host` is our own when empty, `since` and
    /// `until` are ages (`2d`) or local dates, `points` is 0 for the usual.
    #[allow(clippy::too_many_arguments, reason = "as the bus hands them over")]
    async fn show(
        &self,
        service: String,
        host: String,
        since: String,
        until: String,
        points: u32,
        #[zbus(header)] from: Header<'_>,
        #[zbus(connection)] on: &Connection,
    ) -> Result<String, Refused> {
        let ask = Ask::HistoryShow { service, host: given(host), since, until, points };
        self.0.ask(ask, on, &from).await
    }
}
