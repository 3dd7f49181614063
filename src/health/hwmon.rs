//! `hwmon <chip> <label>`: temperatures and fans.
//! `/sys/class/hwmon` (Documentation/hwmon/sysfs-interface.rst).
//!
//! What a chip has is listed once a minute; each round its values are read.
//! Disks' own sensors (`drivetemp`) are left alone: reading one may wake a disk.
//! What sleeps is not woken either.

use std::collections::BTreeMap;

use super::look::{Look, number};
use crate::base::Severity;
use crate::config::Levels;
use crate::host::folder::{Folder, Page};
use crate::host::sys::SysRoot;

const CLASS: &str = "/sys/class/hwmon";
/// Chips that are looked at, and sensors of all of them.
const CHIPS: usize = 64;
const SENSORS: usize = 512;
/// Rounds that a fan may stand still for before it is told.
const STILL: u32 = 3;
/// A graphics card stops its fans when it is cool.
const GRAPHICS: [&str; 4] = ["amdgpu", "nouveau", "radeon", "xe"];
/// Where `max` is what the fan is steered by and not a limit.
const STEERED: [&str; 2] = ["coretemp", "k10temp"];

/// What a sensor measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Thousandths of a degree.
    Temperature,
    /// Turns a minute.
    Fan,
}

/// `temp1_input` → its kind and `temp1`.
pub fn sensor(file: &str) -> Option<(Kind, &str)> {
    let name = file.strip_suffix("_input")?;
    let kind = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "temp" => Kind::Temperature,
        "fan" => Kind::Fan,
        _ => return None,
    };
    Some((kind, name))
}

/// A temperature that there can be. Inputs with nothing at them say 0, -128,
/// 127 and such.
pub fn sane(degrees: f64) -> bool {
    (-40.0..150.0).contains(&degrees) && ![0.0, 127.0].contains(&degrees)
}

/// From where on it is too warm; `warm` and `crit` are the chip's own limits.
pub fn levels(chip: &str, warm: Option<f64>, crit: Option<f64>) -> Levels {
    let possible = |limit: &f64| (20.0..150.0).contains(limit);
    let crit = crit.filter(possible);
    let warm = warm.filter(possible).filter(|_| !STEERED.contains(&chip));
    let warm = warm.filter(|warm| crit.is_none_or(|crit| *warm < crit));
    let warning = warm.or(crit.map(|crit| crit - 5.0)).unwrap_or(f64::INFINITY);
    Levels::new(warning, crit.unwrap_or(f64::INFINITY))
}

struct Sensor {
    kind: Kind,
    /// `temp1_input`.
    file: String,
    /// There is a file that says whether it is broken.
    fault: Option<String>,
    service: String,
    levels: Levels,
    /// It has said something that can be.
    sane: bool,
    /// A fan that has turned, and for how many rounds it has not.
    turned: bool,
    still: u32,
}

struct Chip {
    folder: Folder,
    name: String,
    /// `device/power/runtime_status`, where it has one.
    sleeps: bool,
    sensors: Vec<Sensor>,
}

/// What is remembered.
#[derive(Default)]
pub struct State {
    chips: BTreeMap<String, Chip>,
    notes: Vec<String>,
    listed: Vec<String>,
}

impl State {
    fn list(&mut self, look: &mut Look<'_>) {
        self.notes.clear();
        let names = match look.sys.list(CLASS) {
            Ok(names) => names,
            Err(error) if error.is_missing() => {
                self.notes.push("no sensors: the kernel has no hwmon here".to_owned());
                Vec::new()
            }
            Err(error) => {
                self.notes.push(format!("sensors may be missing: {}", error.in_full()));
                return;
            }
        };
        // Their names belong to the chips that there are: with others of the
        // same name they change.
        if names != self.listed {
            self.chips.clear();
            self.listed = names;
        }
        for name in self.listed.iter().take(CHIPS) {
            if !self.chips.contains_key(name)
                && let Some(chip) = Chip::read(look.sys, name, look.page)
            {
                self.chips.insert(name.clone(), chip);
            }
        }
        self.name(look.sys);
        let left = self.chips.values().filter(|chip| chip.name == "drivetemp").count();
        if left > 0 {
            self.notes.push(format!("{left} disks' own sensors are read with their health"));
        }
    }

