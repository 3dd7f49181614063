//! What QEMU's user may open: files and device nodes change hands for the time
//! that a VM runs.
//!
//! What the user may open already is left alone. A device that several share
//! (`/dev/kvm`) is opened by its group. Anything else is given to the user, and
//! whose it was is noted before, in the VM's runtime folder: [`take_back`] goes
//! by that note alone, may be called at any time and any number of times, and
//! leaves alone what somebody else has taken or replaced since.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::paths;
use crate::ask::{Code, Refusal};
use crate::base::{Name, with_sources};
use crate::host::Host;
use crate::host::launch::Account;
use crate::host::owner::{Access, Node, Owner};

/// The note's name.
const NOTE: &str = "owners.json";
/// One change at a time: the note is read, and written anew. A VM's supervisor
/// is not alone, since USB devices are given to guests that run.
static TURN: Mutex<()> = Mutex::new(());

/// Something that QEMU opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Where.
    pub path: PathBuf,
    /// What for.
    pub access: Access,
    /// Others have it open too: its group is joined, and its owner stays.
    pub shared: bool,
}

impl Need {
    /// Something that is read.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), access: Access::Read, shared: false }
    }

    /// Something that is written too.
    pub fn write(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), access: Access::Write, shared: false }
    }

    /// A device that others have open too.
    pub fn shared(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), access: Access::Write, shared: true }
    }
}

/// Something that was given to the user, and whose it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    path: PathBuf,
    was: Owner,
    to: u32,
}

fn refused(vm: &Name, path: &Path, why: impl std::fmt::Display, hint: String) -> Refusal {
    let message = format!("`{vm}`: QEMU's user may not open {}: {why}", path.display());
    Refusal::new(Code::Refused, message, hint)
}

fn way_out(vm: &Name) -> String {
    format!("give its user the right to, or write `user: root` into the file of `{vm}`")
}

/// Makes everything that is needed open to the account, and returns it with the
/// groups that it joins for that. What has failed was put back. Blocks.
pub fn grant(
    host: &Host,
    vm: &Name,
    account: &Account,
    needs: &[Need],
) -> Result<Account, Refusal> {
    let mut account = account.clone();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let note = read(host, vm)?;
    // A device that is pulled and plugged again and again is another each time.
    let mut all: Vec<_> = note.iter().filter(|given| is_there(host, given)).cloned().collect();
    let mut to_do = Vec::new();
    for need in needs {
        let fail = |why: String| refused(vm, &need.path, why, way_out(vm));
        let path = host.sys.resolve(&need.path).map_err(|error| fail(error.why()))?;
        pass(host, &account, &path).map_err(&fail)?;
        let node = Node::open(&host.sys.path(&path)).map_err(|error| fail(error.to_string()))?;
        let owner = node.owner().map_err(|error| fail(error.to_string()))?;
        if owner.allows(&account, need.access) {
            continue;
        }
        if need.shared {
            if !owner.group_allows(need.access) {
                return Err(fail("neither everybody nor a group may, and others use it".into()));
            }
            account.groups.push(owner.gid);
            continue;
        }
        // What an unfinished start has noted is what counts.
        if !all.iter().any(|given| given.path == path && given.was.file == owner.file) {
            all.push(Given { path: path.clone(), was: owner, to: account.uid });
        }
        to_do.push((need, node, owner));
    }
    if all != note {
        write(host, vm, &all)?;
    }
    for (need, node, owner) in to_do {
        let mode = owner.mode | if need.access == Access::Read { 0o400 } else { 0o600 };
        if let Err(error) = node.give(account.uid, owner.gid, mode) {
            let why = format!("its owner cannot be changed: {error}");
            // What has changed hands before goes back.
            let paths: Vec<_> = needs.iter().map(|need| need.path.clone()).collect();
            let left = back(host, vm, &|given| is_one_of(host, given, &paths))
                .err()
                .map(|left| format!("; {}", left.message));
            let why = format!("{why}{}", left.unwrap_or_default());
            return Err(refused(vm, &need.path, why, way_out(vm)));
        }
    }
    drop(turn);
    Ok(account)
}

/// Whether what was given is still what it was; unknown is yes.
fn is_there(host: &Host, given: &Given) -> bool {
    match Node::open(&host.sys.path(&given.path)).and_then(|node| node.owner()) {
        Ok(now) => now.file == given.was.file,
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

fn is_one_of(host: &Host, given: &Given, paths: &[PathBuf]) -> bool {
    paths.iter().any(|path| {
        *path == given.path || host.sys.resolve(path).is_ok_and(|path| path == given.path)
    })
}

/// Whether the account can get to a path; hostd's own folders let it through.
fn pass(host: &Host, account: &Account, path: &Path) -> Result<(), String> {
    let ours = [host.state.path(""), host.runtime.path("")];
    for folder in path.ancestors().skip(1) {
        let place = host.sys.path(folder);
        let look = |error: std::io::Error| format!("{}: {error}", folder.display());
        let node = Node::open(&place).map_err(look)?;
        let owner = node.owner().map_err(look)?;
        if owner.allows(account, Access::Pass) {
            continue;
        }
        if !ours.iter().any(|ours| place.starts_with(ours)) {
            return Err(format!("the folder {} is closed to it", folder.display()));
        }
        node.permit(owner.mode | 0o001).map_err(look)?;
    }
    Ok(())
}

/// Gives back what the VM's QEMU was given; that it was given nothing is fine.
/// Blocks.
pub fn take_back(host: &Host, vm: &Name) -> Result<(), Refusal> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    back(host, vm, &|_| true)
}

/// The same for these alone. Blocks.
pub fn take_back_some(host: &Host, vm: &Name, paths: &[PathBuf]) -> Result<(), Refusal> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    back(host, vm, &|given| is_one_of(host, given, paths))
}

