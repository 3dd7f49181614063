//! `pressure <what> some|full`: how much of the last ten seconds somebody, or
//! everybody, has waited. `/proc/pressure` (Documentation/accounting/psi.rst).

use super::look::Look;
use super::rate::percent;
use crate::base::Severity;
use crate::host::sys::SysError;

/// Which of them; all the machine's programs never wait for a processor.
const TOLD: [(&str, &str, &str); 5] = [
    ("cpu", "some", "pressure cpu some"),
    ("memory", "some", "pressure memory some"),
    ("memory", "full", "pressure memory full"),
    ("io", "some", "pressure io some"),
    ("io", "full", "pressure io full"),
];

/// The fraction of `some avg10=0.12 avg60=…`.
pub fn parse(text: &str, who: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(who)?.strip_prefix(' '))?;
    let ten = line.split(' ').find_map(|word| word.strip_prefix("avg10="))?;
    let percent: f64 = ten.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct State {
    /// The kernel keeps no such account: what it says of it.
    absent: Option<String>,
}

impl State {
    /// One round.
    pub fn round(&mut self, look: &mut Look<'_>) {
        if look.anew {
            let error = look.sys.kind("/proc/pressure").err();
            self.absent = error.filter(SysError::is_missing).map(|error| error.to_string());
        }
        if self.absent.is_some() {
            look.found.notes.push("no pressure: this kernel keeps no account of it".to_owned());
            return;
        }
        for (what, who, service) in TOLD {
            let file = format!("pressure/{what}");
            let parse = |text: &str| parse(text, who);
            let Some(share) = look.parsed(&file, (service, "fraction"), parse) else { continue };
            let waits = if who == "full" { "everybody" } else { "somebody" };
            let message = format!("{waits} waited for {what} {} of the last 10 s", percent(share));
            if service == "pressure memory full" {
                let levels = look.config.memory_pressure;
                look.judged(service, (share, "fraction"), levels, message);
            } else {
                look.found.told(service, Severity::Ok, (share, "fraction"), message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_share_of_ten_seconds() {
        let text =
            "some avg10=12.50 avg60=1.00 avg300=0.10 total=9\nfull avg10=0.00 avg60=0 total=1\n";
        assert_eq!((parse(text, "some"), parse(text, "full")), (Some(0.125), Some(0.0)));
        for bad in ["", "some", "some avg60=1", "some avg10=x", "some avg10=101", "some avg10=nan"]
        {
            assert_eq!(parse(bad, "some"), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = (parse(&text, "some"), parse(&format!("full {text}"), "full"));
        }
    }
}
