//! Configuration.
pub mod problem;
mod formats;
mod raw;
pub mod schema;
mod text;
mod tree;
mod yaml;
pub mod types;

pub use types::*;
