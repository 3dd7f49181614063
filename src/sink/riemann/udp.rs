//! Datagrams: what is sent counts as delivered, as nobody ever says otherwise
//! (but that nobody listens, which a machine may tell).

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use prost::Message as _;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::{Broken, Memory, Sender};
use crate::base::Event;
use crate::riemann::udp::MAX_DATAGRAM;
use crate::riemann::wire;

/// Datagrams at once, and the pause after them: a receiver's buffer is short.
const BURST: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);

impl Sender {
    pub(super) async fn datagrams(&self, memory: &mut Memory) -> Result<Infallible, Broken> {
        let to = self.to.sink.address;
        let any = match to {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any).await.map_err(Broken::Udp)?;
        socket.connect(to).await.map_err(Broken::Udp)?;
        self.standing.up();
        let mut burst = 0;
        loop {
            let batch = self.mail.read(0, self.to.batch, MAX_DATAGRAM).await;
            let Some(last) = batch.last().map(|kept| kept.seq) else {
                self.mail.arrived().await;
                continue;
            };
            self.note_sent(memory, &batch);
            let (datagrams, unfit) = pack(&self.fresh(batch));
            self.standing.count(|totals| totals.unfit += unfit);
            for (bytes, events) in datagrams {
                socket.send(&bytes).await.map_err(Broken::Udp)?;
                self.standing.count(|totals| totals.delivered += events);
                burst += 1;
                if usize::is_multiple_of(burst, BURST) {
                    sleep(PAUSE).await;
                }
            }
            memory.backoff.reset();
            self.mail.ack(last).await;
        }
    }
}

/// Datagrams with their counts of events, and how many events fit into none.
fn pack(events: &[Event]) -> (Vec<(Vec<u8>, u64)>, u64) {
    let (mut datagrams, mut unfit) = (Vec::new(), 0);
    let (mut bytes, mut count) = (Vec::new(), 0);
    for event in events {
        // Messages of one event each are, one after the other, a message of all.
        let one = wire::events([event]).encode_to_vec();
        if one.len() > MAX_DATAGRAM {
            unfit += 1;
            continue;
        }
        if bytes.len() + one.len() > MAX_DATAGRAM {
            datagrams.push((std::mem::take(&mut bytes), std::mem::take(&mut count)));
        }
        bytes.extend_from_slice(&one);
        count += 1;
    }
    if count > 0 {
        datagrams.push((bytes, count));
    }
    (datagrams, unfit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::riemann::decode::{self, Caps};

    #[test]
    fn datagrams_are_full_and_never_too_long() {
        let of =
            |length: usize| Event { description: Some("x".repeat(length)), ..Event::default() };
        let events = [of(10_000), of(6_000), of(6_000), of(20_000), of(1)];
        let (datagrams, unfit) = pack(&events);
        assert_eq!(unfit, 1);
        assert_eq!(datagrams.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 2]);
        for (bytes, count) in datagrams {
            assert!(bytes.len() <= MAX_DATAGRAM);
            let message = decode::message(&bytes, Timestamp(0), &Caps::default()).unwrap();
            assert_eq!(message.events.len() as u64, count);
        }
        assert_eq!(pack(&[]), (Vec::new(), 0));
    }
}
