//! Scrubs by calendar: started when due, paused for games, films and outside
//! their hours, resumed after. What hostd has not started it lets alone, and it
//! resumes only what it has paused.
//!
//! ```text
//!             due, calm, in its hours, no other scrubs
//!   waiting ─────────────────────────────────────────▶ running ──▶ waiting
//!      │ due, but …                                     │    ▲
//!      ▼                              a VM, Plex, until ▼    │ calm again
//!     held                                              paused
//! ```

use std::time::Duration;

use jiff::Zoned;

use super::memory::{Memory, Scrub};
use super::{Act, CALM, RETRY, World, calendar, elsewhere, job, waited};
use crate::ask::ScrubAct;
use crate::ask::view::{JobView, PoolView, PoolsView, ScanView, VmState, VmView};
use crate::base::{Severity, Timestamp};
use crate::config::ScrubPolicy;

/// What was done shows in what is read after so long at the latest.
const LAG: Duration = Duration::from_secs(90);
/// A scrub's start as ZFS has it and as hostd has it differ by less.
const SAME: Duration = Duration::from_secs(300);
/// A date that has waited for so long is a warning.
const OVERDUE: Duration = Duration::from_secs(7 * 86_400);

/// All pools, and those that a policy names and that are not there.
pub fn decide(
    world: &World<'_>,
    local: &Zoned,
    pools: &PoolsView,
    memory: &mut Memory,
    jobs: &mut Vec<JobView>,
    acts: &mut Vec<Act>,
) {
    let mut busy: Vec<String> =
        pools.pools.iter().filter(|pool| runs(pool)).map(|pool| pool.name.clone()).collect();
    for pool in &pools.pools {
        let scrub = memory.scrubs.entry(pool.name.clone()).or_default();
        let round = Round { world, local, pool, busy: &busy };
        let (job, act) = round.one(scrub);
        jobs.push(job);
        if let Some(act) = act {
            if act == ScrubAct::Start {
                busy.push(pool.name.clone());
            }
            acts.push(Act::Scrub { pool: pool.name.clone(), act });
        }
    }
    let named =
        world.config.care.scrubs.iter().filter_map(|policy| Some((policy.pool.as_ref()?, policy)));
    for (name, policy) in named {
        if pools.pools.iter().all(|pool| pool.name != *name) {
            let message = format!("there is no pool {name}; `zpool import` lists what could be");
            let mut job = job("scrub", name, "held", message);
            (job.policy, job.health) = (calendar::words(policy), Severity::Warning);
            jobs.push(job);
        }
    }
}

fn scrub_of(pool: &PoolView) -> Option<&ScanView> {
    pool.scan.as_ref().filter(|scan| scan.function == "scrub")
}

fn runs(pool: &PoolView) -> bool {
    scrub_of(pool).is_some_and(|scan| scan.state == "scanning")
}

struct Round<'a> {
    world: &'a World<'a>,
    local: &'a Zoned,
    pool: &'a PoolView,
    /// Pools that are being scrubbed.
    busy: &'a [String],
}

