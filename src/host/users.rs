//! The system's user database.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::launch::Account;

/// Whether a process with this user and effective group belongs to `group`:
/// by that group, by the user's primary group, or by the group's members. A
/// group that does not exist has no members. May ask the network: blocks.
pub fn is_member(uid: u32, gid: u32, group: &str) -> nix::Result<bool> {
    let Some(group) = Group::from_name(group)? else { return Ok(false) };
    if Gid::from_raw(gid) == group.gid {
        return Ok(true);
    }
    let Some(user) = User::from_uid(Uid::from_raw(uid))? else { return Ok(false) };
    if user.gid == group.gid || group.mem.contains(&user.name) {
        return Ok(true);
    }
    let Ok(name) = CString::new(user.name) else { return Ok(false) };
    Ok(getgrouplist(&name, user.gid)?.contains(&group.gid))
}

/// The account of this name, or of this number; `None` when there is none.
pub fn account(name: &str) -> nix::Result<Option<Account>> {
    let user = match (User::from_name(name)?, name.parse()) {
        (Some(user), _) => user,
        (None, Ok(uid)) => match User::from_uid(Uid::from_raw(uid))? {
            Some(user) => user,
            None => return Ok(None),
        },
        (None, Err(_)) => return Ok(None),
    };
    let Ok(name) = CString::new(user.name) else { return Ok(None) };
    let groups = getgrouplist(&name, user.gid)?.into_iter().map(Gid::as_raw).collect();
    Ok(Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups }))
}

/// Who we are, for the kernel's decisions.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let root = account("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(account("0").unwrap(), Some(root));
        assert_eq!(account("no-such-user").unwrap(), None);
        assert_eq!(account("54321").unwrap(), None);
    }

    #[test]
    fn knows_groups_by_id_and_by_name() {
        assert_eq!(is_member(0, 0, "root"), Ok(true));
        assert_eq!(is_member(0, 12_345, "root"), Ok(true), "by the user's primary group");
        assert_eq!(is_member(54_321, 54_321, "root"), Ok(false), "no such user");
        assert_eq!(is_member(0, 0, "no-such-group"), Ok(false));
    }
}
