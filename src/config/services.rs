//! What `services:` of `host.yaml` means.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::desk::{Desk, exact};
use super::formats::Text;
use super::raw::{RawProbe, RawService, RawServiceRestart, RawServiceTrouble};
use super::tree::Trail;
use super::types::{Greets, Port, Probe, RestartPolicy, Service, Trouble};
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
        let fix = "add a `probe` such as `smb` or `http`, a `unit`, or a `path`";
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
    let mount = raw.mount.map(|Text(mount)| mount);
    if let Some(mount) = &mount
        && !raw.path.as_ref().is_some_and(|Text(path)| path.starts_with(mount))
        && (raw.path.is_some() || !says("path"))
    {
        let message = format!("{} does not hold the `path` of this service", mount.display());
        desk.error(&trail.key("mount"), message, "name `path` itself or a folder above it");
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
        mount,
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
    unused(kind, trail, desk);
    let given = raw.address.as_ref().map(|Text(address)| *address);
    let usual = |port| given.unwrap_or(SocketAddr::new(LOOPBACK, port));
    let name = raw.server_name.as_ref().map(|Text(name)| name.clone());
    let tls = raw.tls == Some(true);
    let port = |clear, secure| Port {
        to: usual(if tls { secure } else { clear }),
        tls,
        name: name.clone(),
    };
    Some(match kind {
        RawProbe::Smb => Probe::Smb(usual(445)),
        RawProbe::Afp => Probe::Afp(usual(548)),
        RawProbe::Nfs => Probe::Nfs(usual(2049)),
        RawProbe::Minidlna => Probe::Minidlna(usual(8200)),
        RawProbe::Smtp => Probe::Greeting(Greets::Smtp, port(25, 465)),
        RawProbe::Imap => Probe::Greeting(Greets::Imap, port(143, 993)),
        RawProbe::Pop3 => Probe::Greeting(Greets::Pop3, port(110, 995)),
        RawProbe::Mysql => Probe::Greeting(Greets::Mysql, port(3306, 3306)),
        RawProbe::Ssh => Probe::Greeting(Greets::Ssh, port(22, 22)),
        RawProbe::Ftp => Probe::Greeting(Greets::Ftp, port(21, 990)),
        RawProbe::Plex => {
            let token_file = raw.token_file.as_ref().map(|Text(path)| path.clone());
            if let Some(path) = &token_file {
                let at = trail.key("token-file");
                match (desk.exists)(path) {
                    Existence::Folder => {
                        let message = format!("{} is a folder", path.display());
                        desk.error(&at, message, "name the file that has the token");
                    }
                    Existence::Missing => {
                        let fix = "write the token there, with mode 0600: without it, sessions \
                                   and libraries are not known";
                        desk.warn(&at, format!("{} is not there now", path.display()), fix);
                    }
                    Existence::File | Existence::Unknown => {}
                }
            }
            Probe::Plex { port: port(32400, 32400), token_file }
        }
        RawProbe::Http => {
            let page = raw.page.as_ref().map_or("/", |Text(page)| page.as_str());
            if !page.starts_with('/') || !page.bytes().all(|b| b.is_ascii_graphic()) {
                let fix = "write the path of the page without blanks, such as /health";
                desk.error(&trail.key("page"), format!("`{page}` is no page"), fix);
            }
            let expect = raw.expect.as_ref().map(|Text(text)| text.clone());
            Probe::Http { port: port(80, 443), page: page.to_owned(), expect }
        }
        RawProbe::Command => {
            let argv: Vec<String> =
                raw.command.iter().flatten().map(|Text(word)| word.clone()).collect();
            let said = desk.root.has(&trail.key("command"));
            match argv.first() {
                Some(program) if program.starts_with('/') => {}
                Some(program) => {
                    let message = format!("`{program}` is no path from the root");
                    desk.error(&trail.key("command").item(0), message, "write the whole path");
                }
                // A command that was given and is wrong has its own problem.
                None if said && raw.command.is_none() => return None,
                None => {
                    let fix = "add `command: [/usr/lib/nagios/plugins/check_…, …]`";
                    desk.error(&trail.key("probe"), "there is no command to run", fix);
                    return None;
                }
            }
            Probe::Command { argv, user: raw.user.as_ref().map(|Text(user)| user.clone()) }
        }
        RawProbe::None => Probe::None,
        RawProbe::Tcp | RawProbe::Tls => match (given, kind) {
            (Some(to), RawProbe::Tls) => Probe::Tls(Port { to, tls: true, name }),
            (Some(to), _) => Probe::Tcp(to),
            (None, _) => {
                // An address that was given and is wrong has its own problem.
                if !desk.root.has(&trail.key("address")) {
                    let kind = if kind == RawProbe::Tls { "tls" } else { "tcp" };
                    let fix = "add `address: 127.0.0.1:32400` with the service's port";
                    let message = format!("`{kind}` has no usual port");
                    desk.error(&trail.key("probe"), message, fix);
                }
                return None;
            }
        },
    })
}

/// Keys that this kind of probe does not look at: they were meant for another.
fn unused(kind: RawProbe, trail: &Trail, desk: &mut Desk<'_, '_>) {
    let mail = [RawProbe::Smtp, RawProbe::Imap, RawProbe::Pop3, RawProbe::Ftp].contains(&kind);
    let web = matches!(kind, RawProbe::Http | RawProbe::Plex);
    for (key, used, meant) in [
        ("server-name", mail || web || kind == RawProbe::Tls, "with http, plex, tls or mail"),
        ("tls", mail || web, "with http, plex, smtp, imap, pop3 or ftp"),
        ("page", kind == RawProbe::Http, "with `probe: http`"),
        ("expect", kind == RawProbe::Http, "with `probe: http`"),
        ("token-file", kind == RawProbe::Plex, "with `probe: plex`"),
        ("command", kind == RawProbe::Command, "with `probe: command`"),
        ("user", kind == RawProbe::Command, "with `probe: command`"),
    ] {
        if !used && desk.root.has(&trail.key(key)) {
            let message = format!("`{key}` is not used by this probe");
            desk.error(&trail.key(key), message, format!("use it {meant}, or remove it"));
        }
    }
    if matches!(kind, RawProbe::None | RawProbe::Command) && desk.root.has(&trail.key("address")) {
        let message = "the address is not used, because nothing is asked there";
        desk.error(&trail.key("address"), message, "add `probe: tcp`, or remove the address");
    }
}
