//! The cards as a person sees them: what the machine shows, and what the
//! records say about it. Only what the kernel answers from memory is read, so
//! that a card that hangs does not keep the list; the link beside it, but only
//! of a card that is awake.

use std::collections::BTreeSet;

use super::arbiter;
use super::journal::{Journal, Phase, Record, boot_id};
use super::plan::VFIO;
use super::target::{self, Target};
use crate::ask::view::{CardView, GpuView, GpusView, PartView, Verdict};
use crate::base::{PciAddress, with_sources};
use crate::config::Gpu;
use crate::host::Host;
use crate::pci::detail::{self, Attribute};
use crate::pci::judge::{self, Judgement};
use crate::pci::names::class_name;
use crate::pci::read::DEVICES;
use crate::pci::view::{boot_display, class, link_view};
use crate::pci::{Device, Facts};

/// Configured cards, then other display devices, then slots that only a
/// record knows. `busy`: a card is being changed at this moment.
pub fn view(host: &Host, journal: &Journal, facts: &Facts, gpus: &[Gpu], busy: bool) -> GpusView {
    let configured = target::configured(gpus).into_iter();
    let mut targets: Vec<Target> =
        configured.map(|target| target::follow(facts, target).0).collect();
    let recorded = journal.slots();
    let displays = facts.devices.values().filter(|device| device.is_display());
    let others: BTreeSet<PciAddress> = displays
        .map(|device| device.address.with_function(0))
        .chain(recorded.iter().flatten().copied())
        .filter(|slot| !targets.iter().any(|target| target.slot == *slot))
        .collect();
    targets.extend(others.into_iter().map(Target::unnamed));
    let mut gpus: Vec<GpuView> =
        targets.iter().map(|target| card(host, journal, facts, target, busy)).collect();
    if let Err(error) = recorded {
        let problem = format!("the records cannot be listed: {error}");
        for gpu in &mut gpus {
            gpu.problems.push(problem.clone());
        }
    }
    GpusView { gpus, notes: notes(host, facts) }
}

/// What could not be read. A machine without a PCI bus has no cards, which is
/// no such case.
fn notes(host: &Host, facts: &Facts) -> Vec<String> {
    match host.sys.list(DEVICES) {
        Err(error) if error.is_missing() && host.sys.exists("/sys/bus") => Vec::new(),
        Ok(_) | Err(_) => facts.notes.clone(),
    }
}

fn card(host: &Host, journal: &Journal, facts: &Facts, target: &Target, busy: bool) -> GpuView {
    let mut problems = Vec::new();
    let shown: Vec<&Device> = facts.slot(target.slot).filter(|d| !d.is_bridge()).collect();
    if let Err(error) = target::identify(facts, target) {
        let hint = error.hint();
        problems.push(format!("{error}. {hint}"));
        // It may be there and not have been read.
        problems.extend(facts.notes.iter().take(3).cloned());
    }
    match (journal.load(target.slot), boot_id(&host.sys)) {
        (Err(error), _) => problems.push(with_sources(&error)),
        (Ok(Some(_)), Err(error)) => {
            problems.push(format!("on record, but not to be judged: {error}"));
        }
        (Ok(Some(record)), Ok(boot)) if record.boot == boot => {
            problems.extend(on_record(&record, facts, busy));
        }
        // A record of an earlier boot is void.
        (Ok(None | Some(_)), _) => {}
    }
    let first = shown.first();
    GpuView {
        name: target.name.clone(),
        address: target.slot,
        model: first.map_or_else(String::new, |device| device.name.with_board()),
        functions: shown.iter().map(|device| device.address).collect(),
        driver: first.and_then(|device| device.driver.name()).map(str::to_owned),
        group: first.and_then(|device| device.group),
        bound: !shown.is_empty() && shown.iter().all(|d| d.driver.name() == Some(VFIO)),
        problems,
        card: whole(host, facts, &shown),
    }
}

