//! `<interface> rx bytes` and so on, under riemann-net's names, and
//! `<interface> link`. `/proc/net/dev` (proc(5)), `/sys/class/net/*`
//! (Documentation/ABI/testing/sysfs-class-net).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::look::{Look, number};
use super::rate::{bytes, per_second, rise};
use crate::base::Severity;
use crate::host::folder::{Folder, Page};

/// The most that are told.
const MOST: usize = 64;
/// How long an error is worth a warning.
const NEWS: Duration = Duration::from_secs(60);
/// The owner has it up: `IFF_UP` (netdevice(7)).
const UP: u64 = 1;

/// Counters, in the order of [`NAMES`].
pub type Counters = [u64; 6];

/// What they count; the last four are errors and losses.
const NAMES: [&str; 6] = ["rx bytes", "tx bytes", "rx errs", "tx errs", "rx drop", "tx drop"];

/// Reads a line: the interface's name and its counters.
pub fn parse(line: &str) -> Option<(&str, Counters)> {
    let (name, rest) = line.trim_start().rsplit_once(':')?;
    let mut counts = [0; 12];
    let mut words = rest.split_ascii_whitespace();
    for count in &mut counts {
        *count = words.next()?.parse().ok()?;
    }
    let [rx_bytes, _, rx_errs, rx_drop, _, _, _, _, tx_bytes, _, tx_errs, tx_drop] = counts;
    Some((name, [rx_bytes, tx_bytes, rx_errs, tx_errs, rx_drop, tx_drop]))
}

/// What sysfs says of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Something is at the other end, or nobody can tell.
    Up,
    /// Nothing is.
    Down,
    /// Not asked for.
    Off,
}

/// Judges `operstate` and `flags`.
pub fn link(state: &str, flags: &str) -> Option<Link> {
    let flags = u64::from_str_radix(flags.trim().strip_prefix("0x")?, 16).ok()?;
    Some(match state.trim() {
        _ if flags & UP == 0 => Link::Off,
        "down" | "lowerlayerdown" | "notpresent" | "dormant" => Link::Down,
        _ => Link::Up,
    })
}

/// What is remembered of one interface.
#[derive(Debug, Default)]
struct Interface {
    counters: Counters,
    /// When it last had errors, receiving and sending.
    erred: [Option<Instant>; 2],
    was_up: bool,
    /// Megabits a second; the most that was seen while we run.
    speed: Option<u32>,
    fastest: Option<u32>,
    link: Option<Link>,
}

/// What is remembered.
#[derive(Default)]
pub struct State {
    before: BTreeMap<String, Interface>,
    /// The counters are of an earlier round than the last.
    stale: bool,
    class: Option<Folder>,
}

impl State {
    /// One round.
    pub fn round(&mut self, look: &mut Look<'_>) {
        let ignored = &look.config.interfaces_ignore;
        let wanted = |name: &str| {
            name != "lo" && !name.starts_with("veth") && !ignored.iter().any(|one| one == name)
        };
        let counters = |text: &str| {
            let all = text.lines().filter_map(parse).filter(|(name, _)| wanted(name)).take(MOST);
            Some(all.map(|(name, counters)| (name.to_owned(), counters)).collect::<Vec<_>>())
        };
        let now = match look.tried("net/dev", "network", counters) {
            Ok(now) => now.unwrap_or_default(),
            Err(why) => {
                for name in self.before.keys() {
                    for (index, what) in NAMES.iter().enumerate() {
                        let unit = if index < 2 { "bytes/s" } else { "packets/s" };
                        look.found.unknown(format!("{name} {what}"), unit, why.clone());
                    }
                }
                self.stale = true;
                return;
            }
        };
        if look.anew || self.class.is_none() {
            self.class = look.sys.folder("/sys/class/net").ok();
        }
        let mut kept = BTreeMap::new();
        for (name, counters) in now {
            let before = self.before.remove(&name);
            let first = before.is_none();
            let mut this = before.unwrap_or_default();
            if let (false, false, Some(seconds)) = (first, self.stale, look.seconds) {
                this.rates(&name, &counters, seconds, look);
            }
            this.counters = counters;
            if let Some(class) = &self.class {
                this.look_at(&name, class, look.anew || first, look.page);
                this.tell(&name, look);
            }
            kept.insert(name, this);
        }
        (self.before, self.stale) = (kept, false);
    }
}

