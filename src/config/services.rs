//! What `services:` of `host.yaml` means.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::desk::{Desk, exact};
use super::formats::Text;
use super::raw::{RawProbe, RawService, RawServiceRestart, RawServiceTrouble};
use super::tree::Trail;
use super::types::{Probe, RestartPolicy, Service, Trouble};
use super::world::Existence;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// How long a step of a probe may take when the file does not say.
const DEADLINE: Duration = Duration::from_secs(5);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn services(raw: Vec<Option<RawService>>, desk: &mut Desk<'_, '_>) -> Vec<Service> {
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
    // Its defaults alone are no wish.
    let wanted = desk.root.has(&trail.key("restart"));
    let policy = raw.restart.filter(|_| wanted);
    let policy = policy.map(|raw| restart(raw, &trail.key("restart"), desk));
    if policy.is_some() && !desk.root.has(&trail.key("unit")) {
        let message = "there is no unit that could be restarted";
        desk.error(&trail.key("restart"), message, "add `unit: smbd.service` with the service's");
    }
    if policy.as_ref().is_some_and(|(_, hung)| *hung) && probe == Some(Probe::None) {
        let at = trail.key("restart").key("on");
        let message = "a service that is not asked is never found hung";
        desk.error(&at, message, "add a `probe`, or leave out `hung`");
    }
    let restart = match policy {
        Some((policy, _)) => Some(policy?),
        None => None,
    };
    Some(Service {
        restart,
        name: raw.name?.0,
        unit: raw.unit.map(|Text(unit)| unit),
        probe: probe?,
        path: raw.path.map(|Text(path)| path),
        interval: interval?,
        deadline: deadline?,
    })
}

/// The policy, and whether it is for one that hangs.
fn restart(
    raw: RawServiceRestart,
    trail: &Trail,
    desk: &mut Desk<'_, '_>,
) -> (Option<RestartPolicy>, bool) {
    let after = desk.span(&trail.key("after"), raw.after, SECOND, HOUR);
    let within = desk.span(&trail.key("within"), raw.within, SECOND * 60, HOUR * 24 * 7);
    let mut on = Vec::new();
    let given = raw.on.unwrap_or_else(|| vec![Some(RawServiceTrouble::Failed)]);
    for trouble in given.into_iter().flatten() {
        let trouble = match trouble {
            RawServiceTrouble::Failed => Trouble::Failed,
            RawServiceTrouble::Hung => Trouble::Hung,
        };
        if !on.contains(&trouble) {
            on.push(trouble);
        }
    }
    let hung = on.contains(&Trouble::Hung);
    let policy = after.zip(within).zip(raw.at_most);
    let policy =
        policy.map(|((after, within), at_most)| RestartPolicy { after, at_most, within, on });
    (policy, hung)
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
