//! VMs: from a file to a running guest and back.
pub mod argv;
pub mod identity;
pub mod paths;
pub mod qmp;

#[cfg(test)]
pub(crate) mod tests;
