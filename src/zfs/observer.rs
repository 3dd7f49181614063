//! Watches all pools: kstats every round, `zpool` only for a reason.
//!
//! A round reads each pool's kstat, which takes no lock and starts no child.
//! `zpool` is started for a pool when its kstat has changed, when a pool has
//! come or gone, after [`Observer::poke`] or an event ([`Observer::hear`]; at
//! most once a second), or when its facts are old: then there is one child a
//! pool in half a minute, now and then `zpool list` in place of `zpool status`.
//! A round
//! waits a moment for the answers, so that they usually are in its view, and
//! never longer: what takes its time is asked on in later rounds, beside the
//! others. `zpool status` of a suspended pool may hang where even SIGKILL does
//! not end it; then nothing more is started for that pool until it has ended,
//! and the kstat alone goes on telling.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::tz::TimeZone;
use tokio::time::timeout_at;

use super::archive::Archive;
use super::disks;
use super::events::rates::Rates;
use super::events::{Event, Reaction, Seen};
use super::judge::{self, Dates, Doubt, Facts};
use super::keys::Keys;
use super::list::{Usage, parse_kstat};
use super::memory::Memory;
use super::model::{Kind, MAX_POOLS, Pool, Vdev};
use super::mounts::{self, Mounts};
use super::read::{self, Format, Reading, Want};
use super::view;
use crate::ask::view::{PoolView, PoolsView};
use crate::base::{Timestamp, meminfo};
use crate::config::{self, Levels};
use crate::host::sys::SysError;
use crate::host::{Host, SysRoot};

const NOT_LOADED: &str = "ZFS is not loaded";
/// Where the kernel module keeps a folder for each pool.
const KSTATS: &str = "/proc/spl/kstat/zfs";
/// Facts older than this are read again.
const INTERVAL: Duration = Duration::from_secs(30);
/// Facts older than this are doubted.
const OLD: Duration = Duration::from_secs(90);
/// How old the numbers of `zpool list` may get. Where the status has the sizes
/// (JSON) only the rest is missed.
const USAGE_JSON: Duration = Duration::from_secs(300);
const USAGE_TEXT: Duration = Duration::from_secs(45);
/// However often there is a reason: a pool is read again not sooner than this.
const GAP: Duration = Duration::from_secs(1);
/// The same when its kstat has changed, which it does at most a few times.
const FLAP: Duration = Duration::from_millis(250);
/// How often the mounts are read when nothing happens.
const MOUNTS: Duration = Duration::from_secs(30);
/// A view is made at least this often: what counts for an hour runs out.
const VIEW: Duration = Duration::from_secs(10);
/// How long a round waits for what it has started.
const PATIENCE: Duration = Duration::from_millis(700);
/// How long a round looks at what an earlier one has started.
const GLANCE: Duration = Duration::from_millis(20);
/// An answer that takes longer than this is told.
const HANGS: Duration = Duration::from_secs(3);
/// A child that cannot be killed keeps us from asking again for this long, or
/// until one such child has ended.
const HOLD: Duration = Duration::from_secs(600);
/// How often keys are asked for, and how many times longer than it took.
const KEYS: Duration = Duration::from_secs(600);
const KEYS_TIMES: u32 = 600;
/// With this many such children nothing more is started.
const MAX_STUCK: usize = 8;

/// The pool, the form `zpool` speaks, what came, and whether that has a fresh
/// status and a fresh usage.
type Done = (String, Option<Format>, Result<Reading, Doubt>, (bool, bool));
type KeysDone = (String, Instant, Result<Keys, String>);
type Reads<T> = FuturesUnordered<Pin<Box<dyn Future<Output = T> + Send>>>;

type MountsUnderWay = tokio::task::JoinHandle<Result<Mounts, String>>;

