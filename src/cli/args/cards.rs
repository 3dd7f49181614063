//! The words about groups, cards and the boot setup.

use std::path::PathBuf;

use clap::Subcommand;

/// `hostctl iommu`.
#[derive(Debug, Subcommand)]
pub enum Iommu {
    /// All groups, with a verdict on each
    ///
    /// Works without a daemon, and wakes no device. Exit code 1 when there are no
    /// groups: the IOMMU is off.
    List {
        /// Everything about all groups, as `iommu show` has it; wakes devices
        #[arg(long)]
        full: bool,
    },
    /// One group in full: each device, its links, BARs and ways to reset it,
    /// why they are together, and what could be done
    ///
    /// For example: hostctl iommu show 11
    ///
    /// Works without a daemon; what only root may read is then unknown to
    /// others. Wakes devices that sleep. Exit code 1 when the group cannot be
    /// given to a VM as it is.
    Show {
        /// The group's number, from `hostctl iommu list`
        #[arg(value_parser = group)]
        group: u32,
    },
}

fn group(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a group's number is wanted, from `hostctl iommu list`".to_owned())
}

/// `hostctl gpu`.
#[derive(Debug, Subcommand)]
pub enum Gpu {
    /// All graphics cards and what they are bound to
    ///
    /// Works without a daemon. Exit code 1 when a card has problems left to
    /// resolve, or cards could not be read.
    List,
    /// What is known to go wrong with these cards, and what to do about it
    ///
    /// hostd's own list, then the files in /etc/hostd/quirks.d. Works without a
    /// daemon. Exit code 1 when a file is left out or something could not be read.
    ///
    /// With --json: {"gpus":[{"name","address","quirks":[{"function","id",
    /// "action","why","source","experimental"}]}],"notes":[…]}
    Quirks {
        /// Name or address; all cards when left out
        gpu: Option<String>,
    },
    /// ROM files: check them, and read them out of a card
    #[command(subcommand)]
    Rom(Rom),
    /// The steps that `bind`, or `release`, would take; nothing is touched
    ///
    /// For example: hostctl gpu plan --release
    ///
    /// Works without a daemon; as root it knows what hostd has on record, and
    /// who uses the card.
    Plan {
        /// Name or address; the only card when left out
        gpu: Option<String>,
        /// Plan the way back instead
        #[arg(long)]
        release: bool,
    },
    /// Give a card, with all its functions, to vfio-pci
    ///
    /// For example: hostctl gpu bind 0000:01:00.0
    Bind {
        /// Name or address; the only card when left out
        gpu: Option<String>,
    },
    /// Reset a bound card that no VM uses, with all its functions at once
    ///
    /// For a card that a guest has left in a bad state. It is looked at
    /// afterwards: one that does not answer needs the power switched off.
    Reset {
        /// Name or address; the only card when left out
        gpu: Option<String>,
    },
    /// Give a card back to the drivers it had
    Release {
        /// Name or address; the only card when left out
        gpu: Option<String>,
    },
}

/// `hostctl gpu rom`.
#[derive(Debug, Subcommand)]
pub enum Rom {
    /// Check a ROM file: every image, its ids, lengths, checksum and EFI part
    ///
    /// For example: hostctl gpu rom check card.rom --gpu gaming
    ///
    /// Works without a daemon. Exit code 1 when something is wrong or missing.
    ///
    /// With --json: {"file","gpu","size","usable","written",
    /// "header":{"length","nvidia"}|null,"images":[{"offset","length","kind",
    /// "vendor","device","devices","last","checksum","machine"}],
    /// "findings":[{"severity","code","object","message","advice"}],"notes":[…]}
    Check {
        /// The ROM
        file: PathBuf,
        /// The card that it is meant for: name or address
        #[arg(long, conflicts_with = "host")]
        gpu: Option<String>,
        /// Write it here without what stands before its first image
        #[arg(long, value_name = "OUT")]
        strip: Option<PathBuf>,
    },
    /// Read the ROM out of a card into a file, if it is good
    ///
    /// For example: hostctl gpu rom dump gaming gaming.rom
    ///
    /// The card must not be in use by a VM. Without a daemon this needs root.
    /// What no guest may be given is not written. Exit code 1 when something is
    /// wrong or missing. The keys of --json are those of `check`.
    Dump {
        /// Name or address
        gpu: String,
        /// Where it goes
        file: PathBuf,
        /// Leave out what stands before the first image
        #[arg(long)]
        strip: bool,
    },
}

/// `hostctl boot`.
#[derive(Debug, Subcommand)]
pub enum Boot {
    /// What `setup`, or `remove`, would change, as a diff; nothing is touched
    ///
    /// For example: hostctl boot plan gaming
    ///
    /// Works without a daemon; as root it knows what was set up before.
    #[command(
        override_usage = "hostctl boot plan [OPTIONS] [GPUS]...\n       hostctl boot plan [OPTIONS] --remove"
    )]
    Plan {
        /// Names or addresses; all configured cards when left out
        gpus: Vec<String>,
        /// Plan the removal instead: of all that is set up
        #[arg(long, conflicts_with = "gpus")]
        remove: bool,
    },
    /// Set cards up to be on vfio-pci from the next boot on
    ///
    /// A udev rule, options for modules, the initramfs and the kernel's command
    /// line, all undone if a step fails. Cards that are not named are taken
    /// out. The initramfs is built anew, which may take minutes. Without a
    /// daemon this needs root.
    ///
    /// When a card without its driver freezes the machine: add `hostd.safe` to
    /// the kernel's command line in the boot loader (in GRUB's menu: `e`), and
    /// nothing is bound.
    Setup {
        /// Names or addresses; all configured cards when left out
        gpus: Vec<String>,
    },
    /// Take the boot setup away: the host's drivers have the cards again
    Remove,
    /// Whether the boot setup is there, and has worked since the reboot
    ///
    /// Works without a daemon; the record and the kernel's log need root. Exit
    /// code 1 when something is missing, was changed, has not worked or cannot
    /// be read.
    Status,
}
