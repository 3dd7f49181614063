//! The words of the command line.

mod cards;
mod event;
mod history;
mod snapshot;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::base::Name;

pub use cards::{Boot, Gpu, Iommu, Rom};
pub use event::{Event, Sent};
pub use history::{History, Span};
pub use snapshot::Snapshot;

const HELP: &str = "\
Examples:
  hostctl status                    everything at a glance
  hostctl vm start gaming           give the card to the VM and start it
  hostctl pool status               pools, what they still tolerate, what to do
  hostctl --host ssh://me@nas vm list

Exit codes:
  0  fine, or done
  1  findings: something is degraded or could not be read (each command's
     --help says when)
  2  the command line or the configuration is wrong
  3  denied: you have not the right
  4  no hostd answers
  5  refused by the state of things, or tried and failed

With --json every answer is one JSON document on standard output; an error is
{\"error\":{\"code\",\"message\",\"hint\"}}, with the same exit code.";

/// Talk to hostd, the daemon for GPU passthrough, VMs, ZFS pools and services.
#[derive(Debug, Parser)]
#[command(name = "hostctl", version, after_help = HELP, after_long_help = HELP)]
#[command(arg_required_else_help = true, subcommand_required = false, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Talk to the hostd of another machine, through ssh
    ///
    /// `ssh://user@nas`, `ssh://nas:2222`. hostctl has to be installed there;
    /// the rights are those of the account there.
    #[arg(long, global = true, value_name = "URL", value_parser = host, conflicts_with = "socket")]
    pub host: Option<String>,
    /// Talk over this private socket instead of looking for hostd
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Say nothing but the answer and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show progress even when standard error is not a terminal
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Colour severities
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Carry standard input and output to the private socket (for --host).
    #[arg(long, hide = true)]
    pub stdio: bool,
    /// Read the machine below this folder when no daemon answers.
    #[arg(long, global = true, hide = true, default_value = "/", value_name = "DIR")]
    pub sysroot: PathBuf,
    /// The configuration to use when no daemon answers.
    #[arg(long, global = true, hide = true, default_value = CONFIG, value_name = "FILE")]
    pub config: PathBuf,
}

