//! Media services: does a share or library really answer?
//!
//! In: the configured services. Out: a
//! [`ServicesView`](crate::ask::view::ServicesView). A service is as healthy as
//! its worst layer, because each layer can be well while the next is not:
//!
//! ```text
//!   unit ──► connect ──► tls ──────► protocol ──► library ──► path, share
//!   systemd  TCP         certificate SMB2, HTTP   Plex's      the folders behind
//!   failed   refused     ends soon   silent:      still       it: missing, dead,
//!                                    SIGSTOP      loads       unmounted, full
//! ```
//!
//! What stands above a layer that has failed was not reached; the folders are
//! looked at in any case, because a daemon notices nothing of them.
//!
//! - [`probe`]: connects, asks, and says which layer failed; read this first
//! - [`smb`], [`afp`], [`probes`]: the bytes, pure
//! - [`web`]: pages over HTTP: Plex, minidlna, any
//! - [`stopped`]: why a process that has its port says nothing
//! - [`unit`](mod@unit): what systemd says of the unit; parse and judgement are pure
//! - [`path`]: the folders, in a child that can be killed; [`mounts`]: what
//!   holds them; [`shares`]: all that a service on this machine serves
//! - [`judge`]: layers to one view, pure
//! - [`restart`]: a service restarted on request, or by its policy
//! - [`discover`]: services that are found running
//! - [`engine`], [`containers`]: those of Docker and Podman
//! - [`observer`]: who is due, concurrently, never waiting for the slow

pub mod afp;
pub mod containers;
pub mod discover;
pub mod engine;
pub mod judge;
pub mod mounts;
pub mod observer;
pub mod path;
pub mod probe;
pub mod probes;
pub mod restart;
pub mod shares;
pub mod smb;
pub mod stopped;
pub mod unit;
pub mod web;

pub use containers::Containers;
pub use discover::{Discovery, Step};
pub use observer::Observer;

#[cfg(test)]
mod tests;
