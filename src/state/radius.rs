//! What hangs on a pool: VM disks, shares, libraries, services, file systems on
//! zvols. Pure: the mount table, the configuration and what the services serve
//! come in, [`DependantView`]s go out.
//!
//! A path is on the pool whose mount is the longest that it begins with, unless
//! another file system is mounted in between. Links are not followed here. While
//! a pool is not there its mounts are not either: then a path below `/POOL` or
//! `/dev/zvol/POOL` is on it by its name, and what was known before stays.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use crate::ask::view::{DependantView, PoolView, PoolsView, ServicesView};
use crate::config::types::{Firmware, Vm};
use crate::config::{Config, Service};
use crate::zfs::mounts::{ancestors, of_zvol};

/// The most dependants that are told of a pool.
const MOST: usize = 256;
/// How many a sentence names.
const NAMED: usize = 6;

/// Somebody who uses a path.
pub type Use = DependantView;

/// The paths that the configuration names; each VM's own folder is below `state`.
pub fn uses(config: &Config, state: &Path) -> Vec<Use> {
    let vms = config.vms.iter().flat_map(|vm| of_vm(vm, state));
    vms.chain(config.services.iter().filter_map(of_service)).collect()
}

fn of_vm(vm: &Vm, state: &Path) -> Vec<Use> {
    let mut paths: Vec<&Path> = vm.disks.iter().map(|disk| disk.path.as_path()).collect();
    let own = state.join("vms").join(vm.name.as_str());
    if let Firmware::Ovmf { code, vars, .. } = &vm.firmware {
        paths.extend([code.as_path(), vars.as_path()]);
    }
    if vm.tpm || matches!(vm.firmware, Firmware::Ovmf { .. }) {
        paths.push(&own);
    }
    let one = |path: &Path| named("vm", vm.name.as_str(), &path.to_string_lossy());
    paths.into_iter().map(one).collect()
}

fn of_service(service: &Service) -> Option<Use> {
    let path = service.path.as_ref()?;
    Some(named("service", service.name.as_str(), &path.to_string_lossy()))
}

fn named(kind: &str, name: &str, path: &str) -> Use {
    Use { kind: kind.to_owned(), name: name.to_owned(), path: path.to_owned() }
}

/// What the services say that they serve.
pub fn served(view: &ServicesView) -> Vec<Use> {
    let of = |service: &crate::ask::view::ServiceView| {
        let kind = if service.kind == "plex" { "library" } else { "share" };
        service.shares.iter().map(|s| named(kind, &s.name, &s.path)).collect::<Vec<_>>()
    };
    view.services.iter().flat_map(of).collect()
}

/// Fills in what hangs on each pool; `before` is the same view as it was.
pub fn join(view: &mut PoolsView, before: Option<&PoolsView>, uses: &[Use], served: &[Use]) {
    let owners = owners(view, uses.iter().chain(served));
    let mut found: Vec<BTreeSet<Use>> = view.pools.iter().map(|_| BTreeSet::new()).collect();
    for (one, pool) in uses.iter().chain(served).zip(owners) {
        if let Some(all) = pool.and_then(|at| found.get_mut(at)) {
            all.insert(one.clone());
        }
    }
    for mount in &view.places.on_zvols {
        let at = view.pools.iter().position(|pool| is_below(&mount.dataset, &pool.name));
        if let Some(all) = at.and_then(|at| found.get_mut(at)) {
            all.insert(named("mount", &mount.path, &format!("/dev/zvol/{}", mount.dataset)));
        }
    }
    for (pool, mut all) in view.pools.iter_mut().zip(found) {
        if pool.state == "ABSENT" {
            let old = before.into_iter().flat_map(|view| &view.pools);
            let old = old.filter(|old| old.name == pool.name).flat_map(|old| &old.dependants);
            all.extend(old.cloned());
        }
        pool.dependants = all.into_iter().take(MOST).collect();
    }
}

/// `tank` or `tank/vm`.
fn is_below(dataset: &str, pool: &str) -> bool {
    dataset.split('/').next() == Some(pool)
}

