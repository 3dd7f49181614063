//! Disks and pools joined: which disk a vdev is, and what a disk's fault means
//! for its pool. Pure. Made anew from both views whenever one of them changes.
//!
//! A vdev is called by any of the paths that lead to its disk or partition,
//! whole or by the last part; a name that leads to two disks leads to none.

use std::collections::HashMap;

use crate::ask::view::{
    DiskView, DisksView, FindingView, PoolView, PoolsView, VdevDiskView, VdevView,
};
use crate::base::Severity;
use crate::zfs::devices::typed;

/// Findings for which a disk is replaced.
const REPLACED: [&str; 9] = [
    "smart-failed",
    "attribute-failed",
    "sectors-pending",
    "sectors-reallocated",
    "uncorrectable",
    "nvme-critical",
    "spare-low",
    "worn-out",
    "self-test-failed",
];

/// Folders whose names `zpool` prints without the folder.
const SHORT: [&str; 4] = ["/dev/", "/dev/disk/by-id/", "/dev/disk/by-vdev/", "/dev/disk/by-path/"];

/// Which disk each name leads to; `None` where it leads to several.
fn names(disks: &DisksView) -> HashMap<&str, Option<usize>> {
    let mut names: HashMap<&str, Option<usize>> = HashMap::new();
    for (at, disk) in disks.disks.iter().enumerate() {
        for link in &disk.links {
            let short = SHORT.iter().filter_map(|folder| link.strip_prefix(folder));
            let short = short.filter(|name| !name.contains('/'));
            for name in short.chain([link.as_str()]) {
                let known = names.entry(name).or_insert(Some(at));
                if *known != Some(at) {
                    *known = None;
                }
            }
        }
    }
    names
}

/// Sets [`VdevView::disk`] where it is not known yet, and names the disk in what
/// is found of a vdev. A disk that has gone is that which the vdev was on `before`.
pub fn vdevs(pools: &mut PoolsView, disks: &DisksView, before: Option<&PoolsView>) {
    let names = names(disks);
    for pool in &mut pools.pools {
        let mut past = HashMap::new();
        let old = before.and_then(|before| before.pools.iter().find(|old| old.name == pool.name));
        old.into_iter().flat_map(|old| &old.vdevs).for_each(|vdev| remember(vdev, &mut past));
        let mut known = HashMap::new();
        for vdev in &mut pool.vdevs {
            fill(vdev, disks, &names, &past, &mut known);
        }
        for finding in &mut pool.findings {
            if let Some(disk) = known.get(&finding.object) {
                let who = who(&disk.slot, &disk.serial, &disk.model);
                if !who.is_empty() {
                    finding.message = format!("{} ({who})", finding.message);
                }
            }
        }
    }
}

fn remember<'a>(vdev: &'a VdevView, past: &mut HashMap<&'a str, &'a VdevDiskView>) {
    past.extend(vdev.disk.as_ref().map(|disk| (vdev.name.as_str(), disk)));
    vdev.children.iter().for_each(|child| remember(child, past));
}

fn fill(
    vdev: &mut VdevView,
    disks: &DisksView,
    names: &HashMap<&str, Option<usize>>,
    past: &HashMap<&str, &VdevDiskView>,
    known: &mut HashMap<String, VdevDiskView>,
) {
    for child in &mut vdev.children {
        fill(child, disks, names, past, known);
    }
    // What ZFS's own reader has found is named in the findings already.
    if !vdev.children.is_empty() || vdev.disk.is_some() {
        return;
    }
    let at = names.get(vdev.name.as_str()).copied().flatten();
    let found = at.and_then(|at| disks.disks.get(at)).map(|disk| VdevDiskView {
        name: disk.name.clone(),
        model: disk.model.clone(),
        serial: disk.serial.clone(),
        slot: disk.slot.clone(),
    });
    vdev.disk = found.or_else(|| past.get(vdev.name.as_str()).map(|disk| (*disk).clone()));
    known.extend(vdev.disk.clone().map(|disk| (vdev.name.clone(), disk)));
}

/// `slot 3, serial X, model Y`, as far as known.
fn who(slot: &str, serial: &str, model: &str) -> String {
    let known = [("", slot), ("serial ", serial), ("model ", model)];
    let known = known.iter().filter(|(_, text)| !text.is_empty());
    known.map(|(what, text)| format!("{what}{text}")).collect::<Vec<_>>().join(", ")
}

/// Where a disk is used.
struct Place<'a> {
    pool: &'a PoolView,
    top: &'a VdevView,
    leaf: &'a VdevView,
    /// Another one takes its place already.
    replaced: bool,
}