impl Round<'_> {
    fn one(&self, scrub: &mut Scrub) -> (JobView, Option<ScrubAct>) {
        self.observe(scrub);
        let name = &self.pool.name;
        let (policy, other) =
            (self.world.config.care.scrub_of(name), self.world.other("scrub", name));
        let (mut job, act) = match (policy, other) {
            (None, None) => (self.off(scrub), None),
            (None, Some(other)) => (elsewhere("scrub", name, other, false), None),
            (Some(policy), Some(other)) if !policy.even_if_elsewhere => {
                let mut job = elsewhere("scrub", name, other, true);
                job.policy = calendar::words(policy);
                (job, None)
            }
            (Some(policy), _) => self.scheduled(policy, scrub),
        };
        job.last = scrub.ended;
        (job, act)
    }

    /// Nobody has said when.
    fn off(&self, scrub: &Scrub) -> JobView {
        let last = match scrub.ended {
            Some(at) => format!("the last one ended {}", self.world.words(at)),
            None => "none is known to have ended".to_owned(),
        };
        let name = &self.pool.name;
        let message = format!(
            "not scheduled; {last}; add `care: {{scrub: [{{pool: {name}}}]}}` to host.yaml"
        );
        job("scrub", name, "off", message)
    }

    /// What the reading says goes into the memory.
    fn observe(&self, scrub: &mut Scrub) {
        let now = self.world.now;
        let past = |at: &Timestamp| *at <= now.plus(SAME);
        let scan = scrub_of(self.pool);
        let ended = scan.filter(|scan| scan.state == "finished").and_then(|scan| scan.ended);
        let known = self.pool.scrubbed.as_ref().map(|scrubbed| scrubbed.ended);
        scrub.ended = [scrub.ended, ended, known].into_iter().flatten().filter(past).max();
        let canceled = scan.filter(|scan| scan.state == "canceled").and_then(|scan| scan.ended);
        scrub.canceled = [scrub.canceled, canceled].into_iter().flatten().filter(past).max();
        // The clock went back: nothing that was has been later than now.
        for moment in [&mut scrub.blocked, &mut scrub.acted] {
            *moment = moment.map(|at| at.min(now));
        }
        scrub.since = scrub.since.min(now);
        let settled = scrub.acted.is_none_or(|at| waited(now, at, LAG));
        match scan.map(|scan| scan.state.as_str()) {
            Some("scanning") if scrub.paused.is_some() && settled => {
                // Somebody has resumed it: a VM's `performance`, or a person,
                // who wants it to run.
                if !scrub.shared {
                    scrub.by_hand = Some(now);
                }
                (scrub.paused, scrub.shared) = (None, false);
            }
            Some("paused") if self.claimed().is_some() => scrub.shared = true,
            Some("scanning" | "paused") => {}
            _ if settled => (scrub.paused, scrub.by_hand, scrub.shared) = (None, None, false),
            _ => {}
        }
    }

    /// The VM for which `performance` has paused this pool's scrub.
    fn claimed(&self) -> Option<&VmView> {
        self.world.snapshot.vms.values().find(|vm| {
            let paused = vm.performance.as_ref().map(|performance| &performance.paused_scrubs);
            paused.is_some_and(|pools| pools.contains(&self.pool.name))
        })
    }

    fn scheduled(&self, policy: &ScrubPolicy, scrub: &mut Scrub) -> (JobView, Option<ScrubAct>) {
        let (world, now, words) = (self.world, self.world.now, calendar::words(policy));
        if scrub.policy != words {
            (scrub.policy, scrub.since) = (words.clone(), now);
        }
        let blocks = self.blocks(policy);
        if !blocks.is_empty() {
            scrub.blocked = Some(now);
        }
        let done = scrub.ended.max(scrub.canceled);
        let due = calendar::last(policy, self.local)
            .filter(|due| *due >= scrub.since && done.is_none_or(|done| done < *due));
        let next = calendar::next(policy, self.local);
        let wait = self.wait(policy, scrub, &blocks);
        let settled = scrub.acted.is_none_or(|at| waited(now, at, LAG));
        let (state, message, act) = match scrub_of(self.pool).map(|scan| scan.state.as_str()) {
            Some("scanning") => self.running(policy, scrub, &blocks),
            Some("paused") => self.paused(scrub, wait),
            _ => match (due, wait) {
                (None, _) => {
                    let next = next.map_or_else(String::new, |at| world.words(at));
                    ("waiting", format!("the next one is due {next}"), None)
                }
                (Some(due), _) if !settled => {
                    ("waiting", format!("due since {}, just begun", world.words(due)), None)
                }
                (Some(due), Some(why)) => {
                    ("held", format!("due since {}: {why}", world.words(due)), None)
                }
                (Some(_), None) => {
                    ("running", "it is due and is being started".to_owned(), Some(ScrubAct::Start))
                }
            },
        };
        let mut job = job("scrub", &self.pool.name, state, message);
        let failed = scrub.failed.as_ref().filter(|(at, _)| !waited(now, *at, RETRY * 2));
        if let Some((at, why)) = failed {
            job.health = Severity::Warning;
            job.message =
                format!("{}; what hostd tried {} failed: {why}", job.message, world.words(*at));
        }
        if let Some(due) = due.filter(|due| waited(now, *due, OVERDUE)) {
            job.health = Severity::Warning;
            job.message = format!("overdue since {}; {}", world.words(due), job.message);
        }
        (job.policy, job.next) = (words, due.or(next));
        (job, act.filter(|_| settled))
    }

    /// What it has to keep out of the way of.
    fn blocks(&self, policy: &ScrubPolicy) -> Vec<String> {
        let (world, mut blocks) = (self.world, Vec::new());
        for vm in world.snapshot.vms.values() {
            let runs = match vm.state {
                VmState::Preparing | VmState::Starting | VmState::Running | VmState::Stopping => {
                    true
                }
                VmState::Off | VmState::Paused | VmState::Crashed | VmState::Failed => false,
            };
            let file = world.config.vms.iter().find(|file| file.name == vm.name);
            let performance = file.and_then(|file| file.performance.as_ref());
            let counts = file.is_some_and(|file| file.gpu.is_some())
                || performance.is_some()
                || vm.performance.is_some()
                || !vm.devices.is_empty();
            // That VM's `performance` would pause it at once.
            let pauses = performance.is_some_and(|performance| performance.pause_scrub);
            if runs && (pauses || counts && policy.not_while_vm) {
                blocks.push(format!("the VM {} runs", vm.name));
            }
        }
        match world.snapshot.services.value() {
            _ if !policy.not_while_plex => {}
            None => blocks.push("the services have not been read yet".to_owned()),
            Some(services) => {
                let live =
                    |(kind, sessions): (&str, Option<u64>)| kind == "plex" && sessions > Some(0);
                let streams =
                    services.services.iter().filter(|one| live((&one.kind, one.sessions)));
                blocks.extend(streams.map(|one| format!("{} has sessions", one.name)));
            }
        }
        blocks
    }

    /// Why none is started or resumed now.
    fn wait(&self, policy: &ScrubPolicy, scrub: &Scrub, blocks: &[String]) -> Option<String> {
        let (world, now) = (self.world, self.world.now);
        let resilvers = self
            .pool
            .scan
            .as_ref()
            .is_some_and(|scan| scan.function == "resilver" && scan.state == "scanning");
        let busy = self.busy.iter().find(|busy| **busy != self.pool.name);
        if !matches!(self.pool.state.as_str(), "ONLINE" | "DEGRADED") {
            Some(format!("the pool is {}", self.pool.state))
        } else if resilvers {
            Some("it resilvers, which reads all data as well and goes first".to_owned())
        } else if !blocks.is_empty() {
            Some(blocks.join(", "))
        } else if world.up < CALM {
            Some("hostd has just started and waits five minutes".to_owned())
        } else if scrub.blocked.is_some_and(|at| !waited(now, at, CALM)) {
            Some("it waits until five minutes have been quiet".to_owned())
        } else if !calendar::is_open(policy, self.local) {
            Some("outside its hours".to_owned())
        } else if let Some(busy) = busy {
            Some(format!("{busy} is being scrubbed, and one is enough"))
        } else if scrub.failed.as_ref().is_some_and(|(at, _)| !waited(now, *at, RETRY)) {
            Some("it is tried again after ten minutes".to_owned())
        } else {
            None
        }
    }

    fn running(
        &self,
        policy: &ScrubPolicy,
        scrub: &Scrub,
        blocks: &[String],
    ) -> (&'static str, String, Option<ScrubAct>) {
        let began = scrub_of(self.pool).and_then(|scan| scan.started);
        let ours = scrub.by_hand.is_none()
            && scrub.started.is_some_and(|ours| began.is_none_or(|at| at.plus(SAME) >= ours));
        if !ours {
            let message =
                "it runs, begun or resumed by somebody else: hostd lets it alone".to_owned();
            return ("running", message, None);
        }
        let why = if blocks.is_empty() {
            (!calendar::is_open(policy, self.local)).then(|| "outside its hours".to_owned())
        } else {
            Some(blocks.join(", "))
        };
        match why {
            None => ("running", "it runs".to_owned(), None),
            Some(_)
                if scrub
                    .failed
                    .as_ref()
                    .is_some_and(|(at, _)| !waited(self.world.now, *at, LAG)) =>
            {
                ("running", "it runs, and could not be paused".to_owned(), None)
            }
            Some(why) => ("paused", format!("it is being paused: {why}"), Some(ScrubAct::Pause)),
        }
    }

    fn paused(
        &self,
        scrub: &Scrub,
        wait: Option<String>,
    ) -> (&'static str, String, Option<ScrubAct>) {
        match (scrub.paused, self.claimed(), wait) {
            (_, Some(vm), _) => ("paused", format!("paused while the VM {} runs", vm.name), None),
            (None, None, _) => {
                let typed = &self.pool.name;
                let message = format!(
                    "paused, and not by hostd's schedule; `hostctl pool scrub start {typed}` lets \
                     it go on"
                );
                ("paused", message, None)
            }
            (Some(_), None, Some(why)) => ("paused", format!("paused: {why}"), None),
            (Some(_), None, None) => {
                ("running", "it is being resumed".to_owned(), Some(ScrubAct::Start))
            }
        }
    }
}