/// Watches all pools of a machine.
pub struct Observer {
    host: Host,
    config: config::Pools,
    archive: Archive,
    machine_memory: Option<u64>,
    zone: TimeZone,
    format: Option<Format>,
    pools: BTreeMap<String, Watched>,
    reads: Reads<Done>,
    /// Apart, because listing all datasets takes its time.
    key_reads: Reads<KeysDone>,
    /// Since when a pool's read has been under way; also of pools now gone.
    flying: BTreeMap<String, Instant>,
    poked: bool,
    /// Whether the last round may have missed a pool.
    unread: bool,
    /// What the last round had to note.
    notes: Vec<String>,
    seen: Seen,
    mounts: Mounts,
    /// When they were last asked for, and the asking: a mount that hangs may
    /// hold it up.
    mounts_at: Option<Instant>,
    mounts_read: Option<MountsUnderWay>,
    /// Whether a view would differ from the last one, and when that was made.
    news: bool,
    viewed: Option<Instant>,
}

struct Watched {
    /// The kstat's word, or why it cannot be read.
    kstat: Result<String, String>,
    latest: Option<(Reading, Instant, Timestamp)>,
    memory: Memory,
    doubt: Option<Doubt>,
    /// Since when `zpool` has not answered, attempts in a row taken together.
    silent: Option<Instant>,
    /// The kstat when `zpool` was last started.
    asked_at: Option<Result<String, String>>,
    next: Instant,
    /// There is a reason to read it.
    poked: bool,
    /// When `zpool` was last started, and when it has last said how full it is.
    begun: Option<Instant>,
    usage_at: Option<Instant>,
    rates: Rates,
    /// How many children were stuck when ours was, and until when to wait.
    held: Option<(usize, Instant)>,
    /// The last answer about keys, and when to ask again.
    keys: Option<Result<Keys, String>>,
    keys_next: Instant,
}

impl Watched {
    fn new(now: Instant) -> Self {
        Self {
            kstat: Ok(String::new()),
            latest: None,
            memory: Memory::default(),
            doubt: None,
            silent: None,
            asked_at: None,
            next: now,
            poked: true,
            begun: None,
            usage_at: None,
            rates: Rates::default(),
            held: None,
            keys: None,
            keys_next: now,
        }
    }
}

impl Watched {
    /// Takes one reading into the memory, of its status only when that is fresh.
    fn take(
        &mut self,
        reading: &Reading,
        fresh: bool,
        sys: &SysRoot,
        archive: &Archive,
        full: Levels,
        (now, wall): (Instant, Timestamp),
    ) {
        let pool = &reading.pool;
        if let Some(guid) = pool.guid.filter(|guid| self.memory.guid() != Some(*guid)) {
            // The first reading, or another pool of the same name.
            self.memory.adopt(guid, archive.pool(guid).cloned().unwrap_or_default());
            self.keys = None;
        }
        if fresh {
            let tops = pool.vdevs.iter().flat_map(Vdev::leaves);
            let disks = tops.filter(|leaf| leaf.kind == Kind::Disk && self.memory.wants_disk(leaf));
            let disks: Vec<&Vdev> = disks.collect();
            for vdev in self.memory.cleared(pool) {
                self.rates.cleared(vdev);
            }
            self.memory.observe(pool, now);
            for leaf in disks {
                if let Some(found) = disks::read(sys, &leaf.name) {
                    self.memory.found(leaf, found);
                }
            }
            self.memory.date(pool, wall);
        }
        let usage = reading.usage.as_ref().ok();
        // The status is read more often.
        let of =
            |status: Option<u64>, what: fn(&Usage) -> Option<u64>| status.or(usage.and_then(what));
        let (size, used) = (of(pool.size, |u| u.size), of(pool.alloc, |u| u.alloc));
        if let (Some(size), Some(used)) = (size, used) {
            self.memory.observe_space(size, used, wall);
        }
        if let Some(fraction) = judge::capacity(pool, usage) {
            self.memory.observe_usage(fraction, full);
        }
    }

