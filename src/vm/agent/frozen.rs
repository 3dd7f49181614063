//! File systems of a guest that stand still, for a snapshot: as short as can
//! be, and they surely thaw again. Who freezes holds a [`Frozen`]; when it is
//! dropped without [`Frozen::thaw`], the thaw goes on by itself. What a hostd
//! that was killed leaves frozen is for
//! [`Agent::thaw_if_frozen`](super::Agent::thaw_if_frozen), when the VM is adopted.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, warn};

use super::wire::Command;
use super::{Agent, AgentError, answers};
use crate::base::with_sources;

/// How long a thaw may take, each time it is tried.
const THAW: Duration = Duration::from_secs(10);
/// How often it is tried.
const TRIES: u32 = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// A guest whose file systems stand still.
#[must_use = "a guest that is not thawed cannot write"]
pub struct Frozen {
    /// Nothing once it is thawed.
    agent: Option<Agent>,
    count: u64,
}

impl Agent {
    /// Makes the guest's file systems stand still. A guest of which that is
    /// not known, for it did not answer in time, is thawed.
    pub async fn freeze(&self, within: Duration) -> Result<Frozen, AgentError> {
        // Held before anything is said: whoever gives up waiting, thaws.
        let mut frozen = Frozen { agent: Some(self.clone()), count: 0 };
        match self.read(&Command::Freeze, within, answers::count).await {
            Ok(count) => {
                frozen.count = count;
                Ok(frozen)
            }
            Err(error) => {
                // One that failed half-way has thawed them itself (qga/commands-posix.c).
                if error.is_an_answer() || matches!(error, AgentError::Dial { .. }) {
                    frozen.agent = None;
                }
                Err(error)
            }
        }
    }
}

impl Frozen {
    /// How many file systems stand still.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Lets them go on.
    pub async fn thaw(mut self) -> Result<(), AgentError> {
        // It stays in place meanwhile: whoever gives up waiting here, thaws too.
        let Some(agent) = self.agent.clone() else { return Ok(()) };
        let thawed = thaw(&agent).await;
        self.agent = None;
        thawed
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        let socket = agent.socket().display().to_string();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            error!(socket, "a guest's file systems may stay frozen: hostd is ending");
            return;
        };
        runtime.spawn(async move {
            warn!(socket, "a guest's file systems may be frozen; thawing them");
            if let Err(problem) = thaw(&agent).await {
                error!(socket, problem = with_sources(&problem), "they may stay frozen");
            }
        });
    }
}

/// Tries until the agent says yes or there is nobody to ask.
async fn thaw(agent: &Agent) -> Result<(), AgentError> {
    let mut tries = 1;
    loop {
        match agent.read(&Command::Thaw, THAW, answers::count).await {
            Ok(_) => return Ok(()),
            Err(error @ AgentError::Dial { .. }) => return Err(error),
            Err(error) if tries >= TRIES => return Err(error),
            Err(_) => {
                tries += 1;
                sleep(PAUSE).await;
            }
        }
    }
}
