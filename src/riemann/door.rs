//! Who may come in on the plain ports: this machine for everything, networks
//! that the owner has named to send events, nobody else.

use std::net::IpAddr;

use crate::config::Subnet;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Send events and ask.
    Everything,
    /// Send events.
    Send,
}

/// Decides by address. Over TCP an address cannot be made up by somebody who
/// is not on the way; a datagram's can.
#[derive(Debug, Clone, Default)]
pub struct Door {
    allow: Vec<Subnet>,
}

impl Door {
    /// For this machine, and for these networks to send events.
    pub fn new(allow: Vec<Subnet>) -> Self {
        Self { allow }
    }

    /// What a peer may do, if anything.
    pub fn right(&self, peer: IpAddr) -> Option<Right> {
        if peer.to_canonical().is_loopback() {
            return Some(Right::Everything);
        }
        self.allow.iter().any(|net| net.contains(peer)).then_some(Right::Send)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_may_only_send_and_strangers_nothing() {
        let door = Door::new(vec!["192.168.1.0/24".parse().unwrap()]);
        let right = |peer: &str| door.right(peer.parse().unwrap());
        assert_eq!(right("127.0.0.1"), Some(Right::Everything));
        assert_eq!(right("::ffff:127.9.9.9"), Some(Right::Everything));
        assert_eq!(right("::1"), Some(Right::Everything));
        assert_eq!(right("192.168.1.77"), Some(Right::Send));
        assert_eq!(right("192.168.2.77"), None);
        assert_eq!(Door::default().right("192.168.1.77".parse().unwrap()), None);
    }
}
