//! Who is asked when: one disk at a time, spread over the interval.
//!
//! A disk that the kernel has put to sleep is not touched. A spinning disk that
//! nobody has used since the last time is asked less often, so that our
//! questions do not keep it from falling asleep. A child that hangs in the
//! kernel keeps its own disk from being asked again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::find::{self, Disk, Transport};
use super::judge::{self, Facts, Standing};
use super::memory::{Memory, Record};
use super::read::{self, Answer};
use crate::ask::view::{DiskView, DisksView};
use crate::base::{Severity, Timestamp};
use crate::config;
use crate::host::Host;

/// How often the disks are enumerated when the kernel says nothing.
const LOOK: Duration = Duration::from_secs(60);
/// The least pause between two children.
const PAUSE: Duration = Duration::from_secs(2);
/// A disk that nobody uses is asked after this many intervals.
const IDLE: u32 = 6;
/// Without `smartctl`, or without rights, this long nothing is tried.
const BARRED: Duration = Duration::from_secs(600);
/// A child that cannot be killed keeps us from asking its disk again for this
/// long, or until one such child has ended.
const HOLD: Duration = Duration::from_secs(3600);
/// With this many such children nothing more is started.
const MAX_STUCK: usize = 8;

/// Watches all disks of a machine.
pub struct Observer {
    host: Host,
    config: config::Disks,
    disks: Vec<Disk>,
    watched: BTreeMap<String, Watched>,
    memory: Memory,
    /// Whether the memory is written.
    keeps: bool,
    looked: Option<Instant>,
    /// Why no disk can be asked, and until when that is believed.
    barred: Option<(String, Instant)>,
    /// Why the disks cannot be enumerated.
    blind: Option<String>,
    /// What is wrong with the memory.
    forgets: Option<String>,
}

struct Watched {
    /// Whose past it has: another disk may come under the same name.
    key: String,
    standing: Standing,
    read: Option<Timestamp>,
    temperature: Option<f64>,
    due: Instant,
    /// Not asked before.
    fresh: bool,
    traffic: Option<(u64, u64)>,
    /// When it was last asked.
    asked: Option<Instant>,
    hot: bool,
    /// How many children were stuck when ours was, and until when to wait.
    held: Option<(usize, Instant)>,
}

/// What a disk's past is kept under.
fn key(disk: &Disk) -> String {
    match (disk.serial.as_str(), disk.wwn.as_str()) {
        ("", "") => format!("{UNNAMED}{}", disk.name),
        ("", wwn) => wwn.to_owned(),
        (serial, _) => serial.to_owned(),
    }
}

/// Begins the key of a disk that has no name of its own; such are not kept.
const UNNAMED: &str = "\u{0}";

impl Observer {
    /// Of the disks of `host`; only its memory is read yet.
    pub fn new(host: Host, config: config::Disks) -> Self {
        let (memory, forgets) = Memory::load(&host.state);
        Self {
            host,
            config,
            disks: Vec::new(),
            watched: BTreeMap::new(),
            memory,
            keeps: true,
            looked: None,
            barred: None,
            blind: None,
            forgets,
        }
    }

    /// One that writes nothing: for a look without a daemon.
    pub fn reading(host: Host, config: config::Disks) -> Self {
        Self { keeps: false, ..Self::new(host, config) }
    }

    /// A disk has come or gone: the next round enumerates them.
    pub fn poke(&mut self) {
        self.looked = None;
    }

    /// Why no disk can be asked.
    pub fn barred(&self) -> Option<&str> {
        self.barred.as_ref().map(|(why, _)| why.as_str())
    }

    /// How long nothing is to be done.
    pub fn pause(&self) -> Duration {
        let now = self.host.clock.instant();
        let look = self.looked.map_or(now, |looked| looked + LOOK);
        let due = self.asked_disks().map(|watched| watched.due).min();
        let due = match &self.barred {
            Some((_, until)) => due.map(|due| due.max(*until)),
            None => due,
        };
        due.map_or(look, |due| due.min(look)).saturating_duration_since(now).max(PAUSE)
    }

    /// Enumerates when that is due, and asks at most one disk. Infallible: what
    /// cannot be read is a finding or a note. Takes at most half a minute.
    pub async fn round(&mut self) -> DisksView {
        self.look();
        if let Some(at) = self.next() {
            self.ask(at).await;
        }
        self.view()
    }

