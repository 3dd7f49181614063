//! The other end: what hostctl uses to reach a daemon.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::time::timeout;
use zbus::proxy::MethodFlags;
use zbus::zvariant::DynamicType;
use zbus::{Connection, Proxy, connection};

pub use super::bus::Bus;
pub use super::{Change, names::SOCKET, wire::document};

use super::{bus, carry, names, socket, wire};
use crate::ask::{Answer, Ask, Code, Refusal, Secret};
use crate::base::Name;
use crate::host::Command;

/// Where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// On the bus if hostd is there, on the private socket otherwise.
    Auto {
        /// The bus.
        bus: Bus,
        /// The private socket.
        socket: PathBuf,
    },
    /// On a private socket.
    Socket(PathBuf),
    /// On a bus.
    Bus(Bus),
    /// At the other end of a command that runs `hostctl --stdio`.
    Command(Command),
}

impl Where {
    /// On another machine, at the other end of ssh; `url` is `ssh://user@host:port`.
    pub fn ssh(url: &str) -> Self {
        let args = ["-T", "-o", "ConnectTimeout=15", "--", url, "hostctl", "--stdio"];
        Self::Command(Command::new("ssh", args))
    }
}

/// How long a daemon may take to let us in.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an ask that only looks may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long the doctor may take: it waits for a bind, then for files, QEMU, KVM
/// and VFIO beside each other, each with a deadline of seconds.
const DOCTOR: Duration = Duration::from_secs(30);
/// How long a plan may take: it waits for a bind under way, which may wait for
/// a driver that does not let go.
const PLAN: Duration = Duration::from_secs(120);

/// How long an ask may take; one that acts takes the time that the daemon gives it.
fn patience(ask: &Ask) -> Option<Duration> {
    match ask {
        ask if ask.right().is_some() => None,
        Ask::Doctor { .. } => Some(DOCTOR),
        Ask::GpuPlan { .. } => Some(PLAN),
        _ => Some(LOOK),
    }
}

/// A connection to a daemon.
pub struct Client {
    connection: Connection,
    // Ends with us.
    _carrier: Option<carry::Carried>,
}

impl Client {
    /// Finds the daemon; if nobody answers, says what was tried.
    pub async fn connect(to: &Where) -> Result<Self, Refusal> {
        match to {
            Where::Bus(bus) => on_bus(bus).await.map_err(|why| nobody(&[why])),
            Where::Socket(path) => on_socket(path).await.map_err(|why| nobody(&[why])),
            Where::Auto { bus, socket } => {
                let bus = match on_bus(bus).await {
                    Ok(client) => return Ok(client),
                    Err(why) => why,
                };
                on_socket(socket).await.map_err(|why| nobody(&[bus, why]))
            }
            Where::Command(command) => {
                let (stream, uid, carrier) = carry::start(command).await?;
                let builder = connection::Builder::unix_stream(stream).user_id(uid).p2p();
                let connection = within(CONNECT, builder.build()).await.map_err(|why| {
                    let code = if is_busy(&why) { Code::Refused } else { Code::NoDaemon };
                    Refusal::new(code, format!("the hostd at the other end: {why}"), "")
                })?;
                Ok(Self { connection, _carrier: Some(carrier) })
            }
        }
    }

    /// Asks, and waits for the answer as long as such an answer may take.
    pub async fn ask(&self, ask: &Ask) -> Answer {
        let called = self.call(ask);
        let text = match patience(ask) {
            None => called.await,
            Some(limit) => timeout(limit, called).await.map_err(|_| {
                Refusal::new(
                    Code::Failed,
                    format!("hostd did not answer within {} s", limit.as_secs()),
                    "`journalctl -u hostd -e` may tell why",
                )
            })?,
        };
        let text = text.map_err(|error| wire::refusal(&error))?;
        wire::reply(ask, &text).map_err(|error| {
            Refusal::new(
                Code::Failed,
                format!("hostd's answer cannot be read: {error}"),
                format!("hostctl is {}; is hostd another version?", env!("CARGO_PKG_VERSION")),
            )
        })
    }

