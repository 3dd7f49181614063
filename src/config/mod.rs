//! Configuration: the text of some files in, one checked value out, or every
//! problem at once.
//!
//! ```text
//! bytes ─ yaml ─▶ tree ─ check ─▶ JSON of what is sound ─ raw ─▶ host, vm ─▶ Config
//!           │               ▲ │                                    │
//!           │          schema │ (from raw)                         │ meaning
//!           └─ syntax ──▶ structure ──▶ Problems ◀─────────────────┘
//! ```
//!
//! No stage stops the next: a file with a misspelt key, a wrong unit and a
//! missing disk is told all three in one message. Nothing here reads a file or
//! asks the machine: texts come in as [`Source`]s, and a function answers
//! whether a path exists.
//!
//! [`raw`] is the one description of the format: the JSON Schema ([`schema`]),
//! the check ([`check`]), the defaults and the reference page ([`mod@reference`])
//! are made from it. [`types`] is what the rest of the program sees: nothing
//! in it can be invalid any more. Read [`compile`] first.

mod across;
mod advice;
mod care;
mod check;
pub mod compile;
mod desk;
mod disks;
mod events;
mod formats;
mod health;
mod history;
mod host;
mod ids;
pub mod import;
mod moments;
mod nets;
pub mod operators;
mod page;
mod pools;
pub mod problem;
pub mod quirks;
mod raw;
pub mod reference;
mod retentions;
pub mod schema;
mod services;
pub mod show;
mod streams;
#[cfg(test)]
mod tests;
mod text;
mod tree;
pub mod types;
mod upstream;
mod vm;
mod words;
pub mod world;
mod yaml;

pub use compile::{Judged, judge, load, remark};
pub use ids::{PciClass, PciIds};
pub use problem::{Cause, Level, Problem, Problems};
pub use quirks::{Action, Quirk, QuirkFiles, Reset};
pub use show::show;
pub use text::nearest;
pub use types::*;
pub use world::{Existence, Exists, MAX_FILE, Role, Source, is_vm_file, not_asked, vms_folder};
