//! What VFIO says of groups and devices, asked by a process of its own with a
//! deadline: a card that hangs keeps who opens it.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::helper::OURSELVES;
use crate::base::{PciAddress, with_sources};
use crate::host::run::RunError;
use crate::host::vfio::{Dependent, LOOK, PROBE, Probed, RESET, Seen};
use crate::host::{Command, Host};

/// Looking opens two kinds of files; nothing is reset.
const LOOKING: Duration = Duration::from_secs(5);
/// A reset may take seconds, and some cards need two.
const PROBING: Duration = Duration::from_secs(30);
/// More than any answer is long.
const LIMIT: usize = 1 << 20;

/// Why VFIO did not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VfioError {
    /// These are another machine's files.
    #[error("only the running machine can be asked")]
    Elsewhere,
    /// The process that asks did not come back.
    #[error("{0}")]
    Hung(String),
    /// The process that asks failed.
    #[error("{0}")]
    Failed(String),
}

/// The container and these groups. Opening a group keeps others out for that
/// moment: not for groups that a VM is about to open.
pub async fn look(host: &Host, groups: &[u32]) -> Result<Seen, VfioError> {
    let groups = groups.iter().map(ToString::to_string);
    ask(host, std::iter::once(LOOK.to_owned()).chain(groups), LOOKING).await
}

/// A device that is on vfio-pci and that nobody has open. **Resets it.**
pub async fn probe(host: &Host, group: u32, function: PciAddress) -> Result<Probed, VfioError> {
    ask(host, [PROBE.to_owned(), group.to_string(), function.to_string()], PROBING).await
}

/// The functions that a hot reset of a device's bus would reset with it: while
/// binding, before a guest has the card. **Resets the device**, as [`probe`] does.
pub async fn hot_reset_set(
    host: &Host,
    group: u32,
    function: PciAddress,
) -> Result<Vec<Dependent>, VfioError> {
    probe(host, group, function).await?.hot_reset.map_err(VfioError::Failed)
}

/// Resets a device and all that hangs on its bus with it; which those were.
pub async fn hot_reset(
    host: &Host,
    group: u32,
    function: PciAddress,
) -> Result<Vec<Dependent>, VfioError> {
    ask(host, [RESET.to_owned(), group.to_string(), function.to_string()], PROBING).await
}

async fn ask<T: DeserializeOwned>(
    host: &Host,
    args: impl IntoIterator<Item = String>,
    deadline: Duration,
) -> Result<T, VfioError> {
    if !host.sys.is_real() {
        return Err(VfioError::Elsewhere);
    }
    let mut command = Command::new(OURSELVES, args).deadline(deadline);
    command.limit = LIMIT;
    let said = host.runner.run(command.clone()).await.and_then(|output| output.success(&command));
    let said = said.map_err(|error| match error {
        RunError::Deadline { .. } => VfioError::Hung(with_sources(&error)),
        other => VfioError::Failed(with_sources(&other)),
    })?;
    serde_json::from_slice(&said)
        .map_err(|error| VfioError::Failed(format!("its answer makes no sense: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[tokio::test]
    async fn another_machine_is_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let function = "01:00.0".parse().unwrap();
        assert_eq!(look(&fake.host(), &[1]).await, Err(VfioError::Elsewhere));
        assert_eq!(hot_reset_set(&fake.host(), 1, function).await, Err(VfioError::Elsewhere));
        assert!(fake.runner.asked().is_empty());
    }
}
