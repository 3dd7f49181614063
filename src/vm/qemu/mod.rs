//! What *this* QEMU can do, asked of its binary.
//!
//! In: the path of a binary. Out: its [`Capabilities`], and what of a command
//! line it does not take, before anything is touched.
//!
//! - [`ask`]: the conversation, and the pure reading of what was said
//! - [`mod@judge`]: a line against the capabilities
//! - here: the answers, kept in the state folder by what tells the binary from
//!   another; a kept answer that is damaged is asked for anew. Who only looks
//!   ([`look`]) keeps nothing

pub mod ask;
pub mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

pub use ask::AskError;
pub use judge::judge;

use crate::host::Host;
use crate::host::sys::{Kind, SysError};

/// Where a program given by name is looked for.
const PROGRAMS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// Where Debian puts the parts of QEMU that are packages of their own. With
/// another one the same binary can do more.
const MODULES: &str = "/usr/lib/x86_64-linux-gnu/qemu";
/// The answers, below the state folder.
const FOLDER: &str = "qemu";
/// How many answers are kept; the others are of binaries that are gone.
const KEPT: usize = 8;
/// The form of the answers: one of another form is asked for anew.
const FORM: u32 = 1;

/// What a QEMU can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Three numbers.
    pub version: (u32, u32, u32),
    /// What its packager calls it.
    pub package: String,
    /// Machine types, with the other name of some.
    pub machines: BTreeMap<String, Option<String>>,
    /// Types of devices and objects.
    pub types: BTreeSet<String>,
    /// The properties of those that hostd writes.
    pub properties: BTreeMap<String, BTreeSet<String>>,
    /// Where sound can go.
    pub audio: BTreeSet<String>,
}

impl Capabilities {
    /// The machine type with its version: `q35` is a name for the newest.
    pub fn resolve<'a>(&'a self, machine: &'a str) -> Option<&'a str> {
        if self.machines.contains_key(machine) {
            return Some(machine);
        }
        let named = |alias: &Option<String>| alias.as_deref() == Some(machine);
        self.machines.iter().find(|(_, alias)| named(alias)).map(|(name, _)| name.as_str())
    }

    /// The version as people write it.
    pub fn shown(&self) -> String {
        let (major, minor, micro) = self.version;
        format!("QEMU {major}.{minor}.{micro}")
    }
}

/// A kept answer.
#[derive(Serialize, Deserialize)]
struct Kept {
    form: u32,
    of: String,
    can: Capabilities,
}

/// The program that a VM's `qemu:` means, if it is there.
pub fn program(host: &Host, qemu: &Path) -> Option<PathBuf> {
    let places: Vec<PathBuf> = if qemu.components().count() > 1 {
        vec![qemu.to_owned()]
    } else {
        PROGRAMS.iter().map(|folder| Path::new(folder).join(qemu)).collect()
    };
    places.into_iter().find(|place| matches!(host.sys.kind(place), Ok(Kind::File)))
}

/// What tells this state of the program from any other: cheap, and with every
/// upgrade another.
fn identity(host: &Host, program: &Path) -> Result<String, SysError> {
    let (size, number, changed) = host.sys.print(program)?;
    let modules = host.sys.list(MODULES).unwrap_or_default();
    let when = changed.0;
    Ok(format!("{} {size} {number} {when} {}", program.display(), modules.join(" ")))
}

/// FNV-1a: a name for a file, not a proof; the identity itself is in the file.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What the QEMU at `qemu` can do, and where that is kept: the answer, and
/// whether it is new.
async fn known(host: &Host, qemu: &Path) -> Result<(PathBuf, Kept, bool), AskError> {
    let missing = || AskError::Missing(qemu.to_owned());
    let program = program(host, qemu).ok_or_else(missing)?;
    let of = identity(host, &program)?;
    let file = Path::new(FOLDER).join(format!("{:016x}.json", hash(&of)));
    // What cannot be read is asked for anew.
    let kept = host.state.read(&file).ok().flatten();
    let kept = kept.and_then(|text| serde_json::from_str::<Kept>(&text).ok());
    if let Some(kept) = kept.filter(|kept| kept.form == FORM && kept.of == of) {
        return Ok((file, kept, false));
    }
    let can = ask::ask(host, &program).await?;
    Ok((file, Kept { form: FORM, of, can }, true))
}

/// What the QEMU at `qemu` can do; nothing is kept.
pub async fn look(host: &Host, qemu: &Path) -> Result<Capabilities, AskError> {
    Ok(known(host, qemu).await?.1.can)
}

/// What the QEMU at `qemu` can do; asked once for each state of the binary.
pub async fn capabilities(host: &Host, qemu: &Path) -> Result<Capabilities, AskError> {
    let (file, kept, new) = known(host, qemu).await?;
    if new {
        keep(host, &file, &kept);
    }
    Ok(kept.can)
}

/// Keeping saves time, and is no reason to fail: who is not root cannot.
fn keep(host: &Host, file: &Path, kept: &Kept) {
    let text = serde_json::to_string(kept).unwrap_or_default();
    let others = host.state.list(FOLDER).unwrap_or_default();
    for other in others.iter().take(others.len().saturating_sub(KEPT - 1)) {
        if let Err(error) = host.state.remove(Path::new(FOLDER).join(other)) {
            warn!("{error}");
        }
    }
    if let Err(error) = host.state.write(file, &text) {
        tracing::debug!("what QEMU can do is not kept: {error}");
    }
}

#[cfg(test)]
mod tests;
