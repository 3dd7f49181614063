//! Where events go besides the index: one sink for each place, each with its
//! own pace. A slow or dead receiver slows nobody else: what comes in goes to
//! the sink's outbox on the disk at once, and is sent from there.
//!
//! ```text
//!  engine ─ Outlet ─▶ Inlet ─ feed ─▶ outbox (disk) ─▶ riemann | graphite ─▶ network
//!                                        ▲                     │
//!                                        └──── acknowledged ◀──┘
//! ```
//!
//! - [`outbox`]: the queue on the disk, and [`outbox::Mail`], the way to it
//! - [`feed`](mod@feed): from the engine into the outbox
//! - [`riemann`]: to another Riemann (TCP, TLS, UDP)
//! - [`graphite`]: to a carbon (plaintext, pickle)
//! - [`history`]: numbers with percentiles, and when what was in which state
//! - [`metrics`]: `/metrics`, for Prometheus to fetch
//! - [`standing`]: how a sink is doing; [`backoff`]: pauses between tries
//!
//! Read [`outbox`] first.

pub mod backoff;
pub mod feed;
pub mod graphite;
pub mod history;
pub mod metrics;
pub mod outbox;
pub mod riemann;
pub mod standing;
#[cfg(test)]
mod testing;
