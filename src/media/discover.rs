//! Services that are found running, without being configured.
//!
//! By the units that systemd has loaded; none is loaded for it. A probe is used
//! only once somebody listens at the protocol's usual port: another port is no
//! failure. One that was found stays watched when it fails, and as long as the
//! next boot would start it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::base::Name;
use crate::config::{Port, Probe, Service};
use crate::host::Host;
use crate::host::units::UnitState;

/// How often it is looked.
const OFTEN: Duration = Duration::from_secs(10);
/// What a look may take.
const SHORT: Duration = Duration::from_secs(1);
/// What a connection to this machine may take.
const NEAR: Duration = Duration::from_millis(300);
/// As for a configured service that does not say.
const INTERVAL: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(5);

/// A port, and how it is asked there.
type Usual = (u16, fn(SocketAddr) -> Probe);

/// A unit that is worth watching wherever it runs.
struct Known {
    unit: &'static str,
    name: &'static str,
    /// Its usual port, and how it is asked there.
    probe: Option<Usual>,
}

const fn known(unit: &'static str, name: &'static str, probe: Option<Usual>) -> Known {
    Known { unit, name, probe }
}

/// Without a token, which only its owner has: alive, and no word of sessions.
fn plex(to: SocketAddr) -> Probe {
    Probe::Plex { port: Port { to, tls: false, name: None }, token_file: None }
}

const TABLE: &[Known] = &[
    known("smbd.service", "smb", Some((445, Probe::Smb))),
    known("smb.service", "smb", Some((445, Probe::Smb))),
    known("samba-ad-dc.service", "smb", Some((445, Probe::Smb))),
    known("netatalk.service", "afp", Some((548, Probe::Afp))),
    known("nfs-server.service", "nfs", Some((2049, Probe::Nfs))),
    known("plexmediaserver.service", "plex", Some((32400, plex))),
    known("jellyfin.service", "jellyfin", Some((8096, Probe::Tcp))),
    known("emby-server.service", "emby", Some((8096, Probe::Tcp))),
    known("minidlna.service", "minidlna", Some((8200, Probe::Minidlna))),
    known("docker.service", "docker", None),
];

/// What has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It is watched from now on.
    Add(Box<Service>),
    /// It is no longer.
    Remove(Name),
}

/// Looks for services now and then.
#[derive(Default)]
pub struct Discovery {
    next: Option<Instant>,
    /// By unit: those that are watched.
    found: BTreeMap<&'static str, Service>,
}

impl Discovery {
    /// Looks, when it is time. Infallible: where systemd does not answer,
    /// nothing changes.
    pub async fn look(&mut self, host: &Host, configured: &[Service]) -> Vec<Step> {
        let now = host.clock.instant();
        if self.next.is_some_and(|next| now < next) {
            return Vec::new();
        }
        self.next = Some(now + OFTEN);
        let units: Vec<&str> = TABLE.iter().map(|known| known.unit).collect();
        let Ok(Ok(loaded)) = timeout(SHORT, host.units.loaded(&units)).await else {
            return Vec::new();
        };
        let mut steps = Vec::new();
        for known in TABLE {
            let state = loaded.iter().find(|(unit, _)| unit == known.unit);
            let state = state.map(|(_, state)| state);
            match self.found.get(known.unit).cloned() {
                None if state.is_some_and(is_up) => {
                    let fits = self.found.values().all(|it| it.name.as_str() != known.name);
                    if fits && !is_configured(known, configured) {
                        steps.extend(self.add(host, known).await);
                    }
                }
                None => {}
                Some(service) if state.is_some_and(is_up) => {
                    let asked = service.probe != Probe::None || known.probe.is_none();
                    if !asked && let Some(probe) = probe(host, known).await {
                        let service = Service { probe, ..service };
                        steps.push(Step::Remove(service.name.clone()));
                        steps.push(Step::Add(Box::new(service.clone())));
                        self.found.insert(known.unit, service);
                    }
                }
                Some(_) => {
                    let enabled = timeout(SHORT, host.units.is_enabled(known.unit)).await;
                    if matches!(enabled, Ok(Ok(false)))
                        && let Some(service) = self.found.remove(known.unit)
                    {
                        steps.push(Step::Remove(service.name));
                    }
                }
            }
        }
        steps
    }

    async fn add(&mut self, host: &Host, known: &'static Known) -> Option<Step> {
        let service = Service {
            name: known.name.parse().ok()?,
            unit: Some(known.unit.to_owned()),
            probe: probe(host, known).await.unwrap_or(Probe::None),
            path: None,
            mount: None,
            interval: INTERVAL,
            deadline: DEADLINE,
            restart: None,
        };
        self.found.insert(known.unit, service.clone());
        Some(Step::Add(Box::new(service)))
    }
}

/// Whether somebody wants it to run, well or not.
fn is_up(state: &UnitState) -> bool {
    matches!(state.active.as_str(), "active" | "reloading" | "refreshing" | "activating" | "failed")
}

/// How it is asked, once somebody listens there.
async fn probe(host: &Host, known: &Known) -> Option<Probe> {
    let (port, probe) = known.probe?;
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    host.dial.tcp(to, NEAR).await.ok().map(|_| probe(to))
}

