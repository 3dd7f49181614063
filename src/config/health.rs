//! What `health:` of `host.yaml` means.

use std::path::PathBuf;

use super::desk::Desk;
use super::formats::{AbsolutePath, Text};
use super::raw::{List, RawCount, RawHealth, RawPercent};
use super::tree::Trail;
use super::types::{Health, Levels};

pub(super) fn health(raw: RawHealth, desk: &mut Desk<'_, '_>) -> Health {
    let usual = Health::default();
    let trail = Trail::to("health");
    let mut percent = |key: &str, raw: Option<RawPercent>, usual: Levels| {
        self::percent(raw, usual, &trail.key(key), desk)
    };
    let cpu = percent("cpu", raw.cpu, usual.cpu);
    let memory = percent("memory", raw.memory, usual.memory);
    let swap = percent("swap", raw.swap, usual.swap);
    let disk = percent("disk", raw.disk, usual.disk);
    let inodes = percent("inodes", raw.inodes, usual.inodes);
    let memory_pressure = percent("memory-pressure", raw.memory_pressure, usual.memory_pressure);
    let load = raw.load.map_or(usual.load, |RawCount { warning, critical }| {
        let of = |value: Option<u32>, usual| value.map_or(usual, f64::from);
        Levels::new(of(warning, usual.load.warning), of(critical, usual.load.critical))
    });
    let load = ordered(load, &trail.key("load"), desk);
    let (only, ignore) = raw.mounts.map_or((None, None), |raw| (raw.only, raw.ignore));
    let words = raw.interfaces.and_then(|raw| raw.ignore).into_iter().flatten().flatten();
    Health {
        cpu,
        load,
        memory,
        swap,
        disk,
        inodes,
        memory_pressure,
        mounts_only: paths(only),
        mounts_ignore: paths(ignore),
        interfaces_ignore: words.map(|Text(word)| word).collect(),
    }
}

/// Two levels as fractions; what is not given is as usual.
pub(super) fn percent(
    raw: Option<RawPercent>,
    usual: Levels,
    trail: &Trail,
    desk: &mut Desk<'_, '_>,
) -> Levels {
    let of = |value: Option<u32>, usual| value.map_or(usual, |value| f64::from(value) / 100.0);
    let given = raw.map_or(usual, |RawPercent { warning, critical }| {
        Levels::new(of(warning, usual.warning), of(critical, usual.critical))
    });
    ordered(given, trail, desk)
}

/// A warning comes first.
fn ordered(levels: Levels, trail: &Trail, desk: &mut Desk<'_, '_>) -> Levels {
    if levels.warning > levels.critical {
        let message = "it would be critical before it is a warning";
        desk.error(trail, message, "give both, `warning` the lower one");
    }
    levels
}

fn paths(list: List<Text<AbsolutePath>>) -> Vec<String> {
    // A mount is compared as the kernel writes it, without a slash at its end.
    let tidy = |Text(path): Text<AbsolutePath>| -> PathBuf { path.components().collect() };
    let all = list.into_iter().flatten().flatten().map(tidy);
    all.map(|path| path.to_string_lossy().into_owned()).collect()
}
