//! To another Riemann (or hostd). Over TCP and TLS every message is
//! acknowledged; several are under way at a time. What was under way when a
//! connection broke is sent again: the receiver may have that twice, and it is
//! counted.
//!
//! ```text
//!  connect ─▶ outage? the index's content first ─▶ window of batches ⇄ acks
//!     ▲                                                   │ broke, late, junk
//!     └───────────── 0.5 … 30 s ◀─────────────────────────┘
//! ```
//!
//! - After an outage (something has waited for more than [`OUTAGE`]) the
//!   receiver gets the current state first; then what has waited, in its order.
//!   Events that are older than their ttl by then would only overwrite newer
//!   state: they are counted and left out, or sent with the tag `replayed` if
//!   that is configured.
//! - A message that is refused is sent once more event by event: those that are
//!   refused alone, while others pass, are counted and left behind. When none
//!   passes it may be the receiver's fault: see [`refused`](mod@refused).
//!
//! [`tls`] has the certificates, [`udp`] the datagrams.

mod refused;
#[cfg(test)]
mod tests;
mod tls;
mod udp;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::backoff::Backoff;
use super::outbox::{Kept, Mail};
use super::standing::{Standing, chain};
use crate::base::{Event, Timestamp};
use crate::config::{RiemannSink, Way};
use crate::host::{Dial, SysRoot};
use crate::query::Query;
use crate::riemann::client::{Client, ClientError};
use crate::riemann::index::{DEFAULT_TTL, Index};
use crate::riemann::wire;

/// Something that has waited for longer has waited for the receiver.
pub const OUTAGE: Duration = Duration::from_secs(10);

/// The tag of events that are sent though their time is over.
pub const REPLAYED: &str = "replayed";

/// Bytes of events in one message, but for one that is longer alone.
const BYTES: usize = 1 << 20;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("datagrams")]
    Udp(#[source] std::io::Error),
    #[error("it refuses everything: {0}")]
    RefusesAll(String),
}

/// One sender.
pub struct Sender {
    /// What is configured.
    pub to: RiemannSink,
    /// Where its events wait.
    pub mail: Mail,
    /// Where it counts.
    pub standing: Standing,
    /// Who makes its connections.
    pub dial: Arc<dyn Dial>,
    /// Where certificates are.
    pub sys: SysRoot,
    /// What is current.
    pub index: Index,
}

/// What outlives a connection.
#[derive(Default)]
struct Memory {
    backoff: Backoff,
    /// The highest number that was ever sent.
    high: u64,
    /// Messages refused as a whole, one after the other.
    refusals: u32,
}

/// A message that is not acknowledged.
#[derive(Clone, Copy)]
struct Flight {
    /// Everything after this number …
    after: u64,
    /// … up to this one.
    last: u64,
    events: u64,
}

impl Sender {
    /// Sends for ever.
    pub async fn run(self) {
        let mut memory = Memory::default();
        loop {
            let ended = match &self.to.way {
                Way::Udp => self.datagrams(&mut memory).await,
                Way::Tcp | Way::Tls(_) => self.session(&mut memory).await,
            };
            let Err(error) = ended;
            self.standing.down(chain(&error));
            sleep(memory.backoff.pause()).await;
        }
    }

    async fn connect(&self) -> Result<Client, Broken> {
        let sink = &self.to.sink;
        let dialled = self.dial.tcp(sink.address, sink.deadline).await;
        let to = sink.address;
        let stream = dialled.map_err(|source| ClientError::Connect { to, source })?;
        let stream = match &self.to.way {
            Way::Tls(files) => tls::shake(stream, files, &self.sys, sink).await?,
            Way::Tcp | Way::Udp => stream,
        };
        Ok(Client::over(stream, sink.deadline))
    }

    async fn session(&self, memory: &mut Memory) -> Result<Infallible, Broken> {
        let mut link = self.connect().await?;
        if self.mail.gauge().await.oldest.is_some_and(|oldest| oldest > OUTAGE) {
            self.send_current(&mut link).await?;
        }
        self.standing.up();
        let mut cursor = self.mail.acked().await;
        let mut flights = VecDeque::new();
        loop {
            while flights.len() < self.to.window {
                let batch = self.mail.read(cursor, self.to.batch, BYTES).await;
                let Some(last) = batch.last().map(|kept| kept.seq) else { break };
                let after = std::mem::replace(&mut cursor, last);
                self.note_sent(memory, &batch);
                let events = self.fresh(batch);
                if !events.is_empty() {
                    link.begin(&wire::events(&events)).await?;
                    flights.push_back(Flight { after, last, events: events.len() as u64 });
                } else if let Some(before) = flights.back_mut() {
                    before.last = last;
                } else {
                    self.mail.ack(last).await;
                }
            }
            let Some(flight) = flights.pop_front() else {
                self.mail.arrived().await;
                continue;
            };
            match link.end().await {
                Ok(_) => self.delivered(memory, flight, flight.events).await,
                Err(ClientError::Refused(why)) => {
                    self.refused(&mut link, memory, flight, &mut flights, why).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn delivered(&self, memory: &mut Memory, flight: Flight, events: u64) {
        self.mail.ack(flight.last).await;
        self.standing.count(|totals| totals.delivered += events);
        memory.backoff.reset();
        if events > 0 {
            memory.refusals = 0;
        }
    }

    /// Counts what is sent once more.
    fn note_sent(&self, memory: &mut Memory, batch: &[Kept]) {
        let again = batch.iter().filter(|kept| kept.seq <= memory.high).count() as u64;
        self.standing.count(|totals| totals.again += again);
        memory.high = batch.last().map_or(memory.high, |last| last.seq.max(memory.high));
    }

    /// Without the events whose time is over, or with a tag on them.
    fn fresh(&self, batch: Vec<Kept>) -> Vec<Event> {
        let (now, mut outdated) = (self.mail.now(), 0);
        let mut events = Vec::with_capacity(batch.len());
        for Kept { mut event, .. } in batch {
            if is_over(&event, now) {
                if !self.to.replay_expired {
                    outdated += 1;
                    continue;
                }
                event.tags.push(REPLAYED.to_owned());
            }
            events.push(event);
        }
        self.standing.count(|totals| totals.outdated += outdated);
        events
    }

    /// What the index has, as far as it is wanted here.
    async fn send_current(&self, link: &mut Client) -> Result<(), Broken> {
        let all = Query::all();
        let wanted = self.to.sink.wanted.as_ref().map_or(&all, |wanted| &wanted.query);
        let events = self.index.query(wanted);
        for events in events.chunks(self.to.batch) {
            link.begin(&wire::events(events.iter().map(Arc::as_ref))).await?;
            match link.end().await {
                // Those that are refused are refused again when their turn comes.
                Ok(_) | Err(ClientError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
            self.standing.count(|totals| totals.current += events.len() as u64);
        }
        Ok(())
    }
}

/// Whether an event is older than its ttl.
fn is_over(event: &Event, now: Timestamp) -> bool {
    let ttl = event.ttl.filter(|ttl| !ttl.is_nan()).unwrap_or(DEFAULT_TTL);
    let Some(time) = event.time else { return false };
    now.since(time).as_secs_f64() > f64::from(ttl)
}