fn back(host: &Host, vm: &Name, wanted: &dyn Fn(&Given) -> bool) -> Result<(), Refusal> {
    let given = read(host, vm)?;
    let mut left = Vec::new();
    let mut why = Vec::new();
    for one in given {
        if !wanted(&one) {
            left.push(one);
        } else if let Err(error) = put_back(host, &one) {
            why.push(format!("{}: {error}", one.path.display()));
            left.push(one);
        }
    }
    write(host, vm, &left)?;
    if why.is_empty() {
        return Ok(());
    }
    let message = format!("what QEMU's user was given could not be given back: {}", why.join("; "));
    let hint = format!("`hostctl vm stop {vm}` tries again");
    Err(Refusal::new(Code::Failed, message, hint))
}

fn put_back(host: &Host, given: &Given) -> std::io::Result<()> {
    let node = match Node::open(&host.sys.path(&given.path)) {
        // A device that was pulled, a file that was removed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let now = node.owner()?;
    if now.file != given.was.file || now.uid != given.to {
        return Ok(());
    }
    node.give(given.was.uid, given.was.gid, given.was.mode)
}

fn read(host: &Host, vm: &Name) -> Result<Vec<Given>, Refusal> {
    let name = paths::name(vm, NOTE);
    let unreadable = |why: String| {
        let path = host.runtime.path(&name).display().to_string();
        let hint = format!("look at the owners of the files of `{vm}`, then remove {path}");
        Refusal::new(Code::Failed, format!("{path} cannot be read: {why}"), hint)
    };
    match host.runtime.read(&name) {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(text)) => {
            serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))
        }
        Err(error) => Err(unreadable(error.why())),
    }
}

