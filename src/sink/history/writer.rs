//! The one thread that writes. A disk that hangs hangs this thread and nobody
//! else: batches are handed over through a short channel, and what does not go
//! through waits in memory, within its bound.
//!
//! What is damaged is moved aside and begun anew; a disk that is full or may
//! not be written to is tried again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::{info, warn};

use super::memory::{Batch, Counters, Memory};
use super::reader::Reader;
use super::store::{Error, Store};
use crate::base::{Event, Timestamp, with_sources};
use crate::config::History as Settings;
use crate::host;

/// The folder in the state folder.
const FOLDER: &str = "history";
/// The database in it.
const FILE: &str = "history/history.db";
/// What belongs to it.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];
/// Batches on their way.
const CHANNEL: usize = 2;
/// Until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// How long the last batch may take when hostd ends.
const END: Duration = Duration::from_secs(5);

/// How it goes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// Series that are known.
    pub series: usize,
    /// What was left out.
    pub counters: Counters,
    /// Rows that wait to be written.
    pub waiting: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// Why nothing is written.
    pub problem: Option<String>,
    /// What was moved aside, and why.
    pub moved: Option<String>,
}

/// What the thread tells.
#[derive(Default)]
struct Told {
    problem: Mutex<Option<String>>,
    moved: Mutex<Option<String>>,
    bytes: AtomicU64,
    open: AtomicBool,
    ending: AtomicBool,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is consistent between any two calls.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The history, as the daemon holds it.
pub struct History {
    memory: Arc<Mutex<Memory>>,
    told: Arc<Told>,
    to: SyncSender<Arc<Batch>>,
    thread: Option<JoinHandle<()>>,
    flush: Duration,
    flushed: Option<Timestamp>,
}

impl History {
    /// Begins in the state folder. Nothing is waited for: until the database is
    /// open, everything is in memory.
    pub fn start(state: host::Store, settings: &Settings) -> std::io::Result<(Self, Reader)> {
        let memory = Arc::new(Mutex::new(Memory::new(settings)));
        let told = Arc::new(Told::default());
        let (to, from) = sync_channel(CHANNEL);
        let reader = Reader::new(state.path(FILE), Arc::clone(&memory));
        let writer = Writer {
            state,
            settings: settings.clone(),
            memory: Arc::clone(&memory),
            told: Arc::clone(&told),
        };
        let thread = thread::Builder::new().name("history".to_owned());
        let thread = thread.spawn(move || writer.run(&from))?;
        let flush = settings.flush;
        Ok((Self { memory, told, to, thread: Some(thread), flush, flushed: None }, reader))
    }

    /// Takes events in.
    pub fn take(&self, events: &[Arc<Event>], now: Timestamp) {
        let mut memory = lock(&self.memory);
        for event in events {
            memory.take(event, now);
        }
    }

    /// Seals what is complete, and hands it over when it is time.
    pub fn tick(&mut self, now: Timestamp) {
        lock(&self.memory).tick(now);
        let flushed = *self.flushed.get_or_insert(now);
        // A clock that has jumped back makes no pause.
        if now.since(flushed) >= self.flush || now < flushed {
            self.flush(now);
        }
    }

    /// Hands over what is there.
    pub fn flush(&mut self, now: Timestamp) {
        self.flushed = Some(now);
        if !self.told.open.load(Ordering::Acquire) {
            self.poke();
            return;
        }
        let batch = lock(&self.memory).flush(now);
        self.hand_over(batch);
    }

    fn hand_over(&self, batch: Arc<Batch>) {
        match self.to.try_send(batch) {
            Ok(()) => {}
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                lock(&self.memory).unsent(&batch);
                self.poke();
            }
        }
    }

