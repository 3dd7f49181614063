//! `events:` and `web:`, checked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// `events:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Riemann protocol over TCP; `None` is off.
    pub tcp: Option<SocketAddr>,
    /// Riemann protocol over UDP.
    pub udp: Option<SocketAddr>,
    /// Who may send events to the plain ports from elsewhere.
    pub allow: Vec<Subnet>,
    /// Riemann protocol over TLS.
    pub tls: Option<SocketAddr>,
    /// The certificates; there when `tls` or `websocket_tls` are on.
    pub files: Option<TlsFiles>,
    /// HTTP.
    pub websocket: Option<SocketAddr>,
    /// Whether that is over TLS.
    pub websocket_tls: bool,
    /// File of the token for HTTP.
    pub token_file: Option<PathBuf>,
    /// File of the token that only reads.
    pub read_token_file: Option<PathBuf>,
    /// Further names that HTTP may be reached by.
    pub names: Vec<String>,
    /// Pages of others that may use it.
    pub origins: Vec<String>,
    /// Graphite's lines.
    pub graphite: Option<SocketAddr>,
    /// How often events are looked for whose ttl has passed.
    pub expire: Duration,
}

impl Default for Events {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            tcp: Some(loopback(5555)),
            udp: Some(loopback(5555)),
            allow: Vec::new(),
            tls: None,
            files: None,
            websocket: Some(loopback(5556)),
            websocket_tls: false,
            token_file: None,
            read_token_file: None,
            names: Vec::new(),
            origins: Vec::new(),
            graphite: None,
            expire: Duration::from_secs(1),
        }
    }
}

/// `web:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Where it is; `None` is off.
    pub listen: Option<SocketAddr>,
    /// File of the token.
    pub token_file: Option<PathBuf>,
    /// The certificates; with them it speaks TLS.
    pub files: Option<TlsFiles>,
    /// Further names that it may be reached by.
    pub names: Vec<String>,
    /// Pages of others that may use it.
    pub origins: Vec<String>,
}

impl Default for Web {
    /// Port 9555: where Prometheus's exporters live, and easy to keep beside 5555.
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9555))),
            token_file: None,
            files: None,
            names: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// Files for TLS, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The machine's certificate and its issuers'.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose certificates clients must have.
    pub client_ca: Option<PathBuf>,
}

/// A network, `192.168.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// The network of that length in which the address is.
    pub fn of(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) => {
                let left = 32u32.checked_sub(prefix.into())?;
                IpAddr::from((v4.to_bits() & u32::MAX.checked_shl(left).unwrap_or(0)).to_be_bytes())
            }
            IpAddr::V6(v6) => {
                let left = 128u32.checked_sub(prefix.into())?;
                let bits = v6.to_bits() & u128::MAX.checked_shl(left).unwrap_or(0);
                IpAddr::from(bits.to_be_bytes())
            }
        };
        Some(Self { address, prefix })
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && Self::of(address, self.prefix).is_some_and(|other| other == *self)
    }

    /// Whether it holds every address of its kind.
    pub fn is_everybody(&self) -> bool {
        self.prefix == 0
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Not a network: an address and its length are wanted, and nothing behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a network such as 192.168.1.0/24")]
pub struct NotASubnet;

impl FromStr for Subnet {
    type Err = NotASubnet;

    fn from_str(text: &str) -> Result<Self, NotASubnet> {
        let (address, prefix) = text.split_once('/').ok_or(NotASubnet)?;
        let address: IpAddr = address.parse().map_err(|_| NotASubnet)?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| digits).ok_or(NotASubnet)?;
        Self::of(address, prefix).filter(|net| net.address == address).ok_or(NotASubnet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let holds = |net: &str, address: &str| {
            net.parse::<Subnet>().unwrap().contains(address.parse().unwrap())
        };
        assert!(holds("192.168.1.0/24", "192.168.1.255"));
        assert!(holds("192.168.1.0/24", "::ffff:192.168.1.7"));
        assert!(!holds("192.168.1.0/24", "192.168.2.1"));
        assert!(!holds("192.168.1.0/24", "fd00::1"));
        assert!(holds("10.0.0.7/32", "10.0.0.7") && !holds("10.0.0.7/32", "10.0.0.6"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe80::1"));
        assert!(holds("::/0", "::1"));
        for wrong in ["192.168.1.1/24", "192.168.1.0", "1.2.3.4/33", "::/129", "a/8", "1.0.0.0/+8"]
        {
            assert_eq!(wrong.parse::<Subnet>(), Err(NotASubnet), "{wrong}");
        }
    }
}
