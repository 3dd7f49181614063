//! How many events a second: reading, indexing, and the whole server over
//! loopback TCP with requests sent ahead of the replies.
//!
//! Times are those of the processor, not of the wall, so that a busy machine
//! can be measured too: a rate is what one core does. Over TCP that is the
//! server's thread; what the client sends is prepared before.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::expect_used, reason = "a benchmark")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hostd::base::{Event, Metric, Timestamp};
use hostd::host::clock::RealClock;
use hostd::query::parse;
use hostd::riemann::{Index, Origin, decode, index, tcp, wire};
use prost::Message as _;

const BATCHES: [usize; 3] = [1, 100, 1000];

/// Events of a machine with this many services, as riemann-tools would send them.
fn events(services: usize) -> impl Iterator<Item = Event> {
    (0..services).map(|n| Event {
        host: Some("nas".to_owned()),
        service: Some(format!("disk /mnt/{n} used")),
        state: Some("ok".to_owned()),
        description: Some(format!("{} % used", n % 100)),
        metric: Some(Metric::Double((n % 100) as f64 / 100.0)),
        tags: vec!["disk".to_owned()],
        ttl: Some(10.0),
        time: Some(Timestamp::from_secs(1_795_373_300)),
        ..Event::default()
    })
}

fn messages(batch: usize, services: usize) -> Vec<wire::Msg> {
    let all: Vec<Event> = events(services).collect();
    all.chunks(batch).map(wire::events).collect()
}

/// What the calling thread has used so far.
fn used() -> Duration {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    clock.try_into().expect("a time after its beginning")
}

/// So many rounds of `work`.
fn rounds<T>(count: u64, mut work: impl FnMut() -> T) -> Duration {
    let before = used();
    for _ in 0..count {
        std::hint::black_box(work());
    }
    used().saturating_sub(before)
}

fn fresh() -> Index {
    Index::new(index::Limits::default(), Arc::new(RealClock))
}

fn decoding(c: &mut Criterion) {
    let caps = decode::Caps::default();
    let mut group = c.benchmark_group("decode");
    for batch in BATCHES {
        let bytes = messages(batch, batch)[0].encode_to_vec();
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_with_input(BenchmarkId::new("ours", batch), &bytes, |b, bytes| {
            b.iter_custom(|n| rounds(n, || decode::message(bytes, Timestamp(0), &caps)));
        });
        group.bench_with_input(BenchmarkId::new("prost", batch), &bytes, |b, bytes| {
            b.iter_custom(|n| rounds(n, || wire::Msg::decode(bytes.as_slice())));
        });
    }
    group.finish();
}

fn indexing(c: &mut Criterion) {
    let caps = decode::Caps::default();
    let mut group = c.benchmark_group("decode and index, 10,000 services");
    for batch in BATCHES {
        let messages: Vec<_> =
            messages(batch, 10_000).iter().map(wire::Msg::encode_to_vec).collect();
        let index = fresh();
        let mut next = messages.iter().cycle();
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::from_parameter(batch), |b| {
            b.iter_custom(|n| {
                rounds(n, || {
                    let bytes = next.next().map(Vec::as_slice).unwrap_or_default();
                    let message = decode::message(bytes, index.now(), &caps);
                    index.apply(Origin::Outside, message.expect("a message").events)
                })
            });
        });
    }
    group.finish();
}

fn asking(c: &mut Criterion) {
    let index = fresh();
    index.apply(Origin::Own, events(100_000).collect());
    let mut group = c.benchmark_group("query, 100,000 services");
    for text in [
        "host = \"nas\" and service = \"disk /mnt/77 used\"",
        "state = \"critical\"",
        "service =~ \"disk % used\" and metric > 0.98",
    ] {
        let query = parse(text).expect("a query");
        group.bench_function(text, |b| {
            b.iter_custom(|n| rounds(n, || index.query(&query).len()));
        });
    }
    group.finish();
    println!("resident with 100,000 services: {} KiB", resident());
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let sys = hostd::host::SysRoot::new("/");
    let status = sys.text("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A server on a thread of its own, which also says what it has used.
struct Server {
    to: SocketAddr,
    ask: tokio::sync::mpsc::UnboundedSender<mpsc::Sender<Duration>>,
}

impl Server {
    fn start() -> Self {
        let (tell, told) = mpsc::channel();
        let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel::<mpsc::Sender<Duration>>();
        thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                tell.send(listener.local_addr().expect("an address")).expect("a receiver");
                let stopped = std::future::pending();
                tokio::spawn(tcp::run(listener, fresh(), tcp::Limits::default(), stopped));
                while let Some(reply) = asked.recv().await {
                    reply.send(used()).expect("a receiver");
                }
            });
        });
        Self { to: told.recv().expect("an address"), ask }
    }

    fn used(&self) -> Duration {
        let (tell, told) = mpsc::channel();
        self.ask.send(tell).expect("a server");
        told.recv().expect("an answer")
    }

    /// Sends so many requests, reading the replies beside it.
    fn take(&self, bytes: &[u8], requests: usize) {
        let mut stream = TcpStream::connect(self.to).expect("a connection");
        let mut replies = stream.try_clone().expect("a second handle");
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut left = requests * wire::ACK.len();
                let mut buffer = vec![0; 64 * 1024];
                while left > 0 {
                    left -= replies.read(&mut buffer).expect("replies");
                }
            });
            for part in bytes.chunks(256 * 1024) {
                stream.write_all(part).expect("the server takes it");
            }
        });
    }
}

fn end_to_end(c: &mut Criterion) {
    let server = Server::start();
    let mut group = c.benchmark_group("loopback TCP, pipelined");
    group.sample_size(10);
    for batch in BATCHES {
        let messages = messages(batch, 100_000);
        let requests = messages.len();
        let bytes: Vec<u8> =
            messages.iter().filter_map(|msg| wire::framed(msg, usize::MAX)).flatten().collect();
        group.throughput(Throughput::Elements(100_000));
        group.bench_function(BenchmarkId::from_parameter(batch), |b| {
            b.iter_custom(|rounds| {
                let before = server.used();
                for _ in 0..rounds {
                    server.take(&bytes, requests);
                }
                server.used().saturating_sub(before)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, asking, decoding, indexing, end_to_end);
criterion_main!(benches);
