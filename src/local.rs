//! TEMPORARY: the signatures that hostctl needs of the second composition
//! root, which answers without a daemon.
#![allow(missing_docs, clippy::unused_async, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::ask::{Answer, Ask, Code, Refusal};

/// The machine that is read.
pub struct Local {
    /// `/`, or what `--sysroot` names.
    pub sysroot: PathBuf,
    /// `/etc/hostd/host.yaml`, or what `--config` names.
    pub config: PathBuf,
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub message: String,
}

/// What `config check` prints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Checked {
    pub files: Vec<String>,
    pub problems: Vec<Problem>,
}

fn absent() -> Refusal {
    Refusal::new(Code::Failed, "this build cannot read the machine by itself", "")
}

/// Answers the asks that only look at the machine.
pub async fn answer(_local: &Local, _ask: &Ask) -> Answer {
    Err(absent())
}

/// Judges a saved capture.
pub fn pool_status_from(_text: &str) -> Answer {
    Err(absent())
}

/// A text file that a person names; `-` is standard input. Bounded.
pub fn text(path: &Path) -> Result<String, Refusal> {
    std::fs::read_to_string(path).map_err(|error| {
        Refusal::new(Code::Usage, format!("cannot read {}: {error}", path.display()), "")
    })
}

/// Checks `host.yaml` and the VM files beside it.
pub fn config_check(_file: &Path) -> Result<Checked, Refusal> {
    Err(absent())
}

/// The checked configuration with every default filled in: YAML, or JSON.
pub fn config_show(_file: &Path, _json: bool) -> Result<String, Refusal> {
    Err(absent())
}

/// The JSON Schema of `host.yaml` and of VM files.
pub fn config_schema() -> Result<String, Refusal> {
    Err(absent())
}
