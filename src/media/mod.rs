//! Media services: does a share or library really answer?
//!
//! In: the configured services. Out: a
//! [`ServicesView`](crate::ask::view::ServicesView). A service is as healthy as
//! its worst layer, because each layer can be well while the next is not:
//!
//! ```text
//!   unit ──► connect ──► protocol ──► path
//!   systemd  TCP         SMB2, AFP    the backing folder, looked at by a child
//!   failed   refused     silent:      missing, or its mount does not answer:
//!                        SIGSTOP      the daemon above notices neither
//! ```
//!
//! - [`probe`]: connects, asks, and says which layer failed; read this first
//! - [`smb`], [`afp`]: the bytes, pure
//! - [`unit`](mod@unit): what systemd says of the unit; parse and judgement are pure
//! - [`path`]: the backing folder, in a child that can be killed
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
pub mod observer;
pub mod path;
pub mod probe;
pub mod restart;
pub mod smb;
pub mod unit;

pub use containers::Containers;
pub use discover::{Discovery, Step};
pub use observer::Observer;

#[cfg(test)]
mod tests;
