//! What is usual for a VM of a profile.

use crate::config::raw::{RawClock, RawFirmwareKind, RawProfile};
use crate::config::types::{DiskBus, GuestClock, NicModel, Profile};

/// What is taken where the file says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Usual {
    /// What runs first.
    pub firmware: RawFirmwareKind,
    /// UEFI runs only what is signed.
    pub secure: bool,
    /// A TPM.
    pub tpm: bool,
    /// Hyper-V's enlightenments.
    pub hyperv: bool,
    /// What the clock shows.
    pub clock: GuestClock,
    /// The agent's channel.
    pub agent: bool,
    /// A serial port.
    pub serial: bool,
    /// Legacy VGA on the card.
    pub x_vga: Option<bool>,
    /// What the network card looks like.
    pub nic: NicModel,
    /// What disks hang on.
    pub bus: DiskBus,
}

impl Usual {
    /// As [`RawProfile`]'s words promise.
    pub fn of(profile: Option<RawProfile>) -> Self {
        let plain = Self {
            firmware: RawFirmwareKind::Seabios,
            secure: false,
            tpm: false,
            hyperv: false,
            clock: GuestClock::Utc,
            agent: false,
            serial: false,
            x_vga: None,
            nic: NicModel::Virtio,
            bus: DiskBus::Virtio,
        };
        let uefi = Self { firmware: RawFirmwareKind::Ovmf, agent: true, ..plain };
        let windows = Self { hyperv: true, clock: GuestClock::Local, ..uefi };
        match profile {
            None => plain,
            Some(RawProfile::Windows11) => Self { secure: true, tpm: true, ..windows },
            Some(RawProfile::Windows10) => windows,
            // It has no driver for virtio, and its agent is rarely there.
            Some(RawProfile::Windows7) => Self {
                hyperv: true,
                clock: GuestClock::Local,
                x_vga: Some(true),
                nic: NicModel::E1000e,
                bus: DiskBus::Sata,
                ..plain
            },
            Some(RawProfile::Linux) => Self { serial: true, ..uefi },
        }
    }
}

/// A profile as the rest of the program sees it.
pub fn checked(raw: RawProfile) -> Profile {
    match raw {
        RawProfile::Windows11 => Profile::Windows11,
        RawProfile::Windows10 => Profile::Windows10,
        RawProfile::Windows7 => Profile::Windows7,
        RawProfile::Linux => Profile::Linux,
    }
}

/// A clock as the rest of the program sees it.
pub fn clock(raw: RawClock) -> GuestClock {
    match raw {
        RawClock::Utc => GuestClock::Utc,
        RawClock::Local => GuestClock::Local,
    }
}
