//! swtpm: the TPM beside QEMU, one process per VM, as QEMU's user.
//!
//! Its number is noted before it is let go, so that the next hostd finds it.
//! It leaves when QEMU disconnects; [`end`] makes sure of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::paths;
use super::process::identify;
use super::record::ProcessId;
use crate::ask::{Code, Refusal};
use crate::base::{Name, with_sources};
use crate::host::launch::{Account, Launch, Waiting};
use crate::host::process::{Process, Signal};
use crate::host::{Command, Host, owner};

/// The program, as Debian's package `swtpm` has it.
pub const SWTPM: &str = "swtpm";
/// The note's name.
const NOTE: &str = "swtpm.json";
/// What it says.
pub const LOG: &str = "swtpm.log";
/// The TPM's memory, in the VM's state folder.
const STATE: &str = "tpm";
/// How long it may take to listen, and to go.
const PATIENCE: Duration = Duration::from_secs(5);

fn failed(vm: &Name, why: impl std::fmt::Display, hint: &str) -> Refusal {
    Refusal::new(Code::Failed, format!("the TPM of `{vm}` does not start: {why}"), hint)
}

/// What starts it; a comma would end a part of its options, and cannot be escaped.
pub fn command(state: &Path, socket: &Path) -> Option<Command> {
    let (state, socket) = (state.to_str()?, socket.to_str()?);
    if state.contains(',') || socket.contains(',') {
        return None;
    }
    let words = [
        "socket".to_owned(),
        "--tpm2".to_owned(),
        "--tpmstate".to_owned(),
        format!("dir={state},mode=0600"),
        "--ctrl".to_owned(),
        format!("type=unixio,path={socket},mode=0600"),
        "--terminate".to_owned(),
    ];
    Some(Command::new(SWTPM, words))
}

/// Makes the folder of its state, which outlives boots. Blocks.
pub fn lay_out(host: &Host, vm: &Name, account: Option<&Account>) -> Result<PathBuf, String> {
    host.state.make_dir(paths::folder(vm)).map_err(|error| with_sources(&error))?;
    let folder = host.state.path(paths::name(vm, STATE));
    let owned = owner::own_folder(&folder, account);
    owned.map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Begins one, which stands still: it can be put into QEMU's scope.
pub fn hold(host: &Host, vm: &Name, account: Option<&Account>) -> Result<Waiting, Refusal> {
    let socket = host.runtime.path(paths::name(vm, paths::TPM));
    let Some(command) = command(&host.state.path(paths::name(vm, STATE)), &socket) else {
        let why = "the path of its state or of its socket has a comma in it, or is not text";
        return Err(failed(vm, why, "move hostd's folders"));
    };
    let log = host.runtime.path(paths::name(vm, LOG));
    let launch = Launch { account: account.cloned(), ..Launch::plain(command, log) };
    let waiting = host.runner.hold(launch).map_err(|error| {
        failed(vm, with_sources(&error), "install swtpm, or leave `tpm:` out of the VM's file")
    })?;
    if let Some(id) = identify(&host.sys, waiting.pid) {
        // None of its types can fail to be written as JSON.
        let text = serde_json::to_string(&id).unwrap_or_default();
        let written = host.runtime.write(paths::name(vm, NOTE), &text);
        written.map_err(|error| failed(vm, with_sources(&error), "look for free space"))?;
    }
    Ok(waiting)
}

/// Lets it go, and waits until QEMU can connect to it.
pub async fn go(host: &Host, vm: &Name, waiting: Waiting) -> Result<Box<dyn Process>, Refusal> {
    let folder = paths::name(vm, paths::QEMU);
    let socket = Path::new(paths::TPM).file_name().unwrap_or_default();
    let held = host.processes.open(waiting.pid);
    let mut started = waiting.go();
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        // Not connected to: it serves the first who comes, and then leaves.
        let there = host.runtime.list(&folder).unwrap_or_default();
        if there.iter().any(|name| socket == name.as_str()) {
            break;
        }
        if Instant::now() > until {
            return Err(failed(vm, "it does not listen", "look at its log"));
        }
        tokio::select! {
            exit = &mut started.ended => {
                let said = host.runtime.tail(paths::name(vm, LOG), 1024).ok().flatten();
                let exit = exit.map_or_else(|_| "unknown exit".to_owned(), |exit| exit.to_string());
                let said = said.unwrap_or_default();
                return Err(failed(vm, format!("{exit}: {}", said.trim()), "is swtpm installed?"));
            }
            () = sleep(pause) => pause = (pause * 2).min(Duration::from_millis(20)),
        }
    }
    match held {
        Ok(Some(process)) => Ok(process),
        Ok(None) => Err(failed(vm, "it has ended", "look at its log")),
        Err(error) => Err(failed(vm, error, "ask again")),
    }
}