/// The card as one thing: its functions, the verdict on their groups, its link
/// and BARs. The link is in config space, so it is read only of a card that is
/// awake: the list wakes nothing.
fn whole(host: &Host, facts: &Facts, shown: &[&Device]) -> CardView {
    let Some(first) = shown.first() else { return CardView::default() };
    let groups: BTreeSet<u32> = shown.iter().filter_map(|device| device.group).collect();
    let judged: Vec<Judgement> = groups
        .iter()
        .filter_map(|id| facts.groups.get(id))
        .map(|group| judge::verdict(facts, group))
        .collect();
    let worst = judged.iter().max_by_key(|judgement| badness(judgement.verdict));
    let display = shown.iter().find(|device| device.is_display()).unwrap_or(first);
    let detail = detail::asleep(&host.sys, display.address);
    let bars = detail.bars.known().unwrap_or_default();
    let memory = bars.iter().filter(|bar| !bar.resource.is_io());
    let (link, max_link) = (detail.link.known(), detail.max_link.known());
    let mut warnings = Vec::new();
    if display.boot_vga == Some(true) {
        warnings.push(boot_display("the card"));
    }
    if groups.is_empty() {
        warnings.push("it is in no IOMMU group, so it cannot be given away".to_owned());
    }
    if judged.iter().any(|judgement| judgement.by_override) {
        warnings.push(
            "isolated by override, not by hardware: a guest may reach the memory of other devices"
                .to_owned(),
        );
    }
    if let (Some(now), Some(best)) = (&link, &max_link)
        && now.width < best.width
    {
        warnings.push(format!(
            "the link has {} of {} lanes: look at the slot, and at what shares its lanes",
            now.width, best.width
        ));
    }
    let rom = match &detail.rom {
        Attribute::Known(rom) => Some(!rom.is_shadow()),
        Attribute::Absent => Some(false),
        Attribute::Unknown(_) => None,
    };
    if let Attribute::Known(rom) = &detail.rom
        && rom.is_shadow()
    {
        warnings.push(
            "its ROM is hidden by the copy that firmware left in memory; a guest needs a ROM file"
                .to_owned(),
        );
    }
    CardView {
        parts: shown.iter().map(|device| part(device)).collect(),
        groups: groups.into_iter().collect(),
        verdict: worst.map(|judgement| judgement.verdict),
        reason: worst.map_or_else(String::new, |judgement| judgement.reason.clone()),
        boot_vga: display.boot_vga,
        link: link.map(link_view),
        max_link: max_link.map(link_view),
        vram_bar: memory.map(|bar| bar.resource.size).max(),
        rom,
        vga_arbiter: arbiter::of(&host.sys, display.address).map(|legacy| legacy.to_string()),
        warnings,
    }
}

fn badness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Isolated => 0,
        Verdict::Shared => 1,
        Verdict::Blocked => 2,
    }
}

fn part(device: &Device) -> PartView {
    PartView {
        address: device.address,
        class: class(device),
        class_name: device.class.map_or_else(String::new, class_name),
        name: device.name.full(),
        driver: device.driver.name().map(str::to_owned),
        group: device.group,
    }
}

fn on_record(record: &Record, facts: &Facts, busy: bool) -> Vec<String> {
    match record.phase {
        Phase::Bound => drift(record, facts),
        Phase::Left => record.problems.clone(),
        Phase::Binding | Phase::Restoring => {
            let step = record.step.as_ref().map_or_else(String::new, |step| format!(": {step}"));
            if busy {
                vec![format!("being changed at this moment{step}")]
            } else {
                vec![format!("a change was interrupted{step}")]
            }
        }
    }
}

