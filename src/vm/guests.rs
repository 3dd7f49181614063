//! Stopping guests without a supervisor: when the host goes down and hostd is
//! dead. The power button is pressed over QMP, and each guest has the whole
//! time that its file gives it, all of them together.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::paths::Paths;
use super::process::{find, has_token, hold};
use super::qmp::{self, wire::Command};
use super::record::Record;
use crate::base::{Name, with_sources};
use crate::host::Host;

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Between two presses of a button that could not be pressed.
const AGAIN: Duration = Duration::from_secs(2);

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// No QEMU of it runs.
    NotThere,
    /// It went.
    Gone,
    /// It is still there.
    Stays(String),
}

/// The VMs that hostd has started and not cleaned up after.
pub fn noted(host: &Host) -> Vec<Name> {
    let names = host.runtime.list(super::paths::FOLDER).unwrap_or_default();
    let names = names.iter().filter_map(|name| name.parse().ok());
    // A note that cannot be read is one all the same.
    names.filter(|name| !matches!(Record::read(host, name), Ok(None))).collect()
}

/// Presses the power button of a VM, and waits until its QEMU is gone.
pub async fn stop(host: &Host, vm: &Name, given: Duration) -> Stopped {
    let record = match Record::read(host, vm) {
        Ok(Some(record)) => record,
        Ok(None) => return Stopped::NotThere,
        Err(error) => return Stopped::Stays(with_sources(&error)),
    };
    let id = match record.process {
        Some(id) => Ok(Some(id)),
        None => find(&host.sys, |line| has_token(line, record.token).then_some(()))
            .map(|found| found.map(|(id, ())| id)),
    };
    let held = match id {
        Ok(Some(id)) => hold(host, id, record.token),
        Ok(None) => return Stopped::NotThere,
        Err(error) => return Stopped::Stays(with_sources(&error)),
    };
    let held = match held {
        Ok(Some(held)) => held,
        Ok(None) => return Stopped::NotThere,
        Err(error) => return Stopped::Stays(error.to_string()),
    };
    let until = Instant::now() + given;
    let mut trouble = "it does not react to its power button".to_owned();
    let press = async {
        loop {
            match press(host, vm).await {
                // Held on to: QEMU tells who is connected why it ends.
                Ok(_connection) => std::future::pending::<()>().await,
                Err(why) => trouble = format!("its power button cannot be pressed: {why}"),
            }
            sleep_until((Instant::now() + AGAIN).min(until)).await;
        }
    };
    let ended = async {
        tokio::select! {
            () = held.process.ended() => {}
            () = press => {}
        }
    };
    match timeout_at(until, ended).await {
        Ok(()) => Stopped::Gone,
        Err(_) => Stopped::Stays(format!("{trouble}; it had {} s", given.as_secs_f64())),
    }
}

async fn press(host: &Host, vm: &Name) -> Result<(qmp::Qmp, qmp::Events), String> {
    let paths = Paths::new(host, vm);
    let connected = qmp::connect(&*host.dial, &paths.qmp, ANSWER).await;
    let (qmp, events) = connected.map_err(|error| with_sources(&error))?;
    let pressed = timeout(ANSWER, qmp.ask(Command::SystemPowerdown, ANSWER)).await;
    match pressed {
        Ok(Ok(_)) => Ok((qmp, events)),
        Ok(Err(error)) => Err(with_sources(&error)),
        Err(_) => Err("QEMU does not answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::vm::record::{Phase, ProcessId};
    use crate::vm::tests::identity;

    #[tokio::test]
    async fn only_a_qemu_that_is_there_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let (host, vm) = (fake.host(), "gaming".parse().unwrap());
        assert_eq!(noted(&host), []);
        assert_eq!(stop(&host, &vm, Duration::ZERO).await, Stopped::NotThere);
        let mut record = Record::begin(identity().uuid, None);
        record.phase = Phase::Running;
        record.process = Some(ProcessId { pid: 7, started: 70 });
        record.write(&host, &vm).unwrap();
        assert_eq!(noted(&host), std::slice::from_ref(&vm));
        assert_eq!(stop(&host, &vm, Duration::ZERO).await, Stopped::NotThere);
        let zeros = "0 ".repeat(18);
        fake.file("/proc/7/stat", format!("7 (qemu) S {zeros}70 0")).unwrap();
        let token = crate::vm::argv::token_id(record.token);
        fake.file("/proc/7/cmdline", format!("qemu\0-chardev\0null,id={token}\0")).unwrap();
        let _fate = fake.processes.begin(7);
        let Stopped::Stays(why) = stop(&host, &vm, Duration::from_millis(20)).await else {
            panic!("nobody pressed its button");
        };
        assert!(why.contains("cannot connect to"), "{why}");
        host.runtime.write("vms/gaming/state.json", "{").unwrap();
        assert_eq!(noted(&host), std::slice::from_ref(&vm), "unknown is not off");
        assert!(matches!(stop(&host, &vm, Duration::ZERO).await, Stopped::Stays(_)));
    }
}