    /// Asks every disk once: for a single look without a daemon.
    pub async fn settled(&mut self) -> DisksView {
        self.look();
        for at in 0..self.disks.len() {
            if self.may_ask(at) {
                self.ask(at).await;
            }
        }
        self.view()
    }

    fn asked_disks(&self) -> impl Iterator<Item = &Watched> {
        self.watched.values().filter(|watched| {
            !matches!(watched.standing, Standing::Ignored) && watched.held.is_none()
        })
    }

    fn look(&mut self) {
        let now = self.host.clock.instant();
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK) {
            return;
        }
        self.looked = Some(now);
        match find::find(&self.host.sys) {
            Ok(disks) => {
                self.disks = disks;
                self.blind = None;
            }
            Err(error) => self.blind = Some(format!("disks cannot be listed: {}", error.in_full())),
        }
        let disks = &self.disks;
        self.watched.retain(|name, watched| {
            disks.iter().any(|disk| disk.name == *name && key(disk) == watched.key)
        });
        for disk in disks {
            if self.watched.contains_key(&disk.name) {
                continue;
            }
            let key = key(disk);
            let known = self.memory.disks.get(&key);
            let ignored = self.config.ignore.iter().any(|name| {
                !name.is_empty() && [&disk.name, &disk.serial, &disk.wwn].contains(&name)
            });
            let standing = if ignored {
                Standing::Ignored
            } else if disk.transport == Transport::Virtio {
                Standing::NotSupported("a virtual disk has no SMART".to_owned())
            } else {
                Standing::New
            };
            let watched = Watched {
                standing,
                read: known.map(|record| Timestamp::from_secs(record.seen)),
                temperature: None,
                due: now,
                fresh: true,
                traffic: None,
                asked: None,
                hot: false,
                held: None,
                key,
            };
            self.watched.insert(disk.name.clone(), watched);
        }
    }

    /// The disk that has waited longest.
    fn next(&mut self) -> Option<usize> {
        let now = self.host.clock.instant();
        let due = |at: &usize| {
            let disk = self.disks.get(*at)?;
            Some(self.watched.get(&disk.name)?.due)
        };
        let mut waiting: Vec<(Instant, usize)> =
            (0..self.disks.len()).filter_map(|at| Some((due(&at)?, at))).collect();
        waiting.retain(|(due, _)| now >= *due);
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, at)| at).find(|at| self.may_ask(*at))
    }

    /// Whether there is no reason to leave it alone now.
    fn may_ask(&mut self, at: usize) -> bool {
        let now = self.host.clock.instant();
        if self.barred.as_ref().is_some_and(|(_, until)| now < *until) {
            return false;
        }
        let stuck = self.host.runner.stuck();
        let Some(disk) = self.disks.get(at) else { return false };
        let Some(watched) = self.watched.get_mut(&disk.name) else { return false };
        if watched.held.is_some_and(|(count, until)| stuck < count || now >= until) {
            watched.held = None;
        }
        if stuck >= MAX_STUCK
            || watched.held.is_some()
            || watched.standing == Standing::Ignored
            || disk.transport == Transport::Virtio
        {
            watched.due = now + self.config.interval;
            return false;
        }
        // Files of another machine: its disks are not here to be asked.
        if !self.host.sys.exists(format!("/dev/{}", disk.name)) {
            watched.due = now + self.config.interval;
            return false;
        }
        if find::is_suspended(&self.host.sys, &disk.name) {
            watched.standing = Standing::Asleep;
            watched.temperature = None;
            watched.due = now + self.config.interval;
            return false;
        }
        let traffic = find::traffic(&self.host.sys, &disk.name);
        let idle = traffic.is_some() && traffic == watched.traffic;
        let old = watched.asked.is_none_or(|asked| now >= asked + self.config.interval * IDLE);
        if idle && disk.rotational == Some(true) && !old {
            watched.due = now + self.config.interval;
            return false;
        }
        true
    }

    async fn ask(&mut self, at: usize) {
        let Some(disk) = self.disks.get(at).cloned() else { return };
        let answer = read::ask(&*self.host.runner, &disk).await;
        let (now, wall) = (self.host.clock.instant(), self.host.clock.now());
        let (count, interval) = (self.disks.len(), self.config.interval);
        let Some(watched) = self.watched.get_mut(&disk.name) else { return };
        self.barred = None;
        watched.asked = Some(now);
        watched.traffic = find::traffic(&self.host.sys, &disk.name);
        // All are asked at the start, then each in its place of the interval.
        watched.due = now + interval;
        if std::mem::take(&mut watched.fresh) {
            let (place, count) = (u32::try_from(at + 1), u32::try_from(count));
            if let (Ok(place), Ok(count)) = (place, count) {
                watched.due = now + interval * place / count.max(1);
            }
        }
        watched.temperature = None;
        watched.standing = match answer {
            Answer::Told(smart) => {
                watched.temperature = smart.temperature;
                watched.read = Some(wall);
                let record = self.memory.disks.entry(watched.key.clone()).or_default();
                if record.observe(&smart, wall) && self.keeps {
                    self.forgets = keep(&mut self.memory, &self.host, wall);
                }
                Standing::Told
            }
            Answer::Asleep => Standing::Asleep,
            Answer::NotSupported(why) => Standing::NotSupported(why),
            Answer::Off => Standing::Off,
            Answer::Failed(why) => Standing::Failed(why),
            Answer::Hangs { why, stuck } => {
                let stuck = stuck.then(|| self.host.runner.stuck().max(1));
                watched.held = stuck.map(|count| (count, now + HOLD));
                Standing::Failed(why)
            }
            Answer::NoTool => {
                let why = "the health of disks is not known: smartctl is not installed; install \
                           the package smartmontools";
                self.barred = Some((why.to_owned(), now + BARRED));
                Standing::New
            }
            Answer::Denied => {
                let why = "the health of disks is not known: asking them needs root";
                self.barred = Some((why.to_owned(), now + BARRED));
                Standing::New
            }
        };
        if self.barred.is_some() {
            watched.fresh = true;
            watched.due = now;
        }
    }

    fn view(&mut self) -> DisksView {
        let now = self.host.clock.now();
        let mut disks = Vec::with_capacity(self.disks.len());
        for disk in &self.disks {
            let Some(watched) = self.watched.get_mut(&disk.name) else { continue };
            disks.push(view(disk, watched, self.memory.disks.get(&watched.key), now));
        }
        let barred = self.barred.as_ref().map(|(why, _)| why.clone());
        let notes = [self.blind.clone(), barred, self.forgets.clone()];
        DisksView { disks, notes: notes.into_iter().flatten().collect() }
    }
}

