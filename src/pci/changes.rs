//! What has changed between two looks at the bus.

use super::facts::{Device, Facts};
use crate::base::PciAddress;

/// One function that is otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which function.
    pub address: PciAddress,
    /// What has happened.
    pub what: What,
    /// In words.
    pub words: String,
}

/// What has happened to a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is there now.
    Appeared,
    /// It is there no more.
    Vanished,
    /// Another device is at its address.
    Exchanged,
    /// It has this driver now.
    Driver(Option<String>),
}

/// Every function that has appeared, vanished, or changed its driver. A driver
/// that could not be read is no change.
pub fn changes(before: &Facts, now: &Facts) -> Vec<Change> {
    let gone = before.devices.values().filter(|old| !now.devices.contains_key(&old.address));
    let mut changes: Vec<Change> = gone
        .map(|old| {
            let words = format!("{} has vanished; it had {}", name(old), old.driver.in_words());
            Change { address: old.address, what: What::Vanished, words }
        })
        .collect();
    changes
        .extend(now.devices.values().filter_map(|new| one(before.devices.get(&new.address), new)));
    changes
}

fn one(before: Option<&Device>, new: &Device) -> Option<Change> {
    use super::facts::Driver;
    let change = |what, words| Some(Change { address: new.address, what, words });
    let has = new.driver.in_words();
    let Some(old) = before else {
        return change(What::Appeared, format!("{} has appeared, with {has}", name(new)));
    };
    if old.identity() != new.identity() {
        let words = format!("{} is where {} was", name(new), name(old));
        return change(What::Exchanged, words);
    }
    match (&old.driver, &new.driver) {
        (Driver::Unknown(_), _) | (_, Driver::Unknown(_)) => None,
        (before, after) if before == after => None,
        (before, after) => {
            let words = format!("{} has {has}; it had {}", name(new), before.in_words());
            change(What::Driver(after.name().map(str::to_owned)), words)
        }
    }
}

fn name(device: &Device) -> String {
    format!("{} ({})", device.address, device.name.short())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::Driver;

    fn facts(devices: &[(&str, u16, Driver)]) -> Facts {
        let device = |(at, id, driver): &(&str, u16, Driver)| {
            let address: PciAddress = at.parse().unwrap();
            let (vendor, id) = (Some(0x1002), Some(*id));
            let driver = driver.clone();
            (address, Device { vendor, device: id, driver, ..Device::unread(address) })
        };
        Facts { devices: devices.iter().map(device).collect(), ..Facts::default() }
    }

    #[test]
    fn each_kind_of_change_is_told_once() {
        let on = |driver: &str| Driver::Named(driver.to_owned());
        let before = facts(&[
            ("01:00.0", 1, on("amdgpu")),
            ("01:00.1", 2, Driver::None),
            ("02:00.0", 3, Driver::None),
            ("03:00.0", 4, Driver::Unknown("it hangs".to_owned())),
        ]);
        let now = facts(&[
            ("01:00.0", 1, on("vfio-pci")),
            ("02:00.0", 9, Driver::None),
            ("03:00.0", 4, on("nvme")),
            ("04:00.0", 5, on("e1000")),
        ]);
        let said: Vec<_> =
            changes(&before, &now).into_iter().map(|c| (c.address.to_string(), c.what)).collect();
        let vfio = What::Driver(Some("vfio-pci".to_owned()));
        let expected = [
            ("0000:01:00.1", What::Vanished),
            ("0000:01:00.0", vfio),
            ("0000:02:00.0", What::Exchanged),
            ("0000:04:00.0", What::Appeared),
        ];
        assert_eq!(said, expected.map(|(at, what)| (at.to_owned(), what)));
        assert!(changes(&now, &now).is_empty());
    }
}
