//! VMs: from a VM's file to a running guest and back.
//!
//! In: a checked [`config::Vm`](crate::config::Vm), requests of people, and
//! what QEMU says. Out: a [`VmView`](crate::ask::view::VmView) at every change.
//! Each VM has one task, its [`supervisor`], and nobody else touches it.
//!
//! ```text
//!           start              QEMU started          QEMU says so
//!     off ────────▶ preparing ─────────────▶ starting ─────────▶ running ◀─┐
//!      ▲                │                       │                 │  │  ▲  │ runs
//!      │                └─ failed or given up, ─┘   halted, silent│  │  │  │ again
//!      │                      undone                              ▼  │  │  │
//!      │                        │                              paused──────┘
//!      │                        ▼                                 │  │  │
//!      │                 failed, or off               stop, kill, │  │  │ ignored,
//!      │                                            guest leaves  ▼  ▼  │ and `ask`
//!      └──────────────── QEMU gone, card given back ──────────── stopping
//!
//!     starting, running, paused ── QEMU ended unasked ──▶ crashed
//!     any ── QEMU does not end, card cannot be given back ──▶ failed
//!     failed, crashed ── start ──▶ preparing;  failed ── stop: cleans up ──▶ off
//! ```
//!
//! Preparing and starting, when they fail or are given up, are undone step by
//! step. A QEMU that does not answer counts as paused: unknown is never green.
//!
//! Read in this order:
//!
//! - [`lifecycle`]: the picture above as a pure machine; verdicts on requests
//! - [`mod@plan`], [`preflight`]: what a start would do, and what stands against it
//! - [`argv`]: QEMU's command line
//! - [`qemu`]: what the QEMU that is installed can do, and takes of the line
//! - [`supervisor`]: the task that does it all
//! - [`record`], [`process`]: how a hostd that was killed is followed by one
//!   that knows what to do; QEMU outlives both
//! - [`launch`]: as whom QEMU runs, in which scope, and what it may open:
//!   [`access`]; [`companion`]: the TPM beside it
//! - [`qmp`]: the conversation with QEMU; [`agent`]: that with the guest
//! - [`usb`], [`media`]: devices and discs given to a running guest
//! - [`stats`]: what a running VM takes of the host
//! - [`qmp`]: the conversation with QEMU
//! - [`talk`]: its serial port, picture and keyboard
//! - [`devices`]: the graphics card, lent and given back
//! - [`guests`]: the power button without a supervisor, when the host goes down
//! - [`logs`]: what QEMU and the firmware say, bounded
//! - [`paths`], [`identity`]: where things lie, and what never changes
//! - [`last_good`]: on what it last ran
//! - [`snapshot`]: its disks, firmware and TPM as they were once
//! - [`autostart`], [`unfinished`]: starts with the host, and those that took it down
//! - [`performance`]: what the host does for it while it runs

pub mod access;
pub mod agent;
pub mod argv;
pub mod autostart;
pub mod companion;
pub mod devices;
pub mod guests;
pub mod identity;
pub mod last_good;
pub mod launch;
pub mod lifecycle;
pub mod logs;
pub mod media;
pub mod paths;
pub mod performance;
pub mod plan;
pub mod preflight;
pub mod process;
pub mod qemu;
pub mod qmp;
pub mod record;
pub mod snapshot;
pub mod stats;
pub mod supervisor;
pub mod talk;
pub mod unfinished;
pub mod usb;

pub use plan::preview;
pub use supervisor::{Deps, VmHandle, spawn};

#[cfg(test)]
pub(crate) mod tests;
