//! `cpu`, `load` and `processes`: `/proc/stat`, `/proc/loadavg` (proc(5)).

use super::look::{Look, number};
use super::rate::percent;
use crate::base::Severity;
use crate::config::Levels;

/// Most of the threads that the kernel can number.
const MANY: Levels = Levels::new(0.8, 0.95);

/// Ticks since the start, of all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Programs, the kernel for them, interrupts, and what the host of a VM took.
    pub busy: u64,
    /// Nothing to do.
    pub idle: u64,
    /// Nothing to do but to wait for disks.
    pub waiting: u64,
    /// What the host of this machine, a VM, gave to others.
    pub stolen: u64,
}

/// The times, and how many processors there are.
pub fn parse_stat(text: &str) -> Option<(Times, usize)> {
    let mut lines = text.lines();
    let mut all = lines.next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let mut ticks = || all.next().map_or(Some(0), |word| word.parse::<u64>().ok());
    // Guests are in `user` already.
    let [user, nice, system, idle] = [ticks()?, ticks()?, ticks()?, ticks()?];
    let [waiting, irq, softirq, stolen] = [ticks()?, ticks()?, ticks()?, ticks()?];
    let busy = [nice, system, irq, softirq, stolen];
    let busy = busy.into_iter().fold(user, u64::saturating_add);
    let processors = lines.take_while(|line| line.starts_with("cpu")).count();
    Some((Times { busy, idle, waiting, stolen }, processors))
}

/// Fractions: busy, waiting for disks, stolen.
pub fn shares(before: Times, now: Times) -> Option<[f64; 3]> {
    // The kernel's idle and waiting times go back by a tick at times.
    let [busy, idle, waiting, stolen] = [
        (before.busy, now.busy),
        (before.idle, now.idle),
        (before.waiting, now.waiting),
        (before.stolen, now.stolen),
    ]
    .map(|(before, now)| now.saturating_sub(before) as f64);
    let all = busy + idle + waiting;
    (all > 0.0).then(|| [busy / all, waiting / all, stolen / all])
}

/// `/proc/loadavg`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Over 1, 5 and 15 minutes.
    pub averages: [f64; 3],
    /// Threads.
    pub threads: u64,
}

/// Reads `0.20 0.18 0.12 1/80 11206`.
pub fn parse_load(text: &str) -> Option<Load> {
    let mut words = text.split_ascii_whitespace();
    let mut average = || words.next()?.parse::<f64>().ok().filter(|load| load.is_finite());
    let averages = [average()?, average()?, average()?];
    let (_, threads) = words.next()?.split_once('/')?;
    Some(Load { averages, threads: threads.parse().ok()? })
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct State {
    before: Option<Times>,
    /// How many threads the kernel can number.
    most: Option<u64>,
}

impl State {
    /// One round.
    pub fn round(&mut self, look: &mut Look<'_>) {
        let stat = look.parsed("stat", ("cpu", "fraction"), parse_stat);
        let now = stat.map(|(times, _)| times);
        if let Some([busy, waiting, stolen]) = self.before.zip(now).and_then(|(a, b)| shares(a, b))
        {
            let taken = match stolen {
                0.005.. => format!(", {} taken by the host of this VM", percent(stolen)),
                _ => String::new(),
            };
            let message =
                format!("{} busy, {} waiting for disks{taken}", percent(busy), percent(waiting));
            look.judged("cpu", (busy, "fraction"), look.config.cpu, message);
        }
        self.before = now;
        if look.anew {
            let most = look.proc.attribute("sys/kernel/threads-max", look.page);
            let most = most.ok().and_then(number);
            let numbers = look.proc.attribute("sys/kernel/pid_max", look.page);
            self.most = most.into_iter().chain(numbers.ok().and_then(number)).min();
        }
        let Some(load) = look.parsed("loadavg", ("load", "per processor"), parse_load) else {
            return;
        };
        let processors = stat.map_or(0, |(_, processors)| processors);
        if processors == 0 {
            let why = "how many processors there are is not known".to_owned();
            look.found.unknown("load", "per processor", why);
        } else {
            let [one, five, fifteen] = load.averages;
            let each = one / processors as f64;
            let message = format!(
                "{each:.2} for each of {processors} processors: {one:.2}, {five:.2}, {fifteen:.2} \
                 over 1, 5, 15 minutes"
            );
            look.judged("load", (each, "per processor"), look.config.load, message);
        }
        let threads = load.threads as f64;
        let (health, of) = match self.most.filter(|most| *most > 0) {
            Some(most) => {
                let full = threads / most as f64;
                (look.above.judge("processes", full, MANY), format!(", of {most} at most"))
            }
            None => (Severity::Ok, String::new()),
        };
        let message = format!("{} threads{of}", load.threads);
        look.found.told("processes", health, (threads, "threads"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_of_all_processors() {
        let text = "cpu  100 10 50 800 40 1 2 3 90 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 1\ncpux\n";
        let (times, processors) = parse_stat(text).unwrap();
        assert_eq!(times, Times { busy: 166, idle: 800, waiting: 40, stolen: 3 });
        assert_eq!(processors, 2);
        let later = Times { busy: 216, idle: 840, waiting: 50, stolen: 8 };
        assert_eq!(shares(times, later), Some([0.5, 0.1, 0.05]));
        assert_eq!(shares(times, times), None, "no time has passed");
        // Old kernels have fewer columns.
        assert_eq!(parse_stat("cpu  1 2 3 4\n").unwrap().0.idle, 4);
        for bad in ["", "cpu", "cpu  x", "intr 5", "cpu0 1 2 3 4"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn loads() {
        let load = parse_load("0.20 0.18 0.12 1/80 11206\n").unwrap();
        assert_eq!((load.averages, load.threads), ([0.20, 0.18, 0.12], 80));
        for bad in ["", "0.2 0.1", "nan 1 1 1/80", "1 1 1 80", "1 1 1 1/x"] {
            assert_eq!(parse_load(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text: String, a: [u64; 4], b: [u64; 4]) {
            let _ = (parse_stat(&text), parse_load(&text), parse_stat(&format!("cpu  {text}")));
            let times = |[busy, idle, waiting, stolen]: [u64; 4]| Times { busy, idle, waiting, stolen };
            if let Some(shares) = shares(times(a), times(b)) {
                prop_assert!(shares.iter().all(|share| share.is_finite()));
            }
        }
    }
}
