//! What the agent's answers carry: bounded, with nothing in it that could hurt
//! who shows or keeps it. An answer that lacks what it must have is `None`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::wire::clip;

/// Network cards of a guest that are looked at.
pub const INTERFACES: usize = 64;
/// Addresses of each.
pub const ADDRESSES: usize = 16;
/// Commands that are remembered; agents know about fifty.
const COMMANDS: usize = 256;

/// What an agent offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its version.
    pub version: String,
    /// The commands that it carries out.
    pub commands: BTreeSet<String>,
}

/// What runs in a guest; empty where the guest does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsInfo {
    /// `debian`, `mswindows`.
    pub id: String,
    /// `Debian GNU/Linux 13 (trixie)`, `Microsoft Windows 11`.
    pub name: String,
    /// `13`, `Microsoft Windows 11`.
    pub version: String,
    /// `6.12.1`, `22631`.
    pub kernel: String,
    /// `x86_64`.
    pub machine: String,
}

/// A network card, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`, `Ethernet 2`.
    pub name: String,
    /// Its hardware address, in lower case with colons.
    pub mac: Option<String>,
    /// In the guest's order.
    pub addresses: Vec<Address>,
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
}

impl Interface {
    /// Whether others could reach the guest there.
    pub fn is_reachable(&self) -> bool {
        self.addresses.iter().any(Address::is_reachable)
    }
}

impl Address {
    /// Not the guest's own loop, nor one that it has given itself.
    pub fn is_reachable(&self) -> bool {
        match self.ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
            IpAddr::V6(ip) => {
                !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified()
            }
        }
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(clip)
}

/// `guest-info`.
pub fn info(value: &Value) -> Option<Info> {
    let commands = value.get("supported_commands")?.as_array()?.iter().take(COMMANDS);
    let offered = |command: &&Value| command.get("enabled").and_then(Value::as_bool) != Some(false);
    let commands = commands.filter(offered).filter_map(|command| text(command, "name"));
    Some(Info { version: text(value, "version")?, commands: commands.collect() })
}

/// `guest-get-osinfo`.
pub fn os_info(value: &Value) -> Option<OsInfo> {
    let part = |key| text(value, key).unwrap_or_default();
    value.as_object()?;
    let name = [part("pretty-name"), part("name")].into_iter().find(|name| !name.is_empty());
    Some(OsInfo {
        id: part("id"),
        name: name.unwrap_or_default(),
        version: part("version-id"),
        kernel: part("kernel-release"),
        machine: part("machine"),
    })
}

/// `guest-get-host-name`.
pub fn host_name(value: &Value) -> Option<String> {
    text(value, "host-name")
}

/// `guest-network-get-interfaces`.
pub fn interfaces(value: &Value) -> Option<Vec<Interface>> {
    let cards = value.as_array()?.iter().take(INTERFACES);
    Some(cards.filter_map(interface).collect())
}

fn interface(value: &Value) -> Option<Interface> {
    let addresses = value.get("ip-addresses").and_then(Value::as_array);
    let addresses = addresses.into_iter().flatten().take(ADDRESSES).filter_map(address);
    let mac = text(value, "hardware-address").map(|mac| mac.to_ascii_lowercase());
    let is_mac = |mac: &String| {
        mac.len() == 17
            && mac.split(':').count() == 6
            && mac.split(':').all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
    };
    Some(Interface {
        name: text(value, "name")?,
        mac: mac.filter(is_mac),
        addresses: addresses.collect(),
    })
}

fn address(value: &Value) -> Option<Address> {
    // A link-local address of Windows has its zone: `fe80::1%4`.
    let ip = value.get("ip-address")?.as_str()?;
    let ip: IpAddr = ip.split('%').next()?.parse().ok()?;
    let prefix = u8::try_from(value.get("prefix")?.as_u64()?).ok()?;
    (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Address { ip, prefix })
}

/// `guest-fsfreeze-status`.
pub fn is_frozen(value: &Value) -> Option<bool> {
    match value.as_str()? {
        "frozen" => Some(true),
        "thawed" => Some(false),
        _ => None,
    }
}

/// How many file systems were frozen, or thawed.
pub fn count(value: &Value) -> Option<u64> {
    value.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn reads_what_qemu_ga_10_says() {
        let cards = interfaces(&json!([
            {"name": "lo", "hardware-address": "00:00:00:00:00:00",
             "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]},
            {"name": "eth0", "hardware-address": "52:54:00:AB:cd:56", "ip-addresses": [
                {"ip-address-type": "ipv4", "ip-address": "10.0.2.15", "prefix": 24},
                {"ip-address-type": "ipv6", "ip-address": "fe80::1%4", "prefix": 64},
                {"ip-address-type": "ipv4", "ip-address": "10.0.2.15", "prefix": 33},
                {"ip-address-type": "ipv4", "ip-address": "somewhere", "prefix": 3}]},
            {"hardware-address": "nameless"}, {"name": "tun0", "hardware-address": "evil"}]))
        .unwrap();
        let names: Vec<_> = cards.iter().map(|card| card.name.as_str()).collect();
        assert_eq!(names, ["lo", "eth0", "tun0"]);
        assert!(!cards[0].is_reachable() && cards[1].is_reachable());
        assert_eq!(cards[1].mac.as_deref(), Some("52:54:00:ab:cd:56"));
        assert_eq!((cards[1].addresses.len(), cards[1].addresses[1].is_reachable()), (2, false));
        assert_eq!(cards[2].mac, None);

        let os = os_info(&json!({"name": "Debian GNU/Linux", "kernel-release": "6.12.1",
            "version": "13 (trixie)", "pretty-name": "Debian GNU/Linux 13 (trixie)",
            "version-id": "13", "kernel-version": "#1 SMP", "machine": "x86_64", "id": "debian"}))
        .unwrap();
        assert_eq!(
            (os.name.as_str(), os.version.as_str(), os.kernel.as_str()),
            ("Debian GNU/Linux 13 (trixie)", "13", "6.12.1")
        );
        let offers = info(&json!({"version": "10.0.11", "supported_commands": [
            {"enabled": true, "name": "guest-ping", "success-response": true},
            {"enabled": false, "name": "guest-exec", "success-response": true}]}))
        .unwrap();
        assert_eq!(offers.commands.into_iter().collect::<Vec<_>>(), ["guest-ping"]);
        assert_eq!(is_frozen(&json!("frozen")), Some(true));
        assert_eq!(is_frozen(&json!("perhaps")), None);
    }

    #[test]
    fn a_guest_cannot_fill_our_memory() {
        let address = json!({"ip-address": "10.0.0.1", "prefix": 8});
        let card = json!({"name": "x".repeat(9999), "ip-addresses": vec![address; 1000]});
        let cards = interfaces(&json!(vec![card; 1000])).unwrap();
        assert_eq!((cards.len(), cards[0].addresses.len()), (INTERFACES, ADDRESSES));
        assert_eq!(cards[0].name.len(), 200);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let keys = "name|ip-addresses|ip-address|prefix|hardware-address|version|supported_commands|host-name";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[0-9:.%a-f]{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(keys, inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn never_panics(value in any_json()) {
            let _ = (info(&value), os_info(&value), host_name(&value), is_frozen(&value));
            for card in interfaces(&value).unwrap_or_default() {
                prop_assert!(card.addresses.len() <= ADDRESSES);
                let _ = card.is_reachable();
            }
        }
    }
}
