//! What hostd asks of systemd: scopes for processes, properties and jobs of
//! units. [`Units`] is the contract; the real one is in [`super::systemd`],
//! [`FakeUnits`] is for tests and for machines without systemd.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use crate::base::Timestamp;

/// Why systemd did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnitError {
    /// There is no systemd, or no way to it: `why` is for people.
    #[error("systemd cannot be asked: {0}")]
    Absent(String),
    /// It said no.
    #[error("systemd does not {what}")]
    Refused {
        /// What was asked, as in "start smbd.service".
        what: String,
        /// What it said.
        source: zbus::Error,
    },
    /// It took the job, and the job failed.
    #[error("systemd could not {what}: the job's result is `{result}`")]
    Job {
        /// What was asked.
        what: String,
        /// `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
        result: String,
    },
    /// It did not finish in time; it may do so yet.
    #[error("systemd did not {what} within {within:?}")]
    Deadline {
        /// What was asked.
        what: String,
        /// What it was given.
        within: Duration,
    },
}

impl UnitError {
    /// Whether there is no systemd to ask, so that one goes on without.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent(_))
    }
}

/// What a unit is to have; set until the next boot. Names and meanings are
/// those of `systemd.resource-control(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// `CPUWeight=`, 1 to 10000.
    CpuWeight(u64),
    /// `IOWeight=`, 1 to 10000.
    IoWeight(u64),
    /// `MemoryMax=` in bytes.
    MemoryMax(u64),
    /// `AllowedCPUs=`; none is all of them, as it is when nobody has set it.
    AllowedCpus(Vec<u32>),
    /// `DeviceAllow=`: a node or `char-…`, and any of `r`, `w`, `m`. Adds to
    /// what is allowed already.
    DeviceAllow(Vec<(String, String)>),
}

/// A group of processes that were not started by systemd.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// `hostd-vm-gaming.scope`.
    pub name: String,
    /// `hostd-vms.slice`.
    pub slice: String,
    /// For `systemctl status`.
    pub description: String,
    /// Its share of the machine.
    pub properties: Vec<Property>,
    /// The device nodes that it may open (`DevicePolicy=closed`, which leaves
    /// `/dev/null` and its like); any when absent.
    pub devices: Option<Vec<PathBuf>>,
}

/// What systemd says of a unit, in its own words; empty where not said. The
/// names are those of `org.freedesktop.systemd1(5)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitState {
    /// `LoadState`: `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `ActiveState`: `active`, `failed`, …
    pub active: String,
    /// `SubState`: `running`, `auto-restart`, …
    pub sub: String,
    /// `Result` of the last run: `success`, `exit-code`, `signal`, …
    pub result: String,
    /// `NRestarts` since it was started by hand.
    pub restarts: Option<u64>,
    /// `MainPID`, while there is one.
    pub pid: Option<u32>,
    /// `ExecMainStatus`: the exit code or signal of the last main process.
    pub status: Option<i32>,
    /// `StateChangeTimestamp`.
    pub since: Option<Timestamp>,
}

impl UnitState {
    /// One in these three states, and nothing else known of it.
    pub fn new(load: &str, active: &str, sub: &str) -> Self {
        let own = str::to_owned;
        Self { load: own(load), active: own(active), sub: own(sub), ..Self::default() }
    }
}

/// The names of units whose state has changed, as it happens. It ends when
/// systemd or the bus begins anew: then anything may have changed.
pub type Changes = Pin<Box<dyn Stream<Item = String> + Send>>;

/// Something that systemd is doing.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, UnitError>> + Send + 'a>>;

/// Who knows the units.
pub trait Units: Send + Sync {
    /// Puts processes into a scope of their own; returns when they are in it.
    fn scope<'a>(&'a self, scope: &'a Scope, pids: &'a [u32]) -> Doing<'a, ()>;

    /// Sets properties of a unit that exists, until the next boot.
    fn set_properties<'a>(&'a self, unit: &'a str, properties: &'a [Property]) -> Doing<'a, ()>;

    /// The processors that a unit was restricted to; none is all of them.
    fn allowed_cpus<'a>(&'a self, unit: &'a str) -> Doing<'a, Vec<u32>>;

    /// Whether the unit runs: `active`, `reloading` or on its way there. One
    /// that does not exist does not run.
    fn is_active<'a>(&'a self, unit: &'a str) -> Doing<'a, bool>;

    /// Starts a unit; returns when it has started or failed to.
    fn start_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()>;

    /// Stops a unit; returns when it has.
    fn stop_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()>;

    /// Restarts a unit, or starts it; returns when it runs or has failed to. A
    /// failure from before is forgotten first, and with it the limit of starts
    /// (`StartLimitBurst=`) that would be in the way.
    fn restart_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()> {
        nobody(unit)
    }

    /// What is the case with a unit; one that does not exist is `not-found`.
    fn state<'a>(&'a self, unit: &'a str) -> Doing<'a, UnitState> {
        nobody(unit)
    }

    /// Those of these units that are loaded, without loading any; only the
    /// first three fields are filled.
    fn loaded<'a>(&'a self, units: &'a [&'a str]) -> Doing<'a, Vec<(String, UnitState)>> {
        nobody(units.first().unwrap_or(&"units"))
    }

    /// Whether a unit is there to be started by the next boot: `enabled` and
    /// its like. `static` ones, which others start, are not.
    fn is_enabled<'a>(&'a self, unit: &'a str) -> Doing<'a, bool> {
        nobody(unit)
    }

    /// The units of the whole machine that have failed, by name.
    fn failed(&self) -> Doing<'_, Vec<String>> {
        nobody("failed units")
    }

    /// Tells the changes of these units from now on.
    fn changes<'a>(&'a self, units: &'a [String]) -> Doing<'a, Changes> {
        nobody(units.first().map_or("units", String::as_str))
    }
}

