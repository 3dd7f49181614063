//! The system bus: found, served, and found again when it was lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zbus::fdo::RequestNameFlags;
use zbus::{Connection, connection};

use super::gate::{Door, Gate, Quota};
use super::socket::{CALLS, DRAIN, drained, forward};
use super::{Changes, Stop, dbus, names, stopped};
use crate::ask::Asks;
use crate::ask::view::VmView;

/// Which bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// The machine's.
    System,
    /// Another one: `unix:path=…`.
    Address(String),
}

/// Waits between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long the bus may take to let us in.
const CONNECT: Duration = Duration::from_secs(5);

/// Connects to a bus, with the interfaces of a door if there is one.
pub(super) async fn connect(
    bus: &Bus,
    door: Option<(&Door, &[VmView])>,
) -> Result<Connection, String> {
    let builder = match bus {
        Bus::System => connection::Builder::system(),
        Bus::Address(address) => connection::Builder::address(address.as_str()),
    };
    let builder = match door {
        Some((door, vms)) => dbus::publish(builder, door, vms),
        None => builder,
    };
    match timeout(CONNECT, builder.build()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(zbus::Error::Connection(error, _)))
            if error.kind() == std::io::ErrorKind::NotFound =>
        {
            Err("no system bus on this machine".to_owned())
        }
        Ok(Err(error)) => Err(format!("the system bus cannot be reached: {error}")),
        Err(_) => Err(format!("the system bus did not answer within {} s", CONNECT.as_secs())),
    }
}