    /// What to ask: all of it at first and for a reason, else one part a time.
    fn want(&self, reason: bool, format: Option<Format>, now: Instant) -> Want {
        let Some((reading, at, _)) = self.latest.as_ref().filter(|_| self.doubt.is_none()) else {
            return Want::Both;
        };
        let most = if format == Some(Format::Json) { USAGE_JSON } else { USAGE_TEXT };
        let age = self.usage_at.map(|at| now.saturating_duration_since(at));
        match (age.is_none_or(|age| age >= most), reason) {
            (false, true) if format == Some(Format::Text) => Want::Both,
            (false, _) => Want::Status(reading.usage.clone()),
            (true, true) => Want::Both,
            // Nobody has asked for long: its status must not get older still.
            (true, false) if now.saturating_duration_since(*at) > OLD / 2 => Want::Both,
            (true, false) => Want::Usage(Box::new(reading.pool.clone())),
        }
    }
}

impl Observer {
    /// Of the pools on `host`; nothing is read yet but what was remembered, and
    /// the time zone, which old versions of `zpool` print dates in.
    pub fn new(host: Host, config: config::Pools) -> Self {
        let zone = host.sys.resolve("/etc/localtime").and_then(|at| host.sys.bytes(at, 1 << 16));
        let zone = zone.ok().and_then(|bytes| TimeZone::tzif("local", &bytes).ok());
        let machine_memory = host.sys.text("/proc/meminfo").ok();
        let machine_memory = machine_memory.and_then(|text| meminfo(&text, "MemTotal"));
        Self {
            archive: Archive::open(host.state.clone()),
            host,
            config,
            machine_memory,
            zone: zone.unwrap_or(TimeZone::UTC),
            format: None,
            pools: BTreeMap::new(),
            reads: FuturesUnordered::new(),
            key_reads: FuturesUnordered::new(),
            flying: BTreeMap::new(),
            poked: false,
            unread: false,
            notes: Vec::new(),
            seen: Seen::default(),
            mounts: Mounts::default(),
            mounts_at: None,
            mounts_read: None,
            news: true,
            viewed: None,
        }
    }

    /// Something has happened: the next round asks `zpool` about every pool.
    pub fn poke(&mut self) {
        self.poked = true;
    }

    /// The same of one pool; of all when it is not known.
    pub fn poke_pool(&mut self, name: &str) {
        match self.pools.get_mut(name) {
            Some(watched) => watched.poked = true,
            None => self.poke(),
        }
    }

    /// Takes in what ZFS says. True when there is something to look at now.
    pub fn hear(&mut self, event: &Event) -> bool {
        let reaction = event.reaction();
        if reaction == Reaction::Ignore || self.seen.again(event) {
            return false;
        }
        if let Reaction::Count(what) | Reaction::CountAndRead(what) = reaction {
            let (now, wall) = (self.host.clock.instant(), self.host.clock.now());
            let ago = event.time.map_or(Duration::ZERO, |time| wall.since(time));
            let named = event.pool.as_ref().and_then(|name| self.pools.get_mut(name));
            if let Some(watched) = named {
                watched.rates.count(what, event, now, ago);
                self.news = true;
            }
        }
        match reaction {
            Reaction::Ignore | Reaction::Count(_) => return false,
            Reaction::Clear => {
                let named = event.pool.as_ref().and_then(|name| self.pools.get_mut(name));
                if let Some(watched) = named {
                    watched.rates.clear();
                }
            }
            Reaction::Read | Reaction::CountAndRead(_) => {}
        }
        match &event.pool {
            Some(name) => self.poke_pool(name),
            None => self.poke(),
        }
        true
    }

    /// How long a caller may rest after a round when nothing happens: less than
    /// `most` while a pool waits for its turn to be read again.
    pub fn rest(&self, most: Duration) -> Duration {
        let now = self.host.clock.instant();
        let waiting = self
            .pools
            .iter()
            .filter(|(name, pool)| pool.poked && !self.flying.contains_key(*name))
            .filter_map(|(_, pool)| pool.begun)
            .map(|begun| (begun + GAP).saturating_duration_since(now));
        waiting.min().map_or(most, |soonest| soonest.min(most))
    }

