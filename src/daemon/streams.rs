//! The streams' clock, their log, and what becomes of a changed configuration.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::Shared;
use crate::base::Event;
use crate::config::Config;
use crate::riemann::{Inlet, Outlet, outlet};
use crate::state::Fact;
use crate::state::streams::StreamsState;

/// A configuration that was read again, or all that is wrong with it.
pub type Reload = Result<Config, String>;

/// The end of a window is noticed this late at most.
const TICK: Duration = Duration::from_millis(100);

/// Events that wait to be logged, before the oldest is left out.
const LOG: usize = 1024;

/// Lines at a time.
const LINES: usize = 100;

/// The output `log`.
pub(super) fn log() -> (Outlet, Inlet) {
    outlet("log", LOG)
}

/// Until the daemon drops it.
pub(super) async fn run(
    shared: Shared,
    mut logged: Inlet,
    mut reloads: mpsc::Receiver<Reload>,
    every: Duration,
) {
    let mut ticks = interval(TICK);
    let mut tell = interval(every);
    for timer in [&mut ticks, &mut tell] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut lost = 0;
    let mut active = shared.index.streams_hold().is_some();
    // Everybody has attached by now who will.
    tell.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick(), if active => shared.index.tick(),
            events = logged.some(LINES) => {
                for event in events {
                    line(&event);
                }
            }
            Some(reload) = reloads.recv() => {
                reloaded(&shared, reload).await;
                active = shared.index.streams_hold().is_some();
            }
            _ = tell.tick(), if active => {
                let Some((events, children, so_far)) = shared.index.streams_hold() else { continue };
                let nowhere = shared.index.unattached();
                let since = so_far.saturating_sub(lost);
                lost = so_far;
                let state = StreamsState { events, children, lost: since, nowhere };
                // The writer is gone only at the very end.
                let _ = shared.facts.send(Fact::Streams(state)).await;
            }
        }
    }
}

/// One event in the log.
fn line(event: &Event) {
    let text = |text: &Option<String>| text.as_deref().unwrap_or("-").to_owned();
    let metric = event.metric.map(|metric| metric.as_f64().to_string()).unwrap_or_default();
    info!(
        "event: {} {} {} {metric} {}",
        text(&event.host).escape_debug(),
        text(&event.service).escape_debug(),
        text(&event.state).escape_debug(),
        event.description.as_deref().unwrap_or_default().escape_debug(),
    );
}

/// Takes the streams of a new configuration over, or none of it.
async fn reloaded(shared: &Shared, reload: Reload) {
    const WHAT: &str = "the changed configuration";
    match reload {
        Ok(config) => {
            let told = shared.index.set_streams(&config.streams);
            info!(
                "streams are reloaded: {} steps go on, {} begin; other sections of host.yaml take \
                 effect at a restart",
                told.kept, told.new
            );
            shared.unavailable(WHAT, None).await;
        }
        Err(problems) => {
            error!(
                "the changed configuration is wrong, the streams go on as they were\n{problems}"
            );
            let last = problems.lines().last().unwrap_or_default();
            warn!("see it with: hostctl config check");
            let why = format!("wrong, the streams go on as they were: {last}");
            shared.unavailable(WHAT, Some(why)).await;
        }
    }
}
