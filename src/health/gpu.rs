//! `gpu <card> …` of cards that the host has for itself: how busy, how full, how
//! fast. amdgpu's `gpu_busy_percent` and `mem_info_vram_*`
//! (Documentation/gpu/amdgpu), i915's `gt_act_freq_mhz`. A card that sleeps is not
//! woken, and one that a VM has is the VM's. Temperatures are with the sensors.

use super::look::{Look, number};
use super::rate::percent;
use crate::base::{Bytes, Severity};
use crate::host::folder::Folder;

const CLASS: &str = "/sys/class/drm";
/// The most that are looked at.
const MOST: usize = 16;

struct Card {
    name: String,
    folder: Folder,
    busy: bool,
    memory: bool,
    frequency: bool,
    sleeps: bool,
}

/// What is remembered.
#[derive(Default)]
pub struct State {
    cards: Vec<Card>,
}

/// `card0`, not `card0-HDMI-A-1`.
fn is_card(name: &str) -> bool {
    name.strip_prefix("card")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

impl State {
    fn list(&mut self, look: &Look<'_>) {
        // No graphics card is nothing special.
        let names = look.sys.list(CLASS).unwrap_or_default();
        let card = |name: String| {
            let folder = look.sys.folder(format!("{CLASS}/{name}")).ok()?;
            let driver = folder.link_name("device/driver").ok()?;
            let card = Card {
                busy: folder.exists("device/gpu_busy_percent"),
                memory: folder.exists("device/mem_info_vram_used"),
                frequency: folder.exists("gt_act_freq_mhz"),
                sleeps: folder.exists("device/power/runtime_status"),
                name,
                folder,
            };
            let says = card.busy || card.memory || card.frequency;
            (says && driver != "vfio-pci").then_some(card)
        };
        let cards = names.into_iter().filter(|name| is_card(name));
        self.cards = cards.take(MOST).filter_map(card).collect();
    }

    /// One round.
    pub fn round(&mut self, look: &mut Look<'_>) {
        if look.anew {
            self.list(look);
        }
        for card in &self.cards {
            // One that was given to a VM meanwhile is not missed.
            if look.sys.exists(format!("{CLASS}/{}", card.name)) {
                card.round(look);
            }
        }
    }
}

impl Card {
    fn round(&self, look: &mut Look<'_>) {
        let Self { name, folder, .. } = self;
        if self.sleeps
            && folder
                .attribute("device/power/runtime_status", look.page)
                .is_ok_and(|status| status.trim() != "active")
        {
            look.found.notes.push(format!("gpu {name} sleeps and is not woken"));
            return;
        }
        let mut read = |file: &str| match folder.attribute(file, look.page) {
            Ok(text) => number::<u64>(text).ok_or_else(|| "it makes no sense".to_owned()),
            Err(error) => Err(format!("cannot be read: {}", error.why())),
        };
        if self.busy {
            let service = format!("gpu {name} busy");
            match read("device/gpu_busy_percent") {
                Ok(busy) => {
                    let busy = busy.min(100) as f64 / 100.0;
                    let message = format!("{} busy", percent(busy));
                    look.found.told(service, Severity::Ok, (busy, "fraction"), message);
                }
                Err(why) => look.found.unknown(service, "fraction", why),
            }
        }
        if self.memory {
            let service = format!("gpu {name} memory");
            let all = read("device/mem_info_vram_total").ok().filter(|all| *all > 0);
            match (read("device/mem_info_vram_used"), all) {
                (Ok(used), Some(all)) => {
                    let share = used.min(all) as f64 / all as f64;
                    let message = format!("{} of {} used", percent(share), Bytes(all));
                    look.found.told(service, Severity::Ok, (share, "fraction"), message);
                }
                (Ok(_), None) => {
                    let why = "how much memory it has cannot be read".to_owned();
                    look.found.unknown(service, "fraction", why);
                }
                (Err(why), _) => look.found.unknown(service, "fraction", why),
            }
        }
        if self.frequency {
            let service = format!("gpu {name} frequency");
            match read("gt_act_freq_mhz") {
                Ok(mhz) => {
                    let (hertz, message) = (mhz as f64 * 1e6, format!("{mhz} MHz"));
                    look.found.told(service, Severity::Ok, (hertz, "Hz"), message);
                }
                Err(why) => look.found.unknown(service, "Hz", why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn connectors_are_no_cards() {
        let is = ["card0", "card12", "card", "card0-DP-1", "renderD128"].map(super::is_card);
        assert_eq!(is, [true, true, false, false, false]);
    }
}