const CONFIG: &str = "/etc/hostd/host.yaml";

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal that wants it.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything at a glance, worst first
    ///
    /// Exit code 1 when anything is not ok.
    Status,
    /// Check everything that decides whether a VM with a card will work
    ///
    /// IOMMU, KVM (tried with a small guest), VFIO, the cards and who uses
    /// them, memory, the processor, VMs and what has changed since they ran. Each
    /// check says what was seen and what to type. Works without a daemon; what
    /// only root or the daemon can see is `unknown` then. Exit code 1 when
    /// anything is not ok.
    ///
    /// With --json: {"checks":[{"id","status","evidence","fix","title",
    /// "object","theme"}],"notes":[…]}
    Doctor {
        /// Open the devices of cards on vfio-pci that no VM has: this resets them
        #[arg(long)]
        probe: bool,
    },
    /// IOMMU groups: what can be given to a VM, and what stands in the way
    #[command(subcommand)]
    Iommu(Iommu),
    /// Graphics cards: give them to vfio-pci and back
    #[command(subcommand)]
    Gpu(Gpu),
    /// Cards on vfio-pci from the first moment of a boot
    #[command(subcommand)]
    Boot(Boot),
    /// VMs: start, stop, look
    #[command(subcommand)]
    Vm(Vm),
    /// USB devices of the host
    #[command(subcommand)]
    Usb(Usb),
    /// ZFS pools: health, and how many failures they still tolerate
    #[command(subcommand)]
    Pool(Pool),
    /// Disks: their health, and which pool each is in
    #[command(subcommand)]
    Disk(Disk),
    /// The machine itself: processors, memory, mounts, network, temperatures
    #[command(subcommand)]
    Host(Machine),
    /// What hostd does for pools by itself: scrubs and snapshots
    #[command(subcommand)]
    Care(Care),
    /// Watched services: SMB, AFP, Plex and the like
    #[command(subcommand)]
    Service(Service),
    /// Events: everything hostd knows, as Riemann events
    #[command(subcommand)]
    Event(Event),
    /// What was: numbers with percentiles, states and availability
    #[command(subcommand)]
    History(History),
    /// The configuration: check it, show it, print its schema
    #[command(subcommand)]
    Config(Config),
    /// Print the completion script of a shell
    ///
    /// For example: `hostctl completions bash > /etc/bash_completion.d/hostctl`
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `hostctl vm`.
#[derive(Debug, Subcommand)]
pub enum Vm {
    /// All VMs and their states
    ///
    /// Exit code 1 when one has crashed or failed.
    List,
    /// Start a VM, with its card; returns when it runs
    ///
    /// For example: hostctl vm start gaming
    Start {
        /// The VM
        name: Name,
    },
    /// Ask the guest to shut down; returns when it is off
    ///
    /// The guest gets the power button and the time that the VM's file gives
    /// it. What happens then is also in that file: the VM stays, or QEMU quits.
    Stop {
        /// The VM
        name: Name,
        /// Quit QEMU at the deadline, whatever the VM's file says
        #[arg(long)]
        force: bool,
    },
    /// Stop a VM if it runs, then start it; returns when it runs
    ///
    /// For a change of its file to take effect. `vm reset` is for a guest that
    /// hangs.
    Restart {
        /// The VM
        name: Name,
        /// Quit QEMU at the deadline, whatever the VM's file says
        #[arg(long)]
        force: bool,
    },
    /// Halt the guest where it is; `vm resume` lets it go on
    ///
    /// The guest keeps its memory and its card, and notices nothing but the
    /// time that has passed.
    Pause {
        /// The VM
        name: Name,
    },
    /// Let a paused guest go on, or wake one that sleeps
    Resume {
        /// The VM
        name: Name,
    },
    /// Press the reset button: the guest may lose data
    Reset {
        /// The VM
        name: Name,
    },
    /// Have the guest write its memory to its own disk and switch itself off
    ///
    /// Needs the guest agent, and hibernation turned on in the guest. QEMU
    /// itself cannot save a guest that has a card.
    Hibernate {
        /// The VM
        name: Name,
    },
    /// End QEMU at once, as if the power went: the guest may lose data
    Kill {
        /// The VM
        name: Name,
    },
    /// One VM in full
    ///
    /// Exit code 1 when it has crashed or failed.
    Status {
        /// The VM
        name: Name,
    },
    /// Give a device of the host to a running VM, until it stops
    ///
    /// For example: hostctl vm attach gaming usb 046d:c52b
    Attach {
        /// The VM
        name: Name,
        /// What kind of device
        #[arg(value_enum)]
        kind: Attachable,
        /// Its id, its port, or a part of its name, as in `hostctl usb list`
        device: String,
    },
    /// Take a device back from a running VM
    Detach {
        /// The VM
        name: Name,
        /// What kind of device
        #[arg(value_enum)]
        kind: Attachable,
        /// Its id, its port, or a part of its name, as in `hostctl usb list`
        device: String,
    },
    /// Put another disc into a CD-ROM drive of a running VM, or take it out
    ///
    /// For example: hostctl vm media gaming virtio-win.iso
    Media {
        /// The VM
        name: Name,
        /// The image of the disc, on the VM's host
        #[arg(required_unless_present = "eject")]
        file: Option<PathBuf>,
        /// The drive; the only one when left out
        #[arg(long)]
        drive: Option<String>,
        /// Leave the drive empty
        #[arg(long, conflicts_with = "file")]
        eject: bool,
        /// Do not wait for a guest that holds the tray closed
        #[arg(long)]
        force: bool,
    },
    /// What a start would do, step by step, and what stands against it
    ///
    /// Nothing is touched. All problems at once, each with what to do; QEMU's
    /// binary is asked what it can do. Works without a daemon. Exit code 1 when
    /// there are problems.
    Plan {
        /// The VM
        name: Name,
    },
    /// QEMU's command line, as a shell would take it
    ///
    /// With zeros where each start has a token of its own. Works without a
    /// daemon.
    Argv {
        /// The VM
        name: Name,
    },
    /// Snapshots of a VM's disks, firmware variables and TPM state
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// The end of what QEMU has said
    Log {
        /// The VM
        name: Name,
        /// What the firmware has said on its debug port instead
        #[arg(long)]
        firmware: bool,
        /// What the guest has written to its serial port instead
        #[arg(long, conflicts_with = "firmware")]
        serial: bool,
    },
    /// Talk to the guest's serial port; Ctrl-] leaves
    ///
    /// Examples:
    ///   hostctl vm console gaming
    ///   echo uptime | hostctl vm console nas-guest
    ///
    /// Needs `serial` in the VM's file. One person at a time. When standard
    /// input is not a terminal it is sent as it is, and hostctl leaves when the
    /// guest has been silent for 2 seconds after its end.
    #[command(verbatim_doc_comment)]
    Console {
        /// The VM
        name: Name,
        /// Take it from whoever has it now
        #[arg(long)]
        take: bool,
        /// Stay after the end of standard input
        #[arg(long)]
        follow: bool,
    },
    /// Save the guest's picture as PNG
    ///
    /// Of a graphics card that QEMU makes; that of a card which was given to
    /// the VM is on the card's own screen.
    Screenshot {
        /// The VM
        name: Name,
        /// Where to; `-` is standard output [default: NAME-TIME.png]
        file: Option<PathBuf>,
    },
    /// Press keys of the guest's keyboard
    ///
    /// Examples:
    ///   hostctl vm sendkey gaming ctrl-alt-delete
    ///   hostctl vm sendkey gaming meta_l-r --text notepad
    ///   hostctl vm sendkey gaming --text hello ; hostctl vm sendkey gaming ret
    ///
    /// Keys have QEMU's names: a, 1, f1, ret, spc, minus, ctrl, alt, shift, `meta_l`.
    #[command(verbatim_doc_comment)]
    Sendkey {
        /// The VM
        name: Name,
        /// Keys that are pressed together are joined by `-`
        #[arg(required_unless_present = "text")]
        keys: Vec<String>,
        /// Then type this, on a US keyboard
        #[arg(long, default_value = "", hide_default_value = true)]
        text: String,
        /// How long each is held, in milliseconds
        #[arg(long, value_name = "MS")]
        hold: Option<u32>,
    },
    /// Make a VM file of a VM of libvirt or Proxmox
    ///
    /// For example: hostctl vm import win11.xml > /etc/hostd/vms/win11.yaml
    ///
    /// Reads what `virsh dumpxml --inactive NAME` prints, or
    /// /etc/pve/qemu-server/NUMBER.conf. The file goes to standard output, what
    /// could not be carried or has to be done by hand to standard error. Works
    /// without a daemon, and writes nothing.
    ///
    /// With --json: {"name","from","yaml","notes":[{"line","what","message"}]}
    Import {
        /// The domain's XML, or Proxmox's configuration
        #[arg(conflicts_with = "host")]
        file: PathBuf,
        /// The VM's name instead of the one it has
        #[arg(long)]
        name: Option<Name>,
    },
}