/// The answer of who cannot be asked that.
fn nobody<'a, T: Send + 'a>(about: &str) -> Doing<'a, T> {
    let why = format!("nobody here knows about {about}");
    Box::pin(std::future::ready(Err(UnitError::Absent(why))))
}

/// A systemd made of values. By default there is none.
#[derive(Debug, Default)]
pub struct FakeUnits {
    state: Mutex<FakeSystemd>,
}

/// What the fake systemd knows, and how it behaves.
#[derive(Debug, Default)]
pub struct FakeSystemd {
    /// Whether it is there at all.
    pub there: bool,
    /// Units that run.
    pub active: Vec<String>,
    /// Scopes and who is in them, in the order in which they were made.
    pub scopes: Vec<(Scope, Vec<u32>)>,
    /// Properties that were set, oldest first.
    pub set: BTreeMap<String, Vec<Property>>,
    /// Jobs in the order they were asked for: "start smbd.service".
    pub jobs: Vec<String>,
    /// Jobs that fail, in the same words.
    pub fails: Vec<String>,
    /// What is said of units; of others it goes by `active`.
    pub states: BTreeMap<String, UnitState>,
    /// Units that are started by the next boot.
    pub enabled: Vec<String>,
    listeners: Vec<(Vec<String>, mpsc::UnboundedSender<String>)>,
}

impl FakeSystemd {
    fn state(&self, unit: &str) -> UnitState {
        let is = |name: &String| name == unit;
        match self.states.get(unit) {
            Some(state) => state.clone(),
            None if self.active.iter().any(is) => UnitState::new("loaded", "active", "running"),
            None => UnitState::new("not-found", "inactive", "dead"),
        }
    }

    fn tell(&mut self, unit: &str) {
        self.listeners.retain(|(units, tell)| {
            !units.iter().any(|one| one == unit) || tell.send(unit.to_owned()).is_ok()
        });
    }
}

impl FakeUnits {
    /// A systemd that is there, with these units running.
    pub fn with_active<'a>(units: impl IntoIterator<Item = &'a str>) -> Self {
        let fake = Self::default();
        fake.with(|state| {
            state.there = true;
            state.active = units.into_iter().map(str::to_owned).collect();
        });
        fake
    }

    /// Looks at it, or changes what it will do.
    pub fn with<T>(&self, look: impl FnOnce(&mut FakeSystemd) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A unit changes, and who listens is told.
    pub fn becomes(&self, unit: &str, state: UnitState) {
        self.with(|systemd| {
            systemd.states.insert(unit.to_owned(), state);
            systemd.tell(unit);
        });
    }

    /// systemd begins anew: who listens hears the end.
    pub fn begins_anew(&self) {
        self.with(|systemd| systemd.listeners.clear());
    }

    fn known<T>(&self, look: impl FnOnce(&mut FakeSystemd) -> T) -> Result<T, UnitError> {
        self.with(|state| {
            let absent = || UnitError::Absent("this machine is made of values".to_owned());
            if state.there { Ok(look(state)) } else { Err(absent()) }
        })
    }

    fn job<T>(
        &self,
        what: String,
        done: impl FnOnce(&mut FakeSystemd) -> T,
    ) -> Result<T, UnitError> {
        self.with(|state| {
            if !state.there {
                return Err(UnitError::Absent("this machine is made of values".to_owned()));
            }
            state.jobs.push(what.clone());
            if state.fails.contains(&what) {
                return Err(UnitError::Job { what, result: "failed".to_owned() });
            }
            Ok(done(state))
        })
    }
}