    /// Gives each sensor its service; chips of one name are told apart by
    /// their device.
    fn name(&mut self, sys: &SysRoot) {
        let names: Vec<String> = self.chips.values().map(|chip| chip.name.clone()).collect();
        let mut left = SENSORS;
        for (hwmon, chip) in &mut self.chips {
            let several = names.iter().filter(|name| **name == chip.name).count() > 1;
            let device = sys.link_name(format!("{CLASS}/{hwmon}/device"));
            let place = match device {
                Ok(device) if several => format!("-{device}"),
                Err(_) if several => format!("-{hwmon}"),
                Ok(_) | Err(_) => String::new(),
            };
            chip.sensors.truncate(left);
            left -= chip.sensors.len();
            for sensor in &mut chip.sensors {
                if let Some(label) = sensor.service.strip_prefix('\0') {
                    sensor.service = format!("hwmon {}{place} {label}", chip.name);
                }
            }
        }
    }

    /// One round.
    pub fn round(&mut self, look: &mut Look<'_>) {
        if look.anew {
            self.list(look);
        }
        look.found.notes.extend(self.notes.iter().cloned());
        // A card that is given to a VM takes its chip along.
        self.chips.retain(|hwmon, chip| chip.round(hwmon, look));
    }
}

impl Chip {
    fn read(sys: &SysRoot, hwmon: &str, page: &mut Page) -> Option<Self> {
        let folder = sys.folder(format!("{CLASS}/{hwmon}")).ok()?;
        let name = folder.attribute("name", page).ok()?.trim().to_owned();
        let sleeps = folder.exists("device/power/runtime_status");
        let mut chip = Self { folder, name, sleeps, sensors: Vec::new() };
        if chip.name == "drivetemp" {
            return Some(chip);
        }
        let files = chip.folder.list(".").ok()?;
        for file in &files {
            let Some((kind, name)) = sensor(file) else { continue };
            let mut attribute = |what: &str| {
                let file = format!("{name}_{what}");
                let there = files.binary_search(&file).is_ok();
                let read = there.then(|| chip.folder.attribute(&file, page).ok()).flatten();
                read.map(|text| text.trim().to_owned())
            };
            let label = attribute("label").filter(|label| !label.is_empty());
            let degrees = |text: Option<String>| Some(number::<f64>(&text?)? / 1000.0);
            let levels = match kind {
                Kind::Temperature => {
                    let warm = degrees(attribute("max"));
                    levels(&chip.name, warm, degrees(attribute("crit")))
                }
                Kind::Fan => Levels::new(f64::INFINITY, f64::INFINITY),
            };
            let fault = format!("{name}_fault");
            chip.sensors.push(Sensor {
                kind,
                file: file.clone(),
                fault: files.binary_search(&fault).is_ok().then_some(fault),
                // Marked until its chip has its name.
                service: format!("\0{}", label.as_deref().unwrap_or(name)),
                levels,
                sane: false,
                turned: false,
                still: 0,
            });
        }
        Some(chip)
    }

    /// Whether it is still there.
    fn round(&mut self, hwmon: &str, look: &mut Look<'_>) -> bool {
        if self.sensors.is_empty() {
            return true;
        }
        let asleep = self.sleeps
            && self
                .folder
                .attribute("device/power/runtime_status", look.page)
                .is_ok_and(|status| status.trim() == "suspended");
        if asleep {
            look.found.notes.push(format!("{} sleeps; its sensors are not read", self.name));
            return true;
        }
        let spins_freely = GRAPHICS.contains(&self.name.as_str());
        for sensor in &mut self.sensors {
            let read = sensor.round(&self.folder, spins_freely, look);
            if !read && !look.sys.exists(format!("{CLASS}/{hwmon}/name")) {
                // What was found of it in this round is not wrong, but of no use.
                let gone = |service: &str| self.sensors.iter().any(|one| one.service == service);
                look.found.readings.retain(|reading| !gone(&reading.service));
                return false;
            }
        }
        true
    }
}

