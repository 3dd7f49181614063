//! Tests of the receiver of Graphite's lines.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::host::clock::RealClock;
use crate::query::Query;
use crate::riemann::{Subscription, index};

const NOW: Timestamp = Timestamp(7_000_000);
const PATIENCE: Duration = Duration::from_secs(20);

fn read(text: &str) -> Result<Option<(String, f64, i64)>, Reason> {
    let event = line(text.as_bytes(), NOW)?;
    Ok(event.map(|event| {
        assert_eq!((event.host, event.tags), (None, vec![TAG.to_owned()]));
        (event.service.unwrap(), event.metric.unwrap().as_f64(), event.time.unwrap().0)
    }))
}

#[test]
fn lines_as_carbon_reads_them() {
    let is = |path: &str, value, time| Ok(Some((path.to_owned(), value, time)));
    assert_eq!(read("nas.cpu 0.25 10"), is("nas.cpu", 0.25, 10_000_000));
    assert_eq!(read("  a\t-3e2   10.5\r"), is("a", -300.0, 10_500_000));
    assert_eq!(read("a 1 -1"), is("a", 1.0, NOW.0));
    assert_eq!(read("a;dc=here 1 -1.0"), is("a;dc=here", 1.0, NOW.0));
    assert_eq!(read("a inf 1"), is("a", f64::INFINITY, 1_000_000));
    assert_eq!(read("größe 1 1"), is("größe", 1.0, 1_000_000));
    assert_eq!(read(""), Ok(None));
    assert_eq!(read(" \r"), Ok(None));
    for nan in ["a nan 1", "a NaN 1", "a -nan 1"] {
        assert_eq!(read(nan), Err(Reason::NotANumber), "{nan}");
    }
    for bad in
        ["a", "a 1", "a 1 2 3", "a x 1", "a 1 x", "a 1 -2", "a 1 nan", "a 1 1e300", "a\u{1}b 1 1"]
    {
        assert_eq!(read(bad), Err(Reason::BadLine), "{bad:?}");
    }
    assert_eq!(line(b"\xff 1 1", NOW), Err(Reason::BadLine));
    assert_eq!(read(&format!("{} 1 1", "a".repeat(MAX_LINE))), Err(Reason::LineTooLong));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some(event)) = line(&bytes, NOW) {
            prop_assert!(event.service.is_some_and(|s| !s.is_empty()) && event.time.is_some());
        }
    }

    #[test]
    fn what_is_written_is_read(path in "[!-~]{1,80}", value in -1e300f64..1e300, time in 0i64..4_000_000_000) {
        let read = read(&format!("{path} {value:?} {time}")).unwrap();
        prop_assert_eq!(read, Some((path, value, time * 1_000_000)));
    }

    #[test]
    fn where_the_bytes_are_cut_does_not_matter(
        lines in proptest::collection::vec("[a-c ]{0,3} [0-9x]{1,2} [0-9]{1,2}", 0..12),
        cut in 0usize..100,
    ) {
        let text = lines.join("\n") + "\n";
        let count = |pieces: &[&[u8]]| {
            let index = index();
            let mut held = Vec::new();
            for piece in pieces {
                held.extend_from_slice(piece);
                let taken = take(&index, &held);
                held.drain(..taken);
            }
            assert!(held.is_empty());
            (index.stats().accepted.get(), index.stats().refused(Reason::BadLine))
        };
        let bytes = text.as_bytes();
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        prop_assert_eq!(count(&[bytes]), count(&[first, second]));
    }
}

fn index() -> Index {
    Index::new(index::Limits::default(), Arc::new(RealClock))
}

async fn next(seen: &mut Subscription) -> String {
    let event = timeout(PATIENCE, seen.next()).await.unwrap();
    event.service.clone().unwrap()
}

#[tokio::test]
async fn over_tcp_and_udp() {
    let index = index();
    let mut seen = index.subscribe(Query::all()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (tcp_at, udp_at) = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let server =
        tokio::spawn(tcp(listener, index.clone(), Limits::default(), Door::default(), shutdown));
    tokio::spawn(udp(socket, index.clone(), Door::default(), std::future::pending()));

    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"u.a 1 -1\nu.b 2 -1", udp_at).await.unwrap();
    assert_eq!((next(&mut seen).await, next(&mut seen).await), ("u.a".into(), "u.b".into()));

    let mut stream = TcpStream::connect(tcp_at).await.unwrap();
    stream.write_all(b"t.a 1 -1\nnonsense\nt.n nan -1\nt.b 2").await.unwrap();
    assert_eq!(next(&mut seen).await, "t.a");
    stream.write_all(b" -1\nt.c 3 -1").await.unwrap();
    assert_eq!(next(&mut seen).await, "t.b");
    stream.shutdown().await.unwrap();
    assert_eq!(next(&mut seen).await, "t.c", "the last line needs no end");
    assert_eq!(index.stats().refused(Reason::BadLine), 1);
    assert_eq!(index.stats().refused(Reason::NotANumber), 1);

    let mut stream = TcpStream::connect(tcp_at).await.unwrap();
    stream.write_all(&[b'x'; MAX_LINE + 1]).await.unwrap();
    let closed = timeout(PATIENCE, stream.read_u8()).await.unwrap();
    assert!(closed.is_err());
    assert_eq!(index.stats().refused(Reason::LineTooLong), 1);
    drop(stop);
    timeout(PATIENCE, server).await.unwrap().unwrap();
}
