//! What a service on this machine serves: its shares, with the folders behind
//! them, looked at like its own folder but seldom, all by one child.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::judge::Layer;
use super::mounts::Mount;
use super::path::{self, Found, Look};
use super::probe::Talked;
use super::probes::shares::{self as files, Ini, MAX_FILE, Shares};
use crate::ask::view::ShareView;
use crate::base::Severity;
use crate::config::Probe;
use crate::host::Host;

/// More folders than these are not looked at.
const MAX_FOLDERS: usize = 64;

/// What was found, and when.
#[derive(Debug, Clone)]
pub struct Served {
    /// When it was looked for.
    pub at: Instant,
    /// All of them.
    pub shares: Vec<ShareView>,
    /// What was not read.
    pub notes: Vec<String>,
    /// What each folder was found to be, those that were looked at.
    pub looks: Vec<(PathBuf, Look)>,
}

/// Looks for what a service serves, and at it. `None` where nothing is known
/// of it: on another machine, or without a list.
pub async fn look(
    host: &Host,
    probe: &Probe,
    talked: Option<&Talked>,
    table: Option<&[Mount]>,
    deadline: Duration,
    at: Instant,
) -> Option<Served> {
    let to = probe.address()?;
    if !(to.ip().is_loopback() || to.ip().is_unspecified()) {
        return None;
    }
    let Shares { shares, notes } = list(host, probe, talked)?;
    let mut folders: Vec<PathBuf> = Vec::new();
    for share in &shares {
        // Of `%U` the server makes a name only when somebody connects.
        let folder = PathBuf::from(&share.path);
        let fixed = !share.path.contains('%') && !share.path.contains("$u");
        if fixed && folders.len() < MAX_FOLDERS && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    let found =
        if folders.is_empty() { Vec::new() } else { path::looks(host, &folders, deadline).await };
    let judge = |(folder, found): (PathBuf, Found)| {
        let look = Look::new(found, &folder, None, table);
        (folder, look)
    };
    let looks = folders.into_iter().zip(found).map(judge).collect();
    Some(Served { at, shares, notes, looks })
}

fn list(host: &Host, probe: &Probe, talked: Option<&Talked>) -> Option<Shares> {
    let text = |file: &str| {
        let bytes = host.sys.bytes(file, MAX_FILE).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    match probe {
        Probe::Smb(_) => Some(files::ini(Ini::Smb, &text("/etc/samba/smb.conf")?)),
        Probe::Afp(_) => {
            let places = ["/etc/netatalk/afp.conf", "/etc/afp.conf"];
            Some(files::ini(Ini::Afp, &places.iter().find_map(|place| text(place))?))
        }
        Probe::Nfs(_) => {
            let mut all = text("/etc/exports").unwrap_or_default();
            let names = host.sys.list("/etc/exports.d").unwrap_or_default();
            for name in names.iter().filter(|name| name.ends_with(".exports")).take(32) {
                all.push('\n');
                all.push_str(&text(&format!("/etc/exports.d/{name}")).unwrap_or_default());
            }
            (!all.is_empty()).then(|| files::exports(&all))
        }
        Probe::Minidlna(_) => Some(files::minidlna(&text("/etc/minidlna.conf")?)),
        Probe::Plex { .. } => {
            let libraries = talked?.library.as_ref()?.libraries.as_ref()?;
            Some(Shares { shares: libraries.folders.clone(), notes: Vec::new() })
        }
        _ => None,
    }
}

impl Served {
    /// The worst folder; `before` knows the mount of each when it was well.
    pub fn judge<'a>(&self, before: impl Fn(&Path) -> Option<&'a Mount>) -> Option<Layer> {
        let judged = |(folder, look): &(PathBuf, Look)| {
            let layer = path::judge(folder, look, None, before(folder));
            let of = self.shares.iter().find(|share| Path::new(&share.path) == folder);
            (of.map(|share| share.name.clone()).unwrap_or_default(), layer)
        };
        let layers: Vec<_> = self.looks.iter().map(judged).collect();
        let severity = layers.iter().map(|(_, layer)| layer.severity).max()?;
        let bad: Vec<_> =
            layers.into_iter().filter(|(_, layer)| layer.severity != Severity::Ok).collect();
        let notes = self.notes.iter().fold(String::new(), |text, note| text + "; " + note);
        let worst = bad.iter().find(|(_, layer)| layer.severity == severity);
        let Some((name, worst)) = worst else {
            let message = match self.looks.len() {
                1 => format!("the folder of 1 share is there{notes}"),
                count => format!("the folders of {count} shares are there{notes}"),
            };
            return Some(Layer { name: "share", severity, message, advice: String::new() });
        };
        let hangs = self.looks.iter().all(|(_, look)| matches!(look.found, Found::Hangs { .. }));
        let message = if hangs && self.looks.len() > 1 {
            let all: Vec<_> =
                self.looks.iter().take(8).map(|(p, _)| p.display().to_string()).collect();
            format!("one of the shares' folders does not answer: {}", all.join(", "))
        } else if bad.len() > 1 {
            format!("share {name}: {}; {} more are not well", worst.message, bad.len() - 1)
        } else {
            format!("share {name}: {}", worst.message)
        };
        Some(Layer { name: "share", severity, message, advice: worst.advice.clone() })
    }
}
