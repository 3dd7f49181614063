//! What a function says of itself beyond what the list needs.
//!
//! Nothing here waits for a device's lock, which a driver that hangs in its
//! unbind holds for ever (`uevent` in newer kernels and `driver_override` do).
//! Three kinds, after the kernel's `drivers/pci/pci-sysfs.c`:
//! - From the kernel's memory: `reset_method`, `numa_node`, `resource`,
//!   `power_state`, `d3cold_allowed`.
//! - From config space, for which the kernel wakes the function and the bridges
//!   above it: `current_link_*`, `max_link_*`, `resourceN_resize`. Read only
//!   when a person asks for a group in full, or of a function that is awake.
//! - Config space itself (`config`): only for [`acs`](super::acs).

use super::parse::{self, Resource};
use super::read::{attribute, folder};
use crate::base::PciAddress;
use crate::host::SysRoot;
use crate::host::sys::SysError;

/// An attribute: known, not offered by this kernel for this function, or not
/// to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute<T> {
    /// Read.
    Known(T),
    /// The kernel does not offer it.
    Absent,
    /// It is there, or may be, and why it cannot be read.
    Unknown(String),
}

impl<T> Attribute<T> {
    /// The value, if it is known.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }
}

/// What a person has to do where only root may look.
pub const NEEDS_ROOT: &str = "needs root";

/// Why a file cannot be read, in a word or two.
pub fn why(error: &SysError) -> String {
    match error {
        SysError::Denied(_) => NEEDS_ROOT.to_owned(),
        SysError::Missing(_) | SysError::Invalid { .. } | SysError::Io { .. } => error.why(),
    }
}

/// A link: `8.0 GT/s`, 16 lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// As the kernel writes it.
    pub speed: String,
    /// Lanes.
    pub width: u8,
}

/// A BAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// Where, how large, what kind.
    pub resource: Resource,
    /// The sizes that it can have.
    pub sizes: Attribute<Vec<u64>>,
}

/// All that is told of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// Ways to reset it, in the order in which the kernel tries them.
    pub reset_methods: Attribute<Vec<String>>,
    /// Its NUMA node; absent on a machine with one.
    pub numa_node: Attribute<u32>,
    /// The link as it is now.
    pub link: Attribute<Link>,
    /// The best that the function can do.
    pub max_link: Attribute<Link>,
    /// Its BARs.
    pub bars: Attribute<Vec<Bar>>,
    /// Its ROM's BAR.
    pub rom: Attribute<Resource>,
    /// `D0` when awake.
    pub power_state: Attribute<String>,
    /// Whether it may lose its power.
    pub d3cold_allowed: Attribute<bool>,
}

/// Reads all of it; wakes the function and the bridges above it.
pub fn read(sys: &SysRoot, address: PciAddress) -> Detail {
    let at = folder(address);
    let resources = resources(sys, &at);
    Detail {
        reset_methods: one(sys, &format!("{at}/reset_method"), parse::words),
        numa_node: numa_node(one(sys, &format!("{at}/numa_node"), |text| text.parse().ok())),
        link: link(sys, &at, "current"),
        max_link: link(sys, &at, "max"),
        bars: bars(&resources, |index| {
            one(sys, &format!("{at}/resource{index}_resize"), parse::sizes)
        }),
        rom: rom(resources),
        power_state: power_state(sys, address),
        d3cold_allowed: one(sys, &format!("{at}/d3cold_allowed"), parse::flag),
    }
}

/// What is known of a function without waking it: BARs without their other
/// sizes, the ROM, and the link where the function is awake anyway.
pub fn asleep(sys: &SysRoot, address: PciAddress) -> Detail {
    let at = folder(address);
    let resources = resources(sys, &at);
    let power_state = power_state(sys, address);
    let awake = matches!(&power_state, Attribute::Known(state) if state == "D0");
    let link = |which| {
        if awake {
            link(sys, &at, which)
        } else {
            Attribute::Unknown("it sleeps, and asking would wake it".to_owned())
        }
    };
    Detail {
        reset_methods: Attribute::Absent,
        numa_node: Attribute::Absent,
        link: link("current"),
        max_link: link("max"),
        bars: bars(&resources, |_| Attribute::Absent),
        rom: rom(resources),
        power_state,
        d3cold_allowed: Attribute::Absent,
    }
}

