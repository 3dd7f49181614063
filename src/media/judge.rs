//! Layers to one judgement. Pure.

use std::time::Duration;

use super::probe::{Answer, ProbeError};
use crate::base::{Severity, Timestamp, span};
use crate::host::run::quoted;

/// A clock that is further off than this breaks Kerberos logins.
const SKEW: Duration = Duration::from_secs(300);

/// What one layer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// `unit`, `connect`, `protocol`, `path`.
    pub name: &'static str,
    /// How well it is.
    pub severity: Severity,
    /// What is the case.
    pub message: String,
    /// What to do; empty when nothing.
    pub advice: String,
}

/// What the network layers say; `unit` is for the advice.
pub fn network(answer: &Result<Answer, ProbeError>, unit: Option<&str>, now: Timestamp) -> Layer {
    let restart = |verb: &str| {
        unit.map_or(String::new(), |unit| format!("`systemctl {verb} {}`", quoted(unit.as_ref())))
    };
    let good =
        |name, message| Layer { name, severity: Severity::Ok, message, advice: String::new() };
    match answer {
        Ok(Answer::Tcp) => good("connect", "accepts connections".to_owned()),
        Ok(Answer::Afp(status)) => {
            let version = status.versions.last().map_or("AFP", String::as_str);
            good("protocol", format!("{} answers {version} ({})", status.server, status.machine))
        }
        Ok(Answer::Smb(said)) => {
            let skew = said.time.map(|time| now.since(time).max(time.since(now)));
            match skew.filter(|skew| *skew > SKEW) {
                None => good("protocol", format!("answers SMB {}", said.version())),
                Some(skew) => Layer {
                    name: "protocol",
                    severity: Severity::Warning,
                    message: format!(
                        "answers SMB {}, but its clock is off by {}",
                        said.version(),
                        span::show(skew)
                    ),
                    advice: "`timedatectl`: clients with Kerberos cannot log in".to_owned(),
                },
            }
        }
        Err(error) => Layer {
            name: error.layer(),
            severity: Severity::Critical,
            message: error.whole(),
            advice: match error {
                ProbeError::Refused(_) => restart("start"),
                ProbeError::Silent { .. } | ProbeError::ClosedEarly { .. } => restart("restart"),
                ProbeError::WrongProtocol { .. } => {
                    "`ss -ltnp` shows which program has the port".to_owned()
                }
                ProbeError::Unreachable { .. }
                | ProbeError::Connect { .. }
                | ProbeError::Protocol { .. } => restart("status"),
            },
        },
    }
}

/// The worst layer; of equally bad ones the first, which is the cause of the
/// others. When all are well, the last, which says the most. `None` without
/// any layer.
pub fn worst(layers: &[Layer]) -> Option<&Layer> {
    let worst = layers.iter().map(|layer| layer.severity).max()?;
    let mut found = layers.iter().filter(|layer| layer.severity == worst);
    if worst == Severity::Ok { found.next_back() } else { found.next() }
}
