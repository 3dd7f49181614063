//! What the guest's agent tells while QEMU runs: that it is there, and what
//! runs in the guest. A task of its own, because a guest may take its time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::ask::view::GuestView;
use crate::base::{Name, with_sources};
use crate::host::Clock;
use crate::vm::agent::{Agent, AgentError, Heartbeat};

/// How often the agent is asked whether it is there.
const BEAT: Duration = Duration::from_secs(5);
/// The same before it has spoken: a guest takes its time to boot.
const EAGER: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How often it is asked what runs in the guest.
const INFO: Duration = Duration::from_secs(60);

/// What is known through the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Told {
    /// Whether it speaks; nothing as long as it never has.
    pub alive: Option<bool>,
    /// What runs in the guest.
    pub guest: Option<GuestView>,
}

/// Follows the agent until it is dropped.
pub(super) struct Watching {
    told: watch::Receiver<Told>,
    runs: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    pub fn begin(vm: Name, agent: Agent, silent_after: Duration, clock: Arc<dyn Clock>) -> Self {
        let (tell, told) = watch::channel(Told::default());
        let (runs, pauses) = watch::channel(true);
        let heart = Heartbeat::new(silent_after.max(2 * BEAT));
        let follower = Follower { vm, agent, heart, clock, tell, pauses };
        Self { told, runs, task: tokio::spawn(follower.run()) }
    }

    /// The next change.
    pub async fn changed(&mut self) -> Told {
        if self.told.changed().await.is_err() {
            // The task lives as long as this.
            std::future::pending::<()>().await;
        }
        self.told.borrow_and_update().clone()
    }

    /// Whether the guest's processors run: only then its silence counts.
    pub fn runs(&self, runs: bool) {
        self.runs.send_if_modified(|now| std::mem::replace(now, runs) != runs);
    }
}

struct Follower {
    vm: Name,
    agent: Agent,
    heart: Heartbeat,
    clock: Arc<dyn Clock>,
    tell: watch::Sender<Told>,
    pauses: watch::Receiver<bool>,
}

impl Follower {
    async fn run(mut self) {
        let mut asked: Option<Instant> = None;
        loop {
            if !*self.pauses.borrow_and_update() {
                // The supervisor has gone when this fails, and this with it.
                let _ = self.pauses.wait_for(|runs| *runs).await;
                self.heart.excused(std::time::Instant::now());
            }
            let first = self.heart.state().alive.is_none();
            let answer = self.agent.ping(ANSWER).await;
            let now = std::time::Instant::now();
            let spoke = answer.as_ref().map_or_else(AgentError::is_an_answer, |()| true);
            let changed = if spoke {
                self.heart.heard(now, self.clock.now())
            } else {
                // It may have been halted while it was asked.
                *self.pauses.borrow() && self.heart.missed(now)
            };
            if first && spoke {
                // Before it is told: then a snapshot may freeze them.
                self.thaw().await;
            }
            if changed {
                let alive = self.heart.state().alive;
                info!(vm = %self.vm, ?alive, "guest agent");
                self.tell.send_modify(|told| told.alive = alive);
            }
            if spoke && asked.is_none_or(|asked| asked.elapsed() >= INFO) {
                asked = Some(Instant::now());
                let guest = self.guest().await;
                self.tell.send_if_modified(|told| {
                    let changed = guest.is_some() && told.guest != guest;
                    if changed {
                        told.guest = guest;
                    }
                    changed
                });
            }
            let alive = self.heart.state().alive.is_some();
            tokio::select! {
                () = sleep(if alive { BEAT } else { EAGER }) => {}
                _ = self.pauses.changed() => {}
            }
        }
    }

    /// An earlier hostd may have died while the guest's file systems stood still.
    async fn thaw(&self) {
        // Not every agent can.
        if self.agent.thaw_if_frozen(ANSWER).await.unwrap_or(false) {
            warn!(vm = %self.vm, "its file systems stood still, and go on");
        }
    }

    async fn guest(&self) -> Option<GuestView> {
        let os = self.agent.os_info(ANSWER).await.ok()?;
        let host_name = self.agent.host_name(ANSWER).await.unwrap_or_default();
        let interfaces = self.agent.interfaces(ANSWER).await.unwrap_or_default();
        let addresses = interfaces.iter().flat_map(|interface| &interface.addresses);
        let addresses = addresses.filter(|address| address.is_reachable());
        let addresses = addresses.map(|address| address.ip.to_string()).collect();
        Some(GuestView { os: os.name, kernel: os.kernel, host_name, addresses })
    }
}

/// The guest's clock stood still with it.
pub(super) fn set_clock(vm: Name, agent: Agent) {
    tokio::spawn(async move {
        // Without a time it reads the hardware clock, which QEMU keeps.
        if let Err(error) = agent.set_time(None, ANSWER).await {
            warn!(%vm, "the guest's clock is late: {}", with_sources(&error));
        }
    });
}
