//! The loop that asks the disks for their health.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Shared;
use crate::health::smart::Observer;
use crate::state::Fact;

/// udev makes its links to a new disk some time after the kernel's word.
const SETTLE: Duration = Duration::from_secs(2);

/// One disk after the other; at once when a disk has come or gone.
pub(super) async fn disks(shared: Shared, mut observer: Observer) {
    let mut told = None;
    loop {
        let view = observer.round().await;
        // Where there is nothing to be asked nothing is missing.
        let barred = observer.barred().map(str::to_owned);
        if told != barred {
            shared.unavailable("disk health", barred.clone()).await;
            told = barred;
        }
        if shared.facts.send(Fact::Disks(view)).await.is_err() {
            return;
        }
        if timeout(observer.pause(), shared.disks.notified()).await.is_ok() {
            sleep(SETTLE).await;
            observer.poke();
        }
    }
}