    /// One look at all pools; meant for every second. Infallible: what cannot
    /// be read is a finding or a note. Takes at most about a second.
    pub async fn round(&mut self) -> PoolsView {
        self.look(PATIENCE).await;
        self.archive.save(self.host.clock.instant()).await;
        self.all()
    }

    /// Waits until what is being remembered is on disk.
    pub async fn remembered(&mut self) {
        self.archive.written_now().await;
    }

    /// As [`Self::round`], for a loop that only has to know what is new: a view
    /// when it may differ from the last one, and every ten seconds.
    pub async fn news(&mut self) -> Option<PoolsView> {
        self.look(PATIENCE).await;
        let now = self.host.clock.instant();
        self.archive.save(now).await;
        let old = self.viewed.is_none_or(|at| now.saturating_duration_since(at) >= VIEW);
        (self.news || old || !self.flying.is_empty()).then(|| self.all())
    }

    /// The same, waiting for every answer up to the deadline of the commands:
    /// for a single look without a daemon.
    pub async fn settled(&mut self) -> PoolsView {
        self.look(2 * read::DEADLINE + PATIENCE).await;
        self.all()
    }

    async fn look(&mut self, patience: Duration) {
        let mut notes = Vec::new();
        self.kstats(&mut notes);
        self.news |= notes != self.notes;
        self.notes = notes;
        let started = self.start();
        let patience = if started { patience } else { GLANCE };
        let until = tokio::time::Instant::now() + patience;
        self.mounts(started, until).await;
        while let Ok(Some(done)) = timeout_at(until, self.reads.next()).await {
            self.absorb(done);
        }
        while let Ok(Some((name, begun, keys))) = timeout_at(until, self.key_reads.next()).await {
            let now = self.host.clock.instant();
            if let Some(watched) = self.pools.get_mut(&name) {
                let took = now.saturating_duration_since(begun);
                watched.keys_next = now + KEYS.max(took * KEYS_TIMES);
                self.news |= watched.keys.as_ref() != Some(&keys);
                watched.keys = Some(keys);
            }
        }
    }

    /// Reads the mounts when they are old, or when something has happened.
    async fn mounts(&mut self, reason: bool, until: tokio::time::Instant) {
        let now = self.host.clock.instant();
        let age = self.mounts_at.map(|at| now.saturating_duration_since(at));
        let due = age.is_none_or(|age| age >= MOUNTS || reason && age >= GAP);
        if due && self.mounts_read.is_none() && !self.pools.is_empty() {
            self.mounts_at = Some(now);
            let sys = self.host.sys.clone();
            self.mounts_read = Some(tokio::task::spawn_blocking(move || mounts::read(&sys)));
        }
        let Some(read) = &mut self.mounts_read else { return };
        // Beside `zpool`, which takes longer.
        if let Ok(done) = timeout_at(until, read).await {
            self.mounts_read = None;
            // Where there is no such table nothing is said of mounts.
            let mounts = done.ok().and_then(Result::ok).unwrap_or_default();
            self.news |= mounts != self.mounts;
            self.mounts = mounts;
        }
    }

    fn all(&mut self) -> PoolsView {
        self.news = false;
        self.viewed = Some(self.host.clock.instant());
        let absence = match self.notes.first() {
            Some(note) if note == NOT_LOADED => ": ZFS is not loaded",
            _ if self.unread => ", as far as can be seen",
            _ => "",
        };
        let mut pools: Vec<PoolView> =
            self.pools.iter().map(|(name, watched)| self.view(name, watched)).collect();
        for name in &self.config.expected {
            if !pools.iter().any(|pool| pool.name == *name) {
                pools.push(view::absent(name, absence));
            }
        }
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        let places = self.mounts.places.clone();
        let notes = self.notes.iter().cloned();
        let notes = notes.chain(self.archive.note().map(str::to_owned)).collect();
        PoolsView { pools, notes, unread: self.unread, places }
    }

