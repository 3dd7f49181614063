//! Sinks: where events go after the index has them. Each takes batches from an
//! [`Inlet`](crate::riemann::Inlet) at its own pace, and a slow one never slows
//! the rest.
//!
//! - [`history`]: numbers with percentiles, and when what was in which state

pub mod history;
