//! Recorded events through the streams of the configuration.

use std::path::Path;
use std::time::Duration;

use super::{Local, bytes, names};
use crate::ask::view::{EventView, ReplayView, ReplayedView};
use crate::ask::{Answer, Code, Refusal, Reply};
use crate::base::with_sources;
use crate::riemann::streams::replay;

/// What comes out where, when the events of a file (`-` is standard input) come
/// in at their times and the clock goes on for `after`.
pub fn test_stream(local: &Local, file: &Path, after: Duration) -> Answer {
    let steps = names(local)?.streams;
    if steps.is_empty() {
        let message = format!("{} has no `streams:`", local.config.display());
        let hint = "every event is indexed and goes everywhere; docs/streams.md has examples";
        return Err(Refusal::new(Code::Usage, message, hint));
    }
    let path = if file.as_os_str() == "-" { Path::new("/dev/stdin") } else { file };
    let read = bytes(path)?;
    let wrong = |why: &str| {
        let hint = "it takes what `hostctl event query --json` prints, or an event a line";
        Refusal::new(Code::Usage, format!("{}: {why}", file.display()), hint)
    };
    let text = std::str::from_utf8(&read).map_err(|_| wrong("it is not UTF-8 text"))?;
    let events = replay::read(text).map_err(|error| wrong(&with_sources(&error)))?;
    let ran = replay::run(&steps, events, after);
    let outputs = ran.came.iter().map(|came| ReplayedView {
        at: came.at.secs_f64(),
        to: came.to.clone(),
        event: EventView::from(&*came.event),
    });
    Ok(Reply::Replay(ReplayView {
        outputs: outputs.collect(),
        more: ran.more as u64,
        refused: ran.refused as u64,
        lost: ran.lost,
    }))
}
