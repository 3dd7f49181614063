//! What `host.yaml` means: raw → checked, as far as it is sound.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::desk::{Desk, exact};
use super::formats::{Listen, Text};
use super::quirks::QuirkFiles;
use super::raw::{RawEvents, RawGpu, RawHost, RawHostSection, RawPools, RawProbe, RawService};
use super::tree::Trail;
use super::types::{Config, Events, Gpu, HostSection, Pools, Probe, Service};
use super::world::Existence;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// How long a step of a probe may take when the file does not say.
const DEADLINE: Duration = Duration::from_secs(5);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Judges the whole file. After an error the result is a part of what was
/// meant, good enough to judge what refers to it.
pub fn build(raw: RawHost, desk: &mut Desk<'_, '_>) -> Config {
    Config {
        host: raw.host.and_then(|r| host(r, desk)).unwrap_or_default(),
        gpus: gpus(raw.gpus.unwrap_or_default(), desk),
        pools: raw.pools.map(|r| pools(r, desk)).unwrap_or_default(),
        services: services(raw.services.unwrap_or_default(), desk),
        events: raw.events.and_then(|r| events(&r, desk)).unwrap_or_default(),
        vms: Vec::new(),
        quirks: QuirkFiles::default(),
    }
}

fn host(raw: RawHostSection, desk: &mut Desk<'_, '_>) -> Option<HostSection> {
    let trail = Trail::to("host");
    let interval = desk.span(&trail.key("interval"), raw.interval, SECOND, HOUR)?;
    Some(HostSection { name: raw.name.map(|Text(name)| name), interval })
}