/// What is otherwise than a record of a bound card says.
pub fn drift(record: &Record, facts: &Facts) -> Vec<String> {
    let mut said = Vec::new();
    for saved in &record.functions {
        let address = saved.address;
        match facts.devices.get(&address) {
            None => said.push(format!("{address} is gone from the bus while bound")),
            Some(device) if device.identity() != saved.identity => {
                said.push(format!("{address} is another device than the one that was bound"));
            }
            Some(device) if device.driver.name() != Some(VFIO) => said.push(format!(
                "{address} has {} although hostd has bound it: somebody else changed it",
                device.driver.in_words()
            )),
            Some(_) => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::fake::FakeHost;
    use crate::passthrough::Passthrough;
    use crate::pci::fake::{FakeDevice, FakePci};

    fn at(text: &str) -> PciAddress {
        text.parse().unwrap()
    }

    fn machine() -> (tempfile::TempDir, FakePci) {
        let dir = tempfile::tempdir().unwrap();
        let pci = FakePci::new(Arc::new(FakeHost::new(dir.path()))).unwrap();
        pci.plug_lab_card().unwrap();
        (dir, pci)
    }

    async fn card(pci: &FakePci) -> GpuView {
        let [gpu] = <[GpuView; 1]>::try_from(list(pci).await).unwrap();
        gpu
    }

    async fn list(pci: &FakePci) -> Vec<GpuView> {
        Passthrough::new(pci.host(), Vec::new()).list().await.gpus
    }

    /// The picture's attributes on a machine that is awake, or asleep.
    fn talk(pci: &FakePci, power: &str) {
        let bars = "0x00000000e0000000 0x00000000efffffff 0x000000000014220c\n\
                    0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                    0x00000000f0000000 0x00000000f01fffff 0x000000000014220c\n\
                    0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                    0x000000000000e000 0x000000000000e0ff 0x0000000000040101\n\
                    0x00000000f7e00000 0x00000000f7e3ffff 0x0000000000040200\n\
                    0x00000000000c0000 0x00000000000dffff 0x0000000000000212\n";
        for (name, text) in [
            ("resource", bars),
            ("power_state", power),
            ("current_link_speed", "8.0 GT/s PCIe\n"),
            ("current_link_width", "8\n"),
            ("max_link_speed", "8.0 GT/s PCIe\n"),
            ("max_link_width", "16\n"),
            ("boot_vga", "1\n"),
        ] {
            pci.attribute(at("01:00.0"), name, text).unwrap();
        }
    }

    #[tokio::test]
    async fn a_card_is_one_thing_with_all_its_functions() {
        let (_dir, pci) = machine();
        talk(&pci, "D0\n");
        let gpu = card(&pci).await;
        assert_eq!(gpu.functions, [at("01:00.0"), at("01:00.1")]);
        let CardView { parts, groups, verdict, boot_vga, vram_bar, rom, warnings, .. } = gpu.card;
        let parts: Vec<_> = parts
            .iter()
            .map(|part| (part.class_name.as_str(), part.driver.as_deref(), part.group))
            .collect();
        assert_eq!(
            parts,
            [
                ("VGA compatible controller", Some("aty128fb"), Some(11)),
                ("Audio device", Some("snd_hda_intel"), Some(11))
            ]
        );
        assert_eq!((groups, verdict), (vec![11], Some(Verdict::Isolated)));
        assert_eq!((boot_vga, vram_bar, rom), (Some(true), Some(256 << 20), Some(false)));
        let warnings = warnings.join("\n");
        for words in ["the card is the boot display", "8 of 16 lanes", "its ROM is hidden"] {
            assert!(warnings.contains(words), "{words}: {warnings}");
        }
        assert_eq!(gpu.problems, Vec::<String>::new(), "what is to know is no problem");
    }

    #[tokio::test]
    async fn a_card_that_sleeps_is_left_asleep() {
        let (_dir, pci) = machine();
        talk(&pci, "D3cold\n");
        let gpu = card(&pci).await;
        assert_eq!((&gpu.card.link, &gpu.card.max_link), (&None, &None));
        assert_eq!(gpu.card.vram_bar, Some(256 << 20), "that is in the kernel's memory");
        pci.deny("resource");
        let gpu = card(&pci).await;
        assert_eq!((gpu.card.vram_bar, gpu.card.rom), (None, None));
    }

    #[tokio::test]
    async fn the_worst_group_and_an_override_are_said() {
        let (_dir, pci) = machine();
        pci.fake.file("/proc/cmdline", "pcie_acs_override=downstream\n").unwrap();
        let gpu = card(&pci).await;
        assert_eq!(gpu.card.verdict, Some(Verdict::Isolated));
        assert!(gpu.card.warnings[0].starts_with("isolated by override, not by hardware"));
        let other = FakeDevice {
            address: at("01:00.2"),
            id: (0x1002, 0x7316),
            class: 0x0c_0330,
            group: Some(12),
            natural: None,
            boot_vga: None,
        };
        pci.plug(&other).unwrap();
        let beside = FakeDevice { address: at("02:00.0"), ..other };
        pci.plug(&beside).unwrap();
        let gpu = card(&pci).await;
        assert_eq!((gpu.card.groups, gpu.card.verdict), (vec![11, 12], Some(Verdict::Shared)));
        assert!(gpu.card.reason.contains("0000:02:00.0"), "{}", gpu.card.reason);
    }

    #[tokio::test]
    async fn a_card_outside_all_groups_cannot_be_given_away() {
        let (_dir, pci) = machine();
        let card = FakeDevice {
            address: at("09:00.0"),
            id: (0x1002, 0x5046),
            class: 0x03_0000,
            group: None,
            natural: None,
            boot_vga: None,
        };
        pci.plug(&card).unwrap();
        let gpu = list(&pci).await.remove(1);
        assert_eq!((gpu.group, gpu.card.verdict), (None, None));
        assert!(gpu.card.warnings[0].contains("in no IOMMU group"), "{:?}", gpu.card.warnings);
    }
}
