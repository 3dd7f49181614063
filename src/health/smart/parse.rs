//! What `smartctl --json` says of a disk. Pure; every key may be absent or of
//! another type than it should be, and is then not known.
//!
//! The keys are those of smartmontools 7: ATA attributes by their number (with
//! the first number of `raw.string`, which is as the drive database reads it),
//! the NVMe health log (NVMe 1.4, 5.14.1.2), and SCSI's counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::find::clean;

/// The most JSON that is read.
pub const MAX_BYTES: usize = 256 << 10;
/// The most attributes looked at; ATA has 30.
const MAX_ATTRIBUTES: usize = 64;
/// The most texts kept.
const MAX_TEXTS: usize = 8;

/// Something that a disk counts and that should not rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counter {
    /// Sectors that could not be read and wait to be written (197).
    Pending,
    /// Sectors replaced by spare ones (5, else 196; SCSI's grown defects).
    Reallocated,
    /// Reads that failed for good (187; NVMe's media errors; SCSI's uncorrected).
    Uncorrectable,
    /// Sectors that a scan by the disk itself found unreadable (198).
    Unreadable,
    /// Transfers that were damaged between disk and controller (199).
    Crc,
    /// Commands that took too long (188).
    Timeout,
}

/// What a disk has said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Smart {
    /// As the disk says.
    pub model: String,
    /// As the disk says.
    pub serial: String,
    /// Its own judgement.
    pub passed: Option<bool>,
    /// Attributes that are past their limit now.
    pub failing: Vec<String>,
    /// What it counts.
    pub counters: BTreeMap<Counter, u64>,
    /// Degrees Celsius; not kept.
    #[serde(skip)]
    pub temperature: Option<f64>,
    /// Its own limits: warm, and too warm.
    pub limits: (Option<f64>, Option<f64>),
    /// Hours that it has been powered.
    pub hours: Option<u64>,
    /// Share of its life in writes that is used up.
    pub worn: Option<f64>,
    /// NVMe's bits.
    pub critical_warning: u8,
    /// Percent of spare blocks left, and at which the disk warns.
    pub spare: Option<(u64, u64)>,
    /// How its last self-test failed.
    pub self_test: Option<String>,
}

impl Smart {
    /// Whether it said anything of its health.
    pub fn is_told(&self) -> bool {
        self.passed.is_some() || !self.counters.is_empty() || self.worn.is_some()
    }
}

/// All that one run of `smartctl` has said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Said {
    /// Of the disk.
    pub smart: Smart,
    /// Errors and notes of `smartctl` itself.
    pub messages: Vec<String>,
    /// Whether the disk has SMART at all.
    pub available: Option<bool>,
    /// Whether it is switched on.
    pub enabled: Option<bool>,
}

/// Reads it; an error says what it is not.
pub fn parse(bytes: &[u8]) -> Result<Said, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("printed more than {MAX_BYTES} bytes"));
    }
    // Its depth is bounded by the parser.
    let root: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("printed no JSON: {error}"))?;
    let messages = root.pointer("/smartctl/messages").and_then(Value::as_array);
    let messages = messages.into_iter().flatten().take(MAX_TEXTS);
    Ok(Said {
        messages: messages.filter_map(|message| text(message.get("string")?)).collect(),
        available: flag(&root, "/smart_support/available"),
        enabled: flag(&root, "/smart_support/enabled"),
        smart: smart(&root),
    })
}

fn smart(root: &Value) -> Smart {
    let mut smart = Smart {
        model: root
            .pointer("/model_name")
            .or(root.pointer("/scsi_model_name"))
            .and_then(text)
            .unwrap_or_default(),
        serial: root.pointer("/serial_number").and_then(text).unwrap_or_default(),
        passed: flag(root, "/smart_status/passed"),
        temperature: degrees(root, "/temperature/current"),
        limits: (
            degrees(root, "/nvme_composite_temperature_threshold/warning")
                .or_else(|| degrees(root, "/temperature/op_limit_max")),
            degrees(root, "/nvme_composite_temperature_threshold/critical")
                .or_else(|| degrees(root, "/temperature/critical_limit_max"))
                .or_else(|| degrees(root, "/temperature/drive_trip")),
        ),
        hours: number(root, "/power_on_time/hours"),
        worn: number(root, "/endurance_used/current_percent").map(percent),
        ..Smart::default()
    };
    ata(root, &mut smart);
    nvme(root, &mut smart);
    scsi(root, &mut smart);
    smart
}