impl Sensor {
    /// Whether it could be read.
    fn round(&mut self, folder: &Folder, spins_freely: bool, look: &mut Look<'_>) -> bool {
        let unit = if self.kind == Kind::Fan { "rpm" } else { "°C" };
        let service = self.service.clone();
        let fault = self.fault.as_ref().and_then(|file| folder.attribute(file, look.page).ok());
        if fault.is_some_and(|fault| fault.trim() == "1") {
            look.found.unknown(service, unit, "the chip says that it is broken".to_owned());
            return true;
        }
        let value = match folder.attribute(&self.file, look.page) {
            Ok(text) => number::<f64>(text).ok_or_else(|| "it makes no sense".to_owned()),
            Err(error) => Err(error.why()),
        };
        match (value, self.kind) {
            (Ok(turns), Kind::Fan) => self.fan(turns, spins_freely, look),
            (Ok(thousandths), Kind::Temperature) => self.temperature(thousandths / 1000.0, look),
            (Err(why), _) => {
                look.found.unknown(service, unit, format!("cannot be read: {why}"));
                return false;
            }
        }
        true
    }

    fn temperature(&mut self, degrees: f64, look: &mut Look<'_>) {
        if sane(degrees) {
            self.sane = true;
            let limit = [self.levels.warning, self.levels.critical];
            let limit = limit.into_iter().find(|limit| limit.is_finite());
            let limit = limit.map_or(String::new(), |limit| format!(", at most {limit:.0}"));
            let message = format!("{degrees:.1} °C{limit}");
            look.judged(self.service.clone(), (degrees, "°C"), self.levels, message);
        } else if self.sane {
            let why = format!("says {degrees:.1} °C, which cannot be");
            look.found.unknown(self.service.clone(), "°C", why);
        } else {
            // Nothing is connected there.
            look.found.notes.push(format!("{}: says {degrees:.1} °C; left out", self.service));
        }
    }

    fn fan(&mut self, turns: f64, spins_freely: bool, look: &mut Look<'_>) {
        self.turned |= turns > 0.0;
        self.still = if turns > 0.0 { 0 } else { self.still.saturating_add(1) };
        let stands = self.turned && self.still >= STILL && !spins_freely;
        let (health, message) = if stands {
            (
                Severity::Warning,
                "it stands still, and has turned: look whether it is blocked".into(),
            )
        } else {
            (Severity::Ok, format!("{turns:.0} turns a minute"))
        };
        look.found.told(self.service.clone(), health, (turns, "rpm"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_values_and_limits() {
        assert_eq!(sensor("temp12_input"), Some((Kind::Temperature, "temp12")));
        assert_eq!(sensor("fan1_input"), Some((Kind::Fan, "fan1")));
        assert_eq!(
            (sensor("in0_input"), sensor("temp1_crit"), sensor("_input")),
            (None, None, None)
        );
        for no in [0.0, -128.0, 127.0, 255.0, 1e9, f64::NAN] {
            assert!(!sane(no), "{no}");
        }
        assert!(sane(-5.0) && sane(41.5));
        let none = f64::INFINITY;
        assert_eq!(levels("nvme", Some(81.8), Some(84.8)), Levels::new(81.8, 84.8));
        assert_eq!(levels("coretemp", Some(80.0), Some(100.0)), Levels::new(95.0, 100.0));
        assert_eq!(levels("k10temp", Some(70.0), None), Levels::new(none, none));
        assert_eq!(levels("x", Some(90.0), Some(0.0)), Levels::new(90.0, none));
        assert_eq!(levels("x", Some(65261.0), Some(85.0)), Levels::new(80.0, 85.0));
    }

    proptest! {
        #[test]
        fn never_panics(file: String, a: f64, b: f64) {
            let _ = (sensor(&file), sane(a));
            let levels = levels("chip", Some(a), Some(b));
            prop_assert!(levels.warning <= levels.critical || levels.critical.is_infinite());
        }
    }
}