fn write(host: &Host, vm: &Name, given: &[Given]) -> Result<(), Refusal> {
    let name = paths::name(vm, NOTE);
    let written = if given.is_empty() {
        host.runtime.remove(&name)
    } else {
        // None of its types can fail to be written as JSON, but for a path
        // that is not text.
        match serde_json::to_string(given) {
            Ok(text) => host.runtime.write(&name, &text),
            Err(error) => {
                let message = format!("`{vm}`: a path of it cannot be noted: {error}");
                return Err(Refusal::new(Code::Refused, message, "rename it"));
            }
        }
    };
    let hint = "look for free space and rights in the runtime folder";
    written.map_err(|error| Refusal::new(Code::Failed, with_sources(&error), hint))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "it looks at what has become of files")]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::host::users::is_root;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn account() -> Account {
        Account { uid: 54_321, gid: 54_321, groups: Vec::new() }
    }

    fn name() -> Name {
        "gaming".parse().unwrap()
    }

    /// A machine that everybody can look at; none where we are not root.
    struct Machine {
        dir: tempfile::TempDir,
        fake: FakeHost,
    }

    fn machine() -> Option<Machine> {
        if !is_root() {
            eprintln!("skipped: only root gives files away");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let this = Machine { dir, fake };
        this.fake.file("/dev/zd0", "").unwrap();
        this.fake.link("/dev/zvol/tank/win", "/dev/zd0").unwrap();
        this.chmod("/dev/zd0", 0o660);
        for folder in ["/", "/dev", "/dev/zvol", "/dev/zvol/tank"] {
            this.chmod(folder, 0o755);
        }
        std::fs::set_permissions(this.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Some(this)
    }

    impl Machine {
        fn place(&self, path: &str) -> PathBuf {
            self.dir.path().join("root").join(path.trim_start_matches('/'))
        }

        fn chmod(&self, path: &str, mode: u32) {
            std::fs::set_permissions(self.place(path), PermissionsExt::from_mode(mode)).unwrap();
        }

        fn owner(&self, path: &str) -> (u32, u32, u32) {
            let meta = std::fs::metadata(self.place(path)).unwrap();
            (meta.uid(), meta.gid(), meta.mode() & 0o7777)
        }

        fn note(&self) -> bool {
            self.dir.path().join("runtime/vms/gaming").join(NOTE).exists()
        }
    }

    #[test]
    fn a_disk_changes_hands_and_comes_back() {
        let Some(machine) = machine() else { return };
        let host = machine.fake.host();
        let before = machine.owner("/dev/zd0");
        let needs = [Need::write("/dev/zvol/tank/win")];
        assert_eq!(grant(&host, &name(), &account(), &needs).unwrap(), account());
        assert_eq!(machine.owner("/dev/zd0"), (54_321, 0, 0o660));
        // A start after one that hostd did not survive.
        grant(&host, &name(), &account(), &needs).unwrap();
        take_back(&host, &name()).unwrap();
        assert_eq!(machine.owner("/dev/zd0"), before);
        assert!(!machine.note(), "no note stays");
        take_back(&host, &name()).unwrap();
    }

    #[test]
    fn what_is_open_already_and_what_is_shared_stay_as_they_are() {
        let Some(machine) = machine() else { return };
        let host = machine.fake.host();
        machine.fake.file("/iso", "").unwrap();
        machine.chmod("/iso", 0o644);
        machine.fake.file("/dev/kvm", "").unwrap();
        machine.chmod("/dev/kvm", 0o660);
        std::os::unix::fs::chown(machine.place("/dev/kvm"), None, Some(777)).unwrap();
        let needs = [Need::read("/iso"), Need::shared("/dev/kvm")];
        let granted = grant(&host, &name(), &account(), &needs).unwrap();
        assert_eq!(granted.groups, [777], "it joins the device's group");
        assert_eq!(machine.owner("/dev/kvm"), (0, 777, 0o660));
        assert!(!machine.note());
        machine.chmod("/dev/kvm", 0o600);
        let refusal = grant(&host, &name(), &account(), &needs).unwrap_err();
        assert!(refusal.message.contains("/dev/kvm: neither everybody nor a group"), "{refusal:?}");
    }

    #[test]
    fn what_somebody_else_took_meanwhile_is_left_alone() {
        let Some(machine) = machine() else { return };
        let host = machine.fake.host();
        let needs = [Need::write("/dev/zd0")];
        grant(&host, &name(), &account(), &needs).unwrap();
        std::os::unix::fs::chown(machine.place("/dev/zd0"), Some(7), None).unwrap();
        take_back(&host, &name()).unwrap();
        assert_eq!(machine.owner("/dev/zd0").0, 7, "somebody gave it to another user");
        grant(&host, &name(), &account(), &needs).unwrap();
        machine.fake.remove("/dev/zd0").unwrap();
        take_back(&host, &name()).unwrap();
        assert!(!machine.note(), "a device that was pulled");
    }

    #[test]
    fn some_go_back_alone_and_what_was_pulled_is_forgotten() {
        let Some(machine) = machine() else { return };
        let host = machine.fake.host();
        for node in ["3", "4"] {
            machine.fake.file(&format!("/dev/bus/usb/001/00{node}"), "").unwrap();
        }
        let (three, four) = ("/dev/bus/usb/001/003", "/dev/bus/usb/001/004");
        grant(&host, &name(), &account(), &[Need::write(three), Need::write(four)]).unwrap();
        grant(&host, &name(), &account(), &[Need::write("/dev/zvol/tank/win")]).unwrap();
        let uids = || [three, four, "/dev/zd0"].map(|path| machine.owner(path).0);
        assert_eq!(uids(), [54_321; 3]);
        take_back_some(&host, &name(), &[three.into(), "/none".into()]).unwrap();
        assert_eq!(uids(), [0, 54_321, 54_321]);
        // By the name it was asked for, which is a link.
        take_back_some(&host, &name(), &["/dev/zvol/tank/win".into()]).unwrap();
        assert_eq!(uids(), [0, 54_321, 0]);
        machine.fake.remove(four).unwrap();
        grant(&host, &name(), &account(), &[Need::write(three)]).unwrap();
        let note = host.runtime.read("vms/gaming/owners.json").unwrap().unwrap();
        assert!(note.contains(three) && !note.contains(four), "{note}");
        // One that cannot be given takes none of the others along.
        grant(&host, &name(), &account(), &[Need::read("/none")]).unwrap_err();
        assert_eq!(machine.owner(three).0, 54_321);
        take_back(&host, &name()).unwrap();
        assert!(!machine.note());
    }

    #[test]
    fn a_closed_folder_is_named_and_nothing_is_changed() {
        let Some(machine) = machine() else { return };
        let host = machine.fake.host();
        machine.fake.file("/home/me/disk", "").unwrap();
        machine.chmod("/home/me", 0o700);
        let needs = [Need::write("/dev/zd0"), Need::write("/home/me/disk")];
        let refusal = grant(&host, &name(), &account(), &needs).unwrap_err();
        insta::assert_snapshot!(refusal.message, @"`gaming`: QEMU's user may not open /home/me/disk: the folder /home/me is closed to it");
        assert_eq!(machine.owner("/dev/zd0").0, 0);
        assert!(!machine.note());
        let refusal = grant(&host, &name(), &account(), &[Need::read("/none")]).unwrap_err();
        assert!(refusal.message.contains("/none: it does not exist"), "{refusal:?}");
    }

    #[test]
    fn a_damaged_note_is_said_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path()).host();
        host.runtime.write("vms/gaming/owners.json", "{").unwrap();
        assert!(
            take_back(&host, &name()).unwrap_err().message.contains("owners.json cannot be read")
        );
        assert!(grant(&host, &name(), &account(), &[]).is_err());
    }
}
