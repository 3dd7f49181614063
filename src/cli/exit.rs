//! Exit codes: which answers are fine, and which are findings.

use crate::ask::Reply;
use crate::ask::view::{SnapshotState, SnapshotView, Verdict, VmState, VmView};
use crate::base::Severity;

/// As it should be.
pub const FINE: u8 = 0;
/// Something is degraded or could not be read.
pub const FINDINGS: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// Tried and failed.
pub const FAILED: u8 = 5;

/// The exit code of an answer. Each command's help says it in words.
pub fn code(reply: &Reply) -> u8 {
    let findings = match reply {
        Reply::Status(view) => view.health != Severity::Ok,
        Reply::Doctor(view) => view.checks.iter().any(|check| check.status != Severity::Ok),
        Reply::Iommu(view) => view.groups.is_empty(),
        Reply::Gpus(view) => {
            !view.notes.is_empty() || view.gpus.iter().any(|gpu| !gpu.problems.is_empty())
        }
        Reply::VmPlan(view) => !view.problems.is_empty(),
        Reply::Vms(view) => view.vms.iter().any(broken),
        Reply::Pools(view) => {
            !view.notes.is_empty() || view.pools.iter().any(|pool| pool.health != Severity::Ok)
        }
        Reply::Services(view) => view.services.iter().any(|service| service.health != Severity::Ok),
        Reply::Care(view) => view.jobs.iter().any(|job| job.health != Severity::Ok),
        Reply::Disks(view) => {
            !view.notes.is_empty() || view.disks.iter().any(|disk| disk.health != Severity::Ok)
        }
        Reply::Machine(view) => view.readings.iter().any(|reading| reading.health != Severity::Ok),
        Reply::Usb(view) => !view.notes.is_empty(),
        Reply::Snapshots(view) => {
            let whole = |one: &SnapshotView| one.state == SnapshotState::Whole;
            !view.notes.is_empty() || !view.snapshots.iter().all(whole)
        }
        Reply::Quirks(view) => !view.notes.is_empty(),
        Reply::Rom(view) => !view.usable || !view.findings.is_empty(),
        Reply::RomDump(view) => !view.rom.usable || !view.rom.findings.is_empty(),
        Reply::BootStatus(view) => {
            view.safe_mode || view.checks.iter().any(|check| check.severity != Severity::Ok)
        }
        Reply::BootPlan(_)
        | Reply::Plan(_)
        | Reply::VmArgv(_)
        | Reply::Console(_)
        | Reply::ConsoleData(_)
        | Reply::Screenshot(_)
        | Reply::Log(_)
        | Reply::HistoryList(_)
        | Reply::History(_)
        | Reply::Events(_)
        | Reply::Tail(_)
        | Reply::Replay(_)
        | Reply::Done(_) => false,
    };
    if findings { FINDINGS } else { FINE }
}

/// The exit code of `iommu show`: whether every group can be given to a guest.
pub fn isolated(reply: &Reply) -> u8 {
    let Reply::Iommu(view) = reply else { return code(reply) };
    let good = view.groups.iter().all(|group| group.verdict == Verdict::Isolated);
    if good { FINE } else { FINDINGS }
}

fn broken(vm: &VmView) -> bool {
    match vm.state {
        VmState::Crashed | VmState::Failed => true,
        VmState::Off
        | VmState::Preparing
        | VmState::Starting
        | VmState::Running
        | VmState::Paused
        | VmState::Stopping => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::view::{
        BootStatusView, GpusView, IommuView, PoolsView, ServicesView, VmPlanView, VmsView,
    };
    use crate::cli::samples;

    #[test]
    fn unknown_is_never_fine() {
        let mut pools = samples::pools();
        pools.pools.retain(|pool| pool.health == Severity::Ok);
        assert_eq!(code(&Reply::Pools(pools.clone())), FINE);
        pools.notes.push("zpool is not installed".into());
        assert_eq!(code(&Reply::Pools(pools.clone())), FINDINGS);
        pools.notes.clear();
        pools.pools[0].health = Severity::Unknown;
        assert_eq!(code(&Reply::Pools(pools)), FINDINGS);
        let notes = vec!["/sys/bus/pci/devices: permission denied".into()];
        assert_eq!(code(&Reply::Gpus(GpusView { notes, ..GpusView::default() })), FINDINGS);
    }

    #[test]
    fn findings_are_one_and_nothing_to_see_is_fine() {
        assert_eq!(code(&Reply::Status(samples::status())), FINDINGS);
        let mut doctor = samples::doctor();
        assert_eq!(code(&Reply::Doctor(doctor.clone())), FINDINGS);
        doctor.checks.retain(|check| check.status == Severity::Ok);
        assert_eq!(code(&Reply::Doctor(doctor.clone())), FINE);
        doctor.checks[0].status = Severity::Unknown;
        assert_eq!(code(&Reply::Doctor(doctor)), FINDINGS);
        assert_eq!(code(&Reply::Pools(PoolsView::default())), FINE);
        assert_eq!(code(&Reply::Services(ServicesView::default())), FINE);
        assert_eq!(code(&Reply::Services(samples::services())), FINDINGS);
        assert_eq!(code(&Reply::Iommu(IommuView::default())), FINDINGS);
        assert_eq!(code(&Reply::Iommu(samples::iommu())), FINE);
        assert_eq!(isolated(&Reply::Iommu(samples::iommu())), FINDINGS);
        assert_eq!(code(&Reply::Gpus(GpusView::default())), FINE);
        assert_eq!(code(&Reply::BootStatus(samples::boot_status())), FINDINGS);
        assert_eq!(code(&Reply::BootStatus(BootStatusView::default())), FINE);
        assert_eq!(code(&Reply::Vms(VmsView::default())), FINE);
        assert_eq!(code(&Reply::Vms(samples::vms())), FINDINGS);
        assert_eq!(code(&Reply::VmPlan(samples::vm_plan())), FINDINGS);
        assert_eq!(code(&Reply::VmPlan(VmPlanView::default())), FINE);
    }
}
