//! Processes of the host that have a card's files open. (To be replaced by
//! `passthrough::holders::users` once that is there.)

use crate::base::PciAddress;
use crate::host::SysRoot;
use crate::pci::read::{driver, folder};

/// More processes than are worth naming.
const NAMED: usize = 8;

/// Who uses a card.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users {
    /// In words.
    pub found: Vec<String>,
    /// Whether there are processes whose files we may not see.
    pub hidden: bool,
}

/// The files through which programs use these functions.
fn files(sys: &SysRoot, functions: &[PciAddress]) -> Vec<String> {
    let mut files = Vec::new();
    let nodes = |path: &str| sys.list(path).unwrap_or_default();
    for function in functions {
        let folder = folder(*function);
        let drm = nodes(&format!("{folder}/drm"));
        files.extend(drm.into_iter().map(|name| format!("/dev/dri/{name}")));
        for card in nodes(&format!("{folder}/sound")) {
            let Some(number) = card.strip_prefix("card") else { continue };
            files.push(format!("/dev/snd/controlC{number}"));
            let own = |name: &String| {
                let rest = name.trim_start_matches(char::is_alphabetic);
                name.contains('C') && rest.split('D').next() == Some(number)
            };
            let all = nodes("/dev/snd");
            files
                .extend(all.iter().filter(|name| own(name)).map(|name| format!("/dev/snd/{name}")));
        }
        if driver(sys, &folder).name() == Some("nvidia") {
            let all = nodes("/dev");
            let own = all.iter().filter(|name| name.starts_with("nvidia"));
            files.extend(own.map(|name| format!("/dev/{name}")));
        }
    }
    files
}

/// Who has one of the card's files open.
pub fn card_users(sys: &SysRoot, functions: &[PciAddress]) -> Users {
    let files = files(sys, functions);
    let mut users = Users::default();
    if files.is_empty() {
        return users;
    }
    for pid in sys.list("/proc").unwrap_or_default() {
        if !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let folder = format!("/proc/{pid}/fd");
        let open = match sys.list(&folder) {
            Ok(open) => open,
            Err(error) => {
                // One that has ended meanwhile is fine.
                users.hidden |= !error.is_missing();
                continue;
            }
        };
        let holds = open.iter().any(|fd| {
            let path = format!("{folder}/{fd}");
            let last = sys.link_name(&path).unwrap_or_default();
            // Only a match is worth resolving.
            files.iter().any(|file| {
                file.rsplit('/').next() == Some(last.as_str())
                    && sys.resolve(&path).is_ok_and(|target| target.to_str() == Some(file))
            })
        });
        if holds && users.found.len() < NAMED {
            let name = sys.text(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name: String = name.chars().filter(|c| !c.is_control()).take(32).collect();
            users.found.push(format!("{name} (process {pid})"));
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn names_who_has_picture_or_sound_open() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let function: PciAddress = "01:00.0".parse().unwrap();
        let at = folder(function);
        for place in ["drm/card0", "drm/renderD128", "sound/card1"] {
            fake.dir(&format!("{at}/{place}")).unwrap();
        }
        for (number, file) in ["dri/card0", "snd/pcmC1D3p", "snd/pcmC0D0p"].iter().enumerate() {
            fake.file(&format!("/dev/{file}"), "").unwrap();
            let pid = 100 + number;
            fake.file(&format!("/proc/{pid}/comm"), format!("p{number}\n")).unwrap();
            fake.link(&format!("/proc/{pid}/fd/3"), &format!("/dev/{file}")).unwrap();
        }
        let sys = fake.host().sys;
        let users = card_users(&sys, &[function]);
        assert_eq!(users.found, ["p0 (process 100)", "p1 (process 101)"]);
        assert!(!users.hidden);
        assert_eq!(card_users(&sys, &[function.with_function(1)]), Users::default());
    }
}
