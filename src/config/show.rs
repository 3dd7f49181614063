//! The effective configuration as files that would mean the same, defaults
//! written out: `hostctl config show`.

mod vm;

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

pub use self::vm::vm;
use super::desk::exact;
use super::types::{Config, Events, Gpu, Probe, RestartPolicy, Service, Trouble};

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
        "pools": { "expected": config.pools.expected },
        "services": config.services.iter().map(service).collect::<Vec<_>>(),
        "events": events(&config.events),
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
    let (probe, address) = match service.probe {
        Probe::None => ("none", None),
        Probe::Tcp(address) => ("tcp", Some(address)),
        Probe::Smb(address) => ("smb", Some(address)),
        Probe::Afp(address) => ("afp", Some(address)),
    };
    without_null(json!({
        "name": service.name,
        "probe": probe,
        "address": address,
        "unit": service.unit,
        "path": service.path,
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

fn events(events: &Events) -> Json {
    let listen = |a: Option<std::net::SocketAddr>| a.map_or("off".into(), |a| a.to_string());
    json!({ "tcp": listen(events.tcp), "udp": listen(events.udp) })
}

/// A mapping without the keys that have no value.
fn without_null(mut value: Json) -> Json {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    value
}