/// A kind of device that a running VM can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attachable {
    /// A USB device
    Usb,
}

/// `hostctl usb`.
#[derive(Debug, Subcommand)]
pub enum Usb {
    /// What is plugged in, but hubs, and which VM has it
    ///
    /// Works without a daemon, which alone knows the VMs. Exit code 1 when it
    /// could not be read.
    List,
}

/// `hostctl pool`.
#[derive(Debug, Subcommand)]
pub enum Pool {
    /// All pools, one line each
    ///
    /// Works without a daemon. Exit code 1 when one is not ok or could not be read.
    List,
    /// Pools in full: vdevs, findings, and what to do
    ///
    /// For example: hostctl pool status tank
    ///
    /// Works without a daemon. Exit code 1 when one is not ok or could not be
    /// read.
    Status {
        /// One pool; all when left out
        name: Option<String>,
        /// Judge a saved `zpool status -j --json-int` or `zpool status -p` instead
        #[arg(long, value_name = "FILE", conflicts_with = "host")]
        from: Option<PathBuf>,
    },
    /// Scrubs: read everything on a pool and mend what is wrong
    #[command(subcommand)]
    Scrub(Scrub),
}

/// `hostctl pool scrub`.
#[derive(Debug, Subcommand)]
pub enum Scrub {
    /// Start a scrub, or let a paused one go on; returns when it runs
    Start {
        /// The pool
        pool: String,
    },
    /// Halt a scrub where it is
    Pause {
        /// The pool
        pool: String,
    },
    /// Give a scrub up
    Stop {
        /// The pool
        pool: String,
    },
    /// When each pool was and will be scrubbed, and what holds it back
    ///
    /// Exit code 1 when one is overdue or found errors.
    Status,
}