impl Place<'_> {
    /// Whether data are on it that the pool cannot do without.
    fn is_data(&self) -> bool {
        matches!(self.top.class.as_str(), "normal" | "special" | "dedup")
    }

    fn tolerates(&self) -> Option<u32> {
        if self.is_data() { self.top.tolerates.or(self.pool.tolerates) } else { None }
    }

    fn serves(&self) -> bool {
        matches!(self.leaf.state.as_str(), "ONLINE" | "DEGRADED")
    }

    /// What is left when it fails.
    fn words(&self) -> String {
        let pool = &self.pool.name;
        if !self.is_data() {
            return format!(
                "it is a {} device of pool {pool}, without data of its own",
                self.top.class
            );
        }
        if !self.serves() {
            return format!("it is {} in pool {pool}", self.leaf.state);
        }
        let left = self.tolerates();
        let whose = if left == self.pool.tolerates {
            format!("pool {pool}")
        } else {
            format!("{} of pool {pool}", self.top.name)
        };
        match left {
            Some(0) => format!("{whose} tolerates no failure"),
            Some(1) => format!("{whose} tolerates 1 more failure"),
            Some(left) => format!("{whose} tolerates {left} more failures"),
            None => format!("how many failures {whose} tolerates is not known"),
        }
    }

    fn command(&self) -> String {
        let (pool, vdev) = (typed(&self.pool.name), typed(&self.leaf.name));
        match self.top.class.as_str() {
            "cache" | "spare" => {
                format!(
                    "`zpool remove {pool} {vdev}`, then `zpool add {pool} {} NEW-DISK`",
                    self.top.class
                )
            }
            _ => format!("`zpool replace {pool} {vdev} NEW-DISK`"),
        }
    }
}

/// Sets [`DiskView::pool`] and [`DiskView::vdev`], and says in each finding
/// which disk it is, what its pool still tolerates, and how to replace it.
pub fn places(disks: &mut DisksView, pools: &PoolsView) {
    let mut places: HashMap<&str, Vec<Place>> = HashMap::new();
    for pool in &pools.pools {
        for top in &pool.vdevs {
            leaves(pool, top, top, false, &mut places);
        }
    }
    for disk in &mut disks.disks {
        // With parts in several pools: the one that matters most.
        let of = places.get(disk.name.as_str()).map_or(&[][..], Vec::as_slice);
        let rank = |place: &&Place| (!place.is_data(), place.tolerates().unwrap_or(u32::MAX));
        let place = of.iter().min_by_key(rank);
        disk.pool = place.map(|place| place.pool.name.clone());
        disk.vdev = place.map(|place| place.leaf.name.clone());
        let who = who(&disk.slot, &disk.serial, &disk.model);
        for finding in &mut disk.findings {
            tell(finding, &who, place);
        }
        rank_findings(disk);
    }
}

fn leaves<'a>(
    pool: &'a PoolView,
    top: &'a VdevView,
    vdev: &'a VdevView,
    replaced: bool,
    places: &mut HashMap<&'a str, Vec<Place<'a>>>,
) {
    for (at, child) in vdev.children.iter().enumerate() {
        let first = vdev.kind == "replacing" && at == 0;
        leaves(pool, top, child, replaced || first, places);
    }
    if let Some(disk) = vdev.disk.as_ref().filter(|_| vdev.children.is_empty()) {
        let place = Place { pool, top, leaf: vdev, replaced };
        places.entry(disk.name.as_str()).or_default().push(place);
    }
}

fn tell(finding: &mut FindingView, who: &str, place: Option<&Place>) {
    // What is no complaint stays short.
    if finding.severity == Severity::Ok {
        return;
    }
    if !who.is_empty() {
        finding.message = format!("{who}: {}", finding.message);
    }
    let Some(place) = place else { return };
    finding.message = format!("{}; {}", finding.message, place.words());
    if !REPLACED.contains(&finding.code.as_str()) {
        return;
    }
    if place.replaced {
        "it is being replaced".clone_into(&mut finding.advice);
    } else if finding.advice.is_empty() {
        finding.advice = place.command();
    } else {
        finding.advice = format!("{}: {}", finding.advice, place.command());
    }
    if place.serves() && place.tolerates() == Some(0) && finding.severity == Severity::Warning {
        finding.severity = Severity::Critical;
    }
}

