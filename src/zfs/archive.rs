//! The file in which what is remembered of the pools outlives a restart.
//!
//! It is written by a thread of its own and never waited for: it may lie on
//! the very pool that hangs.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::kept::{Kept, KeptPool};
use crate::host::Store;
use crate::host::store::StoreError;

/// Its name in the state folder.
pub const FILE: &str = "pools.json";
/// At least so long between two writings: counters that rise all the time are
/// no reason to keep a disk busy.
const APART: Duration = Duration::from_secs(60);

/// What is in the file, and what is to be.
pub struct Archive {
    store: Store,
    kept: Kept,
    dirty: bool,
    written: Option<Instant>,
    writing: Option<JoinHandle<Result<(), StoreError>>>,
    note: Option<String>,
}

impl Archive {
    /// Reads the file. Without one, and without the right to read it, nothing
    /// is remembered; a damaged one is told.
    pub fn open(store: Store) -> Self {
        let (mut kept, mut note) = (Kept::default(), None);
        if let Ok(Some(text)) = store.read(FILE) {
            match Kept::parse(&text) {
                Ok(read) => kept = read,
                Err(why) => {
                    let path = store.path(FILE);
                    note = Some(format!(
                        "{} is damaged, so scrubs and error counts before now are forgotten: {why}",
                        path.display()
                    ));
                }
            }
        }
        Self { store, kept, dirty: false, written: None, writing: None, note }
    }

    /// What is remembered of the pool with this guid.
    pub fn pool(&self, guid: u64) -> Option<&KeptPool> {
        self.kept.pools.get(&guid)
    }

    /// Takes in what is known of a pool now.
    pub fn put(&mut self, guid: u64, pool: &KeptPool) {
        self.dirty |= self.kept.put(guid, pool);
    }

    /// What is wrong with the file.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Begins to write what is new, unless that is under way or was a moment ago.
    pub async fn save(&mut self, now: Instant) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.written_now().await;
        let soon = self.written.is_some_and(|at| now.saturating_duration_since(at) < APART);
        if !self.dirty || soon {
            return;
        }
        let Ok(text) = serde_json::to_string(&self.kept) else { return };
        let store = self.store.clone();
        (self.dirty, self.written) = (false, Some(now));
        self.writing = Some(tokio::task::spawn_blocking(move || store.write(FILE, &text)));
    }

    /// Waits until what is being written has been.
    pub async fn written_now(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        match writing.await {
            Ok(Ok(())) => self.note = None,
            Ok(Err(error)) => {
                let why = &error.source;
                self.note =
                    Some(format!("what is remembered of the pools is lost: {error}: {why}"));
                self.dirty = true;
            }
            Err(_) => self.dirty = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn survives_a_restart_and_is_written_once_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("state"));
        let mut archive = Archive::open(store.clone());
        let now = Instant::now();
        archive.save(now).await;
        archive.written_now().await;
        assert_eq!(store.read(FILE).unwrap(), None, "nothing to say");
        let pool = |name: &str| KeptPool { name: name.into(), ..KeptPool::default() };
        archive.put(7, &pool("tank"));
        archive.save(now).await;
        archive.written_now().await;
        assert_eq!(Archive::open(store.clone()).pool(7), Some(&pool("tank")));
        archive.put(7, &pool("other"));
        archive.save(now + Duration::from_secs(59)).await;
        archive.written_now().await;
        assert_eq!(Archive::open(store.clone()).pool(7), Some(&pool("tank")));
        archive.save(now + Duration::from_secs(60)).await;
        archive.written_now().await;
        assert_eq!(Archive::open(store).pool(7), Some(&pool("other")));
    }

    #[tokio::test]
    async fn a_damaged_file_and_one_that_cannot_be_written_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.write(FILE, "{\"pools\":[").unwrap();
        let mut archive = Archive::open(store);
        assert!(archive.note().unwrap().contains("damaged"));
        archive.put(7, &KeptPool::default());
        archive.save(Instant::now()).await;
        archive.written_now().await;
        assert_eq!(archive.note(), None);
        // A file where the folder should be.
        let mut archive = Archive::open(Store::new(dir.path().join(FILE)));
        archive.put(7, &KeptPool::default());
        archive.save(Instant::now()).await;
        archive.written_now().await;
        assert!(archive.note().unwrap().contains("cannot"));
    }
}
