//! Scrubs that are started, paused and stopped.

use std::time::Duration;

use super::devices::typed;
use crate::ask::view::DoneView;
use crate::ask::{Code, Refusal, ScrubAct};
use crate::host::Host;
use crate::host::run::{Command, RunError};

/// ZFS starts a scrub within a transaction group, which a busy pool delays.
const DEADLINE: Duration = Duration::from_secs(30);

/// Does to the scrub of `pool` what `act` says; what is so already is fine.
pub async fn act(host: &Host, pool: &str, act: ScrubAct) -> Result<DoneView, Refusal> {
    // ZFS's names begin with a letter, so none can be taken for an option.
    if !pool.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let message = format!("{pool:?} cannot be the name of a pool");
        return Err(Refusal::new(Code::Usage, message, "`hostctl pool list` has the names"));
    }
    let args = match act {
        ScrubAct::Start => vec!["scrub", pool],
        ScrubAct::Pause => vec!["scrub", "-p", pool],
        ScrubAct::Stop => vec!["scrub", "-s", pool],
    };
    let command = Command::new("zpool", args).deadline(DEADLINE);
    let ran = host.runner.run(command.clone()).await.and_then(|output| output.success(&command));
    match ran {
        Ok(_) => Ok(DoneView::changed(match act {
            ScrubAct::Start => format!("{pool} is being scrubbed"),
            ScrubAct::Pause => format!("the scrub of {pool} is paused"),
            ScrubAct::Stop => format!("the scrub of {pool} is given up"),
        })),
        Err(error) => verdict(pool, act, &error),
    }
}

/// What `zpool` means by its words.
fn verdict(pool: &str, act: ScrubAct, error: &RunError) -> Result<DoneView, Refusal> {
    let said = match error {
        RunError::Failed { stderr, .. } => stderr.as_str(),
        RunError::Start { .. } | RunError::Deadline { .. } | RunError::TooMuch { .. } => "",
    };
    let refused = |code, message: String, hint: String| Err(Refusal::new(code, message, hint));
    match act {
        _ if said.contains("no such pool") => refused(
            Code::NotFound,
            format!("there is no pool {pool}"),
            "`hostctl pool list` has the names".to_owned(),
        ),
        _ if said.contains("currently resilvering") => refused(
            Code::Refused,
            format!("{pool} resilvers, and a scrub waits for that"),
            format!("`hostctl pool status {}` tells how far it is", typed(pool)),
        ),
        ScrubAct::Start if said.contains("currently scrubbing") => {
            Ok(DoneView::already(format!("{pool} is being scrubbed already")))
        }
        ScrubAct::Pause if said.contains("is paused") || said.contains("already paused") => {
            Ok(DoneView::already(format!("the scrub of {pool} is paused already")))
        }
        ScrubAct::Pause | ScrubAct::Stop if said.contains("no active scrub") => {
            Ok(DoneView::already(format!("no scrub of {pool} runs")))
        }
        ScrubAct::Start | ScrubAct::Pause | ScrubAct::Stop => refused(
            Code::Failed,
            error.to_string(),
            format!("`hostctl pool status {}`", typed(pool)),
        ),
    }
}
