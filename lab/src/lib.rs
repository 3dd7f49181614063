//! hostd-lab: the virtual host that hostd is tested on. A Debian with a real
//! kernel, IOMMU, vfio-pci and ZFS, in a QEMU that needs none of these itself.
//!
//! ```no_run
//! use hostd_lab::{CardKind, Lab, LabSpec};
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::boot(LabSpec::fast().card(CardKind::Ati0300).disks(6))?;
//! lab.run_ok("/lab/make-pool 6")?;
//! lab.unplug_disk(2)?;
//! assert!(lab.run_ok("zpool status tank")?.contains("DEGRADED"));
//! # Ok(()) }
//! ```
//!
//! - [`spec`]      what a lab is made of
//! - [`argv`]      the same as arguments of QEMU, and where each device sits
//! - [`lab`]       a running lab: commands, files, disks, power
//! - [`machine`]   the QEMU process
//! - [`client`]    the agent's other end; [`wire`] the protocol between them
//! - [`qmp`]       QEMU's monitor
//! - [`image`], [`payload`], [`boot_disk`]   the disks it boots from
//! - [`accel`]     KVM or TCG
//! - `bin/lab`     all of this for a person; `bin/lab-agent` inside the guest
//!
//! Blocking, with threads: tests are, and so is a person. Every wait has an end.

pub mod accel;
pub mod argv;
pub mod boot_disk;
pub mod client;
pub mod image;
pub mod lab;
pub mod machine;
pub mod payload;
pub mod qmp;
pub mod spec;
pub mod wire;

pub use client::Output;
pub use lab::Lab;
pub use spec::{Card, CardKind, Forward, Iommu, LabSpec, Tier};
