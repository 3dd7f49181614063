//! The ways out of events: one sink for each place of `upstream:`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Shared;
use crate::ask::view::SinkView;
use crate::base::{Bytes, Severity, span};
use crate::config::{Sink, Upstream};
use crate::host::spool::{RealSpool, Spool};
use crate::riemann::{Inlet, outlet};
use crate::sink::feed::{self, feed};
use crate::sink::outbox::{Gauge, Limits, Mail, Outbox};
use crate::sink::standing::{Standing, Totals};
use crate::sink::{graphite, riemann};
use crate::state::Fact;

/// Something that has waited for so long is worth a word.
const LATE: Duration = Duration::from_secs(30);

/// Something that was dropped is worth a word for so long.
const DROPPED: Duration = Duration::from_secs(300);

/// Everything that is sent out, until the daemon goes down; what was published
/// up to then is in the outboxes. What is published from this call on is sent.
pub(super) fn upstream(
    shared: &Shared,
    to: &Upstream,
    down: &watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static + use<> {
    let mut sinks: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
    for one in &to.riemann {
        let (one, inlet) = (one.clone(), inlet(shared, &one.sink));
        let (shared, down) = (shared.clone(), down.clone());
        sinks.push(Box::pin(async move {
            let sink = one.sink.clone();
            let (mail, standing) = (mail(&shared, &sink).await, Standing::default());
            let sender = riemann::Sender {
                to: one,
                mail: mail.clone(),
                standing: standing.clone(),
                dial: Arc::clone(&shared.host.dial),
                sys: shared.host.sys.clone(),
                index: shared.index.clone(),
            };
            run(shared, &sink, (inlet, mail, standing), sender.run(), down).await;
        }));
    }
    for one in &to.graphite {
        let (one, inlet) = (one.clone(), inlet(shared, &one.sink));
        let (shared, down) = (shared.clone(), down.clone());
        sinks.push(Box::pin(async move {
            let sink = one.sink.clone();
            let (mail, standing) = (mail(&shared, &sink).await, Standing::default());
            let sender = graphite::Sender {
                to: one,
                mail: mail.clone(),
                standing: standing.clone(),
                dial: Arc::clone(&shared.host.dial),
            };
            run(shared, &sink, (inlet, mail, standing), sender.run(), down).await;
        }));
    }
    async move {
        join_all(sinks).await;
    }
}

/// From now on everything that is published waits there.
fn inlet(shared: &Shared, sink: &Sink) -> Inlet {
    let (outlet, inlet) = outlet(sink.name.as_str(), feed::CAPACITY);
    shared.index.attach(outlet);
    inlet
}

/// The sink's outbox, with what an earlier daemon has left in it.
async fn mail(shared: &Shared, sink: &Sink) -> Mail {
    let limits = Limits { bytes: sink.keep, age: sink.keep_for, memory: Limits::default().memory };
    let dir = shared.host.state.path(format!("outbox/{}", sink.name));
    let clock = Arc::clone(&shared.host.clock);
    let now = clock.now();
    let opened = spawn_blocking(move || {
        let spool = RealSpool::new(&dir).map(|spool| Box::new(spool) as Box<dyn Spool>);
        Outbox::open(spool, limits, now)
    });
    let opened = opened.await;
    let outbox = opened.unwrap_or_else(|error| {
        Outbox::open(Err(std::io::Error::other(error.to_string())), limits, now)
    });
    Mail::new(outbox, clock)
}

/// One sink: what feeds it, what empties it, and what tells how it is.
async fn run(
    shared: Shared,
    sink: &Sink,
    (inlet, mail, standing): (Inlet, Mail, Standing),
    sender: impl Future<Output = ()>,
    mut down: watch::Receiver<bool>,
) {
    let wanted = sink.wanted.as_ref().map(|wanted| wanted.query.clone());
    let told = tell(shared, sink, mail.clone(), standing.clone());
    let stopped = async {
        // An error is the daemon's end as well.
        let _ = down.wait_for(|down| *down).await;
    };
    let fed = feed(inlet, mail, standing, wanted, stopped);
    tokio::select! {
        () = fed => {}
        () = async { tokio::join!(sender, told); } => {}
    }
}

/// Says each interval how the sink is.
async fn tell(shared: Shared, sink: &Sink, mail: Mail, standing: Standing) {
    let mut worst = Worst::default();
    loop {
        let gauge = mail.gauge().await;
        let view = view(sink, &gauge, &standing.now(), &mut worst);
        if shared.facts.send(Fact::Sink(view)).await.is_err() {
            return;
        }
        sleep(shared.config.host.interval).await;
        worst.pass(shared.config.host.interval);
    }
}

/// What was lost up to the last time, and how long ago more was.
#[derive(Default)]
struct Worst {
    lost: u64,
    left: Duration,
}

impl Worst {
    fn pass(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// Whether something was lost lately.
    fn lost(&mut self, now: u64) -> bool {
        if now > self.lost {
            (self.lost, self.left) = (now, DROPPED);
        }
        !self.left.is_zero()
    }
}

fn view(sink: &Sink, gauge: &Gauge, totals: &Totals, worst: &mut Worst) -> SinkView {
    let dropped = gauge.dropped.all() + totals.overrun;
    let lost = worst.lost(dropped + totals.refused);
    let late = gauge.oldest.is_some_and(|oldest| oldest > LATE);
    let mut words = Vec::new();
    let since = gauge
        .oldest
        .map_or(String::new(), |oldest| format!(", the oldest for {}", span::show(oldest)));
    match (totals.connected, gauge.waiting) {
        (true, 0) => words.push(format!("{} has everything", sink.address)),
        (false, 0) => words.push(format!("nothing waits for {}", sink.address)),
        (_, n) => words.push(format!("{n} events wait for {}{since}", sink.address)),
    }
    words.extend(totals.problem.clone());
    words.extend(gauge.trouble.as_ref().map(|why| {
        let memory = Bytes(Limits::default().memory as u64);
        format!("outbox: {why}; up to {memory} wait in memory")
    }));
    let counters = [
        ("delivered", totals.delivered),
        ("again", totals.again),
        ("current", totals.current),
        ("outdated", totals.outdated),
        ("unfit", totals.unfit),
        ("refused", totals.refused),
        ("dropped", dropped),
        ("dropped-full", gauge.dropped.full),
        ("dropped-old", gauge.dropped.old),
        ("dropped-memory", gauge.dropped.memory),
        ("dropped-large", gauge.dropped.large),
        ("dropped-damaged", gauge.dropped.damaged),
        ("dropped-overrun", totals.overrun),
    ];
    if lost {
        let causes = counters.iter().filter(|(name, count)| {
            *count > 0 && (*name == "refused" || name.starts_with("dropped-"))
        });
        let causes: Vec<_> = causes.map(|(name, count)| format!("{count} {name}")).collect();
        words.push(format!("lost: {}", causes.join(", ")));
    }
    let amiss = late || lost || gauge.trouble.is_some();
    SinkView {
        name: sink.name.to_string(),
        health: if amiss { Severity::Warning } else { Severity::Ok },
        message: words.join("; "),
        waiting: gauge.waiting,
        oldest: gauge.oldest.map(|oldest| oldest.as_secs_f64()),
        counters: counters.map(|(name, count)| (name.to_owned(), count)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::outbox::Dropped;

    fn sink() -> Sink {
        Sink {
            name: "fleet".parse().unwrap(),
            address: "192.168.1.5:5555".parse().unwrap(),
            wanted: None,
            deadline: Duration::from_secs(10),
            keep: 64 << 20,
            keep_for: Duration::from_secs(86_400),
        }
    }

    #[test]
    fn what_is_late_or_lost_is_a_warning() {
        let mut worst = Worst::default();
        let mut say = |gauge: &Gauge, totals: &Totals| {
            let view = view(&sink(), gauge, totals, &mut worst);
            worst.pass(Duration::from_secs(200));
            (view.health, view.message)
        };
        let there = Totals { connected: true, delivered: 7, ..Totals::default() };
        assert_eq!(
            say(&Gauge::default(), &there),
            (Severity::Ok, "192.168.1.5:5555 has everything".to_owned())
        );
        let gone = Totals { problem: Some("it is gone".into()), ..Totals::default() };
        let waits = |secs| Gauge {
            waiting: 3,
            oldest: Some(Duration::from_secs(secs)),
            ..Gauge::default()
        };
        assert_eq!(say(&waits(5), &gone).0, Severity::Ok, "it may be back in a moment");
        let (health, text) = say(&waits(90), &gone);
        assert_eq!(health, Severity::Warning);
        assert_eq!(text, "3 events wait for 192.168.1.5:5555, the oldest for 1m 30s; it is gone");
        let dropped = Dropped { full: 2, memory: 1, ..Dropped::default() };
        let lossy = Gauge { dropped, trouble: Some("cannot write".into()), ..Gauge::default() };
        let (health, text) = say(&lossy, &there);
        assert_eq!(health, Severity::Warning);
        assert_eq!(
            text,
            "192.168.1.5:5555 has everything; outbox: cannot write; up to 4M wait in memory; \
             lost: 2 dropped-full, 1 dropped-memory"
        );
        let healed = Gauge { trouble: None, ..lossy };
        assert_eq!(say(&healed, &there).0, Severity::Warning, "for five minutes");
        assert_eq!(say(&healed, &there).0, Severity::Ok);
    }
}
