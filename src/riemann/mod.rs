//! The event engine: Riemann's protocol around an index of current events.
//!
//! Events come in from the daemon ([`Index::apply_own`]) and, as bytes, from
//! other programs ([`tcp`], [`udp`]); out go answers to queries, a bounded
//! queue per subscriber and the events that have expired. Whatever arrives by
//! the network is hostile until it is a [`base::Event`](crate::base::Event):
//! frames, messages, events, connections, times and memory are bounded
//! ([`tcp::Limits`], [`decode::Caps`], [`index::Limits`]), and what is refused
//! is counted with its [`Reason`].
//!
//! ```text
//!  tcp ── frame ──┐
//!                 ├─▶ decode ─▶ session ─▶ index ─┬─▶ answers ─▶ encode ─▶ tcp
//!  udp ───────────┘                ▲       ▲      ├─▶ subscribe::Subscription
//!                                query   daemon   ├─▶ expired events
//!                                                 └─▶ outlet::Outlet ─▶ the sinks
//! ```
//!
//! With streams ([`streams`]), these decide what becomes of an event.
//!
//! Read [`index`] first, then [`decode`], then [`tcp`]. [`wire`] has the
//! messages and how they are written, [`client`] is the other end, [`json`]
//! the form of events for browsers, [`stats`] what was counted.

pub mod client;
mod connection;
pub mod decode;
mod fields;
pub mod frame;
pub mod index;
pub mod json;
pub mod outlet;
mod queue;
mod session;
pub mod stats;
pub mod streams;
pub mod subscribe;
mod table;
pub mod tcp;
pub mod udp;
mod ways;
pub mod wire;

pub use client::Client;
pub use index::{Index, Origin};
pub use outlet::{Inlet, Outlet, outlet};
pub use stats::{Reason, Stats};
pub use subscribe::Subscription;
