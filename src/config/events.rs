//! What `events:` and `web:` of `host.yaml` mean.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::desk::Desk;
use super::formats::{AbsolutePath, HostName, Listen, Text};
use super::nets::{Subnet, WebOrigin};
use super::raw::{List, RawEvents, RawWeb};
use super::tree::Trail;
use super::types::{Events, TlsFiles, Web};

const TENTH: Duration = Duration::from_millis(100);
const MINUTE: Duration = Duration::from_secs(60);

/// A key of a listener and where it is, unless it is off.
type Port<'a> = (&'a str, Option<SocketAddr>);

pub(super) fn events(raw: RawEvents, desk: &mut Desk<'_, '_>) -> Option<Events> {
    let trail = Trail::to("events");
    let allow = list(raw.allow, |Text::<Subnet>(net)| net);
    // One that is wrong was meant to be there.
    let allows = desk.root.has(&trail.key("allow"));
    let port = |value: Option<Text<Listen>>| value.map(|Text(at)| at);
    let (tcp, udp, graphite) = (port(raw.tcp), port(raw.udp), port(raw.graphite));
    let (tls, websocket) = (port(raw.tls), port(raw.websocket));
    let sends = |at: Option<Option<SocketAddr>>| at.flatten();
    for (key, at) in [("tcp", sends(tcp)), ("udp", sends(udp)), ("graphite", sends(graphite))] {
        if let Some(at) = open(at).filter(|_| !allows) {
            let message = format!(
                "`{key}` would listen on {at}, where anybody on the network can send events"
            );
            let fix = format!(
                "say who may, such as `allow: [192.168.1.0/24]`, or write 127.0.0.1:{}",
                at.port()
            );
            desk.error(&trail.key(key), message, fix);
        }
    }
    for (item, net) in allow.iter().enumerate().filter(|(_, net)| net.is_everybody()) {
        let message = format!("{net} is everybody who can reach this machine");
        desk.warn(&trail.key("allow").item(item), message, "name the networks that you trust");
    }
    let wants_tls = (sends(tls).is_some(), raw.websocket_tls.unwrap_or_default());
    let files = Files { certificate: raw.certificate, key: raw.key, client_ca: raw.client_ca };
    let needed = match wants_tls {
        (true, _) => Some(("tls", true)),
        (false, true) => Some(("websocket-tls", false)),
        (false, false) => None,
    };
    let files = files.check(&trail, needed, desk);
    let token_file = file(raw.token_file, "token-file", "the token's file", &trail, desk);
    let read_token_file =
        file(raw.read_token_file, "read-token-file", "the token's file", &trail, desk);
    let has_token = ["token-file", "read-token-file"].iter().any(|k| desk.root.has(&trail.key(k)));
    if let Some(at) = open(sends(websocket)).filter(|_| !has_token) {
        let message =
            format!("`websocket` would listen on {at}, where anybody on the network comes in");
        let fix = format!("add `token-file`, or write 127.0.0.1:{}", at.port());
        desk.error(&trail.key("websocket"), message, fix);
    }
    let ports = [
        ("tcp", sends(tcp)),
        ("tls", sends(tls)),
        ("websocket", sends(websocket)),
        ("graphite", sends(graphite)),
    ];
    apart(&ports, &trail, desk);
    let expire = desk.span(&trail.key("expire"), raw.expire, TENTH, MINUTE);
    Some(Events {
        tcp: tcp?,
        udp: udp?,
        allow,
        tls: tls?,
        files,
        websocket: websocket?,
        websocket_tls: raw.websocket_tls.unwrap_or_default(),
        token_file,
        read_token_file,
        names: list(raw.names, |Text::<HostName>(name)| name),
        origins: list(raw.origins, |Text::<WebOrigin>(origin)| origin),
        graphite: graphite?,
        expire: expire?,
    })
}

