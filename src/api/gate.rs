//! Who asks, whether they may, and how much at once.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use zbus::Connection;
use zbus::message::Header;
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::{names, wire};
use crate::ask::{self, Ask, Asks, Caller, Code, Refusal, Reply, Right};
use crate::host::users;

/// A decision under way.
pub type Deciding<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// How a transport knows its callers and what they may do.
pub trait Gate: Send + Sync {
    /// Who has sent this message.
    fn caller<'a>(&'a self, on: &'a Connection, from: &'a Header<'a>) -> Deciding<'a, Caller>;

    /// Whether this caller has the right.
    fn allow<'a>(
        &'a self,
        on: &'a Connection,
        from: &'a Header<'a>,
        caller: &'a Caller,
        right: Right,
    ) -> Deciding<'a, ()>;
}

/// The way from a method to the daemon: every method goes through here.
#[derive(Clone)]
pub struct Door {
    asks: Asks,
    gate: Arc<dyn Gate>,
    quota: Quota,
}

impl Door {
    /// A door to the daemon with its gate; `quota` counts the asks under way.
    pub fn new(asks: Asks, gate: Arc<dyn Gate>, quota: Quota) -> Self {
        Self { asks, gate, quota }
    }

    /// One that leads nowhere, for those who only look at the door itself.
    pub(super) fn nowhere() -> Self {
        let (asks, _) = tokio::sync::mpsc::channel(1);
        Self::new(asks, Arc::new(PolkitGate), Quota::new(0, 0))
    }

    /// Authorises the sender of a call, asks the daemon and returns the document.
    pub async fn ask(
        &self,
        ask: Ask,
        on: &Connection,
        from: &Header<'_>,
    ) -> Result<String, wire::Refused> {
        let caller = self.gate.caller(on, from).await?;
        let _ticket = self.quota.take(caller.uid).ok_or_else(|| {
            Refusal::new(
                Code::Refused,
                format!("too many requests at once by uid {}", caller.uid),
                "wait for those under way",
            )
        })?;
        if let Some(right) = ask.right() {
            self.gate.allow(on, from, &caller, right).await?;
            tracing::info!(?ask, caller = caller.label, "asked");
        }
        let reply = ask::put(&self.asks, ask, caller).await?;
        let failed = |why: String| Refusal::new(Code::Failed, why, "");
        let document = if matches!(reply, Reply::Events(_)) {
            // It may be long: others are answered meanwhile.
            let made = tokio::task::spawn_blocking(move || wire::document(&reply, false));
            made.await.map_err(|error| failed(error.to_string()))?
        } else {
            wire::document(&reply, false)
        };
        document.map_err(|error| failed(error.to_string()).into())
    }
}

/// Counts what is under way, for each user and in all.
#[derive(Clone)]
pub struct Quota(Arc<Limits>);

struct Limits {
    each: usize,
    total: usize,
    taken: Mutex<HashMap<u32, usize>>,
    freed: Notify,
}

/// How many times as much root may have: whoever repairs must get in.
const ROOT: usize = 4;

/// One place in a quota; given back when dropped.
pub struct Ticket {
    quota: Quota,
    uid: u32,
}

impl Quota {
    /// At most `each` for a user and `total` in all; root has more, and the
    /// total does not keep it out.
    pub fn new(each: usize, total: usize) -> Self {
        Self(Arc::new(Limits { each, total, taken: Mutex::default(), freed: Notify::new() }))
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, HashMap<u32, usize>> {
        // A panic elsewhere cannot leave a count half written.
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many places this user may have.
    pub fn each(&self, uid: u32) -> usize {
        if uid == 0 { self.0.each * ROOT } else { self.0.each }
    }

    /// A place, as soon as there is one.
    pub async fn wait(&self, uid: u32) -> Ticket {
        loop {
            let mut freed = pin!(self.0.freed.notified());
            // From here on no place that gets free is missed.
            freed.as_mut().enable();
            if let Some(ticket) = self.take(uid) {
                return ticket;
            }
            freed.await;
        }
    }

    /// A place, if there is one.
    pub fn take(&self, uid: u32) -> Option<Ticket> {
        let mut taken = self.taken();
        let all: usize = taken.values().sum();
        let mine = taken.get(&uid).copied().unwrap_or(0);
        if mine >= self.each(uid) || (all >= self.0.total && uid != 0) {
            return None;
        }
        taken.insert(uid, mine + 1);
        Some(Ticket { quota: self.clone(), uid })
    }

    /// How many places are taken.
    pub fn busy(&self) -> usize {
        self.taken().values().sum()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut taken = self.quota.taken();
        let left = taken.get(&self.uid).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            taken.remove(&self.uid);
        } else {
            taken.insert(self.uid, left);
        }
        drop(taken);
        self.quota.0.freed.notify_waiters();
    }
}

/// What the right is for, after "may not".
pub(super) fn verb(right: Right) -> &'static str {
    match right {
        Right::GpuOperate => "bind or release graphics cards",
        Right::VmOperate => "start or stop VMs",
        Right::VmConsole => "see what guests show or type into them",
        Right::PoolOperate => "start, pause or stop scrubs",
        Right::ServiceOperate => "restart services",
        Right::EventSend => "send events",
        Right::BootSetup => "change what the machine does at boot",
    }
}

