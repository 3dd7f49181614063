//! What systemd says of a unit, and what that means.
//!
//! Read with `systemctl show` for now; the same words come over D-Bus.

use std::time::{Duration, Instant};

use super::judge::Layer;
use crate::base::Severity;
use crate::host::Host;
use crate::host::run::{Command, quoted};

/// There while systemd runs the machine: `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";
const SHORT: Duration = Duration::from_secs(3);

/// The properties of a unit that matter here; empty where not said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// `LoadState`: `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `ActiveState`: `active`, `failed`, …
    pub active: String,
    /// `SubState`: `running`, `auto-restart`, …
    pub sub: String,
    /// `Result` of the last run: `success`, `exit-code`, `signal`, …
    pub result: String,
    /// `NRestarts` since it was started by hand.
    pub restarts: Option<u64>,
}

/// Reads a unit. `None` where systemd does not run the machine: then nothing
/// can be said, and nothing is judged.
pub async fn read(host: &Host, unit: &str, deadline: Duration) -> Option<Result<Unit, String>> {
    if !host.sys.exists(BOOTED) {
        return None;
    }
    let properties = "--property=LoadState,ActiveState,SubState,Result,NRestarts";
    let command =
        Command::new("systemctl", ["show", properties, "--", unit]).deadline(deadline.min(SHORT));
    let output = host.runner.run(command.clone()).await.and_then(|out| out.success(&command));
    Some(match output {
        Ok(stdout) => Ok(parse(&String::from_utf8_lossy(&stdout))),
        Err(error) => Err(error.to_string()),
    })
}

/// `Key=value` lines; other keys are none of our business.
pub fn parse(text: &str) -> Unit {
    let mut unit = Unit::default();
    for (key, value) in text.lines().take(64).filter_map(|line| line.split_once('=')) {
        let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        let value: String = value.trim().chars().take(64).map(plain).collect();
        match key {
            "LoadState" => unit.load = value,
            "ActiveState" => unit.active = value,
            "SubState" => unit.sub = value,
            "Result" => unit.result = value,
            "NRestarts" => unit.restarts = value.parse().ok(),
            _ => {}
        }
    }
    unit
}

/// Restarts within this time, from this number on, are a crash loop.
const WINDOW: Duration = Duration::from_secs(600);
const LOOP: u64 = 3;

/// What is remembered of a unit's restarts.
#[derive(Debug, Clone, Default)]
pub struct Restarts {
    last: Option<u64>,
    /// When the counter rose and by how much.
    rises: Vec<(Instant, u64)>,
}

impl Restarts {
    /// Takes in a reading; returns how many restarts there were within the
    /// last ten minutes. Those before the first reading do not count.
    pub fn observe(&mut self, count: Option<u64>, now: Instant) -> u64 {
        let Some(count) = count else { return 0 };
        // Fewer than before: somebody has started it by hand.
        let rise = count.saturating_sub(self.last.unwrap_or(count));
        self.last = Some(count);
        self.rises.retain(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
        if rise > 0 && self.rises.len() < 1024 {
            self.rises.push((now, rise));
        }
        self.rises.iter().fold(0, |sum, (_, rise)| sum.saturating_add(*rise))
    }
}

/// What the unit's state means.
pub fn judge(name: &str, unit: &Result<Unit, String>, restarts: u64) -> Layer {
    let shown = quoted(name.as_ref());
    let advice = format!("`systemctl status {shown}`, `journalctl -u {shown} -e`");
    let layer = |severity, message: String, advice: String| Layer {
        name: "unit",
        severity,
        message,
        advice,
    };
    let unit = match unit {
        Ok(unit) => unit,
        Err(why) => return layer(Severity::Unknown, why.clone(), advice),
    };
    let Unit { load, active, sub, result, .. } = unit;
    match (load.as_str(), active.as_str(), sub.as_str()) {
        ("not-found", ..) => {
            let advice = "install its package, or correct the unit's name in `services:`";
            layer(Severity::Critical, format!("there is no unit {name}"), advice.to_owned())
        }
        ("masked", ..) => {
            let advice = format!("`systemctl unmask {shown}`, then `systemctl start {shown}`");
            layer(Severity::Critical, format!("{name} is masked"), advice)
        }
        ("error" | "bad-setting", ..) => {
            layer(Severity::Critical, format!("{name} cannot be loaded ({load})"), advice)
        }
        (_, "active" | "activating" | "reloading" | "refreshing", _) if restarts >= LOOP => {
            let message =
                format!("{name} crashes again and again: {restarts} restarts within ten minutes");
            layer(Severity::Critical, message, advice)
        }
        (_, "activating", "auto-restart" | "auto-restart-queued") => {
            let message = format!("{name} has failed ({result}) and waits to be restarted");
            layer(Severity::Critical, message, advice)
        }
        (_, "active" | "reloading" | "refreshing", _) => {
            layer(Severity::Ok, format!("{name} is active"), String::new())
        }
        (_, "activating", _) => {
            layer(Severity::Warning, format!("{name} is being started ({sub})"), advice)
        }
        (_, "failed", _) => {
            let advice = format!("{advice}, then `systemctl restart {shown}`");
            layer(Severity::Critical, format!("{name} has failed ({result})"), advice)
        }
        (_, "inactive" | "deactivating" | "maintenance", _) => {
            let advice = format!("`systemctl start {shown}`");
            layer(Severity::Critical, format!("{name} is {active}"), advice)
        }
        _ => layer(
            Severity::Unknown,
            format!("{name} is in a state that hostd does not know: {active:?} ({sub:?})"),
            advice,
        ),
    }
}