impl Units for FakeUnits {
    fn scope<'a>(&'a self, scope: &'a Scope, pids: &'a [u32]) -> Doing<'a, ()> {
        Box::pin(async move {
            self.job(format!("make {}", scope.name), |state| {
                state.scopes.push((scope.clone(), pids.to_vec()));
                state.active.push(scope.name.clone());
            })
        })
    }

    fn set_properties<'a>(&'a self, unit: &'a str, properties: &'a [Property]) -> Doing<'a, ()> {
        Box::pin(async move {
            self.job(format!("set properties of {unit}"), |state| {
                let set = state.set.entry(unit.to_owned()).or_default();
                set.extend_from_slice(properties);
            })
        })
    }

    fn allowed_cpus<'a>(&'a self, unit: &'a str) -> Doing<'a, Vec<u32>> {
        Box::pin(async move {
            self.job(format!("look at {unit}"), |state| {
                let set = state.set.get(unit).into_iter().flatten().rev();
                let cpus = set.into_iter().find_map(|property| match property {
                    Property::AllowedCpus(cpus) => Some(cpus.clone()),
                    Property::CpuWeight(_)
                    | Property::IoWeight(_)
                    | Property::MemoryMax(_)
                    | Property::DeviceAllow(_) => None,
                });
                cpus.unwrap_or_default()
            })
        })
    }

    fn is_active<'a>(&'a self, unit: &'a str) -> Doing<'a, bool> {
        Box::pin(async move {
            let what = format!("look at {unit}");
            self.job(what, |state| state.active.iter().any(|active| active == unit))
        })
    }

    fn start_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()> {
        Box::pin(async move {
            self.job(format!("start {unit}"), |state| state.active.push(unit.to_owned()))
        })
    }

    fn stop_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()> {
        Box::pin(async move {
            self.job(format!("stop {unit}"), |state| state.active.retain(|active| active != unit))
        })
    }

    fn restart_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()> {
        Box::pin(async move {
            self.job(format!("restart {unit}"), |systemd| {
                let state = UnitState::new("loaded", "active", "running");
                systemd.states.insert(unit.to_owned(), state);
                systemd.tell(unit);
            })
        })
    }

    fn state<'a>(&'a self, unit: &'a str) -> Doing<'a, UnitState> {
        Box::pin(async move { self.known(|systemd| systemd.state(unit)) })
    }

    fn loaded<'a>(&'a self, units: &'a [&'a str]) -> Doing<'a, Vec<(String, UnitState)>> {
        Box::pin(async move {
            self.known(|systemd| {
                let all = units.iter().map(|unit| ((*unit).to_owned(), systemd.state(unit)));
                all.filter(|(_, state)| state.load == "loaded").collect()
            })
        })
    }

    fn is_enabled<'a>(&'a self, unit: &'a str) -> Doing<'a, bool> {
        Box::pin(async move { self.known(|systemd| systemd.enabled.iter().any(|it| it == unit)) })
    }

    fn failed(&self) -> Doing<'_, Vec<String>> {
        Box::pin(async move {
            self.known(|systemd| {
                let failed = systemd.states.iter().filter(|(_, state)| state.active == "failed");
                failed.map(|(name, _)| name.clone()).collect()
            })
        })
    }

    fn changes<'a>(&'a self, units: &'a [String]) -> Doing<'a, Changes> {
        Box::pin(async move {
            self.known(|systemd| {
                let (tell, hear) = mpsc::unbounded_channel();
                systemd.listeners.push((units.to_vec(), tell));
                let next = |mut hear: mpsc::UnboundedReceiver<String>| async move {
                    Some((hear.recv().await?, hear))
                };
                stream::unfold(hear, next).boxed() as Changes
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_what_it_is_told() {
        let units = FakeUnits::with_active(["smbd.service"]);
        assert!(units.is_active("smbd.service").await.unwrap());
        units.stop_unit("smbd.service").await.unwrap();
        assert!(!units.is_active("smbd.service").await.unwrap());
        units.with(|state| state.fails.push("start smbd.service".to_owned()));
        let error = units.start_unit("smbd.service").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "systemd could not start smbd.service: the job's result is `failed`"
        );
        let only = |cpus: &[u32]| [Property::AllowedCpus(cpus.to_vec())];
        assert_eq!(units.allowed_cpus("user.slice").await.unwrap(), [0; 0]);
        units.set_properties("user.slice", &only(&[0, 1])).await.unwrap();
        assert_eq!(units.allowed_cpus("user.slice").await.unwrap(), [0, 1]);
        units.set_properties("user.slice", &only(&[])).await.unwrap();
        assert_eq!(units.allowed_cpus("user.slice").await.unwrap(), [0; 0]);
    }

    #[tokio::test]
    async fn the_fake_tells_changes_until_it_begins_anew() {
        let units = FakeUnits::with_active(["smbd.service"]);
        let mut changes = units.changes(&["smbd.service".to_owned()]).await.unwrap();
        let dead = UnitState::new("loaded", "failed", "failed");
        units.becomes("other.service", dead.clone());
        units.becomes("smbd.service", dead);
        assert_eq!(changes.next().await.as_deref(), Some("smbd.service"));
        assert_eq!(units.failed().await.unwrap(), ["other.service", "smbd.service"]);
        units.restart_unit("smbd.service").await.unwrap();
        assert_eq!(changes.next().await.as_deref(), Some("smbd.service"));
        let loaded = units.loaded(&["smbd.service", "none.service"]).await.unwrap();
        let running = UnitState::new("loaded", "active", "running");
        assert_eq!(loaded, [("smbd.service".to_owned(), running)]);
        units.begins_anew();
        assert_eq!(changes.next().await, None);
    }

    #[tokio::test]
    async fn a_machine_may_be_without_systemd() {
        let units = FakeUnits::default();
        let error = units.start_unit("x.service").await.unwrap_err();
        assert!(error.is_absent(), "{error}");
        assert!(units.state("x.service").await.unwrap_err().is_absent());
    }
}