/// What the group `hostd` does not get: polkit asks its members for a password
/// too, and over the private socket nobody can be asked for one.
fn is_roots(right: Right) -> bool {
    match right {
        Right::BootSetup => true,
        Right::GpuOperate
        | Right::VmOperate
        | Right::VmConsole
        | Right::PoolOperate
        | Right::ServiceOperate
        | Right::EventSend => false,
    }
}

/// The other end of a private connection, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// Which peers act; an error is why that could not be found out. May block.
#[derive(Clone)]
pub struct Rule(Arc<dyn Fn(Peer) -> Result<bool, String> + Send + Sync>);

impl Rule {
    /// A rule of one's own.
    pub fn new(rule: impl Fn(Peer) -> Result<bool, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// Root and the members of group `hostd`.
    pub fn root_or_group() -> Self {
        Self::new(|peer| {
            let member = || users::is_member(peer.uid, peer.gid, names::GROUP);
            if peer.uid == 0 { Ok(true) } else { member().map_err(|error| error.to_string()) }
        })
    }
}

/// How long the user database may take.
const LOOKUP: Duration = Duration::from_secs(5);

/// The gate of one private connection.
pub struct PeerGate {
    /// Who is at the other end.
    pub peer: Peer,
    /// Which peers act.
    pub rule: Rule,
}

impl PeerGate {
    async fn acts(&self) -> Result<bool, String> {
        let (rule, peer) = (self.rule.clone(), self.peer);
        let looked = tokio::task::spawn_blocking(move || rule.0(peer));
        match timeout(LOOKUP, looked).await {
            Ok(Ok(acts)) => acts,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the user database did not answer within {LOOKUP:?}")),
        }
    }
}

impl Gate for PeerGate {
    fn caller<'a>(&'a self, _: &'a Connection, _: &'a Header<'a>) -> Deciding<'a, Caller> {
        let uid = self.peer.uid;
        Box::pin(
            async move { Ok(Caller { uid, label: format!("uid {uid} over the private socket") }) },
        )
    }

    fn allow<'a>(
        &'a self,
        _: &'a Connection,
        _: &'a Header<'a>,
        caller: &'a Caller,
        right: Right,
    ) -> Deciding<'a, ()> {
        Box::pin(async move {
            let hint = format!("run it with sudo, or `usermod -aG {} USER` as root", names::GROUP);
            let (uid, verb, group) = (caller.uid, verb(right), names::GROUP);
            if is_roots(right) && uid != 0 {
                let message =
                    format!("uid {uid} may not {verb}: over the private socket only root may");
                return Err(Refusal::new(Code::Denied, message, "run it with sudo"));
            }
            match self.acts().await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    let message = format!(
                        "uid {uid} may not {verb}: over the private socket root and members of \
                         group {group} act, others read"
                    );
                    Err(Refusal::new(Code::Denied, message, hint))
                }
                Err(why) => {
                    let message = format!(
                        "uid {uid} may not {verb}: whether it is a member of group {group} \
                         cannot be found out: {why}"
                    );
                    Err(Refusal::new(Code::Denied, message, hint))
                }
            }
        })
    }
}

/// How long polkit may take when it asks nobody.
const POLKIT: Duration = Duration::from_secs(25);
/// How long a person may take to type a password.
const PERSON: Duration = Duration::from_secs(300);

/// The gate of the system bus.
pub struct PolkitGate;