/// One attribute. A function that has gone offers nothing, which is not the
/// same as a kernel that does not.
fn one<T>(sys: &SysRoot, path: &str, parse: impl FnOnce(&str) -> Option<T>) -> Attribute<T> {
    match attribute(sys, path) {
        Ok(text) => parse(text.trim()).map_or_else(
            || {
                let said: String = text.trim().chars().take(40).collect();
                Attribute::Unknown(format!("`{said}` is not understood"))
            },
            Attribute::Known,
        ),
        Err(error) if error.is_missing() => Attribute::Absent,
        Err(error) => Attribute::Unknown(why(&error)),
    }
}

/// Every kernel offers these; a tree without them is a poor copy.
fn resources(sys: &SysRoot, at: &str) -> Attribute<Vec<Resource>> {
    match one(sys, &format!("{at}/resource"), parse::resources) {
        Attribute::Absent => Attribute::Unknown("the file `resource` does not exist".to_owned()),
        said @ (Attribute::Known(_) | Attribute::Unknown(_)) => said,
    }
}

fn power_state(sys: &SysRoot, address: PciAddress) -> Attribute<String> {
    let one_word = |text: &str| <[String; 1]>::try_from(parse::words(text)?).ok();
    match one(sys, &format!("{}/power_state", folder(address)), one_word) {
        Attribute::Known([state]) => Attribute::Known(state),
        Attribute::Absent => Attribute::Absent,
        Attribute::Unknown(why) => Attribute::Unknown(why),
    }
}

/// The kernel says -1 where there is only one node or firmware names none.
fn numa_node(said: Attribute<i64>) -> Attribute<u32> {
    match said {
        Attribute::Known(-1) | Attribute::Absent => Attribute::Absent,
        Attribute::Known(node) => match u32::try_from(node) {
            Ok(node) => Attribute::Known(node),
            Err(_) => Attribute::Unknown(format!("`{node}` is not understood")),
        },
        Attribute::Unknown(why) => Attribute::Unknown(why),
    }
}

/// A function without a link says width 0, or 255 for what the kernel cannot tell.
fn link(sys: &SysRoot, at: &str, which: &str) -> Attribute<Link> {
    let width = one(sys, &format!("{at}/{which}_link_width"), |text| text.parse::<u8>().ok());
    let speed = one(sys, &format!("{at}/{which}_link_speed"), |text| {
        Some(if text.starts_with("Unknown") { None } else { Some(parse::link_speed(text)?) })
    });
    match (speed, width) {
        (Attribute::Unknown(why), _) | (_, Attribute::Unknown(why)) => Attribute::Unknown(why),
        (Attribute::Known(Some(speed)), Attribute::Known(width)) if !matches!(width, 0 | 255) => {
            Attribute::Known(Link { speed, width })
        }
        (Attribute::Known(_) | Attribute::Absent, Attribute::Known(_) | Attribute::Absent) => {
            Attribute::Absent
        }
    }
}

fn bars(
    resources: &Attribute<Vec<Resource>>,
    sizes: impl Fn(u8) -> Attribute<Vec<u64>>,
) -> Attribute<Vec<Bar>> {
    match resources {
        Attribute::Known(all) => {
            let bars = all.iter().filter(|resource| resource.index < parse::ROM);
            let bar = |&resource: &Resource| Bar { resource, sizes: sizes(resource.index) };
            Attribute::Known(bars.map(bar).collect())
        }
        Attribute::Absent => Attribute::Absent,
        Attribute::Unknown(why) => Attribute::Unknown(why.clone()),
    }
}

fn rom(resources: Attribute<Vec<Resource>>) -> Attribute<Resource> {
    match resources {
        Attribute::Known(all) => all
            .into_iter()
            .find(|resource| resource.index == parse::ROM)
            .map_or(Attribute::Absent, Attribute::Known),
        Attribute::Absent => Attribute::Absent,
        Attribute::Unknown(why) => Attribute::Unknown(why),
    }
}
