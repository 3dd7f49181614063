//! Which disks a snapshot is made of, and how: from the VM's file alone.

use std::path::Path;

use super::note::{Dataset, Kind, Part};
use crate::config::{Disk, DiskFormat, Vm};

/// Where ZFS has its volumes.
const ZVOLS: &str = "/dev/zvol/";

/// A disk of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its place in the VM's file.
    pub index: usize,
    /// What will be made of it.
    pub part: Part,
}

/// What a snapshot will be made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Disks, at least one.
    pub disks: Vec<Planned>,
    /// What is not in it, with the reason.
    pub left_out: Vec<String>,
}

/// Why there is no plan: what is the case, and what to do, of each disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Obstacles {
    /// What is the case.
    pub what: Vec<String>,
    /// What to do.
    pub next: Vec<String>,
}

/// QEMU's name of a disk, for all that is asked about it.
pub fn node_of(index: usize) -> String {
    format!("disk{index}")
}

/// The plan for `vm`.
pub fn plan(vm: &Vm) -> Result<Plan, Obstacles> {
    let mut plan = Plan::default();
    let mut wrong = Obstacles::default();
    for (index, disk) in vm.disks.iter().enumerate() {
        let shown = disk.path.display();
        if disk.readonly || disk.cdrom {
            plan.left_out.push(format!("{shown}: the guest cannot write to it"));
            continue;
        }
        match kind(disk) {
            Ok(kind) => {
                let part = Part { path: disk.path.clone(), kind, size: None };
                plan.disks.push(Planned { index, part });
            }
            Err((what, next)) => {
                wrong.what.push(format!("disk {shown} {what}"));
                wrong.next.push(next);
            }
        }
    }
    for nvme in &vm.nvme {
        let address = nvme.address;
        plan.left_out.push(format!("NVMe {address}: only the guest knows what is on it"));
    }
    if !wrong.what.is_empty() {
        wrong.next.dedup();
        return Err(wrong);
    }
    if plan.disks.is_empty() {
        let mut what = "it has no disk that a snapshot can be made of".to_owned();
        if !plan.left_out.is_empty() {
            what = format!("{what} ({})", plan.left_out.join("; "));
        }
        let next = "put its disks on zvols or into qcow2 images".to_owned();
        return Err(Obstacles { what: vec![what], next: vec![next] });
    }
    Ok(plan)
}

fn kind(disk: &Disk) -> Result<Kind, (String, String)> {
    match disk.format {
        DiskFormat::Qcow2 => Ok(Kind::Qcow2),
        DiskFormat::Raw => match dataset(&disk.path) {
            Some(Ok(dataset)) => Ok(Kind::Zvol { dataset }),
            Some(Err(why)) => {
                Err((why, "name it as /dev/zvol/POOL/VOLUME in the VM's file".to_owned()))
            }
            None => {
                let path = crate::host::run::quoted(disk.path.as_os_str());
                Err((
                    "is raw and not a zvol: no snapshot can be made of it".to_owned(),
                    format!(
                        "convert it (`qemu-img convert -O qcow2 {path} NEW.qcow2`), or put it \
                         on a zvol and name that as /dev/zvol/POOL/VOLUME"
                    ),
                ))
            }
        },
    }
}

/// The volume behind a path below [`ZVOLS`]; udev writes a blank as `+`.
fn dataset(path: &Path) -> Option<Result<Dataset, String>> {
    let name = path.to_str()?.strip_prefix(ZVOLS)?.replace('+', " ");
    Some(Dataset::try_from(name).map_err(|error| format!("is not a zvol: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Nvme;
    use crate::vm::tests::vm;

    fn qcow2(path: &str) -> Disk {
        Disk { format: DiskFormat::Qcow2, ..Disk::plain(path, 1) }
    }

    #[test]
    fn every_writable_disk_is_in_it_and_the_rest_is_said() {
        let disks = vec![
            Disk { readonly: true, ..Disk::plain("/srv/a.iso", 1) },
            Disk::plain("/dev/zvol/tank/vms/win+11", 2),
            Disk { cdrom: true, ..Disk::plain("/srv/b.iso", 3) },
            qcow2("/srv/games.qcow2"),
        ];
        let nvme = vec![Nvme { address: "02:00.0".parse().unwrap(), boot: 0 }];
        let plan = plan(&Vm { disks, nvme, ..vm() }).unwrap();
        let disks: Vec<_> = plan.disks.iter().map(|disk| (disk.index, &disk.part.kind)).collect();
        let dataset = Dataset::try_from("tank/vms/win 11".to_owned()).unwrap();
        assert_eq!(disks, [(1, &Kind::Zvol { dataset }), (3, &Kind::Qcow2)]);
        assert_eq!(
            plan.left_out,
            [
                "/srv/a.iso: the guest cannot write to it",
                "/srv/b.iso: the guest cannot write to it",
                "NVMe 0000:02:00.0: only the guest knows what is on it",
            ]
        );
        assert_eq!(node_of(3), "disk3");
    }

    #[test]
    fn what_cannot_be_is_refused_all_at_once() {
        let disks = vec![
            qcow2("/srv/games.qcow2"),
            Disk::plain("/srv/it's.img", 1),
            Disk::plain("/dev/sda", 1),
            Disk::plain("/dev/zvol/tank", 1),
        ];
        let wrong = plan(&Vm { disks, ..vm() }).unwrap_err();
        assert_eq!(wrong.what.len(), 3, "{wrong:?}");
        assert!(wrong.what[0].contains("/srv/it's.img is raw"), "{wrong:?}");
        assert!(wrong.next[0].contains(r"-O qcow2 '/srv/it'\''s.img' NEW"), "{wrong:?}");
        assert!(wrong.what[2].contains("is not a zvol"), "{wrong:?}");
        let none = plan(&vm()).unwrap_err();
        assert!(none.what[0].contains("no disk"), "{none:?}");
    }
}
