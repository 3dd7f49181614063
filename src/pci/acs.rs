//! Why a group is as large as it is: the access control services (ACS) of the
//! bridges between its functions and the processor.
//!
//! This only explains. The kernel's grouping decides, and it also knows
//! hardware that isolates without saying so (`pci_dev_specific_acs_enabled` in
//! its `drivers/pci/quirks.c`). What is asked here is what `pci_acs_enabled` in
//! `drivers/pci/pci.c` asks: of a port always, of a device only when it has
//! several functions, of conventional PCI in vain; and of what is offered, all
//! four of source validation, request redirect, completion redirect and
//! upstream forwarding (`REQ_ACS_FLAGS` in `drivers/iommu/iommu.c`).

use std::collections::{BTreeMap, BTreeSet};

use super::config_space::{self, Acs, CONVENTIONAL, Mute, Port, Space};
use super::detail::{NEEDS_ROOT, why};
use super::facts::Group;
use super::read::folder;
use crate::base::PciAddress;
use crate::host::SysRoot;

/// The four services that keep functions apart, by their bit.
const SERVICES: [(u16, &str); 4] = [
    (1 << 0, "source validation"),
    (1 << 2, "request redirect"),
    (1 << 3, "completion redirect"),
    (1 << 4, "upstream forwarding"),
];

/// How a function on the path keeps others apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// All that it offers is on.
    On(Acs),
    /// Something that it offers is off.
    Off(Acs),
    /// PCI Express without the capability.
    Missing,
    /// Conventional PCI, which knows no ACS.
    Conventional,
    /// A device with one function: nothing to keep apart.
    NotNeeded,
    /// Not to be told, and why.
    Unknown(String),
}

/// One function on the path from a group to the processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Which.
    pub address: PciAddress,
    /// What it is; `None` when that cannot be read.
    pub port: Option<Port>,
    /// How it keeps others apart.
    pub standing: Standing,
}

/// The names of the services with a bit in `bits`.
pub fn services(bits: u16) -> Vec<&'static str> {
    SERVICES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

/// What a config space means.
pub fn judge(space: Result<Space, Mute>) -> (Option<Port>, Standing) {
    let space = match space {
        Ok(space) => space,
        Err(Mute::Silent) => return (None, Standing::Unknown("it does not answer".to_owned())),
        Err(Mute::Short(length)) if length < CONVENTIONAL => {
            return (None, Standing::Unknown(NEEDS_ROOT.to_owned()));
        }
        Err(Mute::Short(length)) => {
            let why = format!("only {length} bytes of its config space can be read");
            return (None, Standing::Unknown(why));
        }
    };
    let needed = match space.port {
        None | Some(Port::Bridge) => return (space.port, Standing::Conventional),
        Some(Port::Root | Port::Downstream) => true,
        Some(Port::Endpoint | Port::Upstream | Port::Integrated) => space.multifunction,
        Some(Port::Other(_)) => false,
    };
    let standing = match space.acs {
        _ if !needed => Standing::NotNeeded,
        None => Standing::Missing,
        Some(acs) => {
            let wanted = SERVICES.iter().fold(0, |all, (bit, _)| all | bit) & acs.offered;
            if acs.enabled & wanted == wanted { Standing::On(acs) } else { Standing::Off(acs) }
        }
    };
    (space.port, standing)
}

/// Config spaces that were read once: groups share their bridges.
pub struct Paths<'a> {
    sys: &'a SysRoot,
    seen: BTreeMap<PciAddress, Hop>,
}

impl<'a> Paths<'a> {
    /// Nothing is read yet.
    pub fn new(sys: &'a SysRoot) -> Self {
        Self { sys, seen: BTreeMap::new() }
    }

    /// The functions of a group and all bridges above them, by address. Wakes
    /// them. An error says why the place of a function cannot be told.
    pub fn of(&mut self, group: &Group) -> Result<Vec<Hop>, String> {
        let mut path = BTreeSet::new();
        for address in &group.members {
            path.insert(*address);
            path.extend(self.above(*address)?);
        }
        Ok(path.into_iter().map(|address| self.hop(address)).collect())
    }

