//! The event engine: Riemann's protocol around an index of current events.
//!
//! Events come in from the daemon ([`Index::apply_own`]) and, as bytes, from
//! other programs ([`tcp`] also within TLS, [`udp`], [`http`], [`graphite_in`]); out go answers to queries, a bounded
//! queue per subscriber and the events that have expired. Whatever arrives by
//! the network is hostile until it is a [`base::Event`](crate::base::Event):
//! frames, messages, events, connections, times and memory are bounded
//! ([`tcp::Limits`], [`decode::Caps`], [`index::Limits`]), and what is refused
//! is counted with its [`Reason`].
//!
//! ```text
//!  tcp ── frame ──┐
//!                 ├─▶ decode ─▶ session ─▶ index ─┬─▶ answers ─▶ encode ─▶ tcp
//!  udp ───────────┘                ▲       ▲      ├─▶ subscribe::Subscription ─▶ http
//!                                query   daemon   ├─▶ expired events
//!  graphite_in, http (JSON) ───────────────┘      └─▶ outlet::Outlet ─▶ the sinks
//! ```
//!
//! Who may come in by an address is decided by [`door`], over HTTP by
//! [`http::guard`], over TLS by certificates ([`tls`]).
//! With streams ([`streams`]), these decide what becomes of an event.
//!
//! Read [`index`] first, then [`decode`], then [`tcp`]. [`wire`] has the
//! messages and how they are written, [`client`] is the other end, [`json`]
//! the form of events for browsers, [`stats`] what was counted.

mod accept;
pub mod client;
mod connection;
pub mod decode;
pub mod door;
mod fields;
pub mod frame;
pub mod graphite_in;
pub mod http;
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
pub mod tls;
pub mod udp;
mod ways;
pub mod wire;

pub use client::Client;
pub use index::{Index, Origin};
pub use outlet::{Inlet, Outlet, outlet};
pub use stats::{Reason, Stats};
pub use subscribe::Subscription;