impl PolkitGate {
    async fn check(on: &Connection, from: &Header<'_>, right: Right) -> Result<bool, String> {
        let subject = Subject::new_for_message_header(from).map_err(|error| error.to_string())?;
        let asks_person =
            from.primary().flags().contains(zbus::message::Flags::ALLOW_INTERACTIVE_AUTH);
        let (flags, deadline) = if asks_person {
            (CheckAuthorizationFlags::ALLOW_USER_INTERACTION, PERSON)
        } else {
            (CheckAuthorizationFlags::empty(), POLKIT)
        };
        let checked = async {
            let authority = AuthorityProxy::builder(on)
                .cache_properties(zbus::proxy::CacheProperties::No)
                .build()
                .await?;
            let details = HashMap::new();
            authority.check_authorization(&subject, right.action(), &details, flags, "").await
        };
        match timeout(deadline, checked).await {
            Ok(Ok(result)) => Ok(result.is_authorized),
            Ok(Err(zbus::Error::FDO(error))) if is_absent(&error) => {
                Err("polkit is not installed or not running".to_owned())
            }
            Ok(Err(error)) => Err(format!("polkit: {error}")),
            Err(_) => Err(format!("polkit did not answer within {} s", deadline.as_secs())),
        }
    }
}

fn is_absent(error: &zbus::fdo::Error) -> bool {
    use zbus::fdo::Error;
    matches!(
        error,
        Error::ServiceUnknown(_)
            | Error::NameHasNoOwner(_)
            | Error::SpawnServiceNotFound(_)
            | Error::SpawnServiceNotValid(_)
            | Error::SpawnExecFailed(_)
            | Error::SpawnFailed(_)
    )
}

impl Gate for PolkitGate {
    fn caller<'a>(&'a self, on: &'a Connection, from: &'a Header<'a>) -> Deciding<'a, Caller> {
        Box::pin(async move {
            let unknown = |why: String| {
                Refusal::new(Code::Denied, format!("the bus does not say who asks: {why}"), "")
            };
            let sender = from.sender().ok_or_else(|| unknown("no sender".to_owned()))?;
            let name = sender.as_str();
            let asked = on.call_method(
                Some("org.freedesktop.DBus"),
                "/org/freedesktop/DBus",
                Some("org.freedesktop.DBus"),
                "GetConnectionUnixUser",
                &name,
            );
            let answer = timeout(LOOKUP, asked)
                .await
                .map_err(|_| unknown("no answer".to_owned()))?
                .map_err(|error| unknown(error.to_string()))?;
            let uid: u32 =
                answer.body().deserialize().map_err(|error| unknown(error.to_string()))?;
            Ok(Caller { uid, label: format!("uid {uid} over the system bus ({sender})") })
        })
    }

    fn allow<'a>(
        &'a self,
        on: &'a Connection,
        from: &'a Header<'a>,
        caller: &'a Caller,
        right: Right,
    ) -> Deciding<'a, ()> {
        Box::pin(async move {
            // As polkit itself has it; and it must work when polkit does not.
            if caller.uid == 0 {
                return Ok(());
            }
            let hint = format!("run it with sudo, or `usermod -aG {} USER` as root", names::GROUP);
            let (uid, verb) = (caller.uid, verb(right));
            match Self::check(on, from, right).await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    let action = right.action();
                    let message =
                        format!("uid {uid} may not {verb}: polkit does not grant {action}");
                    Err(Refusal::new(Code::Denied, message, hint))
                }
                Err(why) => {
                    let message = format!("uid {uid} may not {verb}: {why}, so only root may");
                    Err(Refusal::new(Code::Denied, message, hint))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_counts_for_each_and_in_all_and_leaves_room_for_root() {
        let quota = Quota::new(2, 3);
        let one = quota.take(1000).unwrap();
        let _two = quota.take(1000).unwrap();
        assert!(quota.take(1000).is_none(), "two for each");
        let _three = quota.take(1001).unwrap();
        assert!(quota.take(1002).is_none(), "three in all");
        let root = quota.take(0).unwrap();
        assert_eq!(quota.busy(), 4);
        drop((one, root));
        assert_eq!(quota.busy(), 2);
        assert!(quota.take(1000).is_some());
        let more: Vec<_> = std::iter::from_fn(|| quota.take(0)).collect();
        assert_eq!(more.len(), 2 * ROOT);
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_gets_free() {
        let quota = Quota::new(1, 1);
        let first = quota.take(1000).unwrap();
        let waiting = tokio::spawn({
            let quota = quota.clone();
            async move { quota.wait(1000).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    }
}
