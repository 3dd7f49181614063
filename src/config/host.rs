//! What `host.yaml` means: raw → checked, as far as it is sound.

use std::collections::HashMap;
use std::time::Duration;

use super::care::care;
use super::desk::Desk;
use super::disks::disks;
use super::events::{events, web};
use super::formats::Text;
use super::health::health;
use super::history::history;
use super::pools::pools;
use super::quirks::QuirkFiles;
use super::raw::{RawGpu, RawHost, RawHostSection, RawStreams};
use super::services::services;
use super::streams::streams;
use super::tree::Trail;
use super::types::{Config, Gpu, HostSection};
use super::upstream::upstream;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Judges the whole file. After an error the result is a part of what was
/// meant, good enough to judge what refers to it.
pub fn build(raw: RawHost, desk: &mut Desk<'_, '_>) -> Config {
    let events = raw.events.and_then(|r| events(r, desk)).unwrap_or_default();
    Config {
        host: raw.host.and_then(|r| host(r, desk)).unwrap_or_default(),
        gpus: gpus(raw.gpus.unwrap_or_default(), desk),
        pools: raw.pools.map(|r| pools(r, desk)).unwrap_or_default(),
        care: raw.care.map(|r| care(r, desk)).unwrap_or_default(),
        disks: raw.disks.and_then(|r| disks(r, desk)).unwrap_or_default(),
        services: services(raw.services.unwrap_or_default(), desk),
        health: raw.health.map(|r| health(r, desk)).unwrap_or_default(),
        web: raw.web.and_then(|r| web(r, &events, desk)).unwrap_or_default(),
        events,
        upstream: raw.upstream.map(|r| upstream(r, desk)).unwrap_or_default(),
        streams: raw.streams.map(|RawStreams| streams(desk)).unwrap_or_default(),
        history: raw.history.map(|r| history(r, desk)).unwrap_or_default(),
        vms: Vec::new(),
        quirks: QuirkFiles::default(),
    }
}

fn host(raw: RawHostSection, desk: &mut Desk<'_, '_>) -> Option<HostSection> {
    let trail = Trail::to("host");
    let interval = desk.span(&trail.key("interval"), raw.interval, SECOND, HOUR)?;
    Some(HostSection {
        name: raw.name.map(|Text(name)| name),
        interval,
        discover_services: raw.discover_services.unwrap_or(true),
    })
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
