//! One thing of the host that can be read, set and put back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::host::affinity::Affinity;
use crate::host::cpus::{self, Cpus};
use crate::host::run::{Exit, Output, RunError};
use crate::host::sys::SysError;
use crate::host::units::{Property, UnitError};
use crate::host::{Command, Host};

/// One thing of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "knob", rename_all = "kebab-case")]
pub enum Knob {
    /// A service: `active` or `inactive`.
    Service {
        /// Its unit.
        unit: String,
    },
    /// A pool's scrub: `running`, `paused` or `none`.
    Scrub {
        /// The pool.
        pool: String,
    },
    /// The processors of a slice or scope of systemd: `AllowedCPUs=`.
    Slice {
        /// Its unit.
        unit: String,
    },
    /// The processors of a thread of the kernel.
    Thread {
        /// Its number.
        thread: u32,
        /// Clock ticks from boot to its start: numbers are used again.
        started: u64,
        /// Its name.
        name: String,
    },
    /// A file of sysfs or procfs.
    Attribute {
        /// Where.
        path: String,
        /// How its value is spelt.
        spelling: Spelling,
    },
}

/// How a value is spelt: two spellings may mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spelling {
    /// As it is.
    Word,
    /// A list of processors.
    List,
    /// A mask of processors.
    Mask,
    /// A number of pages: the kernel may find fewer than it is asked for.
    Pages,
}

