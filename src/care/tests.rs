//! A machine of values on which years pass: pools that are scrubbed, datasets
//! that have snapshots, a clock that is changed.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::*;
use crate::ask::view::{
    PerformanceView, PoolView, PoolsView, ScanView, ServiceView, ServicesView, VmState, VmView,
};
use crate::base::Bytes;
use crate::config::{Care, Days, Keep, Performance, ScrubPolicy, SnapshotPolicy, Vm};
use crate::state::Fact;

mod scrubs;
mod snapshots;

/// Central Europe, with its changes of the clock.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

/// A moment there: `2026-03-29T02:30`.
fn at(local: &str) -> Timestamp {
    let civil: jiff::civil::DateTime = local.parse().unwrap();
    Timestamp::from_secs(berlin().to_timestamp(civil).unwrap().as_second())
}

fn time(text: &str) -> jiff::civil::Time {
    text.parse().unwrap()
}

fn monthly() -> ScrubPolicy {
    ScrubPolicy {
        pool: None,
        every: Days::First(jiff::civil::Weekday::Sunday),
        at: time("02:00"),
        until: None,
        not_while_vm: true,
        not_while_plex: true,
        even_if_elsewhere: false,
    }
}

fn hourly(dataset: &str) -> SnapshotPolicy {
    SnapshotPolicy {
        dataset: dataset.to_owned(),
        recursive: true,
        keep: Keep { hourly: 24, daily: 7, weekly: 4, monthly: 3 },
        even_if_elsewhere: false,
    }
}

fn scan(function: &str, state: &str, started: Timestamp) -> ScanView {
    ScanView {
        function: function.to_owned(),
        state: state.to_owned(),
        started: Some(started),
        ..ScanView::default()
    }
}

/// The machine.
struct Bench {
    config: Config,
    snapshot: Snapshot,
    others: Vec<Other>,
    zone: TimeZone,
    now: Timestamp,
    booted: Timestamp,
    memory: Memory,
    pools: Vec<PoolView>,
    /// Seconds that a scrub has still to run, by pool.
    left: Vec<i64>,
    /// Everything that was done to scrubs, with its time.
    log: Vec<(Timestamp, String, ScrubAct)>,
}

impl Bench {
    fn new(pools: &[&str], care: Care, now: Timestamp) -> Self {
        let pool = |name: &&str| PoolView {
            name: (*name).to_owned(),
            state: "ONLINE".to_owned(),
            ..PoolView::default()
        };
        let mut snapshot = Snapshot::new("nas".to_owned(), now, 10.0, false);
        snapshot.apply(Fact::Services(ServicesView::default()), now);
        Self {
            config: Config { care, ..Config::default() },
            snapshot,
            others: Vec::new(),
            zone: berlin(),
            now,
            booted: Timestamp::from_secs(now.secs() - 86_400),
            memory: Memory::default(),
            pools: pools.iter().map(pool).collect(),
            left: vec![0; pools.len()],
            log: Vec::new(),
        }
    }

    fn scrub(pools: &[&str], policy: ScrubPolicy, now: &str) -> Self {
        let care = Care { scrubs: vec![policy], ..Care::default() };
        Self::new(pools, care, at(now))
    }

    fn decide(&mut self) -> (CareView, Vec<Act>) {
        let view = PoolsView { pools: self.pools.clone(), ..PoolsView::default() };
        self.snapshot.apply(Fact::Pools(view), self.now);
        let world = World {
            config: &self.config,
            snapshot: &self.snapshot,
            others: &self.others,
            zone: &self.zone,
            now: self.now,
            up: self.now.since(self.booted),
        };
        decide(&world, &mut self.memory)
    }

    /// Decides, and does to the pools what comes of it.
    fn round(&mut self) -> CareView {
        let (view, acts) = self.decide();
        for act in acts {
            if let Act::Scrub { pool, act } = act {
                self.act(&pool, act);
                self.memory.scrubbed(&pool, act, Ok(()), self.now);
                self.log.push((self.now, pool, act));
            }
        }
        view
    }

    /// What ZFS does.
    fn act(&mut self, pool: &str, act: ScrubAct) {
        let i = self.pools.iter().position(|one| one.name == pool).unwrap();
        let (pool, now) = (&mut self.pools[i], self.now);
        let is =
            pool.scan.as_ref().filter(|s| s.function == "scrub").map_or("", |s| s.state.as_str());
        match (act, is) {
            (ScrubAct::Start, "paused") => pool.scan.as_mut().unwrap().state = "scanning".into(),
            (ScrubAct::Start, "scanning") => {}
            (ScrubAct::Start, _) => {
                assert!(pool.scan.as_ref().is_none_or(|s| s.state != "scanning"), "it resilvers");
                pool.scan = Some(scan("scrub", "scanning", now));
                self.left[i] = 9 * 3600;
            }
            (ScrubAct::Pause, "scanning") => pool.scan.as_mut().unwrap().state = "paused".into(),
            (ScrubAct::Pause, _) => {}
            (ScrubAct::Stop, _) => {
                let ended = Some(now);
                pool.scan =
                    pool.scan.clone().map(|s| ScanView { state: "canceled".into(), ended, ..s });
            }
        }
    }

    /// Time goes by.
    fn pass(&mut self, seconds: i64) {
        self.now = self.now.plus(Duration::from_secs(seconds.unsigned_abs()));
        for (pool, left) in self.pools.iter_mut().zip(&mut self.left) {
            if let Some(scan) =
                pool.scan.as_mut().filter(|s| s.state == "scanning" && s.function == "scrub")
            {
                *left -= seconds;
                if *left <= 0 {
                    (scan.state, scan.ended) = ("finished".into(), Some(self.now));
                }
            }
        }
    }

    /// The host starts again, hostd with it.
    fn reboot(&mut self) {
        self.booted = self.now;
        self.memory = serde_json::from_str(&serde_json::to_string(&self.memory).unwrap()).unwrap();
    }

    fn vm(&mut self, state: VmState) {
        let view = VmView::new("gaming".parse().unwrap(), state, self.now, "asked");
        self.snapshot.apply(Fact::Vm(Box::new(view)), self.now);
    }

    /// A VM with a card, or with what `performance` does.
    fn gaming(&mut self, performance: Option<Performance>) {
        let mut vm = Vm::plain("gaming".parse().unwrap(), Bytes(1 << 30));
        if performance.is_none() {
            vm.gpu = Some(crate::config::GpuRef::Name("radeon".parse().unwrap()));
        }
        vm.performance = performance;
        self.config.vms = vec![vm];
    }

    fn plex(&mut self, sessions: Option<u64>) {
        let plex = ServiceView {
            name: "plex".to_owned(),
            kind: "plex".to_owned(),
            sessions,
            ..ServiceView::default()
        };
        self.snapshot.apply(Fact::Services(ServicesView { services: vec![plex] }), self.now);
    }

    /// Some minutes, in which nothing else happens; the last view.
    fn minutes(&mut self, minutes: i64) -> JobView {
        let mut view = self.round();
        for _ in 0..minutes {
            self.pass(60);
            view = self.round();
        }
        view.jobs.remove(0)
    }

    fn acts(&mut self) -> Vec<ScrubAct> {
        self.log.drain(..).map(|(_, _, act)| act).collect()
    }
}
