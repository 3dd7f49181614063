//! To a carbon, or what understands its protocols. Nothing is ever
//! acknowledged there: a batch counts as delivered when the socket's send queue
//! is empty, that is, when the other machine has taken every byte. After a
//! reset it is sent again from the last batch that counted. What is lost inside
//! the receiver is beyond anybody's sight here.
//!
//! Everything goes in the order in which it came, the backlog of an outage too:
//! a point has its time with it.
//!
//! - [`path`]: how an event becomes a path
//! - [`format`](mod@format): how points are written

pub mod format;
pub mod path;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::select;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::outbox::{Kept, Mail};
use super::standing::{Standing, chain};
use crate::config::{GraphiteFormat, GraphiteSink};
use crate::host::Dial;
use crate::host::dial::{Stream, Unsent};

/// Points in one batch: what is sent again at most after a reset.
pub const BATCH: usize = 1000;
/// Bytes of events in one batch; a carbon takes no pickle over 1 MiB.
const BYTES: usize = 256 << 10;

/// Bytes that must be taken within the deadline.
const CHUNK: usize = 16 << 10;

/// How often the send queue is looked at, at first and at last.
const LOOK: Duration = Duration::from_millis(1);
const LOOK_LONGEST: Duration = Duration::from_millis(50);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("cannot connect to {0}")]
    Connect(std::net::SocketAddr, #[source] io::Error),
    #[error("the connection broke")]
    Lost(#[from] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it took nothing for {0:?}")]
    Stuck(Duration),
}

/// One sender.
pub struct Sender {
    /// What is configured.
    pub to: GraphiteSink,
    /// Where its events wait.
    pub mail: Mail,
    /// Where it counts.
    pub standing: Standing,
    /// Who makes its connections.
    pub dial: Arc<dyn Dial>,
}

impl Sender {
    /// Sends for ever.
    pub async fn run(self) {
        let (mut backoff, mut high) = (Backoff::default(), 0);
        loop {
            let Err(error) = self.session(&mut backoff, &mut high).await;
            self.standing.down(chain(&error));
            sleep(backoff.pause()).await;
        }
    }

    async fn session(
        &self,
        backoff: &mut Backoff,
        high: &mut u64,
    ) -> Result<std::convert::Infallible, Broken> {
        let sink = &self.to.sink;
        let dialled = self.dial.watched(sink.address, sink.deadline).await;
        let (mut stream, unsent) = dialled.map_err(|error| Broken::Connect(sink.address, error))?;
        self.standing.up();
        loop {
            let batch = self.mail.read(0, BATCH, BYTES).await;
            let Some(last) = batch.last().map(|kept| kept.seq) else {
                select! {
                    () = self.mail.arrived() => continue,
                    error = closed(&mut *stream) => return Err(error),
                }
            };
            let (bytes, points) = self.encode(&batch);
            if points > 0 {
                let again = batch.iter().filter(|kept| kept.seq <= *high).count() as u64;
                self.standing.count(|totals| totals.again += again);
                *high = (*high).max(last);
                self.send(&mut *stream, &unsent, &bytes).await?;
                backoff.reset();
            }
            self.mail.ack(last).await;
            let unfit = batch.len() as u64 - points;
            self.standing.count(|totals| {
                totals.delivered += points;
                totals.unfit += unfit;
            });
        }
    }

    /// The batch as bytes, and how many points it has.
    fn encode(&self, batch: &[Kept]) -> (Vec<u8>, u64) {
        let points: Vec<_> = batch
            .iter()
            .filter_map(|kept| {
                let value = kept.event.metric.filter(|metric| metric.as_f64().is_finite())?;
                let path = path::path(&kept.event, &self.to.prefix, &self.to.path)?;
                Some((path, value, kept.event.time.unwrap_or(kept.arrived)))
            })
            .collect();
        let bytes = match self.to.format {
            GraphiteFormat::Plaintext => format::plaintext(&points),
            GraphiteFormat::Pickle => format::pickle(&points),
        };
        (bytes, points.len() as u64)
    }

    /// Done when the other machine has taken everything.
    async fn send(
        &self,
        stream: &mut dyn Stream,
        unsent: &Unsent,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        let deadline = self.to.sink.deadline;
        for chunk in bytes.chunks(CHUNK) {
            let written = timeout(deadline, stream.write_all(chunk)).await;
            written.map_err(|_| Broken::Stuck(deadline))??;
        }
        let (mut left, mut since, mut pause) = (usize::MAX, Instant::now(), LOOK);
        loop {
            let now = unsent()?;
            if now == 0 {
                break;
            }
            if now < left {
                (left, since) = (now, Instant::now());
            } else if since.elapsed() >= deadline {
                return Err(Broken::Stuck(deadline));
            }
            select! {
                error = closed(stream) => return Err(error),
                () = sleep(pause) => pause = (pause * 2).min(LOOK_LONGEST),
            }
        }
        // An empty queue may be that of a connection that was reset.
        select! {
            biased;
            error = closed(stream) => Err(error),
            () = std::future::ready(()) => Ok(()),
        }
    }
}

/// Resolves when the other end has closed; what it says is of no interest.
async fn closed(stream: &mut dyn Stream) -> Broken {
    let mut said = [0; 512];
    loop {
        match stream.read(&mut said).await {
            Ok(0) => return Broken::Closed,
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}
