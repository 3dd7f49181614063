//! The loop that looks at the machine itself.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Shared;
use crate::ask::view::MachineView;
use crate::config::Health;
use crate::health::{self, observer::lost};
use crate::state::Fact;

/// A round that takes longer hangs: a sensor, most likely.
const HANGS: Duration = Duration::from_secs(20);

/// How long systemd may take to name its failed units.
const UNITS: Duration = Duration::from_secs(2);

/// Looks each interval. What cannot be looked at any more is told as unknown.
pub(super) async fn watch(shared: Shared, config: Health, every: Duration) {
    let mut observer = health::Observer::new(shared.host.clone(), config);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = MachineView::default();
    loop {
        ticks.tick().await;
        // Where systemd does not run there are none to speak of.
        let failed = timeout(UNITS, shared.host.units.failed()).await;
        let failed = failed.ok().and_then(Result::ok);
        let mut round = tokio::task::spawn_blocking(move || {
            let view = observer.round(failed.as_deref());
            (observer, view)
        });
        let done = loop {
            if let Ok(done) = timeout(HANGS, &mut round).await {
                break done;
            }
            let why = "not known: looking at the machine hangs, perhaps at a sensor";
            if shared.facts.send(Fact::Machine(lost(&last, why))).await.is_err() {
                return;
            }
        };
        // It panicked, which ends the daemon with this task's name.
        let Ok((back, view)) = done else { return };
        (observer, last) = (back, view);
        if shared.facts.send(Fact::Machine(last.clone())).await.is_err() {
            return;
        }
    }
}
