//! VMs: from a file to a running guest and back.
pub mod argv;
pub mod devices;
pub mod identity;
pub mod lifecycle;
pub mod paths;
pub mod plan;
pub mod preflight;
pub mod process;
pub mod qmp;
pub mod record;
pub mod supervisor;

#[cfg(test)]
pub(crate) mod tests;