pub(super) fn web(raw: RawWeb, events: &Events, desk: &mut Desk<'_, '_>) -> Option<Web> {
    let trail = Trail::to("web");
    let Text(listen) = raw.listen?;
    let token_file = file(raw.token_file, "token-file", "the token's file", &trail, desk);
    let secured = ["token-file", "client-ca"].iter().any(|key| desk.root.has(&trail.key(key)));
    if let Some(at) = open(listen).filter(|_| !secured) {
        let message = format!("`listen` would be {at}, where anybody on the network can read");
        let fix = format!("add `token-file`, or write 127.0.0.1:{}", at.port());
        desk.error(&trail.key("listen"), message, fix);
    }
    let files = Files { certificate: raw.certificate, key: raw.key, client_ca: raw.client_ca };
    let needed = ["certificate", "key", "client-ca"]
        .into_iter()
        .find(|key| desk.root.has(&trail.key(key)))
        .map(|key| (key, false));
    let files = files.check(&trail, needed, desk);
    let others = [events.tcp, events.tls, events.websocket, events.graphite];
    if let Some(at) = listen.filter(|at| at.port() != 0 && others.contains(&Some(*at))) {
        desk.error(&trail.key("listen"), taken(at, "events"), "give it a port of its own");
    }
    Some(Web {
        listen,
        token_file,
        files,
        names: list(raw.names, |Text::<HostName>(name)| name),
        origins: list(raw.origins, |Text::<WebOrigin>(origin)| origin),
    })
}

/// The address if others than this machine reach it.
fn open(at: Option<SocketAddr>) -> Option<SocketAddr> {
    at.filter(|at| !at.ip().to_canonical().is_loopback())
}

fn list<T, U>(list: List<T>, of: impl FnMut(T) -> U) -> Vec<U> {
    list.into_iter().flatten().flatten().map(of).collect()
}

fn taken(at: SocketAddr, by: &str) -> String {
    format!("{at} is the address of `{by}` already")
}

/// Two cannot have one address.
fn apart(ports: &[Port<'_>], trail: &Trail, desk: &mut Desk<'_, '_>) {
    for (i, (key, at)) in ports.iter().enumerate() {
        let Some(at) = at.filter(|at| at.port() != 0) else { continue };
        let first = ports.iter().take(i).find(|(_, other)| *other == Some(at));
        if let Some((first, _)) = first {
            desk.error(&trail.key(key), taken(at, first), "give it a port of its own");
        }
    }
}

fn file(
    path: Option<Text<AbsolutePath>>,
    key: &str,
    what: &str,
    trail: &Trail,
    desk: &mut Desk<'_, '_>,
) -> Option<PathBuf> {
    let Text(path) = path?;
    desk.needs_file(&trail.key(key), what, &path, "make it, readable for root only");
    Some(path)
}

/// The keys of TLS.
struct Files {
    certificate: Option<Text<AbsolutePath>>,
    key: Option<Text<AbsolutePath>>,
    client_ca: Option<Text<AbsolutePath>>,
}

impl Files {
    /// All that are needed, by which key, and whether clients must show one.
    fn check(
        self,
        trail: &Trail,
        needed: Option<(&str, bool)>,
        desk: &mut Desk<'_, '_>,
    ) -> Option<TlsFiles> {
        let certificate = file(self.certificate, "certificate", "the certificate", trail, desk);
        let key = file(self.key, "key", "the key", trail, desk);
        let client_ca = file(self.client_ca, "client-ca", "the issuers' certificate", trail, desk);
        let (by, clients) = needed?;
        let wanted = ["certificate", "key", "client-ca"];
        let missing = |wanted: &&&str| !desk.root.has(&trail.key(wanted));
        let missing: Vec<_> =
            wanted.iter().take(2 + usize::from(clients)).filter(missing).collect();
        if !missing.is_empty() {
            let missing = missing.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
            let message = format!("TLS needs {missing} as well");
            desk.error(&trail.key(by), message, "name the files, PEM, under this section");
        }
        Some(TlsFiles { certificate: certificate?, key: key?, client_ca })
    }
}
