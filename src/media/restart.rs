//! Watched services restarted: on request, and by their policy.
//!
//! By policy only what has failed or hangs, and only for as often as it allows:
//! what somebody has stopped stays stopped, what systemd restarts by itself is
//! left to it, and a service that does not come back is left alone and says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::engine::Engine;
use super::unit::Unit;
use crate::ask::view::{DoneView, ServiceView};
use crate::ask::{Code, Refusal};
use crate::base::{Severity, span, with_sources};
use crate::config::{RestartPolicy, Service, Trouble};
use crate::host::Host;
use crate::host::run::quoted;

/// How long systemd has to say how a unit is.
const SHORT: Duration = Duration::from_secs(1);

/// What is restarted for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Its unit.
    Unit(String),
    /// Its container, by its engine and id.
    Container(Engine, String),
    /// It has neither.
    Nothing,
}

impl From<&Service> for Target {
    fn from(service: &Service) -> Self {
        service.unit.clone().map_or(Self::Nothing, Self::Unit)
    }
}

/// All that is watched now, for those who want it restarted.
#[derive(Debug, Clone, Default)]
pub struct Targets(Arc<Mutex<BTreeMap<String, Target>>>);

impl Targets {
    /// These are watched now, and no others.
    pub fn are(&self, all: impl IntoIterator<Item = (String, Target)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all.into_iter().collect();
    }

    /// By the name of the service, or that of the container alone.
    pub fn find(&self, name: &str) -> Option<Target> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).or_else(|| all.get(&super::containers::service_name(name))).cloned()
    }
}

/// Restarts what stands behind the service `name`; `None` when no such service
/// is watched.
pub async fn service(host: &Host, name: &str, target: Option<Target>) -> Result<DoneView, Refusal> {
    match target {
        None => {
            let message = format!("no service {name} is watched");
            let hint = "`hostctl service list` has the names";
            Err(Refusal::new(Code::NotFound, message, hint))
        }
        Some(Target::Nothing) => {
            let message = format!("{name} has no unit that could be restarted");
            Err(Refusal::new(Code::Refused, message, "add `unit:` to it in host.yaml"))
        }
        Some(Target::Unit(unit)) => match host.units.restart_unit(&unit).await {
            Ok(()) => Ok(DoneView::changed(format!("{unit} was restarted"))),
            Err(error) => {
                let hint = format!("`journalctl -u {} -e`", quoted(unit.as_ref()));
                let message = format!("{name} was not restarted: {}", with_sources(&error));
                Err(Refusal::new(Code::Failed, message, hint))
            }
        },
        Some(Target::Container(engine, id)) => match engine.restart(host, &id).await {
            Ok(()) => Ok(DoneView::changed(format!("{name} was restarted"))),
            Err(error) => {
                let message = format!("{name} was not restarted: {}", with_sources(&error));
                let hint = format!("`{} logs {}`", engine.tool(), quoted(id.as_ref()));
                Err(Refusal::new(Code::Failed, message, hint))
            }
        },
    }
}

/// Restarts by policy.
#[derive(Default)]
pub struct Keeper {
    kept: BTreeMap<String, Kept>,
    jobs: JoinSet<(String, Result<(), String>)>,
}

/// What is remembered of one service.
#[derive(Debug, Default)]
struct Kept {
    /// Since when it has been in trouble.
    bad: Option<Instant>,
    /// When it was restarted, as far as the policy's time goes back.
    done: Vec<Instant>,
    /// Whether a restart is under way.
    busy: bool,
    /// Why the last one failed.
    failed: Option<String>,
    /// Whether it was told that it is left alone.
    told: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing, or not yet.
    Wait,
    /// It is restarted.
    Restart,
    /// It was restarted as often as it may be.
    LeftAlone,
}

impl Kept {
    fn judge(&mut self, policy: &RestartPolicy, trouble: bool, now: Instant) -> Verdict {
        self.done.retain(|at| now.saturating_duration_since(*at) < policy.within);
        if !trouble || self.busy {
            self.bad = None;
            return Verdict::Wait;
        }
        let since = *self.bad.get_or_insert(now);
        if now.saturating_duration_since(since) < policy.after {
            return Verdict::Wait;
        }
        if self.done.len() >= policy.at_most as usize {
            return Verdict::LeftAlone;
        }
        self.done.push(now);
        (self.bad, self.busy, self.failed) = (None, true, None);
        Verdict::Restart
    }
}