    /// Reads all kstats.
    fn kstats(&mut self, notes: &mut Vec<String>) {
        self.unread = false;
        let now = self.host.clock.instant();
        let names = match self.host.sys.list(KSTATS) {
            Ok(names) => names,
            Err(SysError::Missing(_)) => {
                self.pools.clear();
                notes.push(NOT_LOADED.to_owned());
                return;
            }
            Err(error) => {
                self.unread = true;
                notes.push(error.in_full());
                for watched in self.pools.values_mut() {
                    watched.kstat = Err(error.in_full());
                }
                return;
            }
        };
        let state = |name: &String| format!("{KSTATS}/{name}/state");
        // Beside the pools there are statistics of the module; ZFS's names
        // begin with a letter, so none can be taken for an option.
        let mut names: Vec<String> = names
            .into_iter()
            .filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
            .filter(|name| self.host.sys.exists(state(name)))
            .collect();
        if names.len() > MAX_POOLS {
            self.unread = true;
            notes.push(format!("{} pools are not watched", names.len() - MAX_POOLS));
            names.truncate(MAX_POOLS);
        }
        let same = names.len() == self.pools.len() && names.iter().eq(self.pools.keys());
        self.poked |= !same;
        self.news |= !same;
        self.pools.retain(|name, _| names.contains(name));
        for name in names {
            let text = self.host.sys.bytes(state(&name), 4096);
            let kstat = text.map_err(|error| error.to_string()).and_then(|bytes| {
                let text = String::from_utf8_lossy(&bytes);
                parse_kstat(&text).ok_or_else(|| format!("the kstat of {name} says {text:?}"))
            });
            let watched = self.pools.entry(name).or_insert_with(|| Watched::new(now));
            self.news |= watched.kstat != kstat;
            watched.kstat = kstat;
        }
    }

    /// Starts `zpool` where there is a reason; true if it has been for any.
    fn start(&mut self) -> bool {
        let now = self.host.clock.instant();
        let poked = std::mem::take(&mut self.poked);
        let mut started = false;
        for (name, watched) in &mut self.pools {
            // A reason outlives the read that is under way.
            watched.poked |= poked;
            let rested = watched.begun.map_or(GAP, |at| now.saturating_duration_since(at));
            let changed = watched.asked_at.as_ref() != Some(&watched.kstat);
            let reason = changed && rested >= FLAP || watched.poked && rested >= GAP;
            let stuck = self.host.runner.stuck();
            let held = watched.held.is_some_and(|(count, until)| stuck >= count && now < until);
            let due = reason || now >= watched.next;
            if !due || held || stuck >= MAX_STUCK || self.flying.contains_key(name) {
                continue;
            }
            let want = watched.want(reason, self.format, now);
            let fresh = (!matches!(want, Want::Usage(_)), !matches!(want, Want::Status(_)));
            watched.held = None;
            watched.poked = false;
            watched.begun = Some(now);
            watched.asked_at = Some(watched.kstat.clone());
            watched.next = now + INTERVAL;
            self.flying.insert(name.clone(), now);
            let (runner, zone) = (self.host.runner.clone(), self.zone.clone());
            let (name, format) = (name.clone(), self.format);
            self.reads.push(Box::pin(async move {
                let (format, reading) = read::read(runner, zone, name.clone(), format, want).await;
                (name, format, reading, fresh)
            }));
            started = true;
        }
        started
    }

