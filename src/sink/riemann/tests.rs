//! Faults of receivers, in simulated time.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use super::super::outbox::Limits;
use super::super::testing::{Got, Net, Rig, services, sink};
use super::*;
use crate::riemann::decode::{self, Caps};
use crate::riemann::{frame, index};

/// What a receiver does with one message: its answer, in pieces.
type Answer = Box<dyn FnMut(&[Event], u64) -> Do + Send>;

enum Do {
    Ack,
    AckLater(Duration),
    Refuse,
    Junk,
    /// Half an answer, then the end.
    HalfThenClose,
    Close,
    Hang,
}

/// Serves one connection.
async fn serve(
    mut stream: DuplexStream,
    got: Got,
    answer: Arc<Mutex<Answer>>,
    count: Arc<Mutex<u64>>,
) {
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Ok(Some(body)) = frame::split(&input, 1 << 24) {
            let length = frame::HEADER + body.len();
            let message = decode::message(body, Timestamp(0), &Caps::default()).unwrap();
            input.drain(..length);
            let number = {
                let mut count = count.lock().unwrap();
                *count += 1;
                *count
            };
            let act = (answer.lock().unwrap())(&message.events, number);
            let no = wire::framed(&wire::error("no"), 1000).unwrap();
            let done = match act {
                Do::Ack => {
                    got.lock().unwrap().extend(message.events);
                    stream.write_all(&wire::ACK).await
                }
                Do::AckLater(pause) => {
                    sleep(pause).await;
                    got.lock().unwrap().extend(message.events);
                    stream.write_all(&wire::ACK).await
                }
                Do::Refuse => stream.write_all(&no).await,
                Do::Junk => stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
                Do::HalfThenClose => {
                    got.lock().unwrap().extend(message.events);
                    let _ = stream.write_all(&wire::ACK[..3]).await;
                    return;
                }
                Do::Close => return,
                Do::Hang => std::future::pending().await,
            };
            if done.is_err() {
                return;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => input.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A sender and a receiver that answers as it is told.
struct Pair {
    rig: Rig,
    net: Arc<Net>,
    got: Got,
    index: Index,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn pair(
    rig: Rig,
    change: impl FnOnce(&mut RiemannSink),
    answer: impl FnMut(&[Event], u64) -> Do + Send + 'static,
) -> Pair {
    let got = Got::default();
    let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
    let (seen, count) = (Arc::clone(&got), Arc::new(Mutex::new(0)));
    let net = Net::new(move |stream| {
        tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&answer), Arc::clone(&count)));
    });
    let mut to =
        RiemannSink { sink: sink(), way: Way::Tcp, batch: 10, window: 4, replay_expired: true };
    change(&mut to);
    let index = Index::new(index::Limits::default(), Arc::clone(&rig.clock));
    let sender = Sender {
        to,
        mail: rig.mail.clone(),
        standing: rig.standing.clone(),
        dial: Arc::clone(&net) as Arc<dyn Dial>,
        sys: SysRoot::new("/"),
        index: index.clone(),
    };
    let task = tokio::spawn(sender.run());
    Pair { rig, net, got, index, task }
}

fn wanted(names: std::ops::Range<u64>) -> Vec<String> {
    names.map(|n| format!("e{n}")).collect()
}

/// Every one of them came at least once; how many came more than once.
fn all_came(got: &Got, names: std::ops::Range<u64>) -> usize {
    let came = services(got);
    let set: std::collections::HashSet<_> = came.iter().collect();
    for name in wanted(names) {
        assert!(set.contains(&name), "{name} is missing");
    }
    came.len() - set.len()
}

#[tokio::test(start_paused = true)]
async fn all_arrive_once_and_in_order() {
    let pair = pair(Rig::new(), |_| {}, |_, _| Do::Ack);
    pair.rig.put(0..1000).await;
    pair.rig.drained().await;
    pair.rig.put(1000..1003).await;
    pair.rig.drained().await;
    assert_eq!(services(&pair.got), wanted(0..1003));
    let totals = pair.rig.standing.now();
    assert_eq!((totals.delivered, totals.again, totals.connected), (1003, 0, true));
    assert_eq!(*pair.net.tries.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn down_for_an_hour_then_the_current_state_and_then_the_rest() {
    let pair = pair(Rig::new(), |_| {}, |_, _| Do::Ack);
    *pair.net.down_until.lock().unwrap() = Some(Instant::now() + Duration::from_secs(3600));
    for minute in 0..60 {
        pair.rig.put(minute * 10..minute * 10 + 10).await;
        sleep(Duration::from_secs(60)).await;
    }
    pair.index.apply_own(vec![pair.rig.event("now")]);
    pair.rig.drained().await;
    let came = services(&pair.got);
    assert_eq!(came[0], "now", "the current state is first");
    assert_eq!(came[1..], wanted(0..600), "then everything, in its order");
    let is_tagged = |event: &Event| event.tags.contains(&REPLAYED.to_owned());
    let got = pair.got.lock().unwrap().clone();
    assert!(got[1..580].iter().all(is_tagged) && !is_tagged(&got[0]));
    let totals = pair.rig.standing.now();
    assert_eq!((totals.delivered, totals.again, totals.current), (600, 0, 1));
    // About one try in half a minute, not more.
    let tries = *pair.net.tries.lock().unwrap();
    assert!((100..200).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_counted_unless_it_is_wanted() {
    let pair = pair(Rig::new(), |to| to.replay_expired = false, |_, _| Do::Ack);
    *pair.net.down_until.lock().unwrap() = Some(Instant::now() + Duration::from_secs(3600));
    pair.rig.put(0..500).await;
    sleep(Duration::from_secs(3590)).await;
    pair.rig.put(500..505).await;
    pair.rig.drained().await;
    assert_eq!(services(&pair.got), wanted(500..505));
    let totals = pair.rig.standing.now();
    assert_eq!((totals.outdated, totals.delivered), (500, 5));
}

#[tokio::test(start_paused = true)]
async fn flapping() {
    // Each connection takes three messages and closes at the fourth.
    let pair =
        pair(Rig::new(), |_| {}, |_, n| if n.is_multiple_of(4) { Do::Close } else { Do::Ack });
    pair.net.plan.lock().unwrap().extend([true, false, false, true, false, true].repeat(10));
    for batch in 0..50 {
        pair.rig.put(batch * 10..batch * 10 + 10).await;
        sleep(Duration::from_secs(1)).await;
    }
    pair.rig.drained().await;
    all_came(&pair.got, 0..500);
    assert_eq!(pair.rig.mail.gauge().await.dropped.all(), 0);
    assert!(*pair.net.tries.lock().unwrap() > 10);
}

#[tokio::test(start_paused = true)]
async fn closing_mid_frame_costs_at_most_a_window_twice() {
    let pair = pair(
        Rig::new(),
        |_| {},
        |_, n| {
            if n.is_multiple_of(5) { Do::HalfThenClose } else { Do::Ack }
        },
    );
    pair.rig.put(0..500).await;
    pair.rig.drained().await;
    let twice = all_came(&pair.got, 0..500);
    let broken = usize::try_from(*pair.net.tries.lock().unwrap()).unwrap() - 1;
    assert!(broken > 3 && twice > 0 && twice <= broken * 40, "{twice} {broken}");
    // What was sent again is counted; it came twice at most so often.
    assert!(twice as u64 <= pair.rig.standing.now().again);
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_gets_everything_and_nobody_waits_for_it() {
    let slow = Duration::from_secs(9);
    let pair = pair(Rig::new(), |_| {}, move |_, _| Do::AckLater(slow));
    let began = Instant::now();
    for batch in 0..20 {
        pair.rig.put(batch * 10..batch * 10 + 10).await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "feeding does not wait");
    pair.rig.drained().await;
    assert_eq!(services(&pair.got), wanted(0..200));
    assert_eq!(pair.rig.standing.now().again, 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_left_at_the_deadline() {
    let pair = pair(Rig::new(), |_| {}, |_, n| if n == 2 { Do::Hang } else { Do::Ack });
    pair.rig.put(0..10).await;
    pair.rig.drained().await;
    let began = Instant::now();
    pair.rig.put(10..20).await;
    sleep(Duration::from_millis(10_100)).await;
    let problem = pair.rig.standing.now().problem.unwrap();
    assert_eq!(problem, "no reply within 10s");
    pair.rig.drained().await;
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert_eq!(all_came(&pair.got, 0..20), 0);
}

#[tokio::test(start_paused = true)]
async fn junk_is_no_acknowledgement() {
    let pair = pair(Rig::new(), |_| {}, |_, n| if n < 3 { Do::Junk } else { Do::Ack });
    pair.rig.put(0..10).await;
    sleep(Duration::from_millis(100)).await;
    let problem = pair.rig.standing.now().problem.unwrap();
    assert!(problem.starts_with("the server's reply is not a frame"), "{problem}");
    pair.rig.drained().await;
    assert_eq!(services(&pair.got), wanted(0..10));
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_errors_for_an_hour_gets_all_when_it_is_well() {
    let end = Instant::now() + Duration::from_secs(3600);
    let pair = pair(
        Rig::new(),
        |_| {},
        move |_, _| {
            if Instant::now() < end { Do::Refuse } else { Do::Ack }
        },
    );
    pair.rig.put(0..100).await;
    sleep(Duration::from_secs(1800)).await;
    let totals = pair.rig.standing.now();
    assert_eq!((totals.refused, totals.connected), (0, false));
    assert_eq!(totals.problem.unwrap(), "it refuses everything: no");
    pair.rig.drained().await;
    assert_eq!(all_came(&pair.got, 0..100), 0);
    assert_eq!(pair.rig.standing.now().refused, 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_refused_alone_is_counted_and_left_behind() {
    let bad = |events: &[Event]| events.iter().any(|e| e.service.as_deref() == Some("e13"));
    let pair = pair(
        Rig::new(),
        |_| {},
        move |events, _| {
            if bad(events) { Do::Refuse } else { Do::Ack }
        },
    );
    pair.rig.put(0..50).await;
    let began = Instant::now();
    pair.rig.drained().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let mut came = services(&pair.got);
    came.sort_by_key(|name| name[1..].parse::<u64>().unwrap());
    came.dedup();
    assert_eq!(came, [wanted(0..13), wanted(14..50)].concat());
    let totals = pair.rig.standing.now();
    assert_eq!((totals.refused, totals.delivered, totals.connected), (1, 49, true));
    assert_eq!(totals.problem.unwrap(), "it refused 1 events: no");
}

#[tokio::test(start_paused = true)]
async fn a_message_of_which_nothing_passes_is_tried_for_a_minute() {
    // An empty message passes: it is not the receiver.
    let pair = pair(
        Rig::new(),
        |_| {},
        |events, _| {
            if events.is_empty() || events[0].service.as_deref() != Some("e0") {
                Do::Ack
            } else {
                Do::Refuse
            }
        },
    );
    pair.rig.put(0..1).await;
    let began = Instant::now();
    pair.rig.drained().await;
    let took = began.elapsed();
    assert!((40..150).contains(&took.as_secs()), "{took:?}");
    assert_eq!(pair.rig.standing.now().refused, 1);
    pair.rig.put(1..2).await;
    pair.rig.drained().await;
    assert_eq!(services(&pair.got), ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_under_a_receiver_that_is_down() {
    let limits = Limits { memory: 20_000, ..Limits::default() };
    let pair = pair(Rig::with(limits), |_| {}, |_, _| Do::Ack);
    *pair.net.down_until.lock().unwrap() = Some(Instant::now() + Duration::from_secs(3600));
    pair.rig.put(0..100).await;
    pair.rig.disk.disk().room = Some(0);
    for n in 0..900 {
        pair.rig.put(100 + n..101 + n).await;
        sleep(Duration::from_secs(3)).await;
    }
    let gauge = pair.rig.mail.gauge().await;
    assert!(gauge.dropped.memory > 0 && gauge.trouble.is_some(), "{gauge:?}");
    assert_eq!(gauge.waiting + gauge.dropped.all(), 1000);
    pair.rig.drained().await;
    let came = services(&pair.got);
    assert_eq!(came.len() as u64 + gauge.dropped.memory, 1000);
    assert_eq!(came[..100], wanted(0..100), "what the disk has is not lost");
    assert_eq!(came.last().unwrap(), "e999");
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bytes_of_the_outbox_the_oldest_are_counted_as_dropped() {
    let limits = Limits { bytes: 300 << 10, ..Limits::default() };
    let pair = pair(Rig::with(limits), |_| {}, |_, _| Do::Ack);
    *pair.net.down_until.lock().unwrap() = Some(Instant::now() + Duration::from_secs(3600));
    for n in 0..100 {
        pair.rig.put(n * 100..n * 100 + 100).await;
        sleep(Duration::from_secs(30)).await;
    }
    pair.rig.drained().await;
    let dropped = pair.rig.mail.gauge().await.dropped.full;
    assert!(dropped > 0);
    assert_eq!(services(&pair.got), wanted(dropped..10_000));
}

#[tokio::test]
async fn datagrams_are_sent_and_not_waited_for() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let change = |to: &mut RiemannSink| (to.way, to.sink.address) = (Way::Udp, at);
    let pair = pair(Rig::new(), change, |_, _| Do::Hang);
    pair.rig.put(0..25).await;
    let (mut came, mut buffer) = (Vec::new(), vec![0; 65_536]);
    while came.len() < 25 {
        let length = socket.recv(&mut buffer).await.unwrap();
        let message = decode::message(&buffer[..length], Timestamp(0), &Caps::default()).unwrap();
        came.extend(message.events.into_iter().filter_map(|event| event.service));
    }
    assert_eq!(came, wanted(0..25));
    pair.rig.drained().await;
    assert_eq!(pair.rig.standing.now().delivered, 25);
}
