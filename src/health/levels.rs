//! Levels with hysteresis: who has come above one leaves it 2 % below, so that a
//! value that trembles around a level is one alert and not many.

use std::collections::HashMap;

use crate::base::Severity;
use crate::config::Levels;

/// How far below a level it ends.
const LEAVES: f64 = 0.98;
/// Services whose level is remembered; more than a machine has.
const MOST: usize = 4096;

/// Which services are above a level.
#[derive(Debug, Default)]
pub struct Above(HashMap<String, Severity>);

impl Above {
    /// Judges the value of a service.
    pub fn judge(&mut self, service: &str, value: f64, levels: Levels) -> Severity {
        let before = self.0.get(service).copied().unwrap_or(Severity::Ok);
        let now = level(before, value, levels);
        if now == before {
            return now;
        }
        if now == Severity::Ok {
            self.0.remove(service);
        } else if self.0.len() < MOST {
            self.0.insert(service.to_owned(), now);
        }
        now
    }
}

fn level(before: Severity, value: f64, levels: Levels) -> Severity {
    let at = |from: f64, was: bool| value >= if was { from * LEAVES } else { from };
    if at(levels.critical, before == Severity::Critical) {
        Severity::Critical
    } else if at(levels.warning, before != Severity::Ok) {
        Severity::Warning
    } else {
        Severity::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_left_below_where_it_began() {
        let mut above = Above::default();
        let levels = Levels::new(0.5, 0.9);
        let judged = [0.49, 0.5, 0.495, 0.48, 0.89, 0.9, 0.885, 0.88, 0.1, f64::NAN];
        let judged = judged.map(|value| above.judge("cpu", value, levels).as_str());
        let (ok, warning, critical) = ("ok", "warning", "critical");
        assert_eq!(
            judged,
            [ok, warning, warning, ok, warning, critical, critical, warning, ok, ok]
        );
        assert!(above.0.is_empty());
    }
}
