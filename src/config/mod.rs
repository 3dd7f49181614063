//! Configuration: YAML text in, one checked value out, or every problem at once.
//!
//! [`types`] is what the rest of the program sees: nothing in it can be
//! invalid any more.

pub mod types;

pub use types::*;