/// Serves the bus until `stop`. `absent` holds why we are not on it, and
/// nothing while we are; that there is no bus is not an error.
pub async fn serve_bus(
    bus: Bus,
    asks: Asks,
    changes: Changes,
    gate: Arc<dyn Gate>,
    absent: watch::Sender<Option<String>>,
    mut stop: Stop,
) {
    let calls = Quota::new(CALLS.0, CALLS.1);
    let door = Door::new(asks, gate, calls.clone());
    let mut wait = BACKOFF.0;
    loop {
        // Before it is asked how they are: nothing is missed between.
        let listener = changes.listen();
        let vms = changes.now();
        let joined = tokio::select! {
            () = stopped(&mut stop) => return,
            joined = join(&bus, &door, &vms) => joined,
        };
        let why = match joined {
            Ok(connection) => {
                tell(&absent, None);
                wait = BACKOFF.0;
                tokio::select! {
                    () = stopped(&mut stop) => return leave(connection, &calls).await,
                    () = connection.closed() => {}
                    () = forward(&connection, &door, listener) => {}
                }
                "the system bus was lost".to_owned()
            }
            Err(why) => why,
        };
        tell(&absent, Some(why));
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = sleep(wait) => {}
        }
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Says it once, not at every attempt.
fn tell(absent: &watch::Sender<Option<String>>, why: Option<String>) {
    absent.send_if_modified(|was| {
        if *was == why {
            return false;
        }
        // That we are not on it is said by whoever watches `absent`.
        if why.is_none() {
            tracing::info!("on the system bus as {}", names::BUS);
        }
        *was = why;
        true
    });
}

/// Interfaces first, the name last: whoever sees the name is answered.
async fn join(bus: &Bus, door: &Door, vms: &[VmView]) -> Result<Connection, String> {
    let connection = connect(bus, Some((door, vms))).await?;
    let named = connection.request_name_with_flags(names::BUS, RequestNameFlags::DO_NOT_QUEUE);
    match timeout(CONNECT, named).await {
        Ok(Ok(_)) => Ok(connection),
        Ok(Err(zbus::Error::NameTaken)) => {
            Err(format!("another process owns the name {}", names::BUS))
        }
        Ok(Err(error)) => Err(format!(
            "the bus does not give us the name {}: {error} (is its policy file installed?)",
            names::BUS
        )),
        Err(_) => Err(format!("the system bus did not answer within {} s", CONNECT.as_secs())),
    }
}

async fn leave(connection: Connection, calls: &Quota) {
    // Callers see the name go; answers that are under way still go out.
    let left = async {
        let released = connection.release_name(names::BUS).await;
        drained(calls).await;
        released
    };
    match timeout(DRAIN, left).await {
        Ok(Ok(_)) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "cannot give the bus name back"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use zbus::OwnedVariant;
    use zbus::message::Header;

    use super::*;
    use crate::api::client::{Client, Where};
    use crate::api::fake::Fake;
    use crate::api::gate::{Deciding, PolkitGate};
    use crate::ask::{Ask, Caller, Code, Reply, Right};

    /// A bus of our own; none where dbus-daemon is not installed.
    struct Daemon {
        _child: tokio::process::Child,
        address: String,
    }

    #[allow(clippy::disallowed_methods, reason = "starts a bus for these tests only")]
    async fn daemon(dir: &Path) -> Option<Daemon> {
        let config = dir.join("bus.conf");
        let socket = dir.join("bus.sock");
        let text = format!(
            "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/>\
             <allow send_type=\"method_call\"/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let child = tokio::process::Command::new("dbus-daemon")
            .arg("--nofork")
            .arg(format!("--config-file={}", config.display()))
            .kill_on_drop(true)
            .spawn();
        let Ok(child) = child else {
            eprintln!("skipped: dbus-daemon is not installed");
            return None;
        };
        for _ in 0..500 {
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                let address = format!("unix:path={}", socket.display());
                return Some(Daemon { _child: child, address });
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("dbus-daemon does not start");
    }

    /// The real gate, for callers that are not root.
    struct Unprivileged;

    impl Gate for Unprivileged {
        fn caller<'a>(&'a self, on: &'a Connection, from: &'a Header<'a>) -> Deciding<'a, Caller> {
            Box::pin(async move { Ok(Caller { uid: 1000, ..PolkitGate.caller(on, from).await? }) })
        }

        fn allow<'a>(
            &'a self,
            on: &'a Connection,
            from: &'a Header<'a>,
            caller: &'a Caller,
            right: Right,
        ) -> Deciding<'a, ()> {
            PolkitGate.allow(on, from, caller, right)
        }
    }

    /// Grants what it is told to, to whoever lets it ask them.
    struct Polkit(&'static str);

    #[allow(clippy::needless_pass_by_value, reason = "polkit's")]
    #[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
    impl Polkit {
        fn check_authorization(
            &self,
            subject: (String, HashMap<String, OwnedVariant>),
            action: &str,
            details: HashMap<String, String>,
            flags: u32,
            cancellation: &str,
        ) -> (bool, bool, HashMap<String, String>) {
            assert_eq!(subject.0, "system-bus-name");
            assert!(details.is_empty() && cancellation.is_empty());
            (action == self.0 && flags == 1, false, HashMap::new())
        }
    }

    async fn polkit(bus: &Daemon, grants: &'static str) -> Connection {
        connection::Builder::address(bus.address.as_str())
            .serve_at("/org/freedesktop/PolicyKit1/Authority", Polkit(grants))
            .name("org.freedesktop.PolicyKit1")
            .build()
            .await
            .unwrap()
    }

    struct Served {
        fake: Fake,
        absent: watch::Receiver<Option<String>>,
    }

    fn serve(address: &str, gate: Arc<dyn Gate>) -> Served {
        let fake = Fake::start();
        let (tell, absent) = watch::channel(Some("not yet".to_owned()));
        let bus = Bus::Address(address.to_owned());
        let (asks, changes, stop) = (fake.asks.clone(), fake.changes.clone(), fake.stop.clone());
        tokio::spawn(serve_bus(bus, asks, changes, gate, tell, stop));
        Served { fake, absent }
    }

    impl Served {
        async fn ready(&mut self) {
            let joined = self.absent.wait_for(Option::is_none);
            timeout(Duration::from_secs(20), joined).await.unwrap().unwrap();
        }
    }

    async fn client(bus: &Daemon) -> Client {
        let to = Where::Auto { bus: Bus::Address(bus.address.clone()), socket: "/none".into() };
        Client::connect(&to).await.unwrap()
    }

    fn start() -> Ask {
        Ask::VmStart { name: "gaming".parse().unwrap() }
    }

    #[tokio::test]
    async fn the_sender_is_known_and_root_acts_without_polkit() {
        let dir = tempfile::tempdir().unwrap();
        let Some(bus) = daemon(dir.path()).await else { return };
        let mut served = serve(&bus.address, Arc::new(PolkitGate));
        served.ready().await;
        let client = client(&bus).await;
        assert!(matches!(client.ask(&Ask::VmList).await, Ok(Reply::Vms(_))));
        let uid = nix::unistd::geteuid();
        let label = served.fake.seen().remove(0).1;
        assert!(label.starts_with(&format!("uid {uid} over the system bus (:1.")), "{label}");
        if uid.is_root() {
            client.ask(&start()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn without_polkit_only_root_acts_and_the_refusal_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let Some(bus) = daemon(dir.path()).await else { return };
        let mut served = serve(&bus.address, Arc::new(Unprivileged));
        served.ready().await;
        let denied = client(&bus).await.ask(&start()).await.unwrap_err();
        assert_eq!(denied.code, Code::Denied);
        insta::assert_snapshot!(denied.message, @"uid 1000 may not start or stop VMs: polkit is not installed or not running, so only root may");
    }

    #[tokio::test]
    async fn polkit_decides_by_action() {
        let dir = tempfile::tempdir().unwrap();
        let Some(bus) = daemon(dir.path()).await else { return };
        let _polkit = polkit(&bus, "org.hostd.Host1.vm.operate").await;
        let mut served = serve(&bus.address, Arc::new(Unprivileged));
        served.ready().await;
        let client = client(&bus).await;
        client.ask(&start()).await.unwrap();
        let denied = client.ask(&Ask::GpuBind { gpu: None }).await.unwrap_err();
        insta::assert_snapshot!(denied.message, @"uid 1000 may not bind or release graphics cards: polkit does not grant org.hostd.Host1.gpu.operate");
    }

    #[tokio::test]
    async fn no_bus_is_said_and_a_bus_that_comes_back_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}", dir.path().join("bus.sock").display());
        let mut served = serve(&address, Arc::new(PolkitGate));
        served.absent.changed().await.unwrap();
        assert_eq!(served.absent.borrow().as_deref(), Some("no system bus on this machine"),);
        let Some(bus) = daemon(dir.path()).await else { return };
        served.ready().await;
        drop(bus);
        let lost = served.absent.wait_for(Option::is_some);
        timeout(Duration::from_secs(10), lost).await.unwrap().unwrap();
        let _bus = daemon(dir.path()).await.unwrap();
        served.ready().await;
    }

    #[tokio::test]
    async fn the_name_is_taken_once_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let Some(bus) = daemon(dir.path()).await else { return };
        let mut served = serve(&bus.address, Arc::new(PolkitGate));
        served.ready().await;
        let mut second = serve(&bus.address, Arc::new(PolkitGate));
        second.absent.changed().await.unwrap();
        let why = second.absent.borrow().clone().unwrap();
        assert_eq!(why, "another process owns the name org.hostd.Host1");
        served.fake.end.send(true).unwrap();
        second.ready().await;
        let nobody = Where::Bus(Bus::Address("unix:path=/none".into()));
        assert_eq!(Client::connect(&nobody).await.err().unwrap().code, Code::NoDaemon);
    }
}