/// The one that was noted, if it lives: for who adopts the VM, and watches it.
/// One that has ended while QEMU runs has taken the guest's TPM with it.
pub fn find(host: &Host, vm: &Name) -> Option<Box<dyn Process>> {
    let text = host.runtime.read(paths::name(vm, NOTE)).ok()??;
    let id: ProcessId = serde_json::from_str(&text).ok()?;
    let process = host.processes.open(id.pid).ok()??;
    // Looked at after it is held, so that it cannot be another one since.
    (identify(&host.sys, id.pid) == Some(id)).then_some(process)
}

/// Whether one was noted.
pub fn is_noted(host: &Host, vm: &Name) -> bool {
    !matches!(host.runtime.read(paths::name(vm, NOTE)), Ok(None))
}

/// Ends it, if it has not left already, and forgets it.
pub async fn end(host: &Host, vm: &Name) -> Result<(), Refusal> {
    if let Some(process) = find(host, vm) {
        for signal in [Signal::Term, Signal::Kill] {
            // That it has just ended is noticed next.
            let _ = process.signal(signal);
            if timeout(PATIENCE, process.ended()).await.is_ok() {
                break;
            }
        }
        if find(host, vm).is_some() {
            let message = format!("the TPM of `{vm}` (pid {}) does not end", process.pid());
            let hint = format!("`hostctl vm stop {vm}` tries again");
            return Err(Refusal::new(Code::Failed, message, hint));
        }
    }
    let removed = host.runtime.remove(paths::name(vm, NOTE));
    removed.map_err(|error| Refusal::new(Code::Failed, with_sources(&error), ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn is_started_with_a_state_and_a_socket() {
        let started = command(Path::new("/s/tpm"), Path::new("/r/swtpm.sock")).unwrap();
        insta::assert_snapshot!(started, @"swtpm socket --tpm2 --tpmstate dir=/s/tpm,mode=0600 --ctrl type=unixio,path=/r/swtpm.sock,mode=0600 --terminate");
        assert!(command(Path::new("/s,x/tpm"), Path::new("/r")).is_none());
    }

    #[tokio::test]
    async fn only_the_noted_one_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let (host, vm) = (fake.host(), "gaming".parse().unwrap());
        let zeros = "0 ".repeat(18);
        fake.file("/proc/7/stat", format!("7 (swtpm) S {zeros}70 0")).unwrap();
        let mut fate = fake.processes.begin(7);
        host.runtime.write("vms/gaming/swtpm.json", r#"{"pid":7,"started":71}"#).unwrap();
        end(&host, &vm).await.unwrap();
        assert!(fate.borrow().signals.is_empty(), "another process has its number now");
        host.runtime.write("vms/gaming/swtpm.json", r#"{"pid":7,"started":70}"#).unwrap();
        assert!(is_noted(&host, &vm) && find(&host, &vm).is_some());
        let ending = end(&host, &vm);
        let obeys = async {
            fate.wait_for(|fate| fate.signals == [Signal::Term]).await.unwrap();
            fake.remove("/proc/7").unwrap();
            fake.processes.end(7);
        };
        let (ended, ()) = tokio::join!(ending, obeys);
        ended.unwrap();
        assert!(!is_noted(&host, &vm));
        end(&host, &vm).await.unwrap();
    }
}