fn ata(root: &Value, smart: &mut Smart) {
    let solid = number(root, "/rotation_rate") == Some(0);
    let table = root.pointer("/ata_smart_attributes/table").and_then(Value::as_array);
    let (mut events, mut worn) = (None, None::<u64>);
    for row in table.into_iter().flatten().take(MAX_ATTRIBUTES) {
        let Some(id) = row.get("id").and_then(Value::as_u64) else { continue };
        let name = row.get("name").and_then(text).unwrap_or_default();
        if row.get("when_failed").and_then(Value::as_str) == Some("now") {
            smart.failing.push(name.clone());
        }
        let Some(raw) = raw(row) else { continue };
        let mut count = |counter, value| smart.counters.insert(counter, value);
        match id {
            5 => drop(count(Counter::Reallocated, raw)),
            187 => drop(count(Counter::Uncorrectable, raw)),
            // Some disks put three counts of 16 bits into one number.
            188 => drop(count(Counter::Timeout, raw & 0xffff)),
            196 => events = Some(raw),
            197 => drop(count(Counter::Pending, raw)),
            198 => drop(count(Counter::Unreadable, raw)),
            199 => drop(count(Counter::Crc, raw)),
            190 | 194 if smart.temperature.is_none() => {
                smart.temperature = sane(raw as f64);
            }
            9 if smart.hours.is_none() => smart.hours = Some(raw),
            // The numbers mean other things on other disks; the names tell.
            177 | 202 | 231 | 233 if solid && is_wear(&name) => {
                let left = row.get("value").and_then(Value::as_u64).filter(|left| *left <= 100);
                let used = left.map(|left| 100 - left);
                worn = worn.max(used);
            }
            _ => {}
        }
    }
    if let Some(events) = events {
        smart.counters.entry(Counter::Reallocated).or_insert(events);
    }
    smart.failing.truncate(MAX_TEXTS);
    smart.worn = smart.worn.or(worn.map(percent));
    let tests = "/ata_smart_self_test_log";
    let tests = ["extended", "standard"]
        .iter()
        .find_map(|kind| root.pointer(&format!("{tests}/{kind}/table")))
        .and_then(Value::as_array);
    // The newest comes first; one that was given up says neither.
    let ended = tests.into_iter().flatten().take(MAX_ATTRIBUTES).find_map(|test| {
        let status = test.get("status")?;
        Some((status.get("passed")?.as_bool()?, status.get("string").and_then(text)))
    });
    if let Some((false, words)) = ended {
        smart.self_test = Some(words.unwrap_or_else(|| "it found a fault".to_owned()));
    }
}

fn is_wear(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["wear", "life"].iter().any(|word| name.contains(word))
        && !["write", "read", "gib", "temp"].iter().any(|word| name.contains(word))
}

/// The number that the drive database sees in the six raw bytes.
fn raw(row: &Value) -> Option<u64> {
    let raw = row.get("raw")?;
    let first = |text: &str| {
        let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end)?.parse().ok()
    };
    let text = raw.get("string").and_then(Value::as_str);
    text.and_then(first).or_else(|| raw.get("value")?.as_u64())
}

