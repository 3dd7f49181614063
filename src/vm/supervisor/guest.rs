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

/// What decides whether the agent can answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    /// The guest's processors run.
    runs: bool,
    /// How often it was reset.
    resets: u64,
}

/// Follows the agent until it is dropped.
pub(super) struct Watching {
    told: watch::Receiver<Told>,
    machine: watch::Sender<Machine>,
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
        let (machine, now) = watch::channel(Machine { runs: true, resets: 0 });
        let heart = Heartbeat::new(silent_after.max(2 * BEAT));
        let follower = Follower { vm, agent, heart, clock, tell, machine: now };
        Self { told, machine, task: tokio::spawn(follower.run()) }
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
        self.machine.send_if_modified(|now| std::mem::replace(&mut now.runs, runs) != runs);
    }

    /// The guest was reset, by whomever: it boots, and its silence says nothing
    /// until its agent has spoken again.
    pub fn reset(&self) {
        self.machine.send_modify(|now| now.resets = now.resets.wrapping_add(1));
    }
}

struct Follower {
    vm: Name,
    agent: Agent,
    heart: Heartbeat,
    clock: Arc<dyn Clock>,
    tell: watch::Sender<Told>,
    machine: watch::Receiver<Machine>,
}

impl Follower {
    async fn run(mut self) {
        let mut asked: Option<Instant> = None;
        let mut resets = 0;
        loop {
            let machine = *self.machine.borrow_and_update();
            if machine.resets != resets {
                (resets, asked) = (machine.resets, None);
                self.heart.reset();
                self.tell.send_replace(Told::default());
            }
            if !machine.runs {
                let woken = self.machine.wait_for(|now| now.runs || now.resets != resets);
                if woken.await.is_err() {
                    // The supervisor has gone.
                    return;
                }
                self.heart.excused(std::time::Instant::now());
                continue;
            }
            let first = self.heart.state().alive.is_none();
            let answer = self.agent.ping(ANSWER).await;
            let now = std::time::Instant::now();
            let spoke = answer.as_ref().map_or_else(AgentError::is_an_answer, |()| true);
            let changed = if spoke {
                self.heart.heard(now, self.clock.now())
            } else {
                // It may have been halted while it was asked.
                self.machine.borrow().runs && self.heart.missed(now)
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
                _ = self.machine.changed() => {}
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
