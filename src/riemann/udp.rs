//! The UDP server: a message per datagram, no replies.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::select;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::decode::Caps;
use super::door::Door;
use super::index::Index;
use super::session::{self, Outcome};
use super::stats::Reason;

/// Longest datagram, as in the reference; longer ones are dropped and counted.
pub const MAX_DATAGRAM: usize = 16 * 1024;

/// Pause after an error of the socket, so that a lasting one does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves this machine until `shutdown` is ready; see [`run_behind`].
pub async fn run(socket: UdpSocket, index: Index, caps: Caps, shutdown: impl Future<Output = ()>) {
    run_behind(socket, index, caps, Door::default(), shutdown).await;
}

/// Serves those whom the door lets in until `shutdown` is ready. Queries are
/// dropped and counted.
pub async fn run_behind(
    socket: UdpSocket,
    index: Index,
    caps: Caps,
    door: Door,
    shutdown: impl Future<Output = ()>,
) {
    let take = |datagram: &[u8], peer: SocketAddr| match session::take(&index, &caps, datagram) {
        Outcome::Done => {}
        Outcome::Refused(why) => debug!(%peer, why, "refused a datagram"),
        Outcome::Asks(_) => index.stats().refuse(Reason::NoAnswers),
    };
    datagrams(&socket, &index, &door, shutdown, take).await;
}

/// Receives from those whom the door lets in until `shutdown` is ready.
pub(super) async fn datagrams(
    socket: &UdpSocket,
    index: &Index,
    door: &Door,
    shutdown: impl Future<Output = ()>,
    mut take: impl FnMut(&[u8], SocketAddr),
) {
    let mut shutdown = pin!(shutdown);
    // One byte more, to tell the longest from those that are too long.
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    loop {
        let received = select! {
            received = socket.recv_from(&mut buffer) => received,
            () = &mut shutdown => return,
        };
        match received {
            Ok((_, peer)) if door.right(peer.ip()).is_none() => {
                index.stats().refuse(Reason::NotAllowed);
            }
            Ok((length, _)) if length > MAX_DATAGRAM => {
                index.stats().refuse(Reason::DatagramTooLarge);
            }
            Ok((length, peer)) => take(buffer.get(..length).unwrap_or_default(), peer),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "cannot receive datagrams");
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::super::{index, wire};
    use super::*;
    use crate::base::Event;
    use crate::host::clock::RealClock;
    use crate::query::Query;

    fn datagram(msg: &wire::Msg) -> Vec<u8> {
        prost::Message::encode_to_vec(msg)
    }

    #[tokio::test]
    async fn takes_events_and_counts_what_it_drops() {
        let index = Index::new(index::Limits::default(), Arc::new(RealClock));
        let mut seen = index.subscribe(Query::all()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = socket.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(run(socket, index.clone(), Caps::default(), async {
            let _ = stopped.await;
        }));

        let described = |length: usize| {
            let event = Event { description: Some("x".repeat(length)), ..Event::default() };
            datagram(&wire::events([&event]))
        };
        let full = described(MAX_DATAGRAM - 6);
        assert_eq!(full.len(), MAX_DATAGRAM);
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for bytes in
            [described(MAX_DATAGRAM), b"\xff".to_vec(), datagram(&wire::query("true")), full]
        {
            client.send_to(&bytes, to).await.unwrap();
        }
        let event = timeout(Duration::from_secs(5), seen.next()).await.unwrap();
        assert_eq!(event.description.as_ref().map(String::len), Some(MAX_DATAGRAM - 6));
        for reason in [Reason::DatagramTooLarge, Reason::Malformed, Reason::NoAnswers] {
            assert_eq!(index.stats().refused(reason), 1, "{reason:?}");
        }
        stop.send(()).unwrap();
        timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
    }
}
