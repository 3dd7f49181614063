//! Layers to one judgement. Pure.

use std::time::Duration;

use super::probe::{Answer, Library, ProbeError, Talked};
use super::probes::x509::Certificate;
use super::stopped::Why;
use crate::base::{Severity, Timestamp, span};
use crate::config::{Probe, Service};
use crate::host::run::quoted;

/// A clock that is further off than this breaks Kerberos logins.
const SKEW: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);
/// A certificate that ends within this time should have been renewed.
const SOON: Duration = Duration::from_secs(21 * 86_400);
/// And within this one it is urgent.
const URGENT: Duration = Duration::from_secs(7 * 86_400);

/// What one layer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// `unit`, `connect`, `tls`, `protocol`, `library`, `command`, `path`, `share`.
    pub name: &'static str,
    /// How well it is.
    pub severity: Severity,
    /// What is the case.
    pub message: String,
    /// What to do; empty when nothing.
    pub advice: String,
}

fn good(name: &'static str, message: String) -> Layer {
    Layer { name, severity: Severity::Ok, message, advice: String::new() }
}

fn bad(name: &'static str, severity: Severity, message: String, advice: &str) -> Layer {
    Layer { name, severity, message, advice: advice.to_owned() }
}

/// The layers of the network that a probe goes through, from below.
pub fn ways(probe: &Probe) -> Vec<&'static str> {
    let (tls, last): (bool, &[&'static str]) = match probe {
        Probe::None => return Vec::new(),
        Probe::Command { .. } => return vec!["command"],
        Probe::Tcp(_) => (false, &[]),
        Probe::Tls(_) => (true, &[]),
        Probe::Greeting(_, port)
        | Probe::Http { port, .. }
        | Probe::Plex { port, token_file: None } => (port.tls, &["protocol"]),
        Probe::Plex { port, token_file: Some(_) } => (port.tls, &["protocol", "library"]),
        Probe::Smb(_) | Probe::Afp(_) | Probe::Nfs(_) | Probe::Minidlna(_) => {
            (false, &["protocol"])
        }
    };
    let mut ways = vec!["connect"];
    ways.extend(tls.then_some("tls"));
    ways.extend(last);
    ways
}

/// What the network layers say, those that were reached.
pub fn network(
    service: &Service,
    talked: &Talked,
    stopped: Option<&Why>,
    now: Timestamp,
) -> Vec<Layer> {
    let ways = ways(&service.probe);
    let failed = talked.answer.as_ref().err().map(ProbeError::layer);
    let mut layers = Vec::new();
    for way in ways {
        if failed == Some(way) {
            layers.extend(talked.answer.as_ref().err().map(|e| failure(e, service, stopped)));
            break;
        }
        match way {
            "connect" => layers.push(good("connect", "accepts connections".to_owned())),
            "tls" => {
                let name = match &service.probe {
                    Probe::Tls(port)
                    | Probe::Greeting(_, port)
                    | Probe::Http { port, .. }
                    | Probe::Plex { port, .. } => port.name.as_deref(),
                    _ => None,
                };
                let shown = talked.certificate.as_ref().and_then(Option::as_ref);
                layers.push(certificate(shown, name, now));
            }
            "library" => {
                let starts = matches!(talked.answer, Ok(Answer::PlexStarts));
                layers.push(library(talked.library.as_ref(), starts));
            }
            _ => layers.extend(talked.answer.as_ref().ok().map(|answer| answered(answer, now))),
        }
    }
    layers
}

/// What an answer says.
fn answered(answer: &Answer, now: Timestamp) -> Layer {
    match answer {
        Answer::Tcp | Answer::Tls => good("protocol", "answers".to_owned()),
        Answer::Afp(status) => {
            let version = status.versions.last().map_or("AFP", String::as_str);
            good("protocol", format!("{} answers {version} ({})", status.server, status.machine))
        }
        Answer::Smb(said) => clocked(format!("answers SMB {}", said.version()), said.time, now),
        Answer::Nfs(version) => good("protocol", format!("answers NFS {version}")),
        Answer::Greeting(name, words) if words.is_empty() => {
            good("protocol", format!("answers {name}"))
        }
        Answer::Greeting(name, words) => good("protocol", format!("answers {name}: {words}")),
        Answer::Http { status, date } => clocked(format!("answers HTTP {status}"), *date, now),
        Answer::Plex(identity) => {
            let unclaimed = if identity.claimed == Some(false) { ", unclaimed" } else { "" };
            good("protocol", format!("answers Plex {}{unclaimed}", identity.version))
        }
        Answer::PlexStarts => bad(
            "protocol",
            Severity::Warning,
            "Plex answers that it is not ready: it starts, or works on its database".to_owned(),
            "wait; `journalctl -u plexmediaserver -e`",
        ),
        Answer::Minidlna => good("protocol", "answers DLNA".to_owned()),
        Answer::Plugin(told) => Layer {
            name: "command",
            severity: told.severity,
            message: told.text.clone(),
            advice: String::new(),
        },
    }
}

/// Well, unless the clock of who says so is off.
fn clocked(message: String, said: Option<Timestamp>, now: Timestamp) -> Layer {
    let skew = said.map(|time| now.since(time).max(time.since(now)));
    match skew.filter(|skew| *skew > SKEW) {
        None => good("protocol", message),
        Some(skew) => Layer {
            name: "protocol",
            severity: Severity::Warning,
            message: format!("{message}, but its clock is off by {}", span::show(skew)),
            advice: "`timedatectl`: clients with Kerberos cannot log in".to_owned(),
        },
    }
}

