//! What a VM is doing while a person waits for it: each step with the time it
//! took, and at the end what it took in all.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::out;
use super::view::printable;
use crate::api::client::Change;
use crate::base::{Name, span};

/// How often the time of the step under way is shown anew.
const TICK: Duration = Duration::from_millis(500);

/// The steps of one VM, and when each began.
#[derive(Debug, Default)]
struct Steps {
    /// The step under way, and when it began.
    now: Option<(String, Duration)>,
    /// How many have been done.
    done: usize,
}

impl Steps {
    /// Takes in a change at `at`, counted from the beginning; returns the line
    /// of the step that has ended by it.
    fn change(&mut self, change: &Change, at: Duration) -> Option<String> {
        let step = plain(&change.step);
        if self.now.as_ref().is_some_and(|(now, _)| *now == step) {
            return None;
        }
        let ended = self.end(at);
        self.now = (!step.is_empty()).then_some((step, at));
        ended
    }

    /// The step under way has ended.
    fn end(&mut self, at: Duration) -> Option<String> {
        let (step, begun) = self.now.take()?;
        self.done += 1;
        Some(line(at.saturating_sub(begun), &step))
    }

    /// The line of the step under way.
    fn current(&self, at: Duration) -> Option<String> {
        let (step, begun) = self.now.as_ref()?;
        Some(format!("{} …", line(at.saturating_sub(*begun), step)))
    }

    /// The line of all of it; none when there was only one step, or none.
    fn total(&self, at: Duration) -> Option<String> {
        (self.done > 1).then(|| line(at, "in all"))
    }
}

/// One line: how long, and what.
fn line(took: Duration, what: &str) -> String {
    let took = if took < Duration::from_secs(60) {
        format!("{:.1}s", took.as_secs_f64())
    } else {
        span::show(took)
    };
    format!("{took:>7}  {what}")
}

fn plain(step: &str) -> String {
    printable(&step.replace('\n', " "))
}

/// Shows the steps of one VM; `live` has the step under way on a line that
/// changes, otherwise each step has its line when it is done.
pub struct Progress {
    live: bool,
    shown: bool,
    begun: Instant,
    steps: Steps,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new(live: bool) -> Self {
        Self { live, shown: false, begun: Instant::now(), steps: Steps::default() }
    }

    /// Follows the changes of `vm`; never returns, to be dropped when the
    /// answer is there.
    pub async fn follow(
        &mut self,
        vm: &Name,
        changes: &mut (impl Stream<Item = Change> + Unpin),
    ) -> Infallible {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) => self.take(vm, &change),
                    // The connection is gone; the answer says so.
                    None => return std::future::pending().await,
                },
                _ = ticks.tick() => self.show_current(),
            }
        }
    }

    /// The answer is there: shows what has been told and not shown yet, and
    /// the whole time.
    pub fn end(mut self, vm: &Name, changes: &mut (impl Stream<Item = Change> + Unpin)) {
        while let Some(Some(change)) = changes.next().now_or_never() {
            self.take(vm, &change);
        }
        let at = self.begun.elapsed();
        let ended = self.steps.end(at);
        self.say(ended);
        let total = self.steps.total(at);
        self.say(total);
    }

    fn take(&mut self, vm: &Name, change: &Change) {
        if change.name == *vm {
            let ended = self.steps.change(change, self.begun.elapsed());
            self.say(ended);
            self.show_current();
        }
    }

    /// A line that stays.
    fn say(&mut self, line: Option<String>) {
        if let Some(line) = line {
            self.clear();
            out::speak(&format!("{line}\n"));
        }
    }

    fn show_current(&mut self) {
        if !self.live {
            return;
        }
        self.clear();
        if let Some(line) = self.steps.current(self.begun.elapsed()) {
            // A line that wraps could not be taken back.
            let line: String = line.chars().take(out::width() - 1).collect();
            out::speak(&line);
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            out::speak("\r\x1b[2K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::view::VmState;

    fn change(step: &str) -> Change {
        let name = "gaming".parse().unwrap();
        Change { name, state: VmState::Preparing, reason: "on request".into(), step: step.into() }
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// What is shown of steps that begin at these moments, the answer last.
    fn shown(changes: &[(u64, &str)], answer: u64) -> String {
        let mut steps = Steps::default();
        let told = changes.iter().map(|(when, step)| (at(*when), change(step)));
        let mut lines: Vec<_> = told.filter_map(|(at, told)| steps.change(&told, at)).collect();
        lines.extend(steps.end(at(answer)));
        lines.extend(steps.total(at(answer)));
        lines.join("\n")
    }

    #[test]
    fn each_step_has_its_own_time_and_the_end_the_whole() {
        let changes = [
            (20, "making /run/hostd/vms/gaming"),
            (40, "binding graphics card 0000:01:00.0"),
            // A change of the state is no other step.
            (700, "binding graphics card 0000:01:00.0"),
            (840, "starting QEMU"),
            (1_100, "waiting for QEMU on /run/hostd/vms/gaming/qmp.sock"),
            (62_340, ""),
        ];
        insta::assert_snapshot!(shown(&changes, 62_400), @r"
           0.0s  making /run/hostd/vms/gaming
           0.8s  binding graphics card 0000:01:00.0
           0.3s  starting QEMU
          1m 1s  waiting for QEMU on /run/hostd/vms/gaming/qmp.sock
          1m 2s  in all
        ");
    }

    #[test]
    fn a_step_that_the_answer_ends_is_shown_and_one_alone_needs_no_sum() {
        insta::assert_snapshot!(shown(&[(0, "pressing the power button")], 8_000), @"   8.0s  pressing the power button");
        assert_eq!(shown(&[(5, "")], 10), "");
    }

    #[test]
    fn the_step_under_way_is_one_line_without_escapes() {
        let mut steps = Steps::default();
        assert_eq!(steps.change(&change("binding\n\x1b[31m0000:01:00.0"), at(0)), None);
        let line = steps.current(at(2_500)).unwrap();
        assert_eq!(line, "   2.5s  binding [31m0000:01:00.0 …");
    }
}