fn nvme(root: &Value, smart: &mut Smart) {
    let Some(log) = root.get("nvme_smart_health_information_log") else { return };
    let bits = number(log, "/critical_warning").unwrap_or(0);
    smart.critical_warning = u8::try_from(bits & 0xff).unwrap_or(u8::MAX);
    smart.temperature = smart.temperature.or_else(|| degrees(log, "/temperature"));
    smart.hours = smart.hours.or_else(|| number(log, "/power_on_hours"));
    smart.worn = smart.worn.or_else(|| number(log, "/percentage_used").map(percent));
    smart.spare = number(log, "/available_spare").zip(number(log, "/available_spare_threshold"));
    if let Some(errors) = number(log, "/media_errors") {
        smart.counters.insert(Counter::Uncorrectable, errors);
    }
    let tests = root.pointer("/nvme_self_test_log/table").and_then(Value::as_array);
    let ended = tests.into_iter().flatten().take(MAX_ATTRIBUTES).find_map(|test| {
        let result = test.get("self_test_result")?;
        match result.get("value")?.as_u64()? {
            0 => Some(None),
            // A fatal error, a segment that failed, known or not.
            5..=7 => Some(Some(result.get("string").and_then(text))),
            // Given up, or the entry is not used.
            _ => None,
        }
    });
    if let Some(Some(words)) = ended {
        smart.self_test = Some(words.unwrap_or_else(|| "it found a fault".to_owned()));
    }
}

fn scsi(root: &Value, smart: &mut Smart) {
    if let Some(defects) = number(root, "/scsi_grown_defect_list") {
        smart.counters.insert(Counter::Reallocated, defects);
    }
    let total = |kind: &str| {
        number(root, &format!("/scsi_error_counter_log/{kind}/total_uncorrected_errors"))
    };
    let errors = ["read", "write", "verify"].iter().filter_map(|kind| total(kind));
    if let Some(sum) = errors.reduce(u64::saturating_add) {
        smart.counters.insert(Counter::Uncorrectable, sum);
    }
    let used = number(root, "/scsi_percentage_used_endurance_indicator").map(percent);
    smart.worn = smart.worn.or(used);
    let newest = root.pointer("/scsi_self_test_0/result");
    // SPC-4 7.3.21: 3 to 7 are failures.
    let failed = newest.filter(|r| matches!(number(r, "/value"), Some(3..=7)));
    if let Some(result) = failed {
        let words = result.get("string").and_then(text);
        smart.self_test = Some(words.unwrap_or_else(|| "it found a fault".to_owned()));
    }
}

fn text(value: &Value) -> Option<String> {
    Some(clean(value.as_str()?.as_bytes()))
}

fn flag(root: &Value, at: &str) -> Option<bool> {
    root.pointer(at)?.as_bool()
}

fn number(root: &Value, at: &str) -> Option<u64> {
    root.pointer(at)?.as_u64()
}

fn degrees(root: &Value, at: &str) -> Option<f64> {
    sane(root.pointer(at)?.as_f64()?)
}

/// A sensor that is broken or absent says 0, or what nothing survives.
fn sane(degrees: f64) -> Option<f64> {
    (degrees != 0.0 && (-40.0..150.0).contains(&degrees)).then_some(degrees)
}

fn percent(number: u64) -> f64 {
    // More than 255 no disk says.
    number.min(1000) as f64 / 100.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mutated(base: &'static str) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20).prop_map(
            move |edits| {
                let mut bytes = base.as_bytes().to_vec();
                for (at, byte) in edits {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            },
        )
    }

    const ATA: &str = include_str!("../../../tests/fixtures/smart/ata-pending.json");
    const NVME: &str = include_str!("../../../tests/fixtures/smart/nvme-worn.json");

    proptest! {
        #[test]
        fn any_bytes_are_judged_and_what_is_kept_is_bounded(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300), mutated(ATA), mutated(NVME),
            ],
        ) {
            if let Ok(said) = parse(&bytes) {
                prop_assert!(said.messages.len() <= MAX_TEXTS);
                prop_assert!(said.smart.failing.len() <= MAX_TEXTS);
                prop_assert!(!said.smart.model.chars().any(char::is_control));
                prop_assert!(said.smart.temperature.is_none_or(f64::is_finite));
                prop_assert!(said.smart.worn.is_none_or(|worn| (0.0..=10.0).contains(&worn)));
            }
        }
    }

    #[test]
    fn much_and_deep_is_refused() {
        assert!(parse(&vec![b' '; MAX_BYTES + 1]).is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
