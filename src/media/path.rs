//! The folder behind a service: is it there, and does it answer?
//!
//! A daemon goes on answering when its folder is gone, and whoever touches a
//! dead mount may sleep where no signal reaches. So a child looks, with a
//! deadline: it opens the folder and reads one entry.

use std::path::Path;
use std::time::Duration;

use super::judge::Layer;
use crate::base::{Severity, span};
use crate::host::Host;
use crate::host::run::{Command, Exit, Output, RunError, quoted};

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

/// Looks at a folder.
pub async fn look(host: &Host, path: &Path, deadline: Duration) -> Found {
    if !path.is_absolute() {
        return Found::Unknown(format!("{} is not an absolute path", path.display()));
    }
    // The slash at the end follows a link and refuses what is no folder.
    let place = host.sys.path(path).join("");
    let mut command = Command::new("find", [place.as_os_str()]).deadline(deadline);
    let rest = ["-mindepth", "1", "-maxdepth", "1", "-printf", "x", "-quit"];
    command.args.extend(rest.iter().map(Into::into));
    command.limit = 64 * 1024;
    parse(host.runner.run(command).await)
}

/// What the child has told.
pub fn parse(output: Result<Output, RunError>) -> Found {
    match output {
        Ok(output) if output.exit == Exit::Code(0) => Found::Folder,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = said.trim().rsplit(": ").next().unwrap_or_default();
            match why {
                "No such file or directory" => Found::Missing,
                "Not a directory" => Found::NotAFolder,
                "" => Found::Unknown(format!("`find` ended with {}", output.exit)),
                why => Found::Broken(why.chars().filter(|c| !c.is_control()).take(200).collect()),
            }
        }
        Err(RunError::Deadline { deadline, stuck, .. }) => Found::Hangs { deadline, stuck },
        Err(error) => Found::Unknown(error.to_string()),
    }
}

/// What it means.
pub fn judge(path: &Path, found: &Found) -> Layer {
    let shown = path.display();
    let typed = quoted(path.as_os_str());
    let mounts = format!("is its pool imported and its dataset mounted? `findmnt -T {typed}`");
    let (severity, message, advice) = match found {
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
    Layer { name: "path", severity, message, advice }
}
