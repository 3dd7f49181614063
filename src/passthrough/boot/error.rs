//! Every no of the boot-time setup, with its next step.

use super::super::error::PassthroughError;
use super::super::journal::JournalError;
use crate::ask::{Code, Refusal};
use crate::base::with_sources;
use crate::host::run::RunError;
use crate::host::sys::SysError;

/// Why nothing was set up, or not taken away.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A card was not found, or is not the right one.
    #[error(transparent)]
    Card(#[from] PassthroughError),
    /// What a function is cannot be read.
    #[error("{gpu}: what {function} is cannot be read; nothing was touched")]
    Identity {
        /// Which card.
        gpu: String,
        /// Which function.
        function: String,
    },
    /// A file at a place of ours that we did not make.
    #[error("{path} is there and hostd did not make it; nothing was touched")]
    Foreign {
        /// Which file.
        path: String,
    },
    /// A file that has to be known cannot be read.
    #[error("nothing was touched")]
    Read(#[source] SysError),
    /// The record.
    #[error("the boot setup cannot go on")]
    Journal(#[source] JournalError),
    /// A file could not be written, or reads back otherwise.
    #[error("the boot setup was undone: {path} could not be written")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        source: SysError,
        /// What could not be undone.
        left: Vec<String>,
    },
    /// A command failed.
    #[error("the boot setup was undone")]
    Command {
        /// Why, with its whole words.
        source: RunError,
        /// What could not be undone.
        left: Vec<String>,
    },
    /// The thread that wrote ended.
    #[error("the boot setup was interrupted")]
    Lost(#[source] tokio::task::JoinError),
}

impl BootError {
    /// The next step for a person.
    pub fn hint(&self) -> String {
        let undone = |left: &[String]| match left {
            [] => "All is as it was".to_owned(),
            left => format!(
                "Left: {}. `hostctl boot status` shows it, `hostctl boot remove` tries again",
                left.join("; ")
            ),
        };
        match self {
            Self::Card(error) => error.hint(),
            Self::Identity { .. } => {
                "Does the card answer? `hostctl gpu list` shows what can be read".to_owned()
            }
            Self::Foreign { .. } => "Move it away, then try again".to_owned(),
            Self::Read(SysError::Invalid { path, .. }) => format!(
                "Look at {}: hostd changes only what it can read. `hostctl boot remove` does \
                 without it",
                path.display()
            ),
            Self::Read(SysError::Denied(_) | SysError::Missing(_) | SysError::Io { .. }) => {
                "Run it as root, or ask the daemon".to_owned()
            }
            Self::Journal(JournalError::Corrupt { path, .. }) => format!(
                "Remove {path}, then run `hostctl boot remove`: it finds hostd's files by their \
                 first lines. Words in /etc/kernel/cmdline have to be taken out by hand"
            ),
            Self::Journal(_) => "Is the state folder writable? It needs root".to_owned(),
            Self::Write { left, .. } | Self::Command { left, .. } => undone(left),
            Self::Lost(_) => {
                "`hostctl boot status` shows what is there; `hostctl boot remove` takes it away"
                    .to_owned()
            }
        }
    }

    /// What could not be undone.
    pub fn left(&self) -> &[String] {
        match self {
            Self::Write { left, .. } | Self::Command { left, .. } => left,
            Self::Card(_)
            | Self::Identity { .. }
            | Self::Foreign { .. }
            | Self::Read(_)
            | Self::Journal(_)
            | Self::Lost(_) => &[],
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Foreign { .. } => Code::Refused,
            // A card's own code is used.
            Self::Card(_)
            | Self::Identity { .. }
            | Self::Read(_)
            | Self::Journal(_)
            | Self::Write { .. }
            | Self::Command { .. }
            | Self::Lost(_) => Code::Failed,
        }
    }
}

impl From<BootError> for Refusal {
    fn from(error: BootError) -> Self {
        match error {
            BootError::Card(error) => error.into(),
            other => Self::new(other.code(), with_sources(&other), other.hint()),
        }
    }
}
