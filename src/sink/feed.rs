//! From the engine into the outbox, in batches: an event is on the disk at
//! most [`LINGER`] and one write after it was published.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::time::sleep;

use super::outbox::Mail;
use super::standing::Standing;
use crate::base::Event;
use crate::query::Query;
use crate::riemann::Inlet;

/// How long the first event of a batch waits for others: each write to the
/// disk costs the same, be it for one event or for a thousand.
pub const LINGER: Duration = Duration::from_millis(100);

/// Events between the engine and the outbox, before the oldest is dropped.
pub const CAPACITY: usize = 32_768;

/// A batch that waits for no others.
const MANY: usize = 1000;
const MOST: usize = 8192;

/// Until `stop` is ready; what has been published up to then is kept.
pub async fn feed(
    mut inlet: Inlet,
    mail: Mail,
    standing: Standing,
    wanted: Option<Query>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    loop {
        let mut events = select! {
            events = inlet.some(MANY) => events,
            () = &mut stop => break,
        };
        let ends = events.len() < MANY
            && select! {
                () = sleep(LINGER) => false,
                () = &mut stop => true,
            };
        events.extend(inlet.now(MOST));
        keep(events, &inlet, &mail, &standing, wanted.as_ref()).await;
        if ends {
            break;
        }
    }
    let rest = inlet.now(usize::MAX);
    keep(rest, &inlet, &mail, &standing, wanted.as_ref()).await;
}

async fn keep(
    mut events: Vec<Arc<Event>>,
    inlet: &Inlet,
    mail: &Mail,
    standing: &Standing,
    wanted: Option<&Query>,
) {
    standing.count(|totals| totals.overrun = inlet.lost());
    if let Some(query) = wanted {
        events.retain(|event| query.matches(event));
    }
    if !events.is_empty() {
        mail.append(events).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::query;
    use crate::riemann::outlet;

    #[tokio::test(start_paused = true)]
    async fn what_is_published_before_the_end_is_kept() {
        let rig = testing::Rig::new();
        let (out, inlet) = outlet("a", 100);
        for service in ["one", "two", "three"] {
            out.push(&Arc::new(rig.event(service)));
        }
        let wanted = query::parse("not service = \"two\"").unwrap();
        let (mail, standing) = (rig.mail.clone(), Standing::default());
        feed(inlet, mail, standing, Some(wanted), async {}).await;
        let kept = rig.mail.read(0, 10, 1 << 20).await;
        let services: Vec<_> = kept.iter().filter_map(|k| k.event.service.as_deref()).collect();
        assert_eq!(services, ["one", "three"]);
    }
}
