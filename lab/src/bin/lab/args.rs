//! The arguments of `lab`.

use anyhow::{Result, anyhow};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use hostd_lab::{Card, CardKind, Forward, Iommu, LabSpec, Tier};
use std::path::PathBuf;

/// A virtual host to try hostd on: a real kernel with an IOMMU, vfio-pci, ZFS.
///
/// The first `lab up` builds the image, which takes ten minutes and root (or
/// sudo). A lab goes on until `lab down`.
#[derive(Parser)]
#[command(
    name = "lab",
    after_help = "\
Examples:
  lab up --disks 6 --card ati --payload target/debug/hostd
  lab exec -- /lab/make-pool 6
  lab unplug disk2
  lab shell
  lab down

Exit codes: 0 done, 1 failed (status: not running), 2 usage, 4 no such lab; exec and shell end with the status of what they ran.
Environment: HOSTD_LAB_CACHE, HOSTD_LAB_ACCEL=tcg|kvm, HOSTD_LAB_AGENT, HOSTD_LAB_MIRROR, TMPDIR; see lab/README.md."
)]
pub struct Args {
    /// Which lab
    #[arg(long, global = true, default_value = "default")]
    pub name: String,
    /// Say nothing when all goes well
    #[arg(long, short, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Boot a lab; returns when it can be used
    Up(Up),
    /// End a lab and remove its disks
    Down,
    /// Say what a lab is doing
    Status {
        #[arg(long)]
        json: bool,
    },
    /// List the labs
    List,
    /// Run a shell command in the lab, as root
    Exec {
        /// Pass standard input on
        #[arg(long)]
        stdin: bool,
        /// Kill it after this many seconds
        #[arg(long, default_value_t = 3600)]
        deadline: u64,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// A shell in the lab
    Shell,
    /// Show the serial console as it goes on
    Console {
        /// Lines of its past
        #[arg(long, short = 'n', default_value_t = 40)]
        lines: usize,
        /// Only what is there already
        #[arg(long)]
        no_follow: bool,
    },
    /// Copy a file into the lab
    Push { file: PathBuf, path: String },
    /// Copy a file out of the lab
    Pull { path: String, file: Option<PathBuf> },
    /// Take a disk or a card away: disk2, card0
    Unplug {
        #[arg(value_parser = thing)]
        thing: Thing,
    },
    /// Put it back, with the data it had
    Plug {
        #[arg(value_parser = thing)]
        thing: Thing,
    },
    /// Plug or unplug the network cable
    Network { to: Switch },
    /// Stop the lab's processors
    Pause,
    /// Let them go on
    Resume,
    /// Reboot from inside
    Reboot,
    /// Kill QEMU at once, as a power cut does; disks stay
    PowerLoss,
    /// Boot again after a power loss
    PowerOn,
    /// A command of QEMU's monitor, its arguments as JSON
    Qmp {
        command: String,
        #[arg(default_value = "{}")]
        arguments: String,
    },
    /// Build the image if it is not there, and print its directory
    Image {
        /// Make the disk of the own-boot tier too
        #[arg(long)]
        boot_disk: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thing {
    Disk(usize),
    Card(usize),
}

#[derive(ClapArgs)]
pub struct Up {
    /// fast: seconds, no systemd; full: systemd and services; own-boot: GRUB and its own initramfs
    #[arg(long, value_parser = ["fast", "full", "own-boot"], default_value = "fast")]
    tier: String,
    #[arg(long, value_parser = ["intel", "amd", "none"], default_value = "intel")]
    iommu: String,
    /// A card with an audio function (again for a second): ati, secondary, boot-vga
    #[arg(long = "card", value_parser = ["ati", "secondary", "boot-vga"])]
    cards: Vec<String>,
    /// The cards have no audio function
    #[arg(long)]
    no_audio: bool,
    /// A PCI bridge with VGA, USB and network behind it: one group
    #[arg(long)]
    shared_group: bool,
    /// Disks for pools: /dev/disk/by-id/virtio-disk0 and so on
    #[arg(long, default_value_t = 0)]
    disks: usize,
    /// MiB of each disk
    #[arg(long, default_value_t = 256)]
    disk_size: u64,
    /// MiB of memory
    #[arg(long, default_value_t = 2048)]
    memory: u64,
    /// Processors (in software they take turns)
    #[arg(long)]
    cpus: Option<u32>,
    /// A USB controller, for `lab qmp device_add`
    #[arg(long)]
    usb: bool,
    /// Files for /payload, which is in PATH there
    #[arg(long, num_args = 1..)]
    payload: Vec<PathBuf>,
    /// A network (only to this machine)
    #[arg(long)]
    network: bool,
    /// Make a TCP port of the lab reachable on 127.0.0.1: GUEST or HOST:GUEST
    #[arg(long, value_parser = forward)]
    forward: Vec<Forward>,
    /// Modules to load at boot
    #[arg(long = "module")]
    modules: Vec<String>,
    /// More kernel arguments
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    cmdline: String,
}

impl Up {
    pub fn spec(self) -> Result<LabSpec> {
        let mut spec = LabSpec::new(match self.tier.as_str() {
            "full" => Tier::Full,
            "own-boot" => Tier::OwnBoot,
            _ => Tier::Fast,
        })
        .disks(self.disks)
        .disk_mib(self.disk_size)
        .memory_mib(self.memory)
        .cmdline(&self.cmdline);
        spec.iommu = match self.iommu.as_str() {
            "amd" => Iommu::Amd,
            "none" => Iommu::None,
            _ => Iommu::Intel,
        };
        spec.cards = self
            .cards
            .iter()
            .map(|card| Card {
                kind: match card.as_str() {
                    "secondary" => CardKind::Secondary0380,
                    "boot-vga" => CardKind::BootVga0300,
                    _ => CardKind::Ati0300,
                },
                audio: !self.no_audio,
            })
            .collect();
        spec.shared_group = self.shared_group;
        spec.cpus = self.cpus;
        spec.usb = self.usb;
        spec.network = self.network || !self.forward.is_empty();
        spec.forwards = self.forward;
        spec.modules = self.modules;
        for file in self.payload {
            let name = file
                .file_name()
                .ok_or_else(|| anyhow!("{} is no file for the payload", file.display()))?
                .to_string_lossy()
                .into_owned();
            spec.payload.push((file.clone(), name));
        }
        spec.check().map_err(|reason| anyhow!("this lab cannot be: {reason}"))?;
        Ok(spec)
    }
}

fn thing(text: &str) -> Result<Thing, String> {
    let number = |digits: &str| digits.parse().map_err(|_| format!("{digits:?} is no number"));
    if let Some(digits) = text.strip_prefix("disk") {
        return number(digits).map(Thing::Disk);
    }
    if let Some(digits) = text.strip_prefix("card") {
        return number(digits).map(Thing::Card);
    }
    Err("say disk0, disk1, … or card0, card1, …".to_owned())
}

fn forward(text: &str) -> Result<Forward, String> {
    let port = |digits: &str| digits.parse::<u16>().map_err(|_| format!("{digits:?} is no port"));
    match text.split_once(':') {
        Some((host, guest)) => Ok(Forward { host: port(host)?, guest: port(guest)? }),
        None => Ok(Forward { host: 0, guest: port(text)? }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn things_and_forwards() {
        assert_eq!(thing("disk12"), Ok(Thing::Disk(12)));
        assert_eq!(thing("card0"), Ok(Thing::Card(0)));
        assert!(thing("disk").is_err() && thing("nic0").is_err());
        assert_eq!(forward("5555"), Ok(Forward { host: 0, guest: 5555 }));
        assert_eq!(forward("15555:5555"), Ok(Forward { host: 15555, guest: 5555 }));
        assert!(forward("70000").is_err());
    }
}
