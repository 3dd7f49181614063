//! Giving a graphics card to a guest and back to the host.
//!
//! In: the configured cards, the facts of [`pci`](crate::pci), what is on
//! record. Out: writes to sysfs, and a record of each card that is not as the
//! host had it. A card is one slot with all its functions; bridges stay.
//!
//! ```text
//!            bind                every step read back
//!   free ───────────▶ binding ───────────────────────▶ bound ◀─┐ bind again,
//!    ▲                  │ a step failed; crash           │     ┘ another claim
//!    │                  ▼                                │ release
//!    ├──────────── restoring ◀───────────────────────────┘
//!    │ all is           │ something is not as it was
//!    │ as it was        ▼
//!    └──────────────── left: on record, shown, until a person's release succeeds
//! ```
//!
//! A record is written before anything is touched and before each step; it
//! holds what the functions were, so that the way back is computed from it and
//! from what the machine shows, wherever a crash has interrupted. It carries
//! the boot's id and is void after a restart. A write that does not return
//! makes its function *wedged*: nothing touches it again until a person asks.
//!
//! A person's claim and one VM's claim can be on a card at once: a card that a
//! person has bound stays bound when the VM ends. A person cannot take a card from
//! a VM; but the claim of a VM to which an earlier hostd has lent it gives way
//! when nobody has the card open any more: a VM whose file and note are gone
//! would keep it until a restart.
//!
//! - [`handle`]: [`Passthrough`], what others call; read this first
//! - `cards`: what the handle does, one card at a time
//! - [`target`]: which card is meant, and whether it is the right one
//! - `planned`: what a bind is planned from
//! - [`plan`]: steps there and back, pure
//! - [`step`]: what a step is
//! - [`settings`]: what a function is set to for a guest: power, resets, BARs
//! - [`arbiter`]: who has the legacy VGA addresses
//! - [`screen`]: what the host shows on a card
//! - [`perform`]: takes steps, each journalled before and read back after
//! - [`journal`]: the records
//! - [`helper`]: writes that may hang, in a process of their own
//! - [`holders`]: who has a card open, through VFIO or its own driver
//! - [`quirks`]: what is known about which ids, and what of it applies
//! - [`rom`]: option ROMs: read, walked, judged
//! - [`list`]: the cards as a person sees them
//! - [`vfio`]: what VFIO says of groups and devices
//! - [`boot`]: cards on vfio-pci from the first moment of a boot
//! - [`safe`]: `hostd.safe` on the kernel's command line
//! - [`error`]: every no, with its next step

pub mod arbiter;
pub mod boot;
mod cards;
pub mod error;
pub mod handle;
pub mod helper;
pub mod holders;
pub mod journal;
pub mod list;
pub mod perform;
pub mod plan;
mod planned;
pub mod quirks;
pub mod rom;
pub mod safe;
pub mod screen;
pub mod settings;
pub mod step;
pub mod target;
#[cfg(test)]
mod tests;
pub mod vfio;

pub use boot::Boot;
pub use error::PassthroughError;
pub use handle::{Bound, Claim, Dumped, Owner, Passthrough, Released, Reset};
pub use step::Step;
