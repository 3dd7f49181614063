//! Who has a bound card open. vfio-pci does not let go of a function before
//! its user has: the unbind would hang.

use crate::base::PciAddress;
use crate::host::SysRoot;
use crate::pci::read::folder;

/// More processes than are worth naming.
const NAMED: usize = 8;

/// The processes that hold a function's or its group's VFIO file open, in
/// words. Those whose files we may not see are not found: without root
/// nothing can be unbound either.
pub fn of(sys: &SysRoot, functions: &[PciAddress]) -> Vec<String> {
    let mut files = Vec::new();
    for function in functions {
        let folder = folder(*function);
        let group = sys.link_name(format!("{folder}/iommu_group"));
        files.extend(group.map(|group| format!("/dev/vfio/{group}")));
        let names = sys.list(format!("{folder}/vfio-dev")).unwrap_or_default();
        files.extend(names.into_iter().map(|name| format!("/dev/vfio/devices/{name}")));
    }
    let pids = sys.list("/proc").unwrap_or_default();
    let pids = pids.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    pids.filter(|pid| holds(sys, pid, &files))
        .take(NAMED)
        .map(|pid| {
            let name = sys.text(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name: String = name.chars().filter(|c| !c.is_control()).take(32).collect();
            format!("{name} (process {pid})")
        })
        .collect()
}

fn holds(sys: &SysRoot, pid: &str, files: &[String]) -> bool {
    let folder = format!("/proc/{pid}/fd");
    let open = sys.list(&folder).unwrap_or_default();
    open.iter().any(|fd| {
        let path = format!("{folder}/{fd}");
        // The last word of the link is cheap; only a match is worth resolving.
        sys.link_name(&path).is_ok_and(|name| {
            files.iter().any(|file| {
                file.rsplit('/').next() == Some(name.as_str())
                    && sys.resolve(&path).is_ok_and(|target| target.to_str() == Some(file))
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn names_the_process_that_has_the_group_open() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/dev/vfio/11", "").unwrap();
        fake.file("/tmp/11", "").unwrap();
        for (pid, file) in [("7", "/tmp/11"), ("4711", "/dev/vfio/11")] {
            fake.file(&format!("/proc/{pid}/comm"), "qemu-system-x86\n").unwrap();
            fake.link(&format!("/proc/{pid}/fd/12"), file).unwrap();
        }
        let card: PciAddress = "01:00.0".parse().unwrap();
        let group = format!("{}/iommu_group", folder(card));
        fake.link(&group, "/sys/kernel/iommu_groups/11").unwrap();
        let sys = fake.host().sys;
        assert_eq!(of(&sys, &[card]), ["qemu-system-x86 (process 4711)"]);
        assert!(of(&sys, &[card.with_function(1)]).is_empty());
    }
}
