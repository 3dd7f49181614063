//! What the kernel has counted and should not have: `oom kills`
//! (`/proc/vmstat`), `memory errors` (EDAC,
//! Documentation/admin-guide/ras.rst). And `file handles`
//! (`/proc/sys/fs/file-nr`), `failed units` (systemd's, handed in).

use std::time::{Duration, Instant};

use super::look::{Look, number};
use crate::base::Severity;
use crate::config::Levels;
use crate::host::folder::Folder;

const EDAC: &str = "/sys/devices/system/edac/mc";
/// Memory controllers that are looked at.
const CONTROLLERS: usize = 64;
/// How long something that was counted is worth a word.
const NEWS: Duration = Duration::from_secs(3600);
/// File handles of those that there can be.
const HANDLES: Levels = Levels::new(0.9, 0.95);
/// Failed units that are named.
const NAMED: usize = 5;

/// `oom_kill 3` of `/proc/vmstat`.
pub fn parse_vmstat(text: &str) -> Option<u64> {
    number(text.lines().find_map(|line| line.strip_prefix("oom_kill "))?)
}

/// `9344 0 9223372036854775807`: open ones, and how many there can be.
pub fn parse_handles(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_ascii_whitespace();
    let open = words.next()?.parse().ok()?;
    Some((open, words.nth(1)?.parse().ok().filter(|most| *most > 0)?))
}

/// A counter of which only a rise is news, for a while.
#[derive(Debug, Default)]
pub struct Rising {
    before: Option<u64>,
    /// How much it has risen, and when last.
    news: Option<(Instant, u64)>,
}

impl Rising {
    /// Takes in the counter; gives what it has risen by lately.
    pub fn take(&mut self, count: u64, now: Instant) -> u64 {
        self.news = self.news.filter(|(at, _)| now.saturating_duration_since(*at) < NEWS);
        let risen = self.before.map_or(0, |before| count.saturating_sub(before));
        if risen > 0 {
            let already = self.news.map_or(0, |(_, by)| by);
            self.news = Some((now, already.saturating_add(risen)));
        }
        self.before = Some(count);
        self.news.map_or(0, |(_, by)| by)
    }
}

struct Controller {
    name: String,
    folder: Folder,
    corrected: Rising,
    /// Counted from nothing: what was not corrected before we ran is news.
    lost: Rising,
}

/// What is remembered.
#[derive(Default)]
pub struct State {
    killed: Rising,
    controllers: Vec<Controller>,
    note: Option<String>,
}

impl State {
    /// One round.
    pub fn round(&mut self, look: &mut Look<'_>, failed: Option<&[String]>) {
        if let Some(count) = look.parsed("vmstat", ("oom kills", "kills"), parse_vmstat) {
            let lately = self.killed.take(count, look.now);
            let (health, message) = if lately > 0 {
                let text = format!(
                    "{lately} processes were killed within the last hour because memory was full, \
                     {count} since the start: `journalctl -k --grep 'Out of memory'` names them"
                );
                (Severity::Critical, text)
            } else {
                (Severity::Ok, format!("{count} since the start, none within the last hour"))
            };
            look.found.told("oom kills", health, (count as f64, "kills"), message);
        }
        let handles = ("file handles", "handles");
        if let Some((open, most)) = look.parsed("sys/fs/file-nr", handles, parse_handles) {
            let share = open as f64 / most as f64;
            let health = look.above.judge("file handles", share, HANDLES);
            // Newer kernels have no limit that could be reached.
            let of = if most > 1 << 50 { String::new() } else { format!(", of {most} at most") };
            let message = format!("{open} open files{of}");
            look.found.told("file handles", health, (open as f64, "handles"), message);
        }
        self.memory_errors(look);
        if let Some(failed) = failed {
            let named = failed.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>();
            let more = failed.len().saturating_sub(NAMED);
            let (health, message) = match (failed.len(), more) {
                (0, _) => (Severity::Ok, "none".to_owned()),
                (_, 0) => (Severity::Warning, named.join(", ")),
                (_, more) => (Severity::Warning, format!("{} and {more} more", named.join(", "))),
            };
            look.found.told("failed units", health, (failed.len() as f64, "units"), message);
        }
    }

