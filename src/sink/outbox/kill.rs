//! Killed at random moments: a process of its own feeds an outbox on a real
//! disk and sends from it to a receiver in this process. What it said to be
//! kept must arrive at least once, and no more than a window twice a kill.
#![allow(clippy::disallowed_methods, reason = "the test starts itself, not through the door")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::tempdir;

use super::{Limits, Mail, Outbox};
use crate::base::{Event, Timestamp};
use crate::config::{RiemannSink, Way};
use crate::host::clock::RealClock;
use crate::host::dial::RealDial;
use crate::host::spool::{RealSpool, Spool};
use crate::host::{Clock, SysRoot};
use crate::riemann::decode::{self, Caps};
use crate::riemann::{Index, frame, index, wire};
use crate::sink::riemann::Sender;
use crate::sink::standing::Standing;
use crate::sink::testing;

const BATCH: usize = 10;
const WINDOW: usize = 4;

/// How the child knows that it is one: folder, receiver, first number, whether
/// it only sends what is left.
const CHILD: &str = "HOSTD_TEST_OUTBOX_CHILD";

/// The child: keeps events, says which are kept, sends them.
fn child(task: &str) {
    let words: Vec<&str> = task.split('|').collect();
    let [dir, to, first, only_send] = words[..] else { panic!("{task}") };
    let (to, first): (SocketAddr, u64) = (to.parse().unwrap(), first.parse().unwrap());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(RealClock);
    let spool = RealSpool::new(Path::new(dir)).map(|spool| Box::new(spool) as Box<dyn Spool>);
    // Small files, so that they come and go under the kills.
    let limits = Limits { bytes: 16 << 20, ..Limits::default() };
    let outbox = Outbox::open(spool, limits, clock.now());
    assert_eq!(outbox.trouble, None);
    let mail = Mail::new(outbox, Arc::clone(&clock));
    let to = RiemannSink {
        sink: crate::config::Sink { address: to, ..testing::sink() },
        way: Way::Tcp,
        batch: BATCH,
        window: WINDOW,
        replay_expired: true,
    };
    let sender = Sender {
        to,
        mail: mail.clone(),
        standing: Standing::default(),
        dial: Arc::new(RealDial),
        sys: SysRoot::new("/"),
        index: Index::new(index::Limits::default(), Arc::clone(&clock)),
    };
    runtime.spawn(sender.run());
    runtime.block_on(async {
        let mut next = first;
        loop {
            if only_send == "true" {
                if mail.gauge().await.waiting == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            let events = (next..next + 7).map(|n| {
                let service = Some(format!("{n}"));
                Arc::new(Event { service, time: Some(clock.now()), ..Event::default() })
            });
            mail.append(events.collect()).await;
            next += 7;
            // Said after it is kept: the test believes it.
            let mut out = std::io::stdout().lock();
            writeln!(out, "kept {next}").unwrap();
            out.flush().unwrap();
        }
    });
}

/// How often each event has come.
type Seen = Arc<Mutex<BTreeMap<u64, u32>>>;

/// A receiver that takes everything and acknowledges it.
fn receiver(seen: Seen) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, seen) = (stream.unwrap(), Arc::clone(&seen));
            // The end of a killed child's connection is no news.
            std::thread::spawn(move || take(stream, &seen));
        }
    });
    at
}

fn take(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Ok(Some(body)) = frame::split(&input, 1 << 20) {
            let message = decode::message(body, Timestamp(0), &Caps::default()).unwrap();
            let length = frame::HEADER + body.len();
            for event in message.events {
                let n = event.service.unwrap().parse().unwrap();
                *seen.lock().unwrap().entry(n).or_default() += 1;
            }
            input.drain(..length);
            stream.write_all(&wire::ACK)?;
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..count]);
    }
}

/// A few digits that look random, the same in each run.
fn chance(i: u64) -> u64 {
    let mut x = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 31;
    x.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40
}

/// Kills the child so many times; `test` is the test that is to be the child.
fn killed(times: u64, test: &str) {
    if let Ok(task) = std::env::var(CHILD) {
        return child(&task);
    }
    let dir = tempdir().unwrap();
    let seen = Seen::default();
    let to = receiver(Arc::clone(&seen));
    let spawn = |first: u64, only_send: bool| {
        let task = format!("{}|{to}|{first}|{only_send}", dir.path().display());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&format!("sink::outbox::kill::{test}"), "--exact", "--nocapture"]);
        command.args(["--include-ignored"]).env(CHILD, task);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let (mut kept, mut next) = (Vec::new(), 0);
    for i in 0..times {
        let mut child = spawn(next, false);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = next;
        let mut until = None;
        // Up to 40 ms after the first batch was kept.
        let wait = Duration::from_micros(chance(i) % 40_000);
        let say = |line: &str| line.split_once("kept ").and_then(|(_, n)| n.trim().parse().ok());
        let mut said = first;
        while until.is_none_or(|until| Instant::now() < until) {
            let line = lines.next().expect("the child says something").unwrap();
            if let Some(n) = say(&line) {
                said = n;
                until.get_or_insert(Instant::now() + wait);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it was killed and nobody has read yet.
        said = lines.map_while(Result::ok).filter_map(|line| say(&line)).fold(said, u64::max);
        kept.extend(first..said);
        // Numbers that may be kept though nobody was told are not used again.
        next = said + 100;
    }
    let mut last = spawn(next, true);
    assert!(last.wait().unwrap().success());
    let seen = seen.lock().unwrap();
    let missing: Vec<_> = kept.iter().filter(|n| !seen.contains_key(n)).collect();
    assert_eq!(missing, [&0; 0], "of {} kept", kept.len());
    let twice: u64 = seen.values().map(|count| u64::from(*count) - 1).sum();
    let window = (BATCH * WINDOW) as u64;
    assert!(twice <= times * window, "{twice} came twice, {times} kills");
    println!(
        "killed {times} times: {} events kept, {} seen, {twice} twice (a window is {window})",
        kept.len(),
        seen.len()
    );
}

#[test]
fn a_killed_process_loses_nothing_that_was_kept() {
    killed(30, "a_killed_process_loses_nothing_that_was_kept");
}

#[test]
#[ignore = "long: a thousand kills"]
fn a_thousand_kills_lose_nothing_that_was_kept() {
    killed(1000, "a_thousand_kills_lose_nothing_that_was_kept");
}