impl Keeper {
    /// Restarts what is due, and tells in the view what was done. Meant for
    /// every second; the restarts themselves go on beside it.
    pub async fn round<'a>(
        &mut self,
        host: &Host,
        services: impl Iterator<Item = &'a Service>,
        views: &mut [ServiceView],
    ) {
        while let Some(ended) = self.jobs.try_join_next() {
            let Ok((name, result)) = ended else { continue };
            if let Err(why) = &result {
                warn!("service {name}: the restart failed: {why}");
            }
            if let Some(kept) = self.kept.get_mut(&name) {
                (kept.busy, kept.failed) = (false, result.err());
            }
        }
        for service in services {
            let (Some(policy), Some(unit)) = (&service.restart, &service.unit) else { continue };
            let name = service.name.as_str();
            let Some(view) = views.iter_mut().find(|view| view.name == name) else { continue };
            let trouble = trouble(host, unit, view).await;
            let wanted = trouble.is_some_and(|trouble| policy.on.contains(&trouble));
            let kept = self.kept.entry(name.to_owned()).or_default();
            let verdict = kept.judge(policy, wanted, host.clock.instant());
            match verdict {
                Verdict::Wait => {}
                Verdict::Restart => {
                    let count = kept.done.len();
                    warn!("service {name}: restarting {unit} ({count} of {})", policy.at_most);
                    let (host, name, unit) = (host.clone(), name.to_owned(), unit.clone());
                    self.jobs.spawn(async move {
                        let done = host.units.restart_unit(&unit).await;
                        (name, done.map_err(|error| with_sources(&error)))
                    });
                }
                Verdict::LeftAlone if kept.told => {}
                Verdict::LeftAlone => warn!("service {name}: {unit} is left alone now"),
            }
            kept.told = verdict == Verdict::LeftAlone;
            if view.health == Severity::Ok && kept.failed.take().is_some() {
                info!("service {name}: it works again");
            }
            tell(view, kept, policy);
        }
    }
}

/// What is wrong with it that a restart may mend. A unit that systemd restarts
/// by itself, and one that was stopped in good order, are not in trouble.
async fn trouble(host: &Host, unit: &str, view: &ServiceView) -> Option<Trouble> {
    if view.health != Severity::Critical {
        return None;
    }
    if view.hung {
        return Some(Trouble::Hung);
    }
    if view.layer != "unit" {
        return None;
    }
    let state = timeout(SHORT, host.units.state(unit)).await.ok()?.ok()?;
    has_failed(&state).then_some(Trouble::Failed)
}

fn has_failed(unit: &Unit) -> bool {
    match unit.active.as_str() {
        "failed" => true,
        "inactive" => !matches!(unit.result.as_str(), "" | "success"),
        _ => false,
    }
}