    /// The bridges above a function: sysfs keeps each device in the folder of
    /// the bridge that it is behind.
    fn above(&self, address: PciAddress) -> Result<Vec<PciAddress>, String> {
        let place = self.sys.resolve(folder(address)).map_err(|error| why(&error))?;
        if !place.starts_with("/sys/devices") {
            return Err(format!("{address} has no place in /sys/devices"));
        }
        let folders = place.parent().into_iter().flat_map(std::path::Path::components);
        let names = folders.filter_map(|folder| folder.as_os_str().to_str()?.parse().ok());
        Ok(names.collect())
    }

    fn hop(&mut self, address: PciAddress) -> Hop {
        if let Some(hop) = self.seen.get(&address) {
            return hop.clone();
        }
        let limit = config_space::WHOLE as u64;
        let read = self.sys.bytes(format!("{}/config", folder(address)), limit);
        let (port, standing) = match read {
            Ok(bytes) => judge(config_space::parse(&bytes)),
            Err(error) => (None, Standing::Unknown(why(&error))),
        };
        let hop = Hop { address, port, standing };
        self.seen.insert(address, hop.clone());
        hop
    }
}

/// What a function on the path does, in words.
pub fn in_words(hop: &Hop) -> String {
    let who = match hop.port {
        Some(port) => format!("{} ({})", hop.address, port.in_words()),
        None => hop.address.to_string(),
    };
    let all = SERVICES.map(|(_, name)| name).join(", ");
    match &hop.standing {
        Standing::On(acs) => format!("{who}: ACS is on ({})", services(acs.enabled).join(", ")),
        Standing::Off(acs) => {
            let off = services(acs.offered & !acs.enabled).join(", ");
            format!("{who}: ACS is there, but off: {off}; look for ACS in the firmware setup")
        }
        Standing::Missing => format!(
            "{who}: has no ACS, so no {all}; what is behind it, or beside it in its slot, can \
             reach its neighbours without the IOMMU"
        ),
        Standing::Conventional => {
            format!("{who}: is conventional PCI, which has no ACS; all behind it stay together")
        }
        Standing::NotNeeded => format!("{who}: one function, which needs no ACS"),
        Standing::Unknown(why) => format!("{who}: ACS unknown ({why})"),
    }
}

/// Why the functions of a group are together, as far as the path shows.
pub fn explain(path: &[Hop]) -> Vec<String> {
    let amiss = path.iter().filter(|hop| match hop.standing {
        Standing::Off(_) | Standing::Missing | Standing::Conventional | Standing::Unknown(_) => {
            true
        }
        Standing::On(_) | Standing::NotNeeded => false,
    });
    let mut said: Vec<String> = amiss.map(in_words).collect();
    if said.is_empty() {
        said.push(
            "all bridges on the path have ACS on: something else keeps these together, such as \
             a device that uses its neighbour's address"
                .to_owned(),
        );
    }
    said.push(QUIRKS.to_owned());
    said
}

/// What the hardware says where the kernel was told to pretend.
pub fn explain_override(path: &[Hop]) -> Vec<String> {
    let keeps = |hop: &Hop| matches!(hop.standing, Standing::On(_) | Standing::NotNeeded);
    if path.iter().all(keeps) {
        let said = "all bridges on the path have ACS on: the hardware may keep this group apart \
                    without the override; start the kernel once without it to see";
        return vec![said.to_owned()];
    }
    let mut said: Vec<String> = path.iter().filter(|hop| !keeps(hop)).map(in_words).collect();
    said.push(QUIRKS.to_owned());
    said
}

/// What the bits do not show.
const QUIRKS: &str = "the kernel's grouping decides; it also knows hardware that isolates without \
                      saying so, and grants it ACS by quirk";