/// For each use the pool, by its place in the view. The paths are few and the
/// mounts many, so that each mount is looked up once.
fn owners<'a>(view: &PoolsView, uses: impl Iterator<Item = &'a Use> + Clone) -> Vec<Option<usize>> {
    let wanted: std::collections::HashSet<&str> =
        uses.clone().flat_map(|one| ancestors(&one.path)).collect();
    // The pool of each mount point that matters; `None` for one of another file system.
    let mut owner: HashMap<&str, Option<usize>> = HashMap::new();
    for (at, pool) in view.pools.iter().enumerate() {
        for mount in pool.mounts.iter().filter(|mount| wanted.contains(mount.path.as_str())) {
            owner.insert(&mount.path, Some(at));
        }
    }
    for path in view.places.others.iter().filter(|path| wanted.contains(path.as_str())) {
        owner.entry(path).or_insert(None);
    }
    let datasets: HashMap<&str, &str> =
        view.places.zvols.iter().map(|(device, set)| (device.as_str(), set.as_str())).collect();
    uses.map(|one| owner_of(&one.path, view, &owner, &datasets)).collect()
}

fn owner_of(
    path: &str,
    view: &PoolsView,
    owner: &HashMap<&str, Option<usize>>,
    datasets: &HashMap<&str, &str>,
) -> Option<usize> {
    let by_name = |name: &str| view.pools.iter().position(|pool| pool.name == name);
    if let Some(device) = path.strip_prefix("/dev/") {
        let dataset = device.strip_prefix("zvol/").or_else(|| of_zvol(datasets, device))?;
        return by_name(dataset.split('/').next()?);
    }
    let found = ancestors(path).find_map(|above| Some((above, *owner.get(above)?)));
    // Nothing of it is mounted: it is where its datasets are mounted by default.
    let guess = path.split('/').nth(1).and_then(by_name);
    let guess = guess.filter(|at| view.pools.get(*at).is_some_and(|pool| pool.mounts.is_empty()));
    match (found, guess) {
        (None | Some(("/", _)), Some(at)) => Some(at),
        (found, _) => found.and_then(|(_, at)| at),
    }
}