/// Says in the view what was done.
fn tell(view: &mut ServiceView, kept: &Kept, policy: &RestartPolicy) {
    view.restarted = kept.done.len() as u64;
    let (count, within) = (kept.done.len(), span::show(policy.within));
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let said = if kept.told {
        view.health = Severity::Critical;
        format!("it was restarted {times} within {within} and is left alone now")
    } else if kept.busy {
        format!("hostd is restarting it ({count} of {} within {within})", policy.at_most)
    } else if let Some(why) = &kept.failed {
        format!("hostd could not restart it: {why}")
    } else if count > 0 {
        format!("hostd has restarted it {times} within {within}")
    } else {
        return;
    };
    view.message = format!("{}; {said}", view.message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::view::ServicesView;
    use crate::config::Probe;
    use crate::host::fake::FakeHost;
    use crate::host::units::UnitState;
    use crate::media::Observer;

    const UNIT: &str = "smbd.service";

    fn service(on: &[Trouble]) -> Service {
        let policy = RestartPolicy { on: on.to_vec(), ..RestartPolicy::default() };
        Service {
            name: "smb".parse().unwrap(),
            unit: Some(UNIT.to_owned()),
            probe: Probe::None,
            path: None,
            mount: None,
            interval: Duration::from_secs(1),
            deadline: Duration::from_secs(1),
            restart: Some(policy),
        }
    }

    struct Life {
        _dir: tempfile::TempDir,
        fake: FakeHost,
        observer: Observer,
        keeper: Keeper,
    }

    impl Life {
        fn new(service: Service) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let fake = FakeHost::new(dir.path());
            fake.units.with(|systemd| systemd.there = true);
            fake.units.becomes(UNIT, UnitState::new("loaded", "active", "running"));
            let observer = Observer::new(fake.host(), vec![service]);
            Self { _dir: dir, fake, observer, keeper: Keeper::default() }
        }

        fn dies(&self, active: &str, result: &str) {
            let state = UnitState::new("loaded", active, "dead");
            self.fake.units.becomes(UNIT, UnitState { result: result.to_owned(), ..state });
        }

        /// Some seconds later.
        async fn after(&mut self, seconds: u64) -> ServiceView {
            self.fake.clock.advance(Duration::from_secs(seconds));
            let host = self.fake.host();
            let ServicesView { mut services } = self.observer.round().await;
            self.keeper.round(&host, self.observer.services(), &mut services).await;
            // What was begun is let end; it is heard in the next round.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            services.remove(0)
        }

        fn restarts(&self) -> usize {
            self.fake.units.with(|systemd| systemd.jobs.len())
        }
    }

    #[tokio::test]
    async fn killed_restarted_thrice_and_given_up() {
        let mut life = Life::new(service(&[Trouble::Failed]));
        assert_eq!(life.after(1).await.health, Severity::Ok);
        for round in 1..=3 {
            life.dies("failed", "signal");
            assert_eq!(life.after(2).await.health, Severity::Critical);
            assert_eq!(life.after(20).await.restarted, round - 1);
            let view = life.after(11).await;
            assert_eq!((view.restarted, life.restarts() as u64), (round, round), "{view:?}");
            assert!(view.message.contains("hostd is restarting it"), "{view:?}");
            let view = life.after(2).await;
            assert_eq!(view.health, Severity::Ok);
            assert!(view.message.contains("hostd has restarted it "), "{view:?}");
        }
        life.dies("failed", "signal");
        life.after(2).await;
        let view = life.after(31).await;
        assert_eq!(
            view.message,
            "smbd.service has failed (signal); it was restarted 3 times within 1h 0m and is \
             left alone now"
        );
        assert_eq!((view.health, life.restarts()), (Severity::Critical, 3));
        // An hour after the first, it may be tried again.
        life.after(3600).await;
        assert_eq!(life.restarts(), 4);
    }

    #[tokio::test]
    async fn stopped_by_hand_or_restarted_by_systemd_is_left_alone() {
        let mut life = Life::new(service(&[Trouble::Failed, Trouble::Hung]));
        life.dies("inactive", "success");
        for _ in 0..5 {
            assert_eq!(life.after(60).await.restarted, 0);
        }
        life.dies("activating", "signal");
        for _ in 0..5 {
            assert_eq!(life.after(60).await.restarted, 0);
        }
        assert_eq!(life.restarts(), 0);
        life.dies("inactive", "oom-kill");
        life.after(60).await;
        life.after(60).await;
        assert_eq!(life.restarts(), 1);
    }

    #[tokio::test]
    async fn a_restart_that_fails_is_told() {
        let mut life = Life::new(service(&[Trouble::Failed]));
        life.fake.units.with(|systemd| systemd.fails.push(format!("restart {UNIT}")));
        life.dies("failed", "exit-code");
        life.after(1).await;
        life.after(31).await;
        let view = life.after(1).await;
        assert!(view.message.contains("hostd could not restart it: systemd could not"), "{view:?}");
    }

    #[test]
    fn who_hangs_is_restarted_only_when_the_policy_says_so() {
        let (mut kept, start) = (Kept::default(), Instant::now());
        let policy = RestartPolicy::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(kept.judge(&policy, true, at(0)), Verdict::Wait);
        // It has come back in between.
        assert_eq!(kept.judge(&policy, false, at(20)), Verdict::Wait);
        assert_eq!(kept.judge(&policy, true, at(31)), Verdict::Wait);
        assert_eq!(kept.judge(&policy, true, at(61)), Verdict::Restart);
        assert_eq!(kept.judge(&policy, true, at(62)), Verdict::Wait, "under way");
    }

    #[tokio::test]
    async fn by_hand_units_containers_and_what_has_neither() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let host = fake.host();
        let targets = Targets::default();
        targets.are([
            ("smb".to_owned(), Target::Unit(UNIT.to_owned())),
            ("files".to_owned(), Target::Nothing),
            ("container plex".to_owned(), Target::Container(Engine::Docker, "c0ffee".to_owned())),
        ]);
        let by_hand = async |name: &str| service_(&host, name, &targets).await;
        assert_eq!(by_hand("none").await.unwrap_err().code, Code::NotFound);
        assert_eq!(by_hand("files").await.unwrap_err().code, Code::Refused);
        // There is no systemd, and no Docker.
        assert_eq!(by_hand("smb").await.unwrap_err().code, Code::Failed);
        assert_eq!(by_hand("plex").await.unwrap_err().code, Code::Failed);
        fake.units.with(|systemd| systemd.there = true);
        assert_eq!(by_hand("smb").await.unwrap().message, "smbd.service was restarted");
    }

    async fn service_(host: &Host, name: &str, targets: &Targets) -> Result<DoneView, Refusal> {
        super::service(host, name, targets.find(name)).await
    }
}
