//! The room as a whole, on a clock that is moved by hand.
#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "tests make files; small numbers; what is exact is compared exactly"
)]

mod crash;
mod faults;
mod keeping;
mod percentiles;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::memory::Memory;
use super::reader::{Reader, Series};
use super::store::Store;
use crate::base::{Event, Metric, Timestamp};
use crate::config::History as Settings;

/// A Monday at midnight.
pub const START: i64 = 1_794_787_200;

pub fn event(service: &str, time: i64, value: f64, state: &str) -> Event {
    Event {
        host: Some("nas".into()),
        service: Some(service.into()),
        state: (!state.is_empty()).then(|| state.to_owned()),
        metric: Some(Metric::Double(value)),
        time: Some(Timestamp::from_secs(time)),
        ..Event::default()
    }
}

/// Noise that is the same each time.
pub fn noise(seed: i64) -> f64 {
    let mut x = (seed.cast_unsigned().wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Memory, database and reader without the thread between.
pub struct Bench {
    pub dir: Option<tempfile::TempDir>,
    pub path: PathBuf,
    pub settings: Settings,
    pub memory: Arc<Mutex<Memory>>,
    pub store: Store,
    pub reader: Reader,
}

impl Bench {
    pub fn new(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        Self { dir: Some(dir), ..Self::at(path, settings) }
    }

    pub fn at(path: PathBuf, settings: Settings) -> Self {
        let store = Store::open(&path, &settings).unwrap();
        let memory = Arc::new(Mutex::new(Memory::new(&settings)));
        store.load(&mut memory.lock().unwrap()).unwrap();
        let reader = Reader::new(path.clone(), Arc::clone(&memory));
        Self { dir: None, path, settings, memory, store, reader }
    }

    pub fn take(&self, event: &Event, now: i64) {
        self.memory.lock().unwrap().take(event, Timestamp::from_secs(now));
    }

    pub fn tick(&self, now: i64) {
        self.memory.lock().unwrap().tick(Timestamp::from_secs(now));
    }

    pub fn flush(&mut self, now: i64) {
        self.tick(now);
        let batch = self.memory.lock().unwrap().flush(Timestamp::from_secs(now));
        self.store.write(&batch).unwrap();
        self.memory.lock().unwrap().written(&batch);
    }

    /// As when hostd ends in good order and starts again.
    pub fn restart(mut self, now: i64) -> Self {
        let batch = self.memory.lock().unwrap().end(Timestamp::from_secs(now));
        self.store.write(&batch).unwrap();
        self.killed()
    }

    /// As when it is killed.
    pub fn killed(self) -> Self {
        let Self { dir, path, settings, store, .. } = self;
        drop(store);
        Self { dir, ..Self::at(path, settings) }
    }

    pub fn series(&self, service: &str, from: i64, to: i64, points: u32) -> Series {
        self.reader.read("nas", service, (from, to), points, to).unwrap()
    }
}
