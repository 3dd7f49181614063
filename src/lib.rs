//! hostd: one daemon for a home server.
//!
//! What the machine says comes in through [`host`], is read, parsed and judged
//! by the domains, applied to one snapshot by `state`, and goes out as events
//! through `riemann`. What people ask comes back through [`ask`].
//! `daemon.rs` puts the rooms together; the table of who may import whom is
//! checked by `tests/architecture.rs`.

pub mod ask;
pub mod base;
pub mod config;
pub mod host;
pub mod passthrough;
pub mod pci;
