//! The words that every room shares; imports nothing.
//!
//! - [`address`]: PCI addresses, `0000:01:00.0`
//! - [`bytes`]: sizes with binary units, `16G`
//! - [`mod@error`]: an error with its sources, in words
//! - [`event`]: the Riemann event, the shape of everything the daemon knows
//! - [`mod@hex`]: bytes as text, where a document has to carry them
//! - [`mod@meminfo`]: the kernel's numbers of memory
//! - [`mountinfo`]: the kernel's table of mounts
//! - [`names`]: names that become file names and bus paths, checked once
//! - [`mod@octal`]: octal escapes of the kernel's tables
//! - [`reading`]: a value that may be stale or unknown; unknown is never green
//! - [`severity`]: ok, warning, critical, unknown
//! - [`span`]: durations as people write them, `30s`
//! - [`time`]: points in time, microseconds since 1970

pub mod address;
pub mod bytes;
pub mod error;
pub mod event;
pub mod hex;
pub mod meminfo;
pub mod mountinfo;
pub mod names;
pub mod octal;
pub mod reading;
pub mod severity;
pub mod span;
pub mod time;

pub use address::PciAddress;
pub use bytes::Bytes;
pub use error::with_sources;
pub use event::{Event, Metric};
pub use meminfo::meminfo;
pub use names::Name;
pub use octal::octal;
pub use reading::Reading;
pub use severity::Severity;
pub use time::Timestamp;
