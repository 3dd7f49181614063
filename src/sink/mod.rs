//! Where events go outwards.
//!
//! - [`metrics`]: `/metrics`, for Prometheus to fetch

pub mod metrics;