/// Writes the memory; why that cannot be done.
fn keep(memory: &mut Memory, host: &Host, now: Timestamp) -> Option<String> {
    let mut kept = memory.clone();
    kept.disks.retain(|key, _| !key.starts_with(UNNAMED));
    let saved = kept.save(&host.state, now);
    saved.err().map(|why| format!("what disks said is not kept over a restart: {why}"))
}

fn view(disk: &Disk, watched: &mut Watched, record: Option<&Record>, now: Timestamp) -> DiskView {
    let standing = &watched.standing;
    let facts = Facts { disk, standing, record, now, was_hot: watched.hot };
    let findings = judge::judge(&facts);
    watched.hot = findings.iter().any(|finding| finding.code == "too-hot");
    // Not yet read, and nothing known from before: never shown as fine.
    let known = record.is_some() || *standing != Standing::New;
    let worst = findings.first().map_or(Severity::Ok, |worst| worst.severity);
    let smart = record.map(|record| &record.smart);
    let said = |own: &str, of: fn(&super::parse::Smart) -> &String| {
        let said = smart.map(of).filter(|said| !said.is_empty());
        said.cloned().unwrap_or_else(|| own.to_owned())
    };
    DiskView {
        name: disk.name.clone(),
        model: said(&disk.model, |smart| &smart.model),
        serial: said(&disk.serial, |smart| &smart.serial),
        size: disk.size,
        slot: disk.slot.clone(),
        transport: disk.transport.as_str().to_owned(),
        power: match standing {
            Standing::Told => "active",
            Standing::Asleep => "standby",
            Standing::New
            | Standing::NotSupported(_)
            | Standing::Off
            | Standing::Ignored
            | Standing::Failed(_) => "unknown",
        }
        .to_owned(),
        health: if known { worst } else { Severity::Unknown },
        temperature: watched.temperature,
        hours: smart.and_then(|smart| smart.hours),
        worn: smart.and_then(|smart| smart.worn),
        read: watched.read,
        links: disk.links.clone(),
        findings,
        ..DiskView::default()
    }
}
