//! `uptime` and `time sync`: `/proc/uptime`, `adjtimex(2)`.

use std::time::Duration;

use super::look::Look;
use crate::base::{Severity, span};
use crate::host::timex::{self, Discipline};

/// After a start the time needs a while.
const SETTLES: f64 = 600.0;

/// The first of `41523.50 18566.55`.
pub fn parse(text: &str) -> Option<f64> {
    let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    (0.0..1e10).contains(&seconds).then_some(seconds)
}

/// What the clock's discipline means, so many seconds after the start.
pub fn judge(told: Discipline, uptime: Option<f64>) -> (Severity, String) {
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1000.0);
    if told.synchronised {
        let (offset, most) = (ms(told.offset.abs()), ms(told.max_error));
        (Severity::Ok, format!("kept right; {offset} to go, wrong by at most {most}"))
    } else if uptime.is_some_and(|seconds| seconds < SETTLES) {
        (Severity::Ok, "not kept right yet, shortly after the start".to_owned())
    } else {
        let message = "nobody keeps the clock right; is an NTP service running? `timedatectl`";
        (Severity::Warning, message.to_owned())
    }
}

/// One round.
pub fn round(look: &mut Look<'_>) {
    let uptime = look.parsed("uptime", ("uptime", "s"), parse);
    if let Some(seconds) = uptime {
        let message = span::show(Duration::from_secs_f64(seconds));
        look.found.told("uptime", Severity::Ok, (seconds, "s"), message);
    }
    if !look.sys.is_real() {
        let note = "no time sync: only the kernel of a running machine can be asked";
        look.found.notes.push(note.to_owned());
        return;
    }
    match timex::read() {
        Ok(told) => {
            let (health, message) = judge(told, uptime);
            look.found.told("time sync", health, (told.offset, "s"), message);
            look.found.with("max-error", format!("{:.6}", told.max_error));
        }
        Err(error) => look.found.unknown("time sync", "s", format!("cannot be asked: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_clock_that_nobody_keeps_right() {
        let told = Discipline { synchronised: true, offset: -0.0012, max_error: 0.25 };
        let (health, message) = judge(told, Some(1e6));
        assert_eq!(health, Severity::Ok);
        assert_eq!(message, "kept right; 1.2 ms to go, wrong by at most 250.0 ms");
        let alone = Discipline { synchronised: false, ..told };
        assert_eq!(judge(alone, Some(60.0)).0, Severity::Ok);
        assert_eq!(judge(alone, Some(601.0)).0, Severity::Warning);
        assert_eq!(judge(alone, None).0, Severity::Warning);
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            if let Some(seconds) = parse(&text) {
                let _ = Duration::from_secs_f64(seconds);
            }
        }
    }
}
