//! What systemd says of a unit, and what that means.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::judge::Layer;
use crate::base::{Severity, with_sources};
use crate::host::Host;
use crate::host::run::quoted;
/// The properties of a unit that matter here; empty where not said.
pub use crate::host::units::UnitState as Unit;

/// There while systemd runs the machine: `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";
const SHORT: Duration = Duration::from_secs(3);

/// Reads a unit. `None` where systemd does not run the machine: then nothing
/// can be said, and nothing is judged.
pub async fn read(host: &Host, unit: &str, deadline: Duration) -> Option<Result<Unit, String>> {
    let within = deadline.min(SHORT);
    match timeout(within, host.units.state(unit)).await {
        Ok(Ok(state)) => Some(Ok(state)),
        Ok(Err(error)) if error.is_absent() && !host.sys.exists(BOOTED) => None,
        Ok(Err(error)) => Some(Err(with_sources(&error))),
        Err(_) => Some(Err(format!("systemd does not say how {unit} is within {within:?}"))),
    }
}

/// Restarts within this time, from this number on, are a crash loop.
const WINDOW: Duration = Duration::from_secs(600);
pub(super) const LOOP: u64 = 3;

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
        self.lately()
    }

    /// The same, as of the last reading.
    pub fn lately(&self) -> u64 {
        self.rises.iter().fold(0, |sum, (_, rise)| sum.saturating_add(*rise))
    }
}

impl Unit {
    /// Somebody has stopped it, or is about to; it has not failed.
    pub fn is_stopped(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "deactivating")
    }
}

/// What a stop means that hostd has asked for.
pub fn excused(name: &str, vm: &str) -> Layer {
    Layer {
        name: "unit",
        severity: Severity::Ok,
        message: format!("{name} is stopped while the VM {vm} runs"),
        advice: String::new(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_a_unit() {
        use Severity::{Critical, Ok as Fine, Unknown, Warning};
        for (load, active, sub, result, severity, says) in [
            ("loaded", "active", "running", "success", Fine, "is active"),
            ("loaded", "active", "exited", "success", Fine, "is active"),
            ("not-found", "inactive", "dead", "", Critical, "there is no unit"),
            ("masked", "inactive", "dead", "", Critical, "masked"),
            ("loaded", "inactive", "dead", "success", Critical, "is inactive"),
            ("loaded", "failed", "failed", "oom-kill", Critical, "(oom-kill)"),
            ("loaded", "activating", "start", "success", Warning, "being started"),
            ("loaded", "activating", "auto-restart", "signal", Critical, "waits to be restarted"),
            ("loaded", "levitating", "", "", Unknown, "does not know"),
            ("", "", "", "", Unknown, "does not know"),
        ] {
            let unit = Unit { result: result.to_owned(), ..Unit::new(load, active, sub) };
            let layer = judge("smbd.service", &Ok(unit), 0);
            assert_eq!(layer.severity, severity, "{active}");
            assert!(layer.message.contains(says), "{layer:?}");
        }
        let failed = judge("smbd.service", &Err("no bus".into()), 0);
        assert_eq!(failed.severity, Severity::Unknown);
    }

    #[test]
    fn a_crash_loop_is_seen_in_the_restarts() {
        let start = Instant::now();
        let mut restarts = Restarts::default();
        let mut at = |minutes: u64, count| {
            restarts.observe(Some(count), start + Duration::from_secs(60 * minutes))
        };
        assert_eq!([at(0, 40), at(1, 41), at(2, 43), at(3, 43)], [0, 1, 3, 3]);
        assert_eq!([at(11, 43), at(12, 43), at(13, 0), at(14, 1)], [2, 0, 0, 1]);
        let active = Ok(Unit::new("loaded", "active", "running"));
        assert_eq!(judge("smbd.service", &active, 3).severity, Severity::Critical);
    }
}