/// What a certificate means.
fn certificate(shown: Option<&Certificate>, name: Option<&str>, now: Timestamp) -> Layer {
    const RENEW: &str = "renew it, and restart the service so that it takes the new one";
    let Some(shown) = shown else {
        let message = "its certificate cannot be read".to_owned();
        return bad("tls", Severity::Unknown, message, "");
    };
    let whose = shown.names.first().map_or(String::new(), |name| format!(" for {name}"));
    if now < shown.from {
        let message = format!(
            "its certificate{whose} is good only from {} on: is a clock wrong?",
            span::show(shown.from.since(now))
        );
        return bad("tls", Severity::Critical, message, "`timedatectl` on both machines");
    }
    if now >= shown.until {
        let ago = span::show(now.since(shown.until));
        let message = format!("its certificate{whose} has expired {ago} ago");
        return bad("tls", Severity::Critical, message, RENEW);
    }
    let left = shown.until.since(now);
    if let Some(name) = name.filter(|name| !shown.is_for(name)) {
        let message = format!("its certificate is for {}, not for {name}", shown.names.join(", "));
        let severity = if left < URGENT { Severity::Critical } else { Severity::Warning };
        return bad("tls", severity, message, "get one for that name, or correct `server-name`");
    }
    let days = left.as_secs() / DAY.as_secs();
    let message = format!("its certificate{whose} is good for {days} more days");
    match left {
        left if left < URGENT => bad("tls", Severity::Critical, message, RENEW),
        left if left < SOON => bad("tls", Severity::Warning, message, RENEW),
        _ => good("tls", message),
    }
}

/// What Plex says of its libraries.
fn library(library: Option<&Library>, starts: bool) -> Layer {
    let wait = "wait; `journalctl -u plexmediaserver -e`";
    let loads = || "the library still loads".to_owned();
    let Some(library) = library else {
        let why = if starts { loads() } else { "the library was not asked for".to_owned() };
        return bad("library", Severity::Unknown, why, "");
    };
    if let Some(why) = &library.why {
        let fix = "correct the file of `token-file`; it has the X-Plex-Token of the owner";
        return bad("library", Severity::Unknown, why.clone(), fix);
    }
    let Some(libraries) = library.libraries.as_ref().filter(|_| !library.loading) else {
        return bad("library", Severity::Warning, loads(), wait);
    };
    let count = match libraries.count {
        1 => "1 library".to_owned(),
        count => format!("{count} libraries"),
    };
    let scans = match libraries.scanning.as_slice() {
        [] => String::new(),
        names => format!(", scanning {}", names.join(", ")),
    };
    let sessions = match library.sessions {
        Some(1) => ", 1 session".to_owned(),
        Some(count) => format!(", {count} sessions"),
        None => String::new(),
    };
    let message = format!("{count}{sessions}{scans}");
    if library.exposed {
        let message = format!("{message}; everybody on this machine can read the token");
        return bad("library", Severity::Warning, message, "`chmod 600` the file of `token-file`");
    }
    good("library", message)
}

/// What a failure means.
fn failure(error: &ProbeError, service: &Service, stopped: Option<&Why>) -> Layer {
    let restart = |verb: &str| {
        let unit = service.unit.as_deref();
        unit.map_or(String::new(), |unit| format!("`systemctl {verb} {}`", quoted(unit.as_ref())))
    };
    let message = match (error, stopped) {
        (ProbeError::Silent { to, protocol, deadline }, Some(why)) => format!(
            "{to} accepts connections but says no {protocol} within {}: {}",
            span::show(*deadline),
            why.message
        ),
        _ => error.whole(),
    };
    let severity = match error {
        ProbeError::NotRun(_) => Severity::Unknown,
        _ => Severity::Critical,
    };
    let advice = match (error, stopped) {
        (ProbeError::Silent { .. }, Some(why)) => why.advice.clone(),
        (ProbeError::Refused(_), _) => restart("start"),
        (ProbeError::Silent { .. } | ProbeError::ClosedEarly { .. }, None)
        | (ProbeError::ClosedEarly { .. }, _) => restart("restart"),
        (ProbeError::WrongProtocol { .. } | ProbeError::NoTls { .. }, _) => {
            "`ss -ltnp` shows which program has the port".to_owned()
        }
        (ProbeError::NotRun(_) | ProbeError::Endless(_), _) => {
            "try the command by hand; it is in `services:` of host.yaml".to_owned()
        }
        (
            ProbeError::Unreachable { .. }
            | ProbeError::Connect { .. }
            | ProbeError::Protocol { .. },
            _,
        ) => restart("status"),
    };
    Layer { name: error.layer(), severity, message, advice }
}

/// The worst layer; of equally bad ones the first, which is the cause of the
/// others. When all are well, the last, which says the most. `None` without
/// any layer.
pub fn worst(layers: &[Layer]) -> Option<&Layer> {
    let worst = layers.iter().map(|layer| layer.severity).max()?;
    let mut found = layers.iter().filter(|layer| layer.severity == worst);
    if worst == Severity::Ok { found.next_back() } else { found.next() }
}