    fn list(&mut self, look: &Look<'_>) {
        self.note = None;
        let names = match look.sys.list(EDAC) {
            Ok(names) => names,
            Err(error) => {
                if !error.is_missing() {
                    self.note = Some(format!("memory errors may be missing: {}", error.in_full()));
                }
                return;
            }
        };
        let is = |name: &String| name.strip_prefix("mc").is_some_and(|n| n.parse::<u32>().is_ok());
        for name in names.into_iter().filter(is).take(CONTROLLERS) {
            if self.controllers.iter().any(|one| one.name == name) {
                continue;
            }
            let Ok(folder) = look.sys.folder(format!("{EDAC}/{name}")) else { continue };
            let lost = Rising { before: Some(0), news: None };
            let corrected = Rising::default();
            self.controllers.push(Controller { name, folder, corrected, lost });
        }
    }

    fn memory_errors(&mut self, look: &mut Look<'_>) {
        if look.anew {
            self.list(look);
        }
        look.found.notes.extend(self.note.clone());
        for one in &mut self.controllers {
            let service = format!("memory errors {}", one.name);
            let mut read = |file: &str| match one.folder.attribute(file, look.page) {
                Ok(text) => number::<u64>(text).ok_or_else(|| format!("{file} makes no sense")),
                Err(error) => Err(format!("cannot be read: {}", error.in_full())),
            };
            let (corrected, lost) = match (read("ce_count"), read("ue_count")) {
                (Ok(corrected), Ok(lost)) => (corrected, lost),
                (Err(why), _) | (_, Err(why)) => {
                    look.found.unknown(service, "errors", why);
                    continue;
                }
            };
            let (news, bad) =
                (one.corrected.take(corrected, look.now), one.lost.take(lost, look.now));
            let sums = format!("{corrected} corrected and {lost} not, since the start");
            let (health, message) = match (bad, news) {
                (0, 0) => (Severity::Ok, sums),
                (0, news) => {
                    let text = format!(
                        "{news} errors of the memory corrected within the last hour ({sums}): a \
                         module may be about to fail"
                    );
                    (Severity::Warning, text)
                }
                (bad, _) => {
                    let text = format!(
                        "{bad} errors of the memory that could not be corrected ({sums}): data may \
                         be wrong; find the module with `edac-util -v` and replace it"
                    );
                    (Severity::Critical, text)
                }
            };
            let sum = corrected.saturating_add(lost) as f64;
            look.found.told(service, health, (sum, "errors"), message);
            look.found.with("corrected", corrected.to_string());
            look.found.with("uncorrected", lost.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counters_of_the_kernel() {
        assert_eq!(parse_vmstat("nr_free 1\noom_kill 3\nswpin 1\n"), Some(3));
        assert_eq!((parse_vmstat("oom_kill x"), parse_vmstat("")), (None, None));
        assert_eq!(parse_handles("9344\t0\t100\n"), Some((9344, 100)));
        assert_eq!(
            (parse_handles("1 0 0"), parse_handles("1 0"), parse_handles("")),
            (None, None, None)
        );
    }

    #[test]
    fn only_a_rise_is_news_and_only_for_an_hour() {
        let start = Instant::now();
        let mut rising = Rising::default();
        let mut at =
            |minutes: u64, count| rising.take(count, start + Duration::from_secs(60 * minutes));
        assert_eq!(
            [at(0, 7), at(1, 8), at(30, 10), at(89, 10), at(91, 10), at(92, 0)],
            [0, 1, 3, 3, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = (parse_vmstat(&text), parse_handles(&text), parse_vmstat(&format!("oom_kill {text}")));
        }
    }
}
