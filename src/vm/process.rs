//! Finding QEMU again: by number, time of start and start token, never by name
//! alone. Reading `/proc` and judging it are two things here.

use std::path::Path;
use std::sync::Arc;

use super::argv::token_id;
use super::identity::Uuid;
use super::record::ProcessId;
use crate::host::sys::SysError;
use crate::host::{Host, Process, SysRoot};

/// The longest command line that is looked at; the kernel's own limit for one
/// argument is an eighth of this.
const CMDLINE_LIMIT: u64 = 1 << 20;

/// What `/proc/<pid>/stat` says that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// One letter: `R`, `S`, `T` for stopped, `Z` for ended and not reaped.
    pub state: char,
    /// Clock ticks from boot to its start.
    pub started: u64,
}

/// Reads `/proc/<pid>/stat`. The second field is the program's name in
/// parentheses, and may itself hold spaces and parentheses.
pub fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 3 was the state; the time of start is field 22.
    Some(Stat { state, started: fields.nth(18)?.parse().ok()? })
}

/// The process's number and time of start, if it lives.
pub fn identify(sys: &SysRoot, pid: u32) -> Option<ProcessId> {
    let stat = parse_stat(&sys.text(format!("/proc/{pid}/stat")).ok()?)?;
    (!matches!(stat.state, 'Z' | 'X' | 'x')).then_some(ProcessId { pid, started: stat.started })
}

/// Whether the words of a command line, as in `/proc/<pid>/cmdline`, name this
/// start token.
pub fn has_token(cmdline: &[u8], token: Uuid) -> bool {
    let word = format!("null,id={}", token_id(token));
    cmdline.split(|b| *b == 0).any(|arg| arg == word.as_bytes())
}

/// The start token of the QEMU that has this control socket.
pub fn token_of(cmdline: &[u8], qmp: &Path) -> Option<Uuid> {
    let words: Vec<&str> =
        cmdline.split(|b| *b == 0).filter_map(|arg| std::str::from_utf8(arg).ok()).collect();
    let socket = format!("path={}", qmp.display()).replace(',', ",,");
    let ours = |word: &&str| word.starts_with("socket,id=qmp,") && word.contains(&socket);
    words.iter().find(|word| ours(word))?;
    let token = words.iter().find_map(|word| word.strip_prefix("null,id=start-"))?;
    Uuid::try_from(token.to_owned()).ok()
}

fn cmdline(sys: &SysRoot, pid: u32) -> Option<Vec<u8>> {
    sys.bytes(format!("/proc/{pid}/cmdline"), CMDLINE_LIMIT).ok()
}

/// A QEMU in our hands.
#[derive(Clone)]
pub struct Held {
    /// Which one.
    pub id: ProcessId,
    /// The hold.
    pub process: Arc<dyn Process>,
}

/// Takes hold of a process if it is this one and has this token: the hold is
/// taken before it is looked at, so that it cannot be changed in between.
pub fn hold(host: &Host, id: ProcessId, token: Uuid) -> std::io::Result<Option<Held>> {
    let Some(process) = host.processes.open(id.pid)? else { return Ok(None) };
    let same = identify(&host.sys, id.pid) == Some(id)
        && cmdline(&host.sys, id.pid).is_some_and(|line| has_token(&line, token));
    Ok(same.then(|| Held { id, process: process.into() }))
}

/// Looks for a process whose command line pleases.
pub fn find<T>(
    sys: &SysRoot,
    pleases: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<(ProcessId, T)>, SysError> {
    let pids = sys.list("/proc")?;
    Ok(pids.iter().filter_map(|name| name.parse().ok()).find_map(|pid| {
        let found = pleases(&cmdline(sys, pid)?)?;
        Some((identify(sys, pid)?, found))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::vm::tests::{identity, paths, vm};
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    const STAT: &str =
        "4711 (qemu) system (x86) S 1 4711 4711 0 -1 4194560 1 0 0 0 5 1 0 0 20 0 3 0 98765 1 2 3";

    fn line() -> Vec<u8> {
        let identity = identity();
        let start = crate::vm::argv::Start {
            identity: &identity,
            token: identity.uuid,
            card: &crate::vm::devices::Lent::default(),
            facts: &crate::vm::argv::Facts::default(),
        };
        let args = crate::vm::argv::argv(&vm(), &paths(), &start);
        args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"]).flatten().copied().collect()
    }

    #[test]
    fn reads_a_stat_whose_name_is_nasty() {
        assert_eq!(parse_stat(STAT), Some(Stat { state: 'S', started: 98765 }));
        assert_eq!(parse_stat("4711 (qemu) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn is_held_only_if_number_time_and_token_agree() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/proc/4711/stat", STAT).unwrap();
        fake.file("/proc/4711/cmdline", line()).unwrap();
        fake.file("/proc/cpuinfo", "").unwrap();
        let (host, token) = (fake.host(), identity().uuid);
        let id = ProcessId { pid: 4711, started: 98765 };
        assert!(hold(&host, id, token).unwrap().is_none(), "it is not there");
        fake.processes.begin(4711);
        assert_eq!(hold(&host, id, token).unwrap().unwrap().id, id);
        assert!(hold(&host, ProcessId { started: 1, ..id }, token).unwrap().is_none());
        let other = Uuid::try_from("00000000-0000-0000-0000-000000000000".to_owned()).unwrap();
        assert!(hold(&host, id, other).unwrap().is_none());
        let by_token = find(&host.sys, |line| has_token(line, token).then_some(())).unwrap();
        assert_eq!(by_token, Some((id, ())));
        let by_socket = find(&host.sys, |line| token_of(line, &paths().qmp)).unwrap();
        assert_eq!(by_socket, Some((id, token)));
        assert_eq!(find(&host.sys, |line| token_of(line, Path::new("/else"))).unwrap(), None);
        fake.file("/proc/4711/stat", STAT.replace(") S", ") Z")).unwrap();
        assert!(hold(&host, id, token).unwrap().is_none(), "ended, only not reaped");
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,80}", bytes: Vec<u8>) {
            let _ = (parse_stat(&text), has_token(&bytes, identity().uuid));
            let _ = token_of(&bytes, Path::new("/x"));
        }
    }
}