    /// What failed is tried again now.
    fn poke(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Whether the database is open.
    pub fn is_open(&self) -> bool {
        self.told.open.load(Ordering::Acquire)
    }

    /// How it goes.
    pub fn status(&self) -> Status {
        let memory = lock(&self.memory);
        Status {
            series: memory.len(),
            counters: memory.counters,
            waiting: memory.waiting(),
            bytes: self.told.bytes.load(Ordering::Relaxed),
            problem: lock(&self.told.problem).clone(),
            moved: lock(&self.told.moved).clone(),
        }
    }

    /// Writes all there is; a disk that hangs is not waited for.
    pub async fn end(self, now: Timestamp) {
        if self.is_open() {
            let batch = lock(&self.memory).end(now);
            self.hand_over(batch);
        }
        self.told.ending.store(true, Ordering::Release);
        self.poke();
        let Self { to, thread, .. } = self;
        // With its end the thread ends, after what is in it.
        drop(to);
        let Some(thread) = thread else { return };
        let ended = async {
            while !thread.is_finished() {
                thread.thread().unpark();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(END, ended).await.is_err() {
            warn!("the history could not be written within {END:?}; its last minutes are lost");
        }
    }
}

/// What the thread has.
struct Writer {
    state: host::Store,
    settings: Settings,
    memory: Arc<Mutex<Memory>>,
    told: Arc<Told>,
}

impl Writer {
    fn run(self, from: &Receiver<Arc<Batch>>) {
        let Some(mut store) = self.open() else { return };
        self.told.open.store(true, Ordering::Release);
        while let Ok(batch) = from.recv() {
            loop {
                match store.write(&batch) {
                    Ok(()) => break,
                    Err(error) if error.is_useless() => {
                        drop(store);
                        self.aside(&error);
                        match self.open() {
                            Some(new) => store = new,
                            None => return,
                        }
                    }
                    Err(error) => {
                        self.trouble(&error);
                        if !self.again() {
                            return;
                        }
                    }
                }
            }
            *lock(&self.told.problem) = None;
            lock(&self.memory).written(&batch);
            let kept = store.upkeep(batch.now).and_then(|()| store.used());
            match kept {
                Ok(bytes) => self.told.bytes.store(bytes, Ordering::Relaxed),
                Err(error) => self.trouble(&error),
            }
        }
    }

    /// Opens the database and puts what it knows into memory; `None` when
    /// hostd ends before that is possible.
    fn open(&self) -> Option<Store> {
        loop {
            match self.try_open() {
                Ok(store) => {
                    *lock(&self.told.problem) = None;
                    return Some(store);
                }
                Err(error) if error.is_useless() => self.aside(&error),
                Err(error) => self.trouble(&error),
            }
            if !self.again() {
                return None;
            }
        }
    }

    fn try_open(&self) -> Result<Store, Error> {
        self.state.make_dir(FOLDER).map_err(|error| Error::Folder(with_sources(&error)))?;
        let path = self.state.path(FILE);
        let mut store = match Store::open(&path, &self.settings) {
            Err(error) if error.is_useless() => {
                self.aside(&error);
                Store::open(&path, &self.settings)?
            }
            other => other?,
        };
        let mut memory = lock(&self.memory);
        if self.told.open.load(Ordering::Acquire) {
            // It is a new one in the middle of work: it learns what is known.
            let everything = memory.everything(0);
            drop(memory);
            store.write(&everything)?;
        } else {
            store.load(&mut memory)?;
        }
        Ok(store)
    }

    /// Moves the database aside.
    fn aside(&self, why: &Error) {
        let mut failed = None;
        for part in PARTS {
            let (from, to) = (format!("{FILE}{part}"), format!("{FILE}.old{part}"));
            // That of a main file that is gone belongs to nothing.
            failed = failed.or(self.state.rename(from, to).err());
        }
        let path = self.state.path(format!("{FILE}.old"));
        let said = match failed {
            None => format!("the history {why}; it is now {}, a new one is begun", path.display()),
            Some(error) => format!("the history {why}, and {}", with_sources(&error)),
        };
        warn!("{said}");
        *lock(&self.told.moved) = Some(said);
    }

    fn trouble(&self, error: &Error) {
        let said = format!(
            "nothing is written: {error}; it is tried again, what is new is kept in memory"
        );
        let mut problem = lock(&self.told.problem);
        if problem.as_ref() != Some(&said) {
            info!("history: {said}");
        }
        *problem = Some(said);
    }

    /// Waits a little; whether it is worth another try.
    fn again(&self) -> bool {
        if self.told.ending.load(Ordering::Acquire) {
            return false;
        }
        thread::park_timeout(AGAIN);
        true
    }
}