impl Interface {
    fn rates(&mut self, name: &str, now: &Counters, seconds: f64, look: &mut Look<'_>) {
        for (index, what) in NAMES.iter().enumerate() {
            let Some(risen) = rise(self.counters[index], now[index]) else { continue };
            let rate = per_second(risen, seconds);
            let mut health = Severity::Ok;
            let (unit, message) = match index {
                0 | 1 => ("bytes/s", bytes(rate)),
                2 | 3 => {
                    let erred = &mut self.erred[index - 2];
                    if risen > 0 {
                        *erred = Some(look.now);
                    }
                    if erred.is_some_and(|at| look.now.saturating_duration_since(at) < NEWS) {
                        health = Severity::Warning;
                    }
                    let total = now[index];
                    ("packets/s", format!("{risen} packets with errors, {total} since the start"))
                }
                _ => (
                    "packets/s",
                    format!("{risen} packets dropped, {} since the start", now[index]),
                ),
            };
            look.found.told(format!("{name} {what}"), health, (rate, unit), message);
            look.found.with("interface", name.to_owned());
        }
    }

    /// Asks sysfs; for the speed, which takes a lock of the whole network, seldom.
    fn look_at(&mut self, name: &str, class: &Folder, anew: bool, page: &mut Page) {
        let state = class.attribute(&format!("{name}/operstate"), page).map(str::to_owned);
        let flags = class.attribute(&format!("{name}/flags"), page);
        let now = state.ok().zip(flags.ok()).and_then(|(state, flags)| link(&state, flags));
        if anew || now != self.link {
            // It is an error where there is no link, and of what has no speed.
            let speed = class.attribute(&format!("{name}/speed"), page).ok();
            self.speed = speed.and_then(number::<i64>).and_then(|mbit| u32::try_from(mbit).ok());
            self.speed = self.speed.filter(|mbit| (1..10_000_000).contains(mbit));
            self.fastest = self.fastest.max(self.speed);
        }
        self.was_up |= now == Some(Link::Up);
        self.link = now;
    }

    fn tell(&self, name: &str, look: &mut Look<'_>) {
        let service = format!("{name} link");
        let Some(link) = &self.link else {
            let why = format!("/sys/class/net/{name} cannot be read");
            return look.found.unknown(service, "up", why);
        };
        let mbit = |mbit: u32| format!("{mbit} Mbit/s");
        let slower = self.speed.zip(self.fastest).filter(|(now, fastest)| now < fastest);
        let (health, message) = match (link, self.was_up, slower) {
            (Link::Up, _, Some((now, fastest))) => {
                let now = mbit(now);
                (
                    Severity::Warning,
                    format!("up at {now} only, was {}: look at the cable", mbit(fastest)),
                )
            }
            (Link::Up, ..) => {
                (Severity::Ok, self.speed.map_or("up".to_owned(), |s| format!("up at {}", mbit(s))))
            }
            (Link::Off, ..) => (Severity::Ok, "switched off".to_owned()),
            (Link::Down, false, _) => (Severity::Ok, "no link since hostd runs".to_owned()),
            (Link::Down, true, _) => {
                (Severity::Warning, "the link is down, and was up: look at the cable".to_owned())
            }
        };
        let value = if *link == Link::Up { 1.0 } else { 0.0 };
        look.found.told(service, health, (value, "up"), message);
        look.found.with("interface", name.to_owned());
        if let Some(speed) = self.speed.filter(|_| *link == Link::Up) {
            look.found.with("speed", speed.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counters_of_interfaces() {
        let line = "  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        assert_eq!(parse(line), Some(("eth0", [1, 9, 3, 11, 4, 12])));
        assert_eq!(parse("eth0:1:1 2 3 4 5 6 7 8 9 10 11 12").unwrap().0, "eth0:1");
        for bad in
            ["", " face |bytes    packets errs", "eth0: 1 2", "eth0: x 2 3 4 5 6 7 8 9 10 11 12"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn links() {
        let of = |state, flags| link(state, flags);
        assert_eq!(of("up\n", "0x1003\n"), Some(Link::Up));
        assert_eq!(of("unknown", "0x1"), Some(Link::Up), "many do not tell");
        assert_eq!(of("down", "0x1003"), Some(Link::Down));
        assert_eq!(of("down", "0x1002"), Some(Link::Off));
        assert_eq!(of("down", "rubbish"), None);
    }

    proptest! {
        #[test]
        fn never_panics(line: String) {
            let _ = (parse(&line), parse(&format!("a:{line}")), link(&line, &line));
        }
    }
}
