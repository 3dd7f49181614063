//! Faults of a carbon, in simulated time; the socket's send queue is a value.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::DuplexStream;

use super::super::testing::{Net, Rig, sink};
use super::*;
use crate::base::{Event, Metric};
use crate::host::dial::{Dialling, DiallingWatched};

/// The lines that a carbon has got.
type Lines = Arc<Mutex<Vec<String>>>;

/// Takes lines until the end, or `most` of them and then closes.
async fn carbon(mut stream: DuplexStream, lines: Lines, most: usize) {
    let (mut text, mut buffer, mut taken) = (String::new(), [0; 4096], 0);
    loop {
        while let Some((line, rest)) = text.split_once('\n') {
            if taken == most {
                return;
            }
            lines.lock().unwrap().push(line.to_owned());
            taken += 1;
            text = rest.to_owned();
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
        }
    }
}

fn plain() -> GraphiteSink {
    GraphiteSink {
        sink: sink(),
        format: GraphiteFormat::Plaintext,
        prefix: String::new(),
        path: "{reversed-host}.{service}".into(),
    }
}

fn start(rig: &Rig, dial: Arc<dyn Dial>) -> tokio::task::JoinHandle<()> {
    let sender =
        Sender { to: plain(), mail: rig.mail.clone(), standing: rig.standing.clone(), dial };
    tokio::spawn(sender.run())
}

fn names(lines: &Lines) -> Vec<String> {
    let name = |line: &String| line.split(' ').next().unwrap().to_owned();
    lines.lock().unwrap().iter().map(name).collect()
}

fn wanted(names: std::ops::Range<u64>) -> Vec<String> {
    names.map(|n| format!("nas.e{n}")).collect()
}

fn net(lines: &Lines, most: usize) -> Arc<Net> {
    let lines = Arc::clone(lines);
    Net::new(move |stream| {
        tokio::spawn(carbon(stream, Arc::clone(&lines), most));
    })
}

#[tokio::test(start_paused = true)]
async fn the_backlog_of_an_hour_comes_in_order_with_its_times() {
    let (rig, lines) = (Rig::new(), Lines::default());
    let net = net(&lines, usize::MAX);
    *net.down_until.lock().unwrap() = Some(Instant::now() + Duration::from_secs(3600));
    let task = start(&rig, net);
    for n in 0..60 {
        rig.put(n * 50..n * 50 + 50).await;
        sleep(Duration::from_secs(60)).await;
    }
    rig.drained().await;
    // What is in the pipe is read.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(names(&lines), wanted(0..3000));
    assert_eq!(lines.lock().unwrap()[0], "nas.e0 1 1795000000");
    assert_eq!(lines.lock().unwrap()[2950], "nas.e2950 1 1795003540");
    let totals = rig.standing.now();
    assert_eq!((totals.delivered, totals.again), (3000, 0));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn events_without_a_number_are_counted_and_never_in_the_way() {
    let (rig, lines) = (Rig::new(), Lines::default());
    let task = start(&rig, net(&lines, usize::MAX));
    let with = |metric| Arc::new(Event { metric, ..rig.event("a") });
    let nameless =
        Event { host: None, service: None, metric: Some(Metric::Int(1)), ..Event::default() };
    let events = [None, Some(f64::NAN), Some(f64::INFINITY), Some(0.5)]
        .map(|value| with(value.map(Metric::Double)));
    rig.mail.append(events.into_iter().chain([Arc::new(nameless)]).collect()).await;
    rig.drained().await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(*lines.lock().unwrap(), ["nas.a 0.5 1795000000"]);
    let totals = rig.standing.now();
    assert_eq!((totals.delivered, totals.unfit), (1, 4));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn flapping_in_the_middle_of_lines_loses_none() {
    let (rig, lines) = (Rig::new(), Lines::default());
    // Nothing counts as taken while the pipe has it: the queue is never empty
    // before the reader has read.
    let unread = Arc::new(AtomicUsize::new(0));
    let task = start(&rig, Arc::new(Pipes { lines: Arc::clone(&lines), unread, most: 700 }));
    rig.put(0..5000).await;
    rig.drained().await;
    let mut came = names(&lines);
    let all = came.len();
    let mut last = None;
    came.retain(|name| last.replace(name.clone()).as_ref() != Some(name));
    came.sort_by_key(|name| name[5..].parse::<u64>().unwrap());
    came.dedup();
    assert_eq!(came, wanted(0..5000));
    assert!(all > 5000, "some came twice: {all}");
    assert!(rig.standing.now().again >= all as u64 - 5000);
    task.abort();
}

/// Connections whose send queue is what the carbon has not read; it closes
/// after `most` lines, for the first few times.
struct Pipes {
    lines: Lines,
    unread: Arc<AtomicUsize>,
    most: usize,
}

impl Pipes {
    fn connect(&self) -> Box<dyn Stream> {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let (lines, unread, most) = (Arc::clone(&self.lines), Arc::clone(&self.unread), self.most);
        self.unread.store(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let (mut text, mut buffer, mut taken) = (String::new(), [0; 4096], 0);
            loop {
                unread.store(1, Ordering::SeqCst);
                let read = timeout(Duration::from_millis(1), far.read(&mut buffer)).await;
                let Ok(read) = read else {
                    // All that was written is read.
                    unread.store(0, Ordering::SeqCst);
                    let Ok(count @ 1..) = far.read(&mut buffer).await else { return };
                    text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                    continue;
                };
                let Ok(count @ 1..) = read else { return };
                text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                while let Some((line, rest)) = text.split_once('\n') {
                    let all = lines.lock().unwrap().len();
                    if taken >= most && all < 10_000 {
                        return;
                    }
                    lines.lock().unwrap().push(line.to_owned());
                    taken += 1;
                    text = rest.to_owned();
                }
            }
        });
        Box::new(near)
    }
}

impl Dial for Pipes {
    fn tcp(&self, _: SocketAddr, _: Duration) -> Dialling<'_> {
        Box::pin(async { Ok(self.connect()) })
    }

    fn unix<'a>(&'a self, _: &'a Path, _: Duration) -> Dialling<'a> {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }

    fn watched(&self, _: SocketAddr, _: Duration) -> DiallingWatched<'_> {
        Box::pin(async {
            let unread = Arc::clone(&self.unread);
            let unsent: Unsent = Box::new(move || Ok(unread.load(Ordering::SeqCst)));
            Ok((self.connect(), unsent))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_nothing_is_left_at_the_deadline() {
    let (rig, lines) = (Rig::new(), Lines::default());
    let stuck = Arc::new(Mutex::new(Vec::new()));
    let (held, seen) = (Arc::clone(&stuck), Arc::clone(&lines));
    let net = Net::new(move |stream| {
        let mut held = held.lock().unwrap();
        // The first is never read.
        if held.is_empty() {
            held.push(stream);
        } else {
            tokio::spawn(carbon(stream, Arc::clone(&seen), usize::MAX));
        }
    });
    let task = start(&rig, net);
    let long = |n: u64| Arc::new(rig.event(&format!("e{n} {}", "x".repeat(150))));
    rig.mail.append((0..2000).map(long).collect()).await;
    sleep(Duration::from_millis(10_100)).await;
    assert_eq!(rig.standing.now().problem.unwrap(), "it took nothing for 10s");
    rig.drained().await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(lines.lock().unwrap().len(), 2000);
    task.abort();
}