/// Why something of the host was not read or set.
#[derive(Debug, thiserror::Error)]
pub enum KnobError {
    /// The kernel said no.
    #[error("{}", .0.in_full())]
    Sys(#[from] SysError),
    /// The kernel said no about a thread.
    #[error("{0}")]
    Thread(io::Error),
    /// A command failed.
    #[error("{}", crate::base::with_sources(.0))]
    Run(#[from] RunError),
    /// systemd said no.
    #[error("{}", crate::base::with_sources(.0))]
    Unit(#[from] UnitError),
    /// It is nothing that hostd sets, or no value for it.
    #[error("`{0}` is not for hostd to set")]
    NotOurs(String),
}

impl Knob {
    /// An attribute.
    pub fn attribute(path: impl Into<String>, spelling: Spelling) -> Self {
        Self::Attribute { path: path.into(), spelling }
    }

    /// What it is called when people are told of it.
    pub fn words(&self) -> String {
        match self {
            Self::Service { unit } | Self::Slice { unit } => unit.clone(),
            Self::Scrub { pool } => format!("the scrub of `{pool}`"),
            Self::Thread { thread, name, .. } => format!("kernel thread {name} ({thread})"),
            Self::Attribute { path, .. } => path.clone(),
        }
    }

    /// Whether two values mean the same.
    pub fn same(&self, one: &str, other: &str) -> bool {
        let parse = match self {
            Self::Slice { .. }
            | Self::Thread { .. }
            | Self::Attribute { spelling: Spelling::List, .. } => cpus::parse_list,
            Self::Attribute { spelling: Spelling::Mask, .. } => cpus::parse_mask,
            Self::Attribute { .. } | Self::Service { .. } | Self::Scrub { .. } => {
                return one.trim() == other.trim();
            }
        };
        match (parse(one), parse(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one.trim() == other.trim(),
        }
    }

    /// Whether it is about memory: made ready before all others.
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Attribute { path, spelling }
            if *spelling == Spelling::Pages || path == super::memory::ARC_MAX)
    }
}

/// The files that are set. The journal is a file too, and is not trusted with more.
fn is_ours(path: &str) -> bool {
    let allowed = [
        ("/proc/irq/", "/smp_affinity_list"),
        ("/proc/irq/", "/default_smp_affinity"),
        ("/sys/devices/system/cpu/cpu", "/cpufreq/scaling_governor"),
        ("/sys/devices/virtual/workqueue/", "cpumask"),
        ("/sys/kernel/mm/hugepages/", "/nr_hugepages"),
        ("/sys/devices/system/node/", "/nr_hugepages"),
        ("/sys/module/zfs/parameters/", "zfs_arc_max"),
    ];
    let plain = !path.split('/').any(|part| part == ".." || part == ".");
    plain && allowed.iter().any(|(begin, end)| path.starts_with(begin) && path.ends_with(end))
}

/// What the host is touched with. Everything here blocks: it runs on a thread
/// for such work.
#[derive(Clone)]
pub struct Hands {
    /// The machine.
    pub host: Host,
    /// Its threads.
    pub affinity: Arc<dyn Affinity>,
    /// Where commands are waited for.
    pub handle: Handle,
    /// Between two looks at something that takes its time.
    pub pause: Duration,
}

impl Hands {
    /// Its value now; `None` when it is not there (any more).
    pub fn read(&self, knob: &Knob) -> Result<Option<String>, KnobError> {
        match knob {
            Knob::Service { unit } => {
                let runs = self.handle.block_on(self.host.units.is_active(unit))?;
                Ok(Some(if runs { "active" } else { "inactive" }.to_owned()))
            }
            Knob::Scrub { pool } => {
                let said = self.ask(Command::new("zpool", ["status", "--", pool]))?;
                let text = String::from_utf8_lossy(&said.stdout);
                let found = scrubs(&text).into_iter().find(|(name, _)| name == pool);
                Ok(found.map(|(_, state)| state.to_owned()))
            }
            Knob::Slice { unit } => {
                let cpus = self.handle.block_on(self.host.units.allowed_cpus(unit))?;
                Ok(Some(cpus::list(&cpus)))
            }
            Knob::Thread { thread, started, .. } => {
                if stat(&self.host, *thread).is_none_or(|stat| stat.started != *started) {
                    return Ok(None);
                }
                match self.affinity.get(*thread) {
                    Ok(cpus) => Ok(Some(cpus::list(&cpus))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(KnobError::Thread(error)),
                }
            }
            Knob::Attribute { path, .. } => match self.host.sys.text(path) {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(error) if error.is_missing() => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Sets it.
    pub fn write(&self, knob: &Knob, value: &str) -> Result<(), KnobError> {
        match knob {
            Knob::Service { unit } => {
                let units = &self.host.units;
                let doing =
                    if value == "active" { units.start_unit(unit) } else { units.stop_unit(unit) };
                Ok(self.handle.block_on(doing)?)
            }
            Knob::Scrub { pool } => {
                let words: &[&str] = match value {
                    "paused" => &["scrub", "-p", "--", pool],
                    "running" => &["scrub", "--", pool],
                    other => return Err(KnobError::NotOurs(other.to_owned())),
                };
                self.run(&Command::new("zpool", words)).map(drop)
            }
            Knob::Slice { unit } => {
                let cpus = parsed(value)?;
                let all = [Property::AllowedCpus(cpus.into_iter().collect())];
                Ok(self.handle.block_on(self.host.units.set_properties(unit, &all))?)
            }
            Knob::Thread { thread, .. } => {
                self.affinity.set(*thread, &parsed(value)?).map_err(KnobError::Thread)
            }
            Knob::Attribute { path, .. } if is_ours(path) => {
                Ok(self.host.sys.write(path, value.as_bytes())?)
            }
            Knob::Attribute { path, .. } => Err(KnobError::NotOurs(path.clone())),
        }
    }

    /// What a command says, however it ends.
    pub fn ask(&self, command: Command) -> Result<Output, KnobError> {
        Ok(self.handle.block_on(self.host.runner.run(command))?)
    }

    fn run(&self, command: &Command) -> Result<String, KnobError> {
        let output = self.ask(command.clone())?;
        let bytes = output.success(command)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The pools that are being scrubbed; none where there is no ZFS.
    pub fn scrubbed(&self) -> Result<Vec<String>, KnobError> {
        let command = Command::new("zpool", ["status"]);
        let said = match self.ask(command.clone()) {
            Err(KnobError::Run(error)) if error.is_missing() => return Ok(Vec::new()),
            other => other?,
        };
        // Where the module is not loaded there is no pool.
        if said.exit != Exit::Code(0) && !self.host.sys.exists("/sys/module/zfs") {
            return Ok(Vec::new());
        }
        let text = said.success(&command)?;
        let all = scrubs(&String::from_utf8_lossy(&text));
        Ok(all.into_iter().filter(|(_, state)| *state == "running").map(|(pool, _)| pool).collect())
    }
}

/// The pools in the text of `zpool status`, each with the state of its scrub.
fn scrubs(text: &str) -> Vec<(String, &'static str)> {
    let mut found: Vec<(String, &'static str)> = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(pool) = line.strip_prefix("pool:") {
            found.push((pool.trim().to_owned(), "none"));
        } else if let (Some(scan), Some((_, state))) =
            (line.strip_prefix("scan:"), found.last_mut())
        {
            let scan = scan.trim_start();
            if scan.starts_with("scrub in progress") {
                *state = "running";
            } else if scan.starts_with("scrub paused") {
                *state = "paused";
            }
        }
    }
    found
}

fn parsed(value: &str) -> Result<Cpus, KnobError> {
    cpus::parse_list(value).ok_or_else(|| KnobError::NotOurs(value.to_owned()))
}

/// What `/proc/PID/stat` says of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its name.
    pub name: String,
    /// `PF_…` of the kernel's `include/linux/sched.h`.
    pub flags: u64,
    /// Clock ticks from boot to its start.
    pub started: u64,
}

/// Reads it; `None` when the task is gone.
pub fn stat(host: &Host, task: u32) -> Option<Stat> {
    parse_stat(&host.sys.text(format!("/proc/{task}/stat")).ok()?)
}

/// The name is in parentheses and may hold anything, parentheses too.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // The first of these is the third field of the manual, proc_pid_stat(5).
    let field = |number: usize| after.split_whitespace().nth(number - 3)?.parse().ok();
    Some(Stat { name: name.chars().take(64).collect(), flags: field(9)?, started: field(22)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tells_scrubs_apart() {
        let text = "  pool: tank\n state: ONLINE\n  scan: scrub in progress since Sun\n\t1T\n\
                    config:\n\n  pool: old\n  scan: scrub paused since Mon\n\n  pool: new\n  scan: \
                    resilver in progress since Tue\n  pool: bare\n state: ONLINE\n";
        let found = scrubs(text);
        let found: Vec<(&str, &str)> = found.iter().map(|(pool, s)| (&**pool, *s)).collect();
        let all = [("tank", "running"), ("old", "paused"), ("new", "none"), ("bare", "none")];
        assert_eq!(found, all);
    }

    #[test]
    fn reads_tasks_with_odd_names() {
        let text = "17 (a) b) S 2 0 0 0 -1 69238880 0 0 0 0 0 1 0 0 20 0 1 0 42 0 0 1844";
        let stat = parse_stat(text).unwrap();
        assert_eq!((&*stat.name, stat.flags, stat.started), ("a) b", 69_238_880, 42));
        assert_eq!(parse_stat("17 (short) S 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn nothing_else_is_written() {
        assert!(is_ours("/proc/irq/17/smp_affinity_list"));
        assert!(is_ours("/sys/devices/virtual/workqueue/cpumask"));
        for path in ["/etc/passwd", "/proc/irq/../../etc/x/smp_affinity_list", "/sys/power/state"] {
            assert!(!is_ours(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,80}") {
            let _ = (scrubs(&text), parse_stat(&text));
        }
    }
}
