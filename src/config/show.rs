//! The effective configuration as files that would mean the same, defaults
//! written out: `hostctl config show`.

mod streams;
mod vm;

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

pub use self::vm::vm;
use super::desk::exact;
use super::types::{
    Config, Events, Gpu, Health, Levels, Probe, RestartPolicy, Service, Trouble, Web,
};

/// One YAML document for `host.yaml` and one for each VM, each after a comment
/// that names its file.
pub fn show(config: &Config) -> String {
    let mut out = String::new();
    document(&mut out, "host.yaml", &host(config));
    for one in &config.vms {
        out.push_str("---\n");
        document(&mut out, &format!("vms/{}.yaml", one.name), &vm(one));
    }
    out
}

/// One document; JSON is a subset of YAML, should the writer fail.
fn document(out: &mut String, name: &str, value: &Json) {
    let yaml = serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value:#}"));
    let _ = writeln!(out, "# {name}\n{}", yaml.trim_end());
}

/// `host.yaml`.
pub fn host(config: &Config) -> Json {
    json!({
        "host": without_null(json!({
            "name": config.host.name,
            "interval": exact(config.host.interval),
            "discover-services": config.host.discover_services,
        })),
        "gpus": config.gpus.iter().map(gpu).collect::<Vec<_>>(),
        "pools": {
            "expected": config.pools.expected,
            "scrub-overdue": config.pools.scrub_overdue.map_or_else(|| "off".to_owned(), exact),
            "capacity": percent(config.pools.capacity),
        },
        "care": super::care::show(&config.care),
        "disks": {
            "interval": exact(config.disks.interval),
            "ignore": config.disks.ignore,
        },
        "services": config.services.iter().map(service).collect::<Vec<_>>(),
        "health": health(&config.health),
        "history": super::history::show(&config.history),
        "events": events(&config.events),
        "web": web(&config.web),
        "upstream": super::upstream::show(&config.upstream),
        "streams": streams::steps(&config.streams),
    })
}

fn count(levels: Levels) -> Json {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "they were whole numbers"
    )]
    let whole = |value: f64| value.round() as u64;
    json!({"warning": whole(levels.warning), "critical": whole(levels.critical)})
}

fn percent(levels: Levels) -> Json {
    count(Levels::new(levels.warning * 100.0, levels.critical * 100.0))
}

fn health(health: &Health) -> Json {
    let mut mounts = json!({ "ignore": health.mounts_ignore });
    if !health.mounts_only.is_empty() {
        mounts["only"] = json!(health.mounts_only);
    }
    json!({
        "cpu": percent(health.cpu),
        "load": count(health.load),
        "memory": percent(health.memory),
        "swap": percent(health.swap),
        "disk": percent(health.disk),
        "inodes": percent(health.inodes),
        "memory-pressure": percent(health.memory_pressure),
        "mounts": mounts,
        "interfaces": { "ignore": health.interfaces_ignore },
    })
}

fn gpu(gpu: &Gpu) -> Json {
    without_null(json!({
        "name": gpu.name,
        "address": gpu.address,
        "identity": gpu.identity.map(id),
        "subsystem": gpu.subsystem.map(id),
        "follow": gpu.follow,
        "with": gpu.with,
        "stop-display-manager": gpu.stop_display_manager,
    }))
}

fn id((vendor, device): (u16, u16)) -> String {
    format!("{vendor:04x}:{device:04x}")
}

fn service(service: &Service) -> Json {
    let port = match &service.probe {
        Probe::Greeting(_, port) | Probe::Http { port, .. } | Probe::Plex { port, .. } => {
            (port.tls.then_some(true), port.name.as_ref())
        }
        Probe::Tls(port) => (None, port.name.as_ref()),
        _ => (None, None),
    };
    let (page, expect) = match &service.probe {
        Probe::Http { page, expect, .. } => (Some(page), expect.as_ref()),
        _ => (None, None),
    };
    let token = match &service.probe {
        Probe::Plex { token_file, .. } => token_file.as_ref(),
        _ => None,
    };
    let (command, user) = match &service.probe {
        Probe::Command { argv, user } => (Some(argv), user.as_ref()),
        _ => (None, None),
    };
    without_null(json!({
        "name": service.name,
        "probe": service.probe.kind(),
        "address": service.probe.address(),
        "server-name": port.1,
        "tls": port.0,
        "page": page,
        "expect": expect,
        "token-file": token,
        "command": command,
        "user": user,
        "unit": service.unit,
        "path": service.path,
        "mount": service.mount,
        "interval": exact(service.interval),
        "deadline": exact(service.deadline),
        "restart": service.restart.as_ref().map(restart),
    }))
}

fn restart(policy: &RestartPolicy) -> Json {
    let word = |trouble: &Trouble| match trouble {
        Trouble::Failed => "failed",
        Trouble::Hung => "hung",
    };
    json!({
        "after": exact(policy.after),
        "at-most": policy.at_most,
        "within": exact(policy.within),
        "on": policy.on.iter().map(word).collect::<Vec<_>>(),
    })
}

fn listen(at: Option<std::net::SocketAddr>) -> String {
    at.map_or("off".into(), |at| at.to_string())
}

fn events(events: &Events) -> Json {
    let files = events.files.as_ref();
    without_null(json!({
        "tcp": listen(events.tcp),
        "udp": listen(events.udp),
        "allow": events.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "tls": listen(events.tls),
        "certificate": files.map(|files| &files.certificate),
        "key": files.map(|files| &files.key),
        "client-ca": files.and_then(|files| files.client_ca.as_ref()),
        "websocket": listen(events.websocket),
        "websocket-tls": events.websocket_tls,
        "token-file": events.token_file,
        "read-token-file": events.read_token_file,
        "names": events.names,
        "origins": events.origins,
        "graphite": listen(events.graphite),
        "expire": exact(events.expire),
    }))
}

fn web(web: &Web) -> Json {
    let files = web.files.as_ref();
    without_null(json!({
        "listen": listen(web.listen),
        "token-file": web.token_file,
        "certificate": files.map(|files| &files.certificate),
        "key": files.map(|files| &files.key),
        "client-ca": files.and_then(|files| files.client_ca.as_ref()),
        "names": web.names,
        "origins": web.origins,
    }))
}

/// A mapping without the keys that have no value.
pub(super) fn without_null(mut value: Json) -> Json {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    value
}