/// `hostctl disk`.
#[derive(Debug, Subcommand)]
pub enum Disk {
    /// All disks, one line each
    ///
    /// Exit code 1 when one is not ok or could not be read.
    List,
    /// Disks in full, with findings and what to do
    ///
    /// A disk that sleeps is not woken: it shows what it last told. Exit code 1
    /// when one is not ok or could not be read.
    Status {
        /// One disk: `sda`; all when left out
        name: Option<String>,
    },
}

/// `hostctl host`.
#[derive(Debug, Subcommand)]
pub enum Machine {
    /// What is measured, under the names that its events have
    ///
    /// Works without a daemon, and then measures for a second. Exit code 1 when something is not ok.
    Status,
}

/// `hostctl care`.
#[derive(Debug, Subcommand)]
pub enum Care {
    /// Each job: when it was done, when it is due, what holds it back
    ///
    /// Exit code 1 when one is not ok.
    List,
}

/// `hostctl service`.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// All watched services
    ///
    /// Exit code 1 when one is not ok.
    List,
    /// Services in full: each layer, what is served, and what to do
    ///
    /// For example: hostctl service status smb
    ///
    /// Exit code 1 when one is not ok.
    Status {
        /// One service; all when left out
        name: Option<String>,
    },
    /// Restart the unit or container of a service
    ///
    /// For example: hostctl service restart smb
    Restart {
        /// The service, as `hostctl service list` calls it
        name: String,
    },
}

/// `hostctl config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check the configuration: all problems at once, with line and column
    ///
    /// Works without a daemon, on the files as they are now. Exit code 2 when
    /// there are problems.
    Check {
        /// `host.yaml`, or the folder it is in; a VM file is checked with its `host.yaml`
        #[arg(default_value = CONFIG)]
        file: PathBuf,
    },
    /// Print the checked configuration with every default filled in
    Show {
        /// `host.yaml`, or the folder it is in
        #[arg(default_value = CONFIG)]
        file: PathBuf,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema {
        /// Which kind of file
        #[arg(value_enum, default_value = "host")]
        of: SchemaOf,
    },
}

/// A kind of configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// host.yaml
    Host,
    /// vms/NAME.yaml
    Vm,
}

/// An ssh destination that cannot be taken for an option or a second word.
fn host(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("ssh://")
        .ok_or_else(|| "it has to look like ssh://user@nas".to_owned())?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@:[]%".contains(c);
    let good = !rest.is_empty() && rest.chars().all(plain) && !rest.starts_with('-');
    if good && !rest.contains("@-") {
        Ok(text.to_owned())
    } else {
        Err("it has to look like ssh://user@nas or ssh://nas:2222".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_words_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_host_is_never_an_option_of_ssh() {
        for good in ["ssh://me@nas", "ssh://nas:2222", "ssh://me@[fe80::1%eth0]:22"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in
            ["nas", "ssh://", "ssh://-oProxyCommand=x", "ssh://me@-x", "ssh://a b", "ssh://a;b"]
        {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn help_teaches() {
        insta::assert_snapshot!("help", Cli::command().term_width(80).render_help());
        let mut cli = Cli::command().term_width(80);
        cli.build();
        let vm = cli.find_subcommand_mut("vm").unwrap();
        let stop = vm.find_subcommand_mut("stop").unwrap();
        insta::assert_snapshot!("help_vm_stop", stop.render_long_help());
    }
}