    async fn call(&self, ask: &Ask) -> zbus::Result<String> {
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        match ask {
            Ask::Status => self.method(names::HOST, "Status", &()).await,
            Ask::Doctor { probe } => self.method(names::HOST, "Doctor", probe).await,
            Ask::IommuList => self.method(names::IOMMU, "List", &()).await,
            Ask::IommuShow { group: Some(group) } => self.method(names::IOMMU, "Show", group).await,
            Ask::IommuShow { group: None } => self.method(names::IOMMU, "Full", &()).await,
            Ask::GpuList => self.method(names::GPU, "List", &()).await,
            Ask::GpuQuirks { gpu } => self.method(names::GPU, "Quirks", &or_empty(gpu)).await,
            Ask::GpuRomDump { gpu, strip } => {
                self.method(names::GPU, "RomDump", &(gpu.as_str(), strip)).await
            }
            Ask::GpuPlan { gpu, release } => {
                self.method(names::GPU, "Plan", &(or_empty(gpu), release)).await
            }
            Ask::GpuBind { gpu } => self.method(names::GPU, "Bind", &or_empty(gpu)).await,
            Ask::GpuReset { gpu } => self.method(names::GPU, "Reset", &or_empty(gpu)).await,
            Ask::GpuRelease { gpu } => self.method(names::GPU, "Release", &or_empty(gpu)).await,
            Ask::BootPlan { gpus, remove } => {
                self.method(names::BOOT, "Plan", &(gpus.as_slice(), remove)).await
            }
            Ask::BootSetup { gpus } => self.method(names::BOOT, "Setup", &gpus.as_slice()).await,
            Ask::BootRemove => self.method(names::BOOT, "Remove", &()).await,
            Ask::BootStatus => self.method(names::BOOT, "Status", &()).await,
            Ask::VmList => self.method(names::VM, "List", &()).await,
            Ask::VmStatus { name } => self.method(names::VM, "Status", &name.as_str()).await,
            Ask::VmStart { name } => self.method(names::VM, "Start", &name.as_str()).await,
            Ask::VmStop { name, force } => {
                self.method(names::VM, "Stop", &(name.as_str(), force)).await
            }
            Ask::VmRestart { name, force } => {
                self.method(names::VM, "Restart", &(name.as_str(), force)).await
            }
            Ask::VmPause { name } => self.method(names::VM, "Pause", &name.as_str()).await,
            Ask::VmResume { name } => self.method(names::VM, "Resume", &name.as_str()).await,
            Ask::VmReset { name } => self.method(names::VM, "Reset", &name.as_str()).await,
            Ask::VmSnapshots { name } => self.method(names::VM, "Snapshots", &name.as_str()).await,
            Ask::VmSnapshotCreate { name, snapshot } => {
                let snapshot = snapshot.as_ref().map_or("", Name::as_str);
                self.method(names::VM, "SnapshotCreate", &(name.as_str(), snapshot)).await
            }
            Ask::VmSnapshotRevert { name, snapshot, yes } => {
                let what = (name.as_str(), snapshot.as_str(), yes);
                self.method(names::VM, "SnapshotRevert", &what).await
            }
            Ask::VmSnapshotDelete { name, snapshot } => {
                let what = (name.as_str(), snapshot.as_str());
                self.method(names::VM, "SnapshotDelete", &what).await
            }
            Ask::VmHibernate { name } => self.method(names::VM, "Hibernate", &name.as_str()).await,
            Ask::VmKill { name } => self.method(names::VM, "Kill", &name.as_str()).await,
            Ask::VmPlan { name } => self.method(names::VM, "Plan", &name.as_str()).await,
            Ask::VmArgv { name } => self.method(names::VM, "Argv", &name.as_str()).await,
            Ask::VmLog { name, firmware } => {
                self.method(names::VM, "Log", &(name.as_str(), firmware)).await
            }
            Ask::VmAttach { name, device } => {
                self.method(names::VM, "AttachUsb", &(name.as_str(), device.as_str())).await
            }
            Ask::VmDetach { name, device } => {
                self.method(names::VM, "DetachUsb", &(name.as_str(), device.as_str())).await
            }
            Ask::VmMedia { name, drive, file, force } => {
                let body = (name.as_str(), or_empty(drive), or_empty(file), force);
                self.method(names::VM, "Media", &body).await
            }
            Ask::UsbList => self.method(names::USB, "List", &()).await,
            Ask::VmSerialLog { name } => self.method(names::VM, "SerialLog", &name.as_str()).await,
            Ask::VmConsoleOpen { name, take } => {
                self.method(names::CONSOLE, "Open", &(name.as_str(), take)).await
            }
            Ask::VmConsoleRead { name, session } => {
                self.method(names::CONSOLE, "Read", &(name.as_str(), session.reveal())).await
            }
            Ask::VmConsoleWrite { name, session, data } => {
                let body = (name.as_str(), session.reveal(), data.0.as_slice());
                self.method(names::CONSOLE, "Write", &body).await
            }
            Ask::VmConsoleClose { name, session } => {
                self.method(names::CONSOLE, "Close", &(name.as_str(), session.reveal())).await
            }
            Ask::VmScreenshot { name } => {
                self.method(names::VM, "Screenshot", &name.as_str()).await
            }
            Ask::VmSendKey { name, keys, text, hold } => {
                let keys: Vec<_> = keys.iter().map(Secret::reveal).collect();
                let body = (name.as_str(), keys, text.reveal(), hold.unwrap_or(0));
                self.method(names::VM, "SendKey", &body).await
            }
            Ask::PoolStatus { pool } => self.method(names::POOL, "Status", &or_empty(pool)).await,
            Ask::PoolScrub { pool, act } => {
                self.method(names::POOL, "Scrub", &(pool.as_str(), act.as_str())).await
            }
            Ask::CareList { kind } => self.method(names::CARE, "List", &or_empty(kind)).await,
            Ask::DiskStatus { disk } => self.method(names::DISK, "Status", &or_empty(disk)).await,
            Ask::MachineStatus => self.method(names::MACHINE, "Status", &()).await,
            Ask::ServiceList => self.method(names::SERVICE, "List", &()).await,
            Ask::ServiceRestart { name } => {
                self.method(names::SERVICE, "Restart", &name.as_str()).await
            }
            Ask::ServiceStatus { service } => {
                self.method(names::SERVICE, "Status", &or_empty(service)).await
            }
            Ask::EventTail { query, session } => {
                self.method(names::EVENT, "Tail", &(query, session.unwrap_or_default())).await
            }
            Ask::EventSend { events } => self.method(names::EVENT, "Send", events).await,
            Ask::HistoryList { query } => self.method(names::HISTORY, "List", query).await,
            Ask::HistoryShow { service, host, since, until, points } => {
                let body = (service, or_empty(host), since, until, points);
                self.method(names::HISTORY, "Show", &body).await
            }
            Ask::EventQuery { query } => self.method(names::EVENT, "Query", query).await,
        }
    }

