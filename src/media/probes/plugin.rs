//! What a Nagios plugin says: its exit status, its first line, and its
//! performance data. Pure.
//!
//! The form is that of the Monitoring Plugins' guidelines: status 0 to 3; text,
//! then `|` and `'label'=value[unit];warn;crit;min;max`, apart by spaces; more
//! performance data may follow a `|` in the later lines.

use std::collections::BTreeMap;

use super::plain;
use crate::base::Severity;
use crate::host::run::Exit;

/// More output than this is not read.
pub const MAX: usize = 64 * 1024;
const MAX_VALUES: usize = 32;

/// What a plugin has said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// By its exit status.
    pub severity: Severity,
    /// Its first line.
    pub text: String,
    /// Its first value.
    pub metric: Option<f64>,
    /// All its values with their units, by label.
    pub values: BTreeMap<String, String>,
}

/// Reads what a plugin has printed and how it ended.
pub fn read(exit: Exit, stdout: &[u8], stderr: &[u8]) -> Told {
    let (text, more) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let (first, data) = first.split_once('|').unwrap_or((first, ""));
    let mut told = Told { text: plain(first, 300), ..Told::default() };
    told.take(data);
    // Long text until a `|`; from there on performance data only.
    let mut within = false;
    for line in lines.take(200) {
        if within {
            told.take(line);
        } else if let Some((_, data)) = line.split_once('|') {
            told.take(data);
            within = true;
        }
    }
    told.severity = match exit {
        Exit::Code(0) => Severity::Ok,
        Exit::Code(1) => Severity::Warning,
        Exit::Code(2) => Severity::Critical,
        Exit::Code(_) | Exit::Signal(_) | Exit::Unknown => Severity::Unknown,
    };
    if told.text.is_empty() {
        told.text = plain(more.lines().next().unwrap_or_default(), 300);
    }
    let odd = !matches!(exit, Exit::Code(0..=3));
    if odd || told.text.is_empty() {
        let said = std::mem::take(&mut told.text);
        let said = if said.is_empty() { "it printed nothing".to_owned() } else { said };
        told.text = format!("{said} ({exit})");
    }
    told
}

impl Told {
    fn take(&mut self, mut data: &str) {
        while self.values.len() < MAX_VALUES {
            data = data.trim_start();
            let Some((label, rest)) = label(data) else { break };
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (item, after) = rest.split_at(end);
            data = after;
            let value = item.split(';').next().unwrap_or_default();
            let digits = value.trim_end_matches(|c: char| c.is_alphabetic() || c == '%');
            let Some(number) = digits.parse::<f64>().ok().filter(|n| n.is_finite()) else {
                // `U`: the plugin could not find it out.
                continue;
            };
            if self.metric.is_none() {
                self.metric = Some(number);
            }
            self.values.insert(plain(&label, 64), plain(value, 40));
        }
    }
}

/// A label, which may stand in quotes, and what follows its `=`.
fn label(data: &str) -> Option<(String, &str)> {
    let Some(quoted) = data.strip_prefix('\'') else {
        let (label, rest) = data.split_once('=')?;
        // A word without a value: the next label is the one that has the `=`.
        let label = label.split_whitespace().next_back().unwrap_or_default();
        return (!label.is_empty()).then(|| (label.to_owned(), rest));
    };
    let (mut label, mut rest) = (String::new(), quoted);
    loop {
        let (part, after) = rest.split_once('\'')?;
        label.push_str(part);
        match after.strip_prefix('\'') {
            // Two quotes stand for one.
            Some(more) => {
                label.push('\'');
                rest = more;
            }
            None => return Some((label, after.strip_prefix('=')?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_guidelines_examples() {
        let text = b"DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n\
            / 15272 MB (77%);\n/boot 68 MB (69%); | /boot=68MB;88;93;0;98\n'a b''c'=1.5%;;\n";
        let told = read(Exit::Code(0), text, b"");
        assert_eq!(told.text, "DISK OK - free space: / 3326 MB (56%);");
        assert_eq!((told.severity, told.metric), (Severity::Ok, Some(2643.0)));
        let shown: Vec<_> = told.values.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(shown, ["/=2643MB", "/boot=68MB", "a b'c=1.5%"]);
    }

    #[test]
    fn statuses_are_judged() {
        let severity = |exit| read(exit, b"x", b"").severity;
        assert_eq!(severity(Exit::Code(1)), Severity::Warning);
        assert_eq!(severity(Exit::Code(2)), Severity::Critical);
        assert_eq!(severity(Exit::Code(3)), Severity::Unknown);
        assert_eq!(severity(Exit::Signal(9)), Severity::Unknown);
        assert_eq!(read(Exit::Code(127), b"", b"sh: no\n").text, "sh: no (exit status 127)");
        assert_eq!(read(Exit::Code(0), b"", b"").text, "it printed nothing (exit status 0)");
        let told = read(Exit::Code(0), b"OK|time=U rta=0.5ms;;;0", b"");
        assert_eq!((told.values.len(), told.metric), (1, Some(0.5)));
    }

    proptest! {
        #[test]
        fn never_panics_and_is_bounded(text in "[\\PC\n|'=;]{0,300}", code in -5i32..300) {
            let told = read(Exit::Code(code), text.as_bytes(), b"");
            prop_assert!(told.values.len() <= MAX_VALUES);
            prop_assert!(!told.text.contains(char::is_control));
        }
    }
}
