//! hostd: one daemon for a home server.
//!
//! What the machine says comes in through [`host`], is read, parsed and judged
//! by the domains, applied to one snapshot by `state`, and goes out as events
//! through `riemann`. What people ask comes back through [`ask`].
//! `daemon.rs` puts the rooms together; the table of who may import whom is
//! checked by `tests/architecture.rs`.

pub mod api;
pub mod ask;
pub mod base;
pub mod care;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod health;
pub mod host;
pub mod local;
pub mod media;
pub mod passthrough;
pub mod pci;
pub mod query;
pub mod riemann;
pub mod sink;
pub mod state;
pub mod vm;
pub mod zfs;