    async fn proxy(&self, interface: &'static str) -> zbus::Result<Proxy<'static>> {
        zbus::proxy::Builder::new(&self.connection)
            .destination(names::BUS)
            .path(names::OBJECT)
            .interface(interface)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
    }

    async fn method(
        &self,
        interface: &'static str,
        method: &'static str,
        body: &(impl Serialize + DynamicType),
    ) -> zbus::Result<String> {
        // polkit may ask the person; hostd is not started by being asked.
        let flags = MethodFlags::ALLOW_INTERACTIVE_AUTH | MethodFlags::NO_AUTO_START;
        let reply = self.proxy(interface).await?.call_with_flags(method, flags, body).await?;
        reply.ok_or(zbus::Error::InvalidReply)
    }

    /// The daemon's version.
    pub async fn version(&self) -> Result<String, Refusal> {
        within(LOOK, async { self.proxy(names::HOST).await?.get_property("Version").await })
            .await
            .map_err(|why| Refusal::new(Code::Failed, why, ""))
    }

    /// Changes of VMs from now on; ends when the connection does.
    pub async fn changes(
        &self,
    ) -> Result<impl futures_util::Stream<Item = Change> + Unpin + use<>, Refusal> {
        let listened =
            within(LOOK, async { self.proxy(names::VM).await?.receive_signal("Changed").await });
        let signals = listened.await.map_err(|why| Refusal::new(Code::Failed, why, ""))?;
        Ok(Box::pin(signals.filter_map(|message| async move { change(&message) })))
    }
}

/// A signal as a change; one that cannot be read is of another version.
fn change(message: &zbus::Message) -> Option<Change> {
    let body = message.body();
    let (name, state, reason, step): (String, String, String, String) = body.deserialize().ok()?;
    let state = serde_json::from_value(serde_json::Value::String(state)).ok()?;
    Some(Change { name: name.parse().ok()?, state, reason, step })
}

async fn within<T>(
    deadline: Duration,
    done: impl Future<Output = zbus::Result<T>>,
) -> Result<T, String> {
    match timeout(deadline, done).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", deadline.as_secs())),
    }
}

