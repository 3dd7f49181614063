//! The words of `hostctl vm snapshot`.

use clap::Subcommand;

use crate::base::Name;

/// `hostctl vm snapshot`.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// All snapshots of a VM
    ///
    /// Exit code 1 when one of them is not whole.
    List {
        /// The VM
        name: Name,
    },
    /// Make a snapshot of all disks at one moment, whether the VM runs or not
    ///
    /// UEFI variables and TPM state are in it; disks that the guest cannot
    /// write are not. Disks have to be zvols or qcow2 images. A guest that runs
    /// stands still for a moment.
    ///
    /// For example: hostctl vm snapshot create gaming before-update
    Create {
        /// The VM
        name: Name,
        /// What it will be called; the time when left out
        snapshot: Option<Name>,
    },
    /// Take a VM back to a snapshot: what was written since is lost
    ///
    /// The VM has to be off. ZFS goes back over newer snapshots only by
    /// destroying them: with --yes, and only if hostd has made them all.
    Revert {
        /// The VM
        name: Name,
        /// The snapshot
        snapshot: Name,
        /// Destroy newer snapshots that hostd has made
        #[arg(long)]
        yes: bool,
    },
    /// Remove a snapshot that hostd has made
    Delete {
        /// The VM
        name: Name,
        /// The snapshot
        snapshot: Name,
    },
}
