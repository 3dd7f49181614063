//! Formats of networks: `192.168.1.0/24`, `https://nas.lan:3000`.

use std::net::IpAddr;

use super::formats::Format;
use super::types;

/// `192.168.1.0/24`.
pub struct Subnet;
impl Format for Subnet {
    type Value = types::Subnet;
    const NAME: &'static str = "subnet";
    const WANTED: &'static str = "a network";
    const LIKE: &'static str =
        "write its first address and its length, such as 192.168.1.0/24 or fd00::/8";
    const EXAMPLE: &'static str = "192.168.1.0/24";
    const PATTERN: &'static str = "^[0-9A-Fa-f.:]+/[0-9]{1,3}$";

    fn read(text: &str) -> Option<types::Subnet> {
        (text.len() <= 43).then(|| text.parse().ok()).flatten()
    }

    fn repair(text: &str) -> Option<String> {
        // One address alone, or an address within its network.
        let (address, prefix) = text.trim().split_once('/').unwrap_or((text.trim(), ""));
        let address: IpAddr = address.parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = if prefix.is_empty() { whole } else { prefix.parse().ok()? };
        types::Subnet::of(address, prefix).map(|net| net.to_string())
    }
}

/// `https://nas.lan:3000`: as a browser writes it.
pub struct WebOrigin;
impl Format for WebOrigin {
    type Value = String;
    const NAME: &'static str = "origin";
    const WANTED: &'static str = "the origin of a web page";
    const LIKE: &'static str =
        "write what a browser sends: http:// or https://, a host, and a port that is not usual";
    const EXAMPLE: &'static str = "https://grafana.lan:3000";
    const PATTERN: &'static str = "^https?://[a-z0-9.:\\[\\]_-]+$";

    fn read(text: &str) -> Option<String> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".:[]_-".contains(&b);
        let good = !host.is_empty() && text.len() <= 300 && host.bytes().all(inner);
        good.then(|| text.to_owned())
    }

    fn repair(text: &str) -> Option<String> {
        let text = text.trim().to_lowercase();
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", &text));
        let host = rest.split('/').next()?;
        Some(format!("{scheme}://{host}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_repaired() {
        assert_eq!(Subnet::repair("192.168.1.7/24").as_deref(), Some("192.168.1.0/24"));
        assert_eq!(Subnet::repair("192.168.1.7").as_deref(), Some("192.168.1.7/32"));
        assert_eq!(Subnet::repair("fd00::1").as_deref(), Some("fd00::1/128"));
        assert_eq!(WebOrigin::repair("https://NAS.lan/page").as_deref(), Some("https://nas.lan"));
        assert_eq!(WebOrigin::repair("nas.lan").as_deref(), Some("https://nas.lan"));
    }
}
