//! The folders behind a service: are they there, the right ones, not full, and
//! do they answer?
//!
//! A daemon goes on answering when its folder is gone, and whoever touches a
//! dead mount may sleep where no signal reaches. So a child looks, with a
//! deadline: it opens each folder and reads one entry. Which mount holds the
//! folder comes from the kernel's table, which touches no disk; how full its
//! file system is, from a second child, seldom.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::judge::Layer;
use super::mounts::{self, Mount};
use crate::base::{Severity, span};
use crate::host::Host;
use crate::host::run::{Command, Exit, Output, RunError, quoted};

/// From here on a file system is nearly full, and full.
const NEARLY: f64 = 0.95;
const FULL: f64 = 0.99;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A folder that can be read.
    Folder,
    /// Nothing is there.
    Missing,
    /// Something else than a folder.
    NotAFolder,
    /// It does not answer in time; `stuck`: nor does the child die.
    Hangs {
        /// What it was given.
        deadline: Duration,
        /// SIGKILL did not end the child either.
        stuck: bool,
    },
    /// It is there and cannot be read: I/O errors, rights, a stale handle.
    Broken(String),
    /// It could not be looked at.
    Unknown(String),
}

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Space {
    /// Used fraction of its bytes, 0–1.
    pub bytes: f64,
    /// Used fraction of its inodes; `None` where it makes them as needed.
    pub inodes: Option<f64>,
}

/// All that is known of a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What the child has found.
    pub found: Found,
    /// The mount that holds it now.
    pub mount: Option<Mount>,
    /// Of `mount:` in the configuration: whether it is one; `None` when that
    /// cannot be said.
    pub mounted: Option<bool>,
}

impl Look {
    /// From what a child has found and the kernel's table.
    pub fn new(found: Found, path: &Path, must: Option<&Path>, table: Option<&[Mount]>) -> Self {
        let mount = table.and_then(|table| mounts::holder(table, path)).cloned();
        let is_mount = |must| Some(table?.iter().any(|mount| Path::new(&mount.point) == must));
        Self { found, mount, mounted: must.and_then(is_mount) }
    }
}

/// Looks at a folder.
pub async fn look(host: &Host, path: &Path, deadline: Duration) -> Found {
    let one = looks(host, &[path.to_owned()], deadline).await.pop();
    one.unwrap_or_else(|| Found::Unknown("nothing was found out".to_owned()))
}

/// Looks at some folders with one child; as many answers.
pub async fn looks(host: &Host, paths: &[PathBuf], deadline: Duration) -> Vec<Found> {
    let odd = |path: &PathBuf| {
        let why = format!("{} is not an absolute path", path.display());
        (!path.is_absolute()).then_some(Found::Unknown(why))
    };
    // The slash at the end follows a link and refuses what is no folder.
    let place = |path: &PathBuf| host.sys.path(path).join("");
    let places: Vec<PathBuf> = paths.iter().filter(|p| p.is_absolute()).map(place).collect();
    if places.is_empty() {
        return paths.iter().filter_map(odd).collect();
    }
    let mut command = Command::new("find", &places).deadline(deadline);
    let rest = ["-maxdepth", "0", "(", "-empty", "-o", "-true", ")", "-printf", "%H\\0"];
    command.args.extend(rest.iter().map(Into::into));
    command.limit = 1 << 20;
    let mut found = parse(&places, host.runner.run(command).await).into_iter();
    let unknown = || Found::Unknown("nothing was found out".to_owned());
    let each = |path| odd(path).unwrap_or_else(|| found.next().unwrap_or_else(unknown));
    paths.iter().map(each).collect()
}

/// What the child has told of each place.
pub fn parse(places: &[PathBuf], output: Result<Output, RunError>) -> Vec<Found> {
    let all = |found: Found| vec![found; places.len()];
    let output = match output {
        Ok(output) if output.exit == Exit::Code(0) => return all(Found::Folder),
        Ok(output) => output,
        Err(RunError::Deadline { deadline, stuck, .. }) => {
            return all(Found::Hangs { deadline, stuck });
        }
        Err(error) => return all(Found::Unknown(error.to_string())),
    };
    let (said, seen) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let one = |place: &PathBuf| {
        let place = place.to_string_lossy();
        let about = |line: &&str| {
            places.len() == 1
                || line.contains(&format!("\u{2018}{place}\u{2019}"))
                || line.contains(&format!("'{place}'"))
        };
        let why = said.lines().rfind(about).and_then(|line| line.rsplit(": ").next());
        match why.map(str::trim) {
            Some("No such file or directory") => Found::Missing,
            Some("Not a directory") => Found::NotAFolder,
            Some(why) if !why.is_empty() => {
                Found::Broken(why.chars().filter(|c| !c.is_control()).take(200).collect())
            }
            None if seen.split('\0').any(|seen| seen == place) => Found::Folder,
            _ => Found::Unknown(format!("`find` ended with {}", output.exit)),
        }
    };
    places.iter().map(one).collect()
}

