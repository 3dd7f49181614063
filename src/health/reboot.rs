//! `pending reboot`: what is installed and does not run yet.
//!
//! Debian's mark (`/run/reboot-required`, with the packages that want it), a
//! newer kernel of the same kind in `/boot`, or modules of the running one that
//! are gone from `/lib/modules`, after which nothing can be loaded any more.

use std::cmp::Ordering;

use super::look::Look;
use crate::base::Severity;
use crate::host::sys::SysRoot;

/// Packages that are named.
const NAMED: usize = 5;

/// The numbers of a version, and what kind of kernel it is: `6.1.0-32-amd64` →
/// `6.1.0-32`, `amd64`.
fn split(version: &str) -> (&str, &str) {
    let number = |part: &str| part.bytes().next().is_some_and(|b| b.is_ascii_digit());
    let mut end = 0;
    for part in version.split_inclusive('-') {
        if !number(part) {
            break;
        }
        end += part.len();
    }
    let (numbers, kind) = version.split_at(end);
    (numbers.trim_end_matches('-'), kind)
}

/// Runs of digits are compared as numbers, the rest as text, as `sort -V` does;
/// `~` comes before everything.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let run = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
        let ((left, a_rest), (right, b_rest)) = (a.split_at(run(a)), b.split_at(run(b)));
        let bare = |digits: &[u8]| {
            let zeros = digits.iter().take_while(|d| **d == b'0').count();
            digits.get(zeros..).unwrap_or_default().to_vec()
        };
        let (left, right) = (bare(left), bare(right));
        let digits = left.len().cmp(&right.len()).then_with(|| left.cmp(&right));
        if digits != Ordering::Equal {
            return digits;
        }
        let order = |rest: &[u8]| {
            rest.first().map_or(1, |b| if *b == b'~' { 0 } else { 1 + u16::from(*b) })
        };
        match order(a_rest).cmp(&order(b_rest)) {
            Ordering::Equal if a_rest.is_empty() => return Ordering::Equal,
            Ordering::Equal => {}
            other => return other,
        }
        (a, b) = (a_rest.get(1..).unwrap_or_default(), b_rest.get(1..).unwrap_or_default());
    }
}

/// The newest installed kernel of the running one's kind, if it is newer.
pub fn newer<'a>(running: &str, installed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (numbers, kind) = split(running);
    let same = installed.into_iter().filter(|version| split(version).1 == kind);
    same.max_by(|a, b| compare(a, b))
        .filter(|version| compare(split(version).0, numbers) == Ordering::Greater)
}

/// Why the machine should start again, and what could not be read.
fn reasons(sys: &SysRoot) -> (Vec<String>, Vec<String>) {
    let (mut why, mut notes) = (Vec::new(), Vec::new());
    if sys.exists("/run/reboot-required") {
        let packages = sys.text("/run/reboot-required.pkgs").unwrap_or_default();
        let mut packages: Vec<&str> = packages.lines().filter(|line| !line.is_empty()).collect();
        packages.sort_unstable();
        packages.dedup();
        let more = packages.len().saturating_sub(NAMED);
        packages.truncate(NAMED);
        let named = match more {
            0 => packages.join(", "),
            more => format!("{} and {more} more", packages.join(", ")),
        };
        why.push(if named.is_empty() {
            "an upgrade asks for it".into()
        } else {
            format!("{named} asks for it")
        });
    }
    let running = match sys.text("/proc/sys/kernel/osrelease") {
        Ok(running) => running,
        Err(error) => {
            notes.push(format!("whether a newer kernel waits is not known: {}", error.in_full()));
            return (why, notes);
        }
    };
    let boot = sys.list("/boot").unwrap_or_default();
    let installed = boot.iter().filter_map(|name| name.strip_prefix("vmlinuz-"));
    // What a failed upgrade or a rescue leaves is no kernel to start.
    let left = |version: &str| version.strip_suffix(".old").is_some();
    let installed = installed.filter(|version| !left(version));
    if let Some(newer) = newer(&running, installed) {
        why.push(format!("kernel {newer} is installed, {running} runs"));
    }
    // A container, or a kernel without modules, has no such folder.
    let modules = sys.list("/lib/modules").unwrap_or_default();
    if !modules.is_empty() && !modules.contains(&running) && sys.exists("/proc/modules") {
        let loads = format!(
            "/lib/modules/{running} is gone: modules of the running kernel cannot be loaded"
        );
        why.push(loads);
    }
    (why, notes)
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct State {
    why: Vec<String>,
    notes: Vec<String>,
}

impl State {
    /// One round.
    pub fn round(&mut self, look: &mut Look<'_>) {
        if look.anew {
            (self.why, self.notes) = reasons(look.sys);
        }
        look.found.notes.extend(self.notes.iter().cloned());
        if self.why.is_empty() && !self.notes.is_empty() {
            return;
        }
        let (health, value, message) = match self.why.as_slice() {
            [] => (Severity::Ok, 0.0, "none".to_owned()),
            why => (Severity::Warning, 1.0, why.join("; ")),
        };
        look.found.told("pending reboot", health, (value, "pending"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (a, b) in
            [("6.1.0-9", "6.1.0-10"), ("6.1", "6.1.1"), ("6.9", "6.10"), ("6.1~rc1", "6.1")]
        {
            assert_eq!(
                (compare(a, b), compare(b, a)),
                (Ordering::Less, Ordering::Greater),
                "{a} {b}"
            );
        }
        assert_eq!(compare("6.01", "6.1"), Ordering::Equal);
        let debian = ["6.1.0-9-amd64", "6.1.0-32-amd64", "6.1.0-40-rt-amd64", "6.1.0-31-amd64"];
        assert_eq!(newer("6.1.0-31-amd64", debian), Some("6.1.0-32-amd64"));
        assert_eq!(newer("6.1.0-32-amd64", debian), None);
        assert_eq!(newer("6.8.12-4-pve", ["6.8.12-11-pve", "6.8.4-2-pve"]), Some("6.8.12-11-pve"));
        assert_eq!(newer("6.18.44-fc-v595", ["6.19.1-generic"]), None);
        assert_eq!(newer("6.1.0-31-amd64", []), None);
    }

    proptest! {
        #[test]
        fn is_an_order(a in "[0-9.~a-]{0,12}", b in "[0-9.~a-]{0,12}", c: String) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            let _ = (compare(&a, &c), newer(&c, [a.as_str()]), split(&c));
        }
    }
}