/// What hangs on a pool in a few words: `VM gaming, share media, 3 mounts`;
/// empty when nothing does.
pub fn summary(pool: &PoolView) -> String {
    let mut words: Vec<String> = Vec::new();
    for (kind, word) in
        [("vm", "VM"), ("share", "share"), ("library", "library"), ("service", "service")]
    {
        for one in pool.dependants.iter().filter(|one| one.kind == kind) {
            let text = format!("{word} {}", one.name);
            if !words.contains(&text) {
                words.push(text);
            }
        }
    }
    let more = words.len().saturating_sub(NAMED);
    words.truncate(NAMED);
    if more > 0 {
        words.push(format!("{more} more"));
    }
    let on_zvols = pool.dependants.iter().filter(|one| one.kind == "mount").count();
    match pool.mounts.len() + on_zvols {
        0 => {}
        1 => words.push("1 mount".to_owned()),
        mounts => words.push(format!("{mounts} mounts")),
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::view::{MountView, Places, ServiceView, ShareView};
    use crate::config::types::Disk;

    fn pool(name: &str, mounts: &[&str]) -> PoolView {
        let mount =
            |path: &&str| MountView { dataset: format!("{name}{path}"), path: (*path).to_owned() };
        let state = if mounts.is_empty() { "ABSENT" } else { "ONLINE" };
        PoolView {
            name: name.into(),
            state: state.into(),
            mounts: mounts.iter().map(mount).collect(),
            ..PoolView::default()
        }
    }

    fn joined(mut view: PoolsView, paths: &[&str]) -> Vec<(String, Vec<String>)> {
        let uses: Vec<Use> = paths.iter().map(|path| named("service", path, path)).collect();
        join(&mut view, None, &uses, &[]);
        let names = |pool: PoolView| pool.dependants.into_iter().map(|one| one.name).collect();
        view.pools.into_iter().map(|pool| (pool.name.clone(), names(pool))).collect()
    }

    #[test]
    fn the_longest_mount_decides() {
        let view = PoolsView {
            pools: vec![pool("fast", &["/tank/vm"]), pool("tank", &["/tank", "/tank/media"])],
            places: Places { others: vec!["/tank/media/usb".into()], ..Places::default() },
            ..PoolsView::default()
        };
        let paths = [
            "/tank/media/films",
            "/tank/media/usb/films",
            "/tank/vm/win.qcow2",
            "/tank/vm2/win.qcow2",
            "/tankard",
            "/srv",
            "relative",
            "/tank/",
        ];
        let found = joined(view, &paths);
        assert_eq!(found[0].1, ["/tank/vm/win.qcow2"]);
        assert_eq!(found[1].1, ["/tank/", "/tank/media/films", "/tank/vm2/win.qcow2"]);
    }

    #[test]
    fn zvols_are_known_by_name_and_device() {
        let view = PoolsView {
            pools: vec![pool("fast", &["/fast"]), pool("tank", &["/tank"])],
            places: Places {
                zvols: vec![("zd16".into(), "fast/win".into())],
                on_zvols: vec![MountView { dataset: "tank/db".into(), path: "/srv/db".into() }],
                ..Places::default()
            },
            ..PoolsView::default()
        };
        let found = joined(
            view,
            &["/dev/zvol/tank/a/b", "/dev/zd16", "/dev/zd16p2", "/dev/zd1", "/dev/sda"],
        );
        assert_eq!(found[0].1, ["/dev/zd16", "/dev/zd16p2"]);
        assert_eq!(found[1].1, ["/srv/db", "/dev/zvol/tank/a/b"]);
    }

    #[test]
    fn an_absent_pool_keeps_what_was_known() {
        let root = PoolsView {
            pools: vec![pool("rpool", &["/"]), pool("tank", &[])],
            ..PoolsView::default()
        };
        let found = joined(root.clone(), &["/tank/media", "/dev/zvol/tank/win", "/home"]);
        assert_eq!(found[0].1, ["/home"]);
        assert_eq!(found[1].1, ["/dev/zvol/tank/win", "/tank/media"]);
        let mut before = PoolsView { pools: vec![pool("tank", &["/srv"])], ..PoolsView::default() };
        let uses = [named("share", "films", "/srv/films")];
        join(&mut before, None, &[], &uses);
        assert_eq!(before.pools[0].dependants, uses);
        let mut after = root;
        join(&mut after, Some(&before), &[], &uses);
        assert_eq!(after.pools[1].dependants, uses);
        assert_eq!(after.pools[0].dependants, uses, "what is there now is on the root");
    }

    #[test]
    fn the_configuration_and_the_services_are_used() {
        let mut vm = Vm::plain("gaming".parse().unwrap(), crate::base::Bytes(1 << 30));
        vm.disks = vec![Disk::plain("/dev/zvol/tank/win", 1), Disk::plain("/tank/iso/w.iso", 2)];
        vm.tpm = true;
        let config = Config { vms: vec![vm], ..Config::default() };
        let paths: Vec<String> =
            uses(&config, Path::new("/var/lib/hostd")).into_iter().map(|one| one.path).collect();
        let own = "/var/lib/hostd/vms/gaming";
        assert_eq!(paths, ["/dev/zvol/tank/win", "/tank/iso/w.iso", own]);
        let share = |name: &str| ShareView { name: name.into(), path: "/tank/films".into() };
        let service = |kind: &str| ServiceView {
            kind: kind.into(),
            shares: vec![share("Films")],
            ..ServiceView::default()
        };
        let view = ServicesView { services: vec![service("plex"), service("smb")] };
        let kinds: Vec<String> = served(&view).into_iter().map(|one| one.kind).collect();
        assert_eq!(kinds, ["library", "share"]);
    }

    #[test]
    fn the_sentence_is_short() {
        let mut tank = pool("tank", &["/tank", "/tank/a", "/tank/b"]);
        assert_eq!(summary(&tank), "3 mounts");
        tank.dependants = vec![
            named("share", "media", "/tank"),
            named("vm", "gaming", "/tank/1"),
            named("vm", "gaming", "/tank/2"),
            named("mount", "/srv", "/dev/zvol/tank/x"),
        ];
        assert_eq!(summary(&tank), "VM gaming, share media, 4 mounts");
        tank.dependants = (0..20).map(|n| named("share", &n.to_string(), "/tank")).collect();
        assert!(summary(&tank).ends_with("share 5, 14 more, 3 mounts"), "{}", summary(&tank));
        assert_eq!(summary(&pool("tank", &[])), "");
    }
}