/// How full the file systems of folders are that have just answered; none of
/// those that do not tell.
pub async fn space(host: &Host, paths: &[PathBuf], deadline: Duration) -> Vec<(PathBuf, Space)> {
    let places: Vec<PathBuf> = paths.iter().map(|path| host.sys.path(path)).collect();
    let mut command = Command::new("stat", ["-f", "--printf", "%b %a %c %d %n\\0", "--"]);
    command.args.extend(places.iter().map(Into::into));
    command.deadline = deadline;
    command.limit = 1 << 20;
    let Ok(output) = host.runner.run(command).await else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout);
    let one = |(path, place): (&PathBuf, &PathBuf)| {
        let place = place.to_string_lossy();
        let mut all = text.split('\0').map(|line| line.splitn(5, ' ').collect::<Vec<_>>());
        let of = all.find(|parts| parts.get(4).is_some_and(|name| *name == place))?;
        let [blocks, free, inodes, left, _] = <[&str; 5]>::try_from(of).ok()?;
        let used = |all: &str, left: &str| {
            let (all, left): (f64, f64) = (all.parse().ok()?, left.parse().ok()?);
            (all >= 1.0).then(|| (1.0 - left / all).clamp(0.0, 1.0))
        };
        Some((path.clone(), Space { bytes: used(blocks, free)?, inodes: used(inodes, left) }))
    };
    paths.iter().zip(&places).filter_map(one).collect()
}

/// What it means; `before` is the mount that held the folder when it was well.
pub fn judge(path: &Path, look: &Look, must: Option<&Path>, before: Option<&Mount>) -> Layer {
    let shown = path.display();
    let typed = quoted(path.as_os_str());
    let mounts = format!("is its pool imported and its dataset mounted? `findmnt -T {typed}`");
    let layer = |severity, message, advice| Layer { name: "path", severity, message, advice };
    // An unmounted folder is there or not, as the mount point was left: the mount says more.
    let unmounted = matches!(look.found, Found::Folder | Found::Missing);
    if let (true, Some(must), Some(false)) = (unmounted, must, look.mounted) {
        let message = format!("{} is not mounted: {shown} is not the real folder", must.display());
        let source = before.filter(|mount| mount.kind == "zfs").map(|mount| mount.source.as_str());
        return layer(Severity::Critical, message, mount_again(source, must));
    }
    if let (true, Some(before), Some(now)) = (unmounted, before, &look.mount)
        && before.point != now.point
        && Path::new(&before.point).starts_with(&now.point)
    {
        let message = format!(
            "{} ({}) is no longer mounted on {}: {shown} now lies on {}",
            before.source, before.kind, before.point, now.point
        );
        let source = (before.kind == "zfs").then_some(before.source.as_str());
        return layer(Severity::Critical, message, mount_again(source, Path::new(&before.point)));
    }
    let (severity, message, advice) = match &look.found {
        Found::Folder if before.is_some_and(|b| !b.read_only && look.read_only_now(b)) => (
            Severity::Critical,
            format!("{shown} has become read-only: its file system takes no writes any more"),
            format!("`dmesg` says why; `findmnt -T {typed}` shows the mount"),
        ),
        Found::Folder if must.is_some() && look.mounted.is_none() => (
            Severity::Unknown,
            format!("{shown} is there, but the mounts cannot be read"),
            String::new(),
        ),
        Found::Folder => (Severity::Ok, format!("{shown} is there"), String::new()),
        Found::Missing => (Severity::Critical, format!("{shown} does not exist"), mounts),
        Found::NotAFolder => (Severity::Critical, format!("{shown} is not a folder"), mounts),
        Found::Hangs { deadline, stuck } => (
            Severity::Critical,
            format!(
                "{shown} does not answer within {}{}: its mount is dead",
                span::show(*deadline),
                if *stuck { ", and who asks cannot be killed" } else { "" }
            ),
            format!("`findmnt -T {typed}` shows the mount; look at its pool or server"),
        ),
        Found::Broken(why) => {
            (Severity::Critical, format!("{shown} cannot be read: {why}"), format!("`ls {typed}`"))
        }
        Found::Unknown(why) => {
            (Severity::Unknown, format!("{shown} could not be looked at: {why}"), String::new())
        }
    };
    layer(severity, message, advice)
}

impl Look {
    fn read_only_now(&self, before: &Mount) -> bool {
        let same = |now: &&Mount| now.point == before.point;
        self.mount.as_ref().filter(same).is_some_and(|now| now.read_only)
    }
}

fn mount_again(source: Option<&str>, point: &Path) -> String {
    match source {
        Some(dataset) => format!("`zfs mount {}`", quoted(dataset.as_ref())),
        None => {
            format!("is its pool imported? `zfs mount -a` or `mount {}`", quoted(point.as_os_str()))
        }
    }
}

/// What it means that a file system is as full as this; `None` when there is room.
pub fn judge_space(path: &Path, space: Space) -> Option<Layer> {
    let inodes = space.inodes.unwrap_or(0.0);
    let (used, what) = if space.bytes >= NEARLY || space.bytes >= inodes {
        (space.bytes, "")
    } else {
        (inodes, " of its inodes")
    };
    let severity = match used {
        used if used >= FULL => Severity::Critical,
        used if used >= NEARLY => Severity::Warning,
        _ => return None,
    };
    let shown = path.display();
    // 99.6 % is not yet 100 %.
    let percent = (used * 100.0).floor();
    let message = format!("the file system of {shown} has used {percent:.0} %{what}");
    let advice = format!("make room: `df -h {}`", quoted(path.as_os_str()));
    Some(Layer { name: "path", severity, message, advice })
}
