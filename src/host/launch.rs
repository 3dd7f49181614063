//! A child that waits before it becomes what it is to be.
//!
//! A scope of systemd takes processes that exist, and sets neither user nor
//! limits. So hostd starts its own binary again with [`LAUNCH`]: that stands
//! still until it is let go, takes its limits, groups and user, gives up ever
//! getting more rights, and then is the program, under the same number. When
//! hostd dies before it lets go, the child sees the end of its standard input
//! and leaves.
//!
//! ```text
//! Runner::hold ──▶ Waiting ── in its scope? ──▶ go ──▶ Started
//!                     └── dropped: the child leaves
//! ```
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::ffi::OsString;
use std::io::{PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::run::{Command, Exit, Started};

/// The binary we are, even after a package update has replaced the file.
pub const OURSELVES: &str = "/proc/self/exe";
/// Hidden argument: wait, take what the next argument says, become what follows.
pub const LAUNCH: &str = "--launch";
/// The exit status of one that was not let go.
const NOT_LET_GO: u8 = 125;
/// The exit status of one that could not become what it was to be.
const FAILED: u8 = 127;

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// The others.
    pub groups: Vec<u32>,
}

/// A long-lived child, and as what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub command: Command,
    /// What it says is appended to this.
    pub log: PathBuf,
    /// As whom; as ourselves when absent.
    pub account: Option<Account>,
    /// How much memory it may lock, in bytes; `u64::MAX` is any.
    pub memlock: Option<u64>,
    /// How many files it may have open.
    pub nofile: Option<u64>,
}

impl Launch {
    /// As ourselves, within our own limits.
    pub fn plain(command: Command, log: PathBuf) -> Self {
        Self { command, log, account: None, memlock: None, nofile: None }
    }

    /// The command that waits and then becomes this one.
    pub(super) fn waiting(&self, launcher: &std::path::Path) -> Command {
        let become_what =
            Become { account: self.account.clone(), memlock: self.memlock, nofile: self.nofile };
        // None of its types can fail to be written as JSON.
        let text = serde_json::to_string(&become_what).unwrap_or_default();
        let begin = [OsString::from(LAUNCH), text.into(), self.command.program.clone()];
        Command::new(launcher, begin.into_iter().chain(self.command.args.iter().cloned()))
    }
}

/// A child that was started and stands still.
pub struct Waiting {
    /// Its number, now and after.
    pub pid: u32,
    pub(super) ended: oneshot::Receiver<Exit>,
    /// What holds it back; nothing for one that runs already.
    pub(super) gate: Option<PipeWriter>,
}

impl Waiting {
    /// Lets it go. Whether it becomes what it is to be is seen by how it ends.
    pub fn go(self) -> Started {
        if let Some(mut gate) = self.gate {
            // One that has ended does not read; that is noticed by its end.
            let _ = gate.write_all(b"g");
        }
        Started { pid: self.pid, ended: self.ended }
    }
}

/// What the child takes before it is another program.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Become {
    account: Option<Account>,
    memlock: Option<u64>,
    nofile: Option<u64>,
}

/// The child's side: to be called by the daemon's binary before anything else,
/// with all its arguments. `None` when it is not the launcher; otherwise it
/// returns only when something is wrong.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != LAUNCH {
        return None;
    }
    let mut go = [0];
    if !matches!(std::io::stdin().read(&mut go), Ok(1)) {
        return Some(ExitCode::from(NOT_LET_GO));
    }
    let why = become_it(args);
    // Standard error is the program's log.
    let _ = writeln!(std::io::stderr(), "hostd: {why}");
    Some(ExitCode::from(FAILED))
}

/// Returns only when it fails, with the reason.
fn become_it(mut args: impl Iterator<Item = OsString>) -> String {
    let (Some(what), Some(program)) = (args.next(), args.next()) else {
        return format!("{LAUNCH} needs what to become");
    };
    let what = match serde_json::from_str::<Become>(&what.to_string_lossy()) {
        Ok(what) => what,
        Err(error) => return format!("{LAUNCH}: {error}"),
    };
    if let Err(why) = take(&what) {
        return why;
    }
    let mut command = std::process::Command::new(&program);
    command.args(args).stdin(Stdio::null());
    // Nothing of the daemon's: its notification socket, its journal stream.
    let kept = ["PATH", "TZ"].map(|name| (name, std::env::var_os(name)));
    command.env_clear().env("LC_ALL", "C.UTF-8");
    command.envs(kept.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let error = command.exec();
    format!("cannot run {}: {error}", program.to_string_lossy())
}

/// Limits first: they may need the rights that are given up next.
fn take(what: &Become) -> Result<(), String> {
    for (resource, words, wanted) in [
        (Resource::RLIMIT_MEMLOCK, "memory to be locked", what.memlock),
        (Resource::RLIMIT_NOFILE, "open files", what.nofile),
    ] {
        if let Some(wanted) = wanted {
            limit(resource, wanted).map_err(|e| format!("cannot set the limit of {words}: {e}"))?;
        }
    }
    if let Some(account) = &what.account {
        let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        setgroups(&groups)
            .and_then(|()| setresgid(gid, gid, gid))
            .and_then(|()| setresuid(uid, uid, uid))
            .map_err(|error| format!("cannot become user {uid}: {error}"))?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(|e| format!("cannot give up further rights: {e}"))
}

/// Sets a limit; who may not raise it takes as much as there is.
fn limit(resource: Resource, wanted: u64) -> nix::Result<()> {
    if setrlimit(resource, wanted, wanted).is_ok() {
        return Ok(());
    }
    let (_, most) = getrlimit(resource)?;
    setrlimit(resource, wanted.min(most), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_all_that_the_child_is_to_take() {
        let account = Account { uid: 7, gid: 8, groups: vec![9] };
        let launch = Launch {
            account: Some(account.clone()),
            memlock: Some(u64::MAX),
            ..Launch::plain(Command::new("qemu", ["-S", "a b"]), "/log".into())
        };
        let command = launch.waiting("/usr/sbin/hostd".as_ref());
        assert_eq!(command.program, "/usr/sbin/hostd");
        let [verb, what, rest @ ..] = &command.args[..] else { panic!("{command}") };
        assert_eq!(
            (verb.to_str(), rest),
            (Some(LAUNCH), &["qemu", "-S", "a b"].map(Into::into)[..])
        );
        let what: Become = serde_json::from_str(what.to_str().unwrap()).unwrap();
        assert_eq!(what, Become { account: Some(account), memlock: Some(u64::MAX), nofile: None });
    }

    #[test]
    fn other_arguments_are_not_for_it_and_wrong_ones_are_said() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(main(args(&["hostd"])).is_none());
        assert!(main(args(&["hostd", "--config", LAUNCH])).is_none());
        assert!(become_it(args(&["{}"]).into_iter()).contains("needs what to become"));
        let why = become_it(args(&["{\"uid\":1}", "true"]).into_iter());
        assert!(why.contains("unknown field"), "{why}");
    }
}
