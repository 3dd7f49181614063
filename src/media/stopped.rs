//! Why a process that has its port says nothing: stopped, or frozen.
//!
//! Facts: the control group of a unit has its processes in `cgroup.procs`; the
//! state in `/proc/PID/stat` after the name's last `)` is `T` when stopped by
//! a signal, `t` by a debugger, `D` when it sleeps in the kernel
//! (`proc_pid_stat(5)`); `frozen 1` in `cgroup.events` after `systemctl freeze`.

use crate::host::Host;
use crate::host::run::quoted;

const MAX_PROCESSES: usize = 64;
const GROUP: &str = "/sys/fs/cgroup/system.slice";

/// Why a unit's processes do not answer, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// `smbd (process 812) is stopped (SIGSTOP)`.
    pub message: String,
    /// `kill -CONT 812`.
    pub advice: String,
}

/// Looks at the processes of a unit; `None` when nothing is known.
pub fn why(host: &Host, unit: &str) -> Option<Why> {
    let group = match unit.split_once('@') {
        // `systemd` puts instances into a slice of their own.
        Some((template, _)) => format!("{GROUP}/system-{template}.slice/{unit}"),
        None => format!("{GROUP}/{unit}"),
    };
    let events = host.sys.text(format!("{group}/cgroup.events")).unwrap_or_default();
    if events.lines().any(|line| line == "frozen 1") {
        let advice = format!("`systemctl thaw {}`", quoted(unit.as_ref()));
        return Some(Why { message: format!("{unit} is frozen"), advice });
    }
    let processes = host.sys.text(format!("{group}/cgroup.procs")).ok()?;
    let numbers = processes.lines().take(MAX_PROCESSES).filter_map(|line| line.parse::<u32>().ok());
    let mut asleep = None;
    for pid in numbers {
        let Ok(stat) = host.sys.text(format!("/proc/{pid}/stat")) else { continue };
        let Some((name, state)) = state(&stat) else { continue };
        let told = match state {
            'T' => Some(("is stopped (SIGSTOP)", format!("`kill -CONT {pid}`"))),
            't' => Some(("is held by a debugger", format!("`grep TracerPid /proc/{pid}/status`"))),
            _ => None,
        };
        if let Some((what, advice)) = told {
            return Some(Why { message: format!("{name} (process {pid}) {what}"), advice });
        }
        if state == 'D' && asleep.is_none() {
            asleep = Some(Why {
                message: format!(
                    "{name} (process {pid}) hangs in the kernel, perhaps on its disks"
                ),
                advice: format!("`cat /proc/{pid}/stack`; look at its pool"),
            });
        }
    }
    asleep
}

/// Name and state.
fn state(stat: &str) -> Option<(String, char)> {
    let (left, right) = stat.rsplit_once(')')?;
    let name = left.split_once('(')?.1;
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    Some((name.chars().take(32).map(plain).collect(), right.trim_start().chars().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn stopped_frozen_and_asleep_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let host = fake.host();
        assert_eq!(why(&host, "smbd.service"), None);
        let group = "/sys/fs/cgroup/system.slice/smbd.service";
        fake.file(&format!("{group}/cgroup.procs"), "811\n812\n").unwrap();
        fake.file("/proc/811/stat", "811 (smbd) S 1 811\n").unwrap();
        fake.file("/proc/812/stat", "812 (a) (b) D 1 812\n").unwrap();
        assert!(why(&host, "smbd.service").unwrap().message.contains("(process 812) hangs"));
        fake.file("/proc/811/stat", "811 (smbd) T 1 811\n").unwrap();
        let told = why(&host, "smbd.service").unwrap();
        assert_eq!(told.message, "smbd (process 811) is stopped (SIGSTOP)");
        assert_eq!(told.advice, "`kill -CONT 811`");
        fake.file(&format!("{group}/cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert_eq!(why(&host, "smbd.service").unwrap().advice, "`systemctl thaw smbd.service`");
        let instance = "/sys/fs/cgroup/system.slice/system-db.slice/db@1.service";
        fake.file(&format!("{instance}/cgroup.procs"), "811\n").unwrap();
        assert!(why(&host, "db@1.service").is_some());
    }
}