fn gpus(raw: Vec<Option<RawGpu>>, desk: &mut Desk<'_, '_>) -> Vec<Gpu> {
    let (mut names, mut slots, mut out) = (HashMap::new(), HashMap::new(), Vec::new());
    for (i, raw) in raw.into_iter().enumerate() {
        let trail = Trail::to("gpus").item(i);
        let Some(raw) = raw else { continue };
        if let Some(Text(name)) = &raw.name {
            let what = format!("the card's name `{name}`");
            desk.unique(&mut names, name.clone(), &trail.key("name"), what);
        }
        if let Some(Text(address)) = raw.address {
            let slot = (address.domain, address.bus, address.device);
            let what = format!("the card in the slot of {address}");
            desk.unique(&mut slots, slot, &trail.key("address"), what);
        }
        if let (Some(Text(name)), Some(Text(address))) = (raw.name, raw.address) {
            let with = raw.with.into_iter().flatten().flatten().map(|Text(address)| address);
            out.push(Gpu {
                identity: raw.identity.as_ref().map(|Text(id)| *id),
                subsystem: raw.subsystem.map(|Text(id)| id),
                follow: raw.follow.unwrap_or_default(),
                with: with.collect(),
                stop_display_manager: raw.stop_display_manager.unwrap_or_default(),
                ..Gpu::at(name, address)
            });
            if raw.follow == Some(true) && !desk.root.has(&trail.key("identity")) {
                let message = "a card without an `identity` cannot be found elsewhere";
                desk.error(&trail.key("follow"), message, "add `identity`, or remove `follow`");
            }
        }
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

fn pools(raw: RawPools, desk: &mut Desk<'_, '_>) -> Pools {
    let (mut names, mut expected) = (HashMap::new(), Vec::new());
    for (i, name) in raw.expected.unwrap_or_default().into_iter().enumerate() {
        let Some(Text(name)) = name else { continue };
        let trail = Trail::to("pools").key("expected").item(i);
        desk.unique(&mut names, name.clone(), &trail, format!("the pool `{name}`"));
        expected.push(name);
    }
    Pools { expected }
}

fn services(raw: Vec<Option<RawService>>, desk: &mut Desk<'_, '_>) -> Vec<Service> {
    let (mut names, mut out) = (HashMap::new(), Vec::new());
    for (i, raw) in raw.into_iter().enumerate() {
        let trail = Trail::to("services").item(i);
        let Some(raw) = raw else { continue };
        if let Some(Text(name)) = &raw.name {
            let what = format!("the service's name `{name}`");
            desk.unique(&mut names, name.clone(), &trail.key("name"), what);
        }
        out.extend(service(raw, &trail, desk));
    }
    out
}

fn service(raw: RawService, trail: &Trail, desk: &mut Desk<'_, '_>) -> Option<Service> {
    let probe = raw.probe.and_then(|kind| probe(kind, &raw, trail, desk));
    let says = |key: &str| desk.root.has(&trail.key(key));
    if probe == Some(Probe::None) && !says("unit") && !says("path") {
        let fix = "add `probe: smb`, `afp` or `tcp`, a `unit`, or a `path`";
        desk.error(trail, "this service says nothing to look at", fix);
    }
    let least = Duration::from_millis(100);
    let interval = desk.span(&trail.key("interval"), raw.interval, SECOND, HOUR);
    let deadline = desk.span(&trail.key("deadline"), raw.deadline, least, SECOND * 300);
    let given = desk.root.has(&trail.key("deadline"));
    let deadline = match (given, interval) {
        (true, _) => deadline,
        (false, Some(interval)) => Some(interval.min(DEADLINE)),
        (false, None) => None,
    };
    if let (Some(interval), Some(deadline)) = (interval, deadline)
        && deadline > interval
    {
        let (deadline, interval) = (exact(deadline), exact(interval));
        let message = format!(
            "the deadline of {deadline} is longer than the interval of {interval}: a service \
             that hangs is asked less often"
        );
        desk.warn(&trail.key("deadline"), message, "make the interval at least as long");
    }
    if let Some(Text(path)) = &raw.path {
        let at = trail.key("path");
        match (desk.exists)(path) {
            Existence::Folder | Existence::Unknown => {}
            Existence::File => {
                desk.error(&at, format!("{} is not a folder", path.display()), "name a folder");
            }
            // It may be on a pool that is not imported yet, which is what is watched.
            Existence::Missing => {
                let message = format!("{} is not there now", path.display());
                desk.warn(&at, message, "correct the path, or import its pool");
            }
        }
    }
    Some(Service {
        name: raw.name?.0,
        unit: raw.unit.map(|Text(unit)| unit),
        probe: probe?,
        path: raw.path.map(|Text(path)| path),
        interval: interval?,
        deadline: deadline?,
    })
}

fn probe(
    kind: RawProbe,
    raw: &RawService,
    trail: &Trail,
    desk: &mut Desk<'_, '_>,
) -> Option<Probe> {
    let given = raw.address.as_ref().map(|Text(address)| *address);
    let usual = |port| given.unwrap_or(SocketAddr::new(LOOPBACK, port));
    match (kind, given) {
        (RawProbe::Smb, _) => Some(Probe::Smb(usual(445))),
        (RawProbe::Afp, _) => Some(Probe::Afp(usual(548))),
        (RawProbe::Tcp, Some(address)) => Some(Probe::Tcp(address)),
        (RawProbe::Tcp, None) => {
            // An address that was given and is wrong has its own problem.
            if !desk.root.has(&trail.key("address")) {
                let fix = "add `address: 127.0.0.1:32400` with the service's port";
                desk.error(&trail.key("probe"), "`tcp` has no usual port", fix);
            }
            None
        }
        (RawProbe::None, None) => Some(Probe::None),
        (RawProbe::None, Some(_)) => {
            let message = "the address is not used, because nothing is asked there";
            desk.error(&trail.key("address"), message, "add `probe: tcp`, or remove the address");
            None
        }
    }
}

fn events(raw: &RawEvents, desk: &mut Desk<'_, '_>) -> Option<Events> {
    let mut listen = |key: &str, value: &Option<Text<Listen>>| {
        let Text(address) = value.as_ref()?;
        if let Some(open) = address.filter(|a| !a.ip().to_canonical().is_loopback()) {
            let message = format!(
                "`{key}` would listen on {open}, where anybody on the network can send events \
                 and read them"
            );
            let fix = format!(
                "write 127.0.0.1:{}; TLS and lists of allowed senders are not in this version of \
                 hostd",
                open.port()
            );
            desk.error(&Trail::to("events").key(key), message, fix);
            return None;
        }
        Some(*address)
    };
    let (tcp, udp) = (listen("tcp", &raw.tcp), listen("udp", &raw.udp));
    Some(Events { tcp: tcp?, udp: udp? })
}
