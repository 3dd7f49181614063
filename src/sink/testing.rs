//! A receiver and its network as values: what tests of the sinks share. Time is
//! tokio's, which tests move; connections are pipes in memory.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::time::Instant;

use super::outbox::{Limits, Mail, Outbox};
use super::standing::Standing;
use crate::base::{Event, Metric, Timestamp};
use crate::config::Sink;
use crate::host::dial::{Dialling, DiallingWatched, Stream, Unsent};
use crate::host::spool::FakeSpool;
use crate::host::{Clock, Dial};

/// tokio's clock, in 2026.
pub(super) struct Moved {
    start: Instant,
    since: std::time::Instant,
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_795_000_000).plus(self.start.elapsed())
    }

    fn instant(&self) -> std::time::Instant {
        self.since + self.start.elapsed()
    }
}

/// An outbox on a disk that a test can break.
pub(super) struct Rig {
    pub(super) disk: FakeSpool,
    pub(super) mail: Mail,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) standing: Standing,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Self {
        let disk = FakeSpool::default();
        let since = std::time::Instant::now();
        let clock: Arc<dyn Clock> = Arc::new(Moved { start: Instant::now(), since });
        let outbox = Outbox::open(Ok(Box::new(disk.clone())), limits, clock.now());
        let mail = Mail::new(outbox, Arc::clone(&clock));
        Self { disk, mail, clock, standing: Standing::default() }
    }

    /// An event of this moment.
    pub(super) fn event(&self, service: &str) -> Event {
        Event {
            host: Some("nas".into()),
            service: Some(service.into()),
            metric: Some(Metric::Int(1)),
            ttl: Some(60.0),
            time: Some(self.clock.now()),
            ..Event::default()
        }
    }

    /// Puts events `from..to` by name into the outbox.
    pub(super) async fn put(&self, names: std::ops::Range<u64>) {
        let events = names.map(|n| Arc::new(self.event(&format!("e{n}")))).collect();
        self.mail.append(events).await;
    }

    /// Waits until nothing waits; gives up after two simulated hours.
    pub(super) async fn drained(&self) {
        let waits = async {
            while self.mail.gauge().await.waiting > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(7200), waits).await;
        waited.unwrap_or_else(|_| panic!("still waiting: {:?}", self.standing.now()));
    }
}

/// What a sink is told in tests.
pub(super) fn sink() -> Sink {
    Sink {
        name: "there".parse().unwrap(),
        address: SocketAddr::from(([127, 0, 0, 1], 1)),
        wanted: None,
        deadline: Duration::from_secs(10),
        keep: 64 << 20,
        keep_for: Duration::from_secs(7 * 86_400),
    }
}

type Serve = Box<dyn FnMut(DuplexStream) + Send>;

/// A network with one receiver.
pub(super) struct Net {
    /// For each connection, in order: true if it is accepted. When none is left, all are.
    pub(super) plan: Mutex<VecDeque<bool>>,
    /// Refused until then.
    pub(super) down_until: Mutex<Option<Instant>>,
    serve: Mutex<Serve>,
    /// Attempts.
    pub(super) tries: Mutex<u64>,
}

impl Net {
    /// The receiver gets each connection's other end.
    pub(super) fn new(serve: impl FnMut(DuplexStream) + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            plan: Mutex::default(),
            down_until: Mutex::default(),
            serve: Mutex::new(Box::new(serve)),
            tries: Mutex::default(),
        })
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        *self.tries.lock().unwrap() += 1;
        let is_down = self.down_until.lock().unwrap().is_some_and(|until| Instant::now() < until);
        if is_down || self.plan.lock().unwrap().pop_front() == Some(false) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(64 << 10);
        let mut serve = self.serve.lock().unwrap();
        serve(far);
        Ok(Box::new(near))
    }
}

impl Dial for Net {
    fn tcp(&self, _: SocketAddr, _: Duration) -> Dialling<'_> {
        Box::pin(async move { self.connect() })
    }

    fn unix<'a>(&'a self, _: &'a Path, _: Duration) -> Dialling<'a> {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }

    fn watched(&self, _: SocketAddr, _: Duration) -> DiallingWatched<'_> {
        Box::pin(async move {
            let unsent: Unsent = Box::new(|| Ok(0));
            Ok((self.connect()?, unsent))
        })
    }
}

/// What a receiver has got.
pub(super) type Got = Arc<Mutex<Vec<Event>>>;

/// The services of what was got.
pub(super) fn services(got: &Got) -> Vec<String> {
    got.lock().unwrap().iter().filter_map(|event| event.service.clone()).collect()
}
