//! What a bind would do, worked out from the machine as it is now. Nothing is
//! touched here.

use super::cards::{Cards, unreadable};
use super::error::PassthroughError;
use super::journal::Record;
use super::perform::{self, drivers, look};
use super::plan::{self, From, There};
use super::settings::{self, Needs};
use super::target::{self, Leaving, Target};
use super::{holders, rom, screen};
use crate::ask::view::FindingView;
use crate::base::{PciAddress, Severity};
use crate::config::GpuOptions;
use crate::pci::{Device, Facts};

/// The unit that every distribution's display manager answers to.
const DISPLAY_MANAGER: &str = "display-manager.service";

/// What a bind would do, and what it was planned from.
pub(super) struct Planned {
    pub(super) there: There,
    pub(super) facts: Facts,
    pub(super) leaving: Leaving,
    pub(super) needs: Needs,
    /// Who uses the card and would not be told.
    pub(super) users: Vec<String>,
}

impl Cards {
    pub(super) async fn plan_there(
        &self,
        target: &Target,
        record: Option<&Record>,
        options: &GpuOptions,
    ) -> Result<Planned, PassthroughError> {
        let facts = self.facts().await;
        let leaving = target::leaving(&facts, target)?;
        let (all, sys) = (leaving.all(), &self.host.sys);
        let devices: Vec<&Device> = all.iter().filter_map(|at| facts.devices.get(at)).collect();
        let mut needs = settings::needs(sys, &devices, &self.quirks);
        if let Some(first) = leaving.card.first() {
            let fail = |source| PassthroughError::Bar { gpu: target.name.clone(), source };
            needs
                .wanted
                .extend(settings::resized(sys, *first, options.resizable_bar).map_err(fail)?);
        }
        let rom = self.rom(target, &devices, options)?;
        let now = look(&self.host, &all).await.map_err(|e| unreadable(target, e))?;
        let screen = screen::of(sys, &all);
        let taken = now.iter().any(|function| !function.is_on_vfio());
        let stops = target.stop_display_manager
            && taken
            && perform::is_active(&self.host, DISPLAY_MANAGER).await;
        let display_manager = stops.then_some(DISPLAY_MANAGER);
        let drivers = drivers(&self.host);
        let mut there = plan::there(&From {
            now: &now,
            needs: &needs,
            screen: &screen,
            display_manager,
            on_record: record,
            drivers: &drivers,
        });
        let touched: Vec<PciAddress> = now
            .iter()
            .filter(|function| !function.is_on_vfio())
            .map(|function| function.address)
            .collect();
        let users = holders::users(sys, &touched);
        let said = [leaving.warnings.clone(), target::warnings(&facts, &all, &screen), rom];
        there.warnings.extend(said.concat());
        if !there.steps.is_empty() {
            there.warnings.append(&mut needs.warnings);
            there.warnings.extend(users.listening.iter().map(|process| {
                format!("{process} listens to its sound controls and is told that they leave")
            }));
        }
        let users = if display_manager.is_some() { Vec::new() } else { users.working };
        Ok(Planned { there, facts, leaving, needs, users })
    }

    /// Checks the ROM that the VM's file names; what is only to be known.
    fn rom(
        &self,
        target: &Target,
        devices: &[&Device],
        options: &GpuOptions,
    ) -> Result<Vec<String>, PassthroughError> {
        let Some(path) = &options.rom else { return Ok(Vec::new()) };
        let file = path.display().to_string();
        let bad = |why| {
            let (gpu, file) = (target.name.clone(), path.display().to_string());
            PassthroughError::BadRom { gpu, file, why }
        };
        let read = self.host.sys.bytes(path, rom::parse::MAX as u64);
        let bytes = read.map_err(|error| bad(vec![error.to_string()]))?;
        let card = rom::Card::of(&target.name, devices.first().copied());
        let view = rom::view(&file, &bytes, Some(&card));
        let words = |found: &FindingView| format!("{}: {}", found.object, found.message);
        if view.usable {
            Ok(view.findings.iter().map(|found| format!("{file}: {}", words(found))).collect())
        } else {
            let critical = view.findings.iter().filter(|f| f.severity == Severity::Critical);
            Err(bad(critical.map(words).collect()))
        }
    }
}
