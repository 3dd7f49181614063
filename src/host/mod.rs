//! The one door to the machine, and its fake.
//!
//! A [`Host`] value carries everything a room may touch: the system root
//! ([`sys`]: sysfs, procfs and other files below one folder; [`folder`]: many
//! small ones of them), the command runner ([`run`]), processes that others
//! started ([`process`]), the clock ([`clock`]), the dialler ([`dial`]) and the
//! state folder ([`store`]). There is no global and no `cfg(test)` swap: a fake
//! machine is an ordinary value ([`fake`]), and `--sysroot DIR` comes free.
//! Long-lived children that are to run as somebody else are held back first
//! ([`launch`]); [`owner`] gives them files, [`tap`] network interfaces. Children
//! that are listened to for long are in [`follow`].
//! Beside it: sockets that others connect to ([`listen`]), locks against a
//! second process ([`lock`]), the user database ([`users`]), systemd
//! ([`units`]), commands that carry a connection ([`carry`]), how processors
//! belong together and who runs where ([`topology`], [`cpus`], [`affinity`]), how
//! full file systems are ([`space`]), files that grow at their end ([`spool`]), the kernel's clock ([`timex`]), and
//! the ioctls of KVM and VFIO ([`kvm`], [`vfio`]). Text and bytes come out of here, never
//! judgements.
//!
//! Read [`sys`] first.

pub mod affinity;
pub mod carry;
pub mod clock;
pub mod cpus;
pub mod dial;
pub mod fake;
pub mod folder;
pub mod follow;
pub mod kvm;
pub mod launch;
pub mod listen;
pub mod lock;
pub mod owner;
pub mod process;
pub mod run;
pub mod space;
pub mod spool;
pub mod store;
pub mod sys;
pub mod systemd;
pub mod tap;
pub mod timex;
pub mod topology;
pub mod uevent;
pub mod units;
pub mod users;
pub mod vfio;

use std::path::PathBuf;
use std::sync::Arc;

pub use clock::Clock;
pub use dial::Dial;
pub use folder::Folder;
pub use process::{Process, Processes};
pub use run::{Command, Runner};
pub use store::Store;
pub use sys::SysRoot;
pub use units::Units;

/// The machine, as a value that is cheap to clone.
#[derive(Clone)]
pub struct Host {
    /// Files of the machine.
    pub sys: SysRoot,
    /// Commands.
    pub runner: Arc<dyn Runner>,
    /// Processes that may not be our children.
    pub processes: Arc<dyn Processes>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Connections outwards.
    pub dial: Arc<dyn Dial>,
    /// systemd.
    pub units: Arc<dyn Units>,
    /// What survives a restart: `/var/lib/hostd`.
    pub state: Store,
    /// What lives until the next boot: `/run/hostd`.
    pub runtime: Store,
}

impl Host {
    /// The real machine under `sysroot` (`/` for the one we run on).
    pub fn real(sysroot: PathBuf, state: PathBuf, runtime: PathBuf) -> Self {
        let sys = SysRoot::new(sysroot);
        Self {
            units: Arc::new(systemd::Systemd::new(&sys)),
            sys,
            runner: Arc::new(run::RealRunner::default()),
            processes: Arc::new(process::RealProcesses),
            clock: Arc::new(clock::RealClock),
            dial: Arc::new(dial::RealDial),
            state: Store::new(state),
            runtime: Store::new(runtime),
        }
    }

    /// The same, with a binary that children can be held back with.
    #[must_use]
    pub fn with_launcher(mut self, launcher: PathBuf) -> Self {
        self.runner = Arc::new(run::RealRunner::with_launcher(launcher));
        self
    }
}