    /// Takes in an answer.
    fn absorb(&mut self, (name, format, reading, (status, usage)): Done) {
        let now = self.host.clock.instant();
        let begun = self.flying.remove(&name).unwrap_or(now);
        self.format = format.or(self.format);
        self.news = true;
        // It may have gone meanwhile.
        let Some(watched) = self.pools.get_mut(&name) else { return };
        match reading {
            Ok(mut reading) => {
                let wall = self.host.clock.now();
                if usage {
                    watched.usage_at = Some(begun);
                }
                let usage = reading.usage.as_ref().ok();
                // The text form does not say the guid.
                reading.pool.guid = reading.pool.guid.or(usage.and_then(|usage| usage.guid));
                let (sys, full) = (&self.host.sys, self.config.capacity);
                watched.take(&reading, status, sys, &self.archive, full, (now, wall));
                if let Some(guid) = watched.memory.guid() {
                    self.archive.put(guid, &watched.memory.kept);
                }
                if !reading.usage.as_ref().is_ok_and(|usage| usage.encrypted) {
                    watched.keys = None;
                } else if now >= watched.keys_next {
                    // Until the answer, which says when to ask again.
                    watched.keys_next = now + KEYS;
                    let (runner, name) = (self.host.runner.clone(), name.clone());
                    self.key_reads.push(Box::pin(async move {
                        (name.clone(), now, read::keys(runner, name).await)
                    }));
                }
                let before = watched.latest.take().filter(|_| !status);
                let (at, wall) = before.map_or((now, wall), |(_, at, wall)| (at, wall));
                watched.latest = Some((reading, at, wall));
                watched.doubt = None;
                watched.silent = None;
            }
            Err(doubt) => {
                if let Doubt::Hangs { stuck, .. } = doubt {
                    watched.silent = watched.silent.or(Some(begun));
                    let stuck = stuck.then(|| self.host.runner.stuck().max(1));
                    watched.held = stuck.map(|count| (count, now + HOLD));
                } else {
                    watched.silent = None;
                }
                watched.doubt = Some(doubt);
            }
        }
    }

    fn view(&self, name: &str, watched: &Watched) -> PoolView {
        let now = self.host.clock.instant();
        let mut doubts: Vec<Doubt> = Vec::new();
        doubts.extend(watched.kstat.clone().err().map(Doubt::Kstat));
        let flying = self.flying.get(name).copied();
        let silent = watched.silent.or(flying);
        let waited = silent.map(|since| now.saturating_duration_since(since));
        let stuck = matches!(watched.doubt, Some(Doubt::Hangs { stuck: true, .. }));
        match (&watched.doubt, waited) {
            (Some(Doubt::Hangs { .. }), Some(waited)) => {
                doubts.push(Doubt::Hangs { waited, stuck });
            }
            (_, Some(waited)) if waited >= HANGS => doubts.push(Doubt::Hangs { waited, stuck }),
            (Some(doubt), _) => doubts.push(doubt.clone()),
            (None, _) => match &watched.latest {
                None => doubts.push(Doubt::NotReadYet),
                // Whatever kept us from asking: old facts are no facts.
                Some((_, at, _)) => {
                    let waited = now.saturating_duration_since(*at);
                    if waited > OLD {
                        doubts.push(Doubt::Hangs { waited, stuck });
                    }
                }
            },
        }
        let kstat = watched.kstat.as_deref().ok();
        let mut pool = if let Some((reading, ..)) = &watched.latest {
            let usage = reading.usage.as_ref();
            let (pool, memory) = (&reading.pool, &watched.memory);
            let facts = Facts {
                pool,
                kstat,
                usage: usage.ok(),
                memory,
                now,
                dates: Some(Dates {
                    now: self.host.clock.now(),
                    scrub_overdue: self.config.scrub_overdue,
                }),
                keys: watched.keys.as_ref(),
                machine_memory: self.machine_memory,
            };
            if judge::capacity(pool, usage.ok()).is_none() {
                doubts.extend(usage.err().cloned().map(Doubt::NoCapacity));
            }
            judge::judge(&facts)
        } else {
            let pool = Pool { name: name.to_owned(), ..Pool::default() };
            let state = kstat.unwrap_or("UNKNOWN");
            let finding = judge::state_finding(name, state, &pool, &[]);
            view::bare(name, state, finding.into_iter().collect())
        };
        let since = watched.latest.as_ref().map(|(_, _, at)| *at);
        pool.findings.extend(doubts.iter().map(|doubt| judge::doubt(name, doubt, since)));
        let tree = watched.latest.as_ref().map(|(reading, ..)| &reading.pool);
        let counted = watched.rates.findings(name, tree, now, &pool.findings);
        pool.findings.extend(counted);
        pool.mounts = self.mounts.pools.get(name).cloned().unwrap_or_default();
        view::ranked(pool)
    }
}