/// Why one way does not lead to a daemon.
struct DeadEnd {
    tried: String,
    denied: bool,
    busy: bool,
}

impl DeadEnd {
    fn new(tried: impl Into<String>) -> Self {
        Self { tried: tried.into(), denied: false, busy: false }
    }
}

async fn on_bus(bus: &Bus) -> Result<Client, DeadEnd> {
    let connection = bus::connect(bus, None).await.map_err(DeadEnd::new)?;
    let owned = within(CONNECT, async {
        connection
            .call_method(
                Some("org.freedesktop.DBus"),
                "/org/freedesktop/DBus",
                Some("org.freedesktop.DBus"),
                "NameHasOwner",
                &names::BUS,
            )
            .await?
            .body()
            .deserialize::<bool>()
    });
    match owned.await {
        Ok(true) => Ok(Client { connection, _carrier: None }),
        Ok(false) => Err(DeadEnd::new(format!("nobody owns {} on the system bus", names::BUS))),
        Err(why) => Err(DeadEnd::new(format!("the system bus: {why}"))),
    }
}

async fn on_socket(path: &Path) -> Result<Client, DeadEnd> {
    let stream = open(path).await?;
    let dead = |why: String| DeadEnd::new(format!("{}: {why}", path.display()));
    let stream = stream.into_std().map_err(|error| dead(error.to_string()))?;
    let building = connection::Builder::unix_stream(stream).p2p().build();
    let connection = within(CONNECT, building)
        .await
        .map_err(|why| DeadEnd { busy: is_busy(&why), ..dead(why) })?;
    Ok(Client { connection, _carrier: None })
}

async fn open(path: &Path) -> Result<UnixStream, DeadEnd> {
    use std::io::ErrorKind;
    let dead = |why: &str| DeadEnd::new(format!("{}: {why}", path.display()));
    match timeout(CONNECT, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            ErrorKind::NotFound => dead("no such socket"),
            ErrorKind::ConnectionRefused => dead("nobody listens"),
            ErrorKind::PermissionDenied => DeadEnd { denied: true, ..dead("permission denied") },
            _ => dead(&error.to_string()),
        }),
        Err(_) => Err(dead("no answer")),
    }
}

/// Whether the daemon is there and says so.
fn is_busy(why: &str) -> bool {
    why.contains(socket::BUSY)
}

fn nobody(tried: &[DeadEnd]) -> Refusal {
    let list: Vec<_> = tried.iter().map(|end| end.tried.as_str()).collect();
    if tried.iter().any(|end| end.busy) {
        let message = format!("hostd is busy ({})", list.join("; "));
        let hint = "end other programs of yours that are connected to it, then try again";
        return Refusal::new(Code::Refused, message, hint);
    }
    let hint = if tried.iter().any(|end| end.denied) {
        "look at the permissions of the socket and its folder, or run it with sudo"
    } else {
        "start it with `systemctl start hostd`; `journalctl -u hostd -e` tells why it is not running"
    };
    Refusal::new(Code::NoDaemon, format!("no hostd answers ({})", list.join("; ")), hint)
}

/// A stream to the private socket, for `hostctl --stdio`.
pub async fn raw(path: &Path) -> Result<UnixStream, Refusal> {
    open(path).await.map_err(|end| nobody(&[end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_bind_has_more_time_than_who_only_looks() {
        assert_eq!(patience(&Ask::Status), Some(LOOK));
        assert_eq!(patience(&Ask::Doctor { probe: false }), Some(DOCTOR));
        assert_eq!(patience(&Ask::GpuPlan { gpu: None, release: false }), Some(PLAN));
        assert!(LOOK < DOCTOR && DOCTOR < PLAN);
        assert_eq!(patience(&Ask::Doctor { probe: true }), None);
        assert_eq!(patience(&Ask::GpuBind { gpu: None }), None);
    }
}
