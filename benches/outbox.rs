//! How many events a second an outbox makes durable, and reads back, on the
//! disk of the temporary folder.
#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hostd::base::{Event, Metric, Severity, Timestamp};
use hostd::host::spool::{RealSpool, Spool};
use hostd::sink::outbox::{Limits, Outbox};

fn outbox(c: &mut Criterion) {
    let now = Timestamp::from(SystemTime::now());
    let mut group = c.benchmark_group("outbox");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for batch in [1, 100, 1000] {
        let event = |n: usize| {
            let text = format!("{n} % of its space is used");
            let event = Event::new(format!("disk /mnt/{n}"), Severity::Ok, text);
            let event = event.metric(Metric::Double(0.5)).attribute("mount", "/mnt");
            let (host, ttl) = (Some("nas".to_owned()), Some(10.0));
            Arc::new(Event { host, ttl, time: Some(now), ..event })
        };
        let events: Vec<_> = (0..batch).map(event).collect();
        let dir = tempfile::tempdir().expect("a folder");
        let spool = RealSpool::new(dir.path()).map(|spool| Box::new(spool) as Box<dyn Spool>);
        let mut outbox = Outbox::open(spool, Limits::default(), now);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("durable, {batch} at once"), |b| {
            b.iter(|| outbox.append(black_box(&events), now));
        });
        let (mut cursor, most) = (outbox.acked(), batch);
        group.bench_function(format!("read and acknowledged, {batch} at once"), |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    outbox.append(&events, now);
                    let begun = Instant::now();
                    let kept = outbox.read(cursor, most, usize::MAX);
                    cursor = kept.last().map_or(cursor, |kept| kept.seq);
                    outbox.ack(cursor, now);
                    spent += begun.elapsed();
                    black_box(kept);
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, outbox);
criterion_main!(benches);