/// Whether the owner has said how it is watched: by its unit, its port or its name.
fn is_configured(known: &Known, configured: &[Service]) -> bool {
    configured.iter().any(|service| {
        let at = service.probe.address().filter(|at| at.ip().is_loopback());
        let same_port = known.probe.zip(at).is_some_and(|((port, _), at)| port == at.port());
        let same_unit = service.unit.as_deref() == Some(known.unit);
        same_unit || same_port || service.name.as_str() == known.name
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::dial::{Dial, Dialling, Stream};
    use crate::host::fake::FakeHost;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A machine on which all ports are open, or none.
    struct Ports(AtomicBool);

    impl Dial for Ports {
        fn tcp(&self, _: SocketAddr, _: Duration) -> Dialling<'_> {
            let open = self.0.load(Ordering::Relaxed);
            Box::pin(async move {
                if !open {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Ok(Box::new(tokio::io::duplex(1).0) as Box<dyn Stream>)
            })
        }

        fn unix<'a>(&'a self, _: &'a Path, _: Duration) -> Dialling<'a> {
            Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
        }
    }

    struct Lab {
        _dir: tempfile::TempDir,
        fake: FakeHost,
        ports: Arc<Ports>,
        discovery: Discovery,
    }

    impl Lab {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let fake = FakeHost::new(dir.path());
            fake.units.with(|systemd| systemd.there = true);
            let ports = Arc::new(Ports(AtomicBool::new(true)));
            Self { _dir: dir, fake, ports, discovery: Discovery::default() }
        }

        fn is(&self, unit: &str, active: &str) {
            self.fake.units.becomes(unit, UnitState::new("loaded", active, ""));
        }

        /// In words: `+smb none`.
        async fn look(&mut self, configured: &[Service]) -> Vec<String> {
            self.fake.clock.advance(OFTEN);
            let host = Host { dial: Arc::clone(&self.ports) as Arc<dyn Dial>, ..self.fake.host() };
            let steps = self.discovery.look(&host, configured).await;
            let word = |step| match step {
                Step::Add(it) if it.probe == Probe::None => format!("+{} none", it.name),
                Step::Add(service) => format!("+{}", service.name),
                Step::Remove(name) => format!("-{name}"),
            };
            steps.into_iter().map(word).collect()
        }
    }

    #[tokio::test]
    async fn what_runs_is_found_and_stays_while_it_should_run() {
        let mut lab = Lab::new();
        assert_eq!(lab.look(&[]).await, [""; 0]);
        lab.is("smbd.service", "active");
        lab.is("netatalk.service", "inactive");
        assert_eq!(lab.look(&[]).await, ["+smb"]);
        assert_eq!(lab.look(&[]).await, [""; 0]);
        // It fails, and is all the more watched.
        lab.is("smbd.service", "failed");
        assert_eq!(lab.look(&[]).await, [""; 0]);
        // Stopped, but the next boot starts it; then switched off for good.
        lab.is("smbd.service", "inactive");
        lab.fake.units.with(|systemd| systemd.enabled.push("smbd.service".to_owned()));
        assert_eq!(lab.look(&[]).await, [""; 0]);
        lab.fake.units.with(|systemd| systemd.enabled.clear());
        assert_eq!(lab.look(&[]).await, ["-smb"]);
        lab.is("smbd.service", "active");
        assert_eq!(lab.look(&[]).await, ["+smb"]);
    }

    #[tokio::test]
    async fn it_is_asked_once_somebody_listens() {
        let mut lab = Lab::new();
        lab.ports.0.store(false, Ordering::Relaxed);
        lab.is("jellyfin.service", "active");
        lab.is("docker.service", "active");
        assert_eq!(lab.look(&[]).await, ["+jellyfin none", "+docker none"]);
        assert_eq!(lab.look(&[]).await, [""; 0]);
        lab.ports.0.store(true, Ordering::Relaxed);
        assert_eq!(lab.look(&[]).await, ["-jellyfin", "+jellyfin"]);
        assert_eq!(lab.look(&[]).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_is_configured_is_not_watched_twice() {
        let service = |name: &str, unit: Option<&str>, probe| Service {
            name: name.parse().unwrap(),
            unit: unit.map(str::to_owned),
            probe,
            path: None,
            mount: None,
            interval: INTERVAL,
            deadline: DEADLINE,
            restart: None,
        };
        let mut lab = Lab::new();
        for unit in
            ["smbd.service", "netatalk.service", "plexmediaserver.service", "minidlna.service"]
        {
            lab.is(unit, "active");
        }
        let configured = [
            service("files", Some("smbd.service"), Probe::None),
            service("macs", None, Probe::Afp("127.0.0.1:548".parse().unwrap())),
            service("plex", None, Probe::None),
            // That of another machine.
            service("far", None, Probe::Tcp("192.0.2.7:8200".parse().unwrap())),
        ];
        assert_eq!(lab.look(&configured).await, ["+minidlna"]);
    }

    #[tokio::test]
    async fn without_systemd_nothing_is_found() {
        let mut lab = Lab::new();
        lab.is("smbd.service", "active");
        lab.fake.units.with(|systemd| systemd.there = false);
        assert_eq!(lab.look(&[]).await, [""; 0]);
    }
}