fn rank_findings(disk: &mut DiskView) {
    disk.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let worst = disk.findings.first().map(|finding| finding.severity);
    disk.health = worst.unwrap_or(disk.health);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, links: &[&str], code: &str) -> DiskView {
        DiskView {
            name: name.into(),
            model: "Y".into(),
            serial: format!("X{name}"),
            slot: "slot 3".into(),
            health: Severity::Warning,
            links: links.iter().map(|link| (*link).to_owned()).collect(),
            findings: vec![FindingView {
                severity: Severity::Warning,
                code: code.into(),
                object: name.into(),
                message: "8 pending sectors".into(),
                advice: "replace it".into(),
            }],
            ..DiskView::default()
        }
    }

    fn leaf(name: &str) -> VdevView {
        VdevView {
            name: name.into(),
            kind: "disk".into(),
            class: "normal".into(),
            state: "ONLINE".into(),
            ..VdevView::default()
        }
    }

    fn pool(tolerates: u32, children: Vec<VdevView>) -> PoolsView {
        let top = VdevView {
            name: "raidz2-0".into(),
            kind: "raidz".into(),
            class: "normal".into(),
            tolerates: Some(tolerates),
            children,
            ..VdevView::default()
        };
        let tank = PoolView {
            name: "tank".into(),
            tolerates: Some(tolerates),
            vdevs: vec![top],
            ..PoolView::default()
        };
        PoolsView { pools: vec![tank], ..PoolsView::default() }
    }

    fn joined(disks: &[DiskView], mut pools: PoolsView) -> (DisksView, PoolsView) {
        let mut disks = DisksView { disks: disks.to_vec(), notes: Vec::new() };
        vdevs(&mut pools, &disks, None);
        places(&mut disks, &pools);
        (disks, pools)
    }

    #[test]
    fn one_sentence_names_disk_fault_pool_and_remedy() {
        let links = ["/dev/sdc", "/dev/sdc1", "/dev/disk/by-id/wwn-0x5000c500a2-part1"];
        let ill = disk("sdc", &links, "sectors-pending");
        for name in ["wwn-0x5000c500a2-part1", "sdc1", links[2]] {
            let (disks, pools) = joined(std::slice::from_ref(&ill), pool(1, vec![leaf(name)]));
            let (disk, finding) = (&disks.disks[0], &disks.disks[0].findings[0]);
            assert_eq!(
                finding.message,
                "slot 3, serial Xsdc, model Y: 8 pending sectors; pool tank tolerates 1 more failure"
            );
            assert_eq!(finding.advice, format!("replace it: `zpool replace tank {name} NEW-DISK`"));
            assert_eq!((disk.pool.as_deref(), disk.vdev.as_deref()), (Some("tank"), Some(name)));
            assert_eq!(disk.health, Severity::Warning);
            assert_eq!(pools.pools[0].vdevs[0].children[0].disk.as_ref().unwrap().name, "sdc");
        }
    }

    #[test]
    fn at_the_end_of_tolerance_a_failing_disk_is_critical_and_a_cable_is_not() {
        let (ill, cable) =
            (disk("sda", &["/dev/sda"], "uncorrectable"), disk("sdb", &["/dev/sdb"], "crc-errors"));
        let (disks, _) = joined(&[ill.clone(), cable], pool(0, vec![leaf("sda"), leaf("sdb")]));
        assert_eq!(disks.disks[0].health, Severity::Critical);
        assert_eq!(disks.disks[1].health, Severity::Warning);
        assert_eq!(disks.disks[1].findings[0].advice, "replace it", "no command");
        // Out of use already: the pool tells how bad that is.
        let gone = VdevView { state: "FAULTED".into(), ..leaf("sda") };
        let (disks, _) = joined(std::slice::from_ref(&ill), pool(0, vec![gone]));
        assert_eq!(disks.disks[0].health, Severity::Warning);
        let replacing = VdevView {
            kind: "replacing".into(),
            children: vec![leaf("sda"), leaf("sdz")],
            ..leaf("replacing-0")
        };
        let (disks, _) = joined(&[ill], pool(1, vec![replacing]));
        assert_eq!(disks.disks[0].findings[0].advice, "it is being replaced");
    }

    #[test]
    fn a_name_of_two_disks_names_none() {
        let shared = "/dev/disk/by-id/ata-CLONE";
        let disks =
            [disk("sda", &[shared], "uncorrectable"), disk("sdb", &[shared], "uncorrectable")];
        let (disks, pools) = joined(&disks, pool(1, vec![leaf("ata-CLONE")]));
        assert!(pools.pools[0].vdevs[0].children[0].disk.is_none());
        assert!(disks.disks.iter().all(|disk| disk.pool.is_none()));
    }

    #[test]
    fn a_pulled_disk_is_named_from_before() {
        let ill = disk("sda", &["/dev/sda"], "uncorrectable");
        let (_, before) = joined(&[ill], pool(2, vec![leaf("sda")]));
        let mut now = pool(1, vec![VdevView { state: "REMOVED".into(), ..leaf("sda") }]);
        now.pools[0].findings.push(FindingView {
            severity: Severity::Warning,
            code: "device-removed".into(),
            object: "sda".into(),
            message: "sda was pulled out".into(),
            advice: String::new(),
        });
        vdevs(&mut now, &DisksView::default(), Some(&before));
        let told = &now.pools[0].findings[0].message;
        assert_eq!(told, "sda was pulled out (slot 3, serial Xsda, model Y)");
    }
}
