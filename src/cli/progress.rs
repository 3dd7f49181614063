//! What a VM is doing while a person waits for it.

use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use tokio::time::{MissedTickBehavior, interval};

use super::out;
use super::view::printable;
use crate::api::client::Change;
use crate::base::{Name, span};

/// Shows the steps of one VM until it is dropped; `live` is one line that
/// changes, otherwise there is a line for each step.
pub struct Progress {
    live: bool,
    shown: bool,
    started: Instant,
    last: Option<String>,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new(live: bool) -> Self {
        Self { live, shown: false, started: Instant::now(), last: None }
    }

    /// Follows the changes of `vm`; never returns, to be dropped when the
    /// answer is there.
    pub async fn follow(
        &mut self,
        vm: &Name,
        mut changes: impl Stream<Item = Change> + Unpin,
    ) -> std::convert::Infallible {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) if change.name == *vm => {
                        self.last = Some(line(&change));
                        self.show(true);
                    }
                    Some(_) => {}
                    // The connection is gone; the answer says so.
                    None => return std::future::pending().await,
                },
                _ = ticks.tick() => self.show(false),
            }
        }
    }

    fn show(&mut self, moved: bool) {
        let Some(line) = &self.last else { return };
        let age = span::show(self.started.elapsed());
        if self.live {
            // A line that wraps could not be taken back.
            let line: String = format!("{line} ({age})").chars().take(out::width() - 1).collect();
            out::speak(&format!("\r\x1b[2K{line}"));
            self.shown = true;
        } else if moved {
            out::speak(&format!("{age:>6}  {line}\n"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            out::speak("\r\x1b[2K");
        }
    }
}

fn line(change: &Change) -> String {
    let what = if change.step.is_empty() { &change.reason } else { &change.step };
    let line = format!("{}: {}", change.name, change.state.as_str());
    printable(&if what.is_empty() { line } else { format!("{line}, {what}") }).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::view::VmState;

    #[test]
    fn a_step_is_one_line() {
        let mut change = Change {
            name: "gaming".parse().unwrap(),
            state: VmState::Preparing,
            reason: "asked by uid 0".into(),
            step: "binding\n\x1b[31m0000:01:00.0".into(),
        };
        assert_eq!(line(&change), "gaming: preparing, binding [31m0000:01:00.0");
        change.step.clear();
        assert_eq!(line(&change), "gaming: preparing, asked by uid 0");
    }
}
