//! The format of the files: the one description that is the JSON Schema for
//! editors, the rule of the check, and the reference page.
//!
//! Every key is an `Option` here: what is wrong is left out after it has been
//! listed, so that the rest of the file is still judged. `required` says what
//! must be there; `default` is filled in by the check, and written only here.
//! Doc comments are what the owner reads.

mod care;
mod devices;
mod disks;
mod events;
mod health;
mod history;
mod life;
mod pools;
mod services;
mod streams;
mod upstream;
mod vm;

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::care::*;
pub use self::devices::*;
pub use self::disks::*;
pub use self::events::*;
pub use self::health::*;
pub use self::history::*;
pub use self::life::*;
pub use self::pools::*;
pub use self::services::*;
pub use self::streams::*;
pub use self::upstream::*;
pub use self::vm::*;
use super::formats::{Address, HostName, Label, PciId, Span, Text};

/// A list whose wrong items are left out.
pub type List<T> = Option<Vec<Option<T>>>;

/// hostd's own configuration, `/etc/hostd/host.yaml`. Every section may be
/// left out; an empty file means that hostd watches what it finds.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "host.yaml",
    extend("x-later" = ["rules", "notify", "relay"])
)]
pub struct RawHost {
    /// The machine as a whole.
    pub host: Option<RawHostSection>,
    /// Graphics cards that may be given to a VM.
    pub gpus: List<RawGpu>,
    /// ZFS pools. All imported pools are watched; this names those that matter.
    pub pools: Option<RawPools>,
    /// What hostd does for pools by itself; nothing that is not written here.
    pub care: Option<RawCare>,
    /// The health of disks. All are watched.
    pub disks: Option<RawDisks>,
    /// Services to watch: file shares, media servers, anything with a port or a unit.
    pub services: List<RawService>,
    /// What is measured of the machine itself.
    pub health: Option<RawHealth>,
    /// What is kept of all events. It is on without this section.
    pub history: Option<RawHistory>,
    /// Where others reach the event engine.
    pub events: Option<RawEvents>,
    /// The HTTP port for people and Prometheus.
    pub web: Option<RawWeb>,
    /// Where events are sent besides.
    pub upstream: Option<RawUpstream>,
    /// What becomes of events. Without any, every event goes everywhere; with
    /// them, hostd's own are indexed and in the history all the same, and these
    /// steps decide on the rest.
    pub streams: Option<RawStreams>,
}

/// The machine as a whole.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawHostSection {
    /// Name of this machine in events. The machine's host name when absent.
    pub name: Option<Text<HostName>>,
    /// How often hostd looks; events live for twice as long. 1s to 1h.
    #[schemars(extend("default" = "5s"))]
    pub interval: Option<Text<Span>>,
    /// Whether hostd watches the media services and containers that it finds
    /// running, besides those under `services`.
    #[schemars(extend("default" = true))]
    pub discover_services: Option<bool>,
}

/// A graphics card that may be given to a VM, with all functions of its slot.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawGpu {
    /// How you call it, here and in VM files.
    #[schemars(required, extend("examples" = ["radeon"]))]
    pub name: Option<Text<Label>>,
    /// PCI address of any of its functions, from `hostctl gpu list`.
    #[schemars(required)]
    pub address: Option<Text<Address>>,
    /// Vendor and device id of function 0. With it, hostd refuses another card
    /// that has taken this address, as happens when a card is added or removed.
    pub identity: Option<Text<PciId>>,
    /// Subsystem vendor and device id of function 0: which maker's board it is.
    pub subsystem: Option<Text<PciId>>,
    /// What happens when the card is not at its address: with `true`, hostd
    /// takes it where it is, if exactly one card has its `identity` (which must
    /// then be given). Else it is refused, and the message says where it is.
    #[schemars(extend("default" = false))]
    pub follow: Option<bool>,
    /// Addresses of other devices in its IOMMU group that leave the host with
    /// it, each with all functions of its slot. The guest does not see them.
    pub with: List<Text<Address>>,
    /// Whether the display manager is stopped when the card is taken, and
    /// started again when it is back. Whoever is logged in loses their session.
    #[schemars(extend("default" = false))]
    pub stop_display_manager: Option<bool>,
}
