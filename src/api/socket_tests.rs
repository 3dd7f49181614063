//! The private socket with real clients, and with rude ones.

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::api::client::{Client, Where};
use crate::api::fake::Fake;
use crate::api::names;
use crate::ask::view::{VmState, VmView};
use crate::ask::{Ask, Code, Reply};

struct Served {
    dir: tempfile::TempDir,
    fake: Fake,
    serving: JoinHandle<()>,
}

impl Served {
    async fn new(rule: Rule) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::start();
        let private = listen(&dir.path().join("control.sock")).await.unwrap();
        let (asks, changes, stop) = (fake.asks.clone(), fake.changes.clone(), fake.stop.clone());
        let serving = tokio::spawn(serve_socket(private, asks, changes, rule, stop));
        Self { dir, fake, serving }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    async fn client(&self) -> Client {
        Client::connect(&Where::Socket(self.path())).await.unwrap()
    }
}

fn start() -> Ask {
    Ask::VmStart { name: "gaming".parse().unwrap() }
}

#[tokio::test]
async fn those_who_may_act_do_and_see_changes() {
    let served = Served::new(Rule::new(|_| Ok(true))).await;
    let client = served.client().await;
    let mut changes = client.changes().await.unwrap();
    let Reply::Done(done) = client.ask(&start()).await.unwrap() else { panic!("not done") };
    assert_eq!(done.message, "gaming runs");
    assert_eq!(changes.next().await.unwrap().step, "binding 0000:01:00.0");
    assert_eq!(changes.next().await.unwrap().step, "");
    let uid = nix::unistd::geteuid();
    assert_eq!(served.fake.seen(), [(start(), format!("uid {uid} over the private socket"))]);
    assert_eq!(client.version().await.unwrap(), env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn others_read_and_are_told_why_they_may_not_act() {
    let served = Served::new(Rule::new(|_| Ok(false))).await;
    let client = served.client().await;
    assert!(matches!(client.ask(&Ask::VmList).await, Ok(Reply::Vms(_))));
    let denied = client.ask(&start()).await.unwrap_err();
    assert_eq!(denied.code, Code::Denied);
    assert!(denied.message.contains("may not start or stop VMs"), "{denied}");
    assert!(denied.hint.contains("usermod -aG hostd"), "{}", denied.hint);
    assert_eq!(served.fake.seen().len(), 1, "the daemon was not asked to act");
}

#[tokio::test]
async fn an_unreadable_user_database_denies() {
    let served = Served::new(Rule::new(|_| Err("EIO".into()))).await;
    let denied = served.client().await.ask(&start()).await.unwrap_err();
    assert_eq!(denied.code, Code::Denied);
    assert!(denied.message.contains("EIO"), "{denied}");
}

#[tokio::test]
async fn refusals_arrive_with_their_hint_and_bad_names_are_usage() {
    let served = Served::new(Rule::new(|_| Ok(true))).await;
    let client = served.client().await;
    let ask = Ask::VmStatus { name: "none".parse().unwrap() };
    let refused = client.ask(&ask).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    assert_eq!(refused.hint, "`hostctl vm list` shows those there are");
    let stream = std::os::unix::net::UnixStream::connect(served.path()).unwrap();
    let raw = zbus::connection::Builder::unix_stream(stream).p2p().build().await.unwrap();
    let error = raw
        .call_method(None::<&str>, names::OBJECT, Some(names::VM), "Status", &"../etc")
        .await
        .unwrap_err();
    assert_eq!(crate::api::wire::refusal(&error).code, Code::Usage);
}

#[tokio::test]
async fn a_second_daemon_is_told_and_a_lost_one_is_said() {
    let served = Served::new(Rule::new(|_| Ok(true))).await;
    let second = listen(&served.path()).await.err().unwrap();
    assert!(second.to_string().starts_with("another hostd is running"), "{second}");
    let client = served.client().await;
    served.fake.end.send(true).unwrap();
    served.serving.await.unwrap();
    assert!(!served.dir.path().join("control.sock").exists());
    let lost = client.ask(&Ask::VmList).await.unwrap_err();
    assert_eq!(lost.code, Code::NoDaemon, "{lost}");
}

#[tokio::test]
async fn rubbish_and_long_messages_end_only_their_own_connection() {
    let served = Served::new(Rule::new(|_| Ok(true))).await;
    for rubbish in [&b"\n"[..], b"\0\r\n", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4096]] {
        let mut peer = tokio::net::UnixStream::connect(served.path()).await.unwrap();
        peer.write_all(rubbish).await.unwrap();
        peer.shutdown().await.unwrap();
        // Whether it ends with an answer or a reset does not matter.
        let _ = peer.read_to_end(&mut Vec::new()).await;
    }
    let long = Ask::EventQuery { query: "x".repeat(2 << 20) };
    let error = served.client().await.ask(&long).await.unwrap_err();
    assert_eq!(error.code, Code::NoDaemon, "{error}");
    assert!(served.client().await.ask(&Ask::VmList).await.is_ok());
}

#[tokio::test]
async fn one_user_cannot_take_all_connections() {
    let served = Served::new(Rule::new(|_| Ok(true))).await;
    let mut clients = Vec::new();
    let uid = nix::unistd::geteuid().as_raw();
    for _ in 0..Quota::new(CONNECTIONS.0, CONNECTIONS.1).each(uid) {
        clients.push(served.client().await);
    }
    let refused = Client::connect(&Where::Socket(served.path())).await.err().unwrap();
    assert_eq!(refused.code, Code::Refused);
    assert!(refused.message.contains(BUSY), "{refused}");
    // The next one waits, and gets the place that gets free.
    let free = async {
        sleep(Duration::from_millis(200)).await;
        drop(clients.pop());
    };
    let (client, ()) = tokio::join!(served.client(), free);
    assert!(client.ask(&Ask::VmList).await.is_ok());
}

/// What zbus as a client would send, for one who does not wait.
fn greeting() -> Vec<u8> {
    let uid = nix::unistd::geteuid().to_string();
    let hex: Vec<_> = uid.bytes().map(|b| format!("{b:02x}")).collect();
    format!("\0AUTH EXTERNAL {}\r\nBEGIN\r\n", hex.concat()).into_bytes()
}

fn call(serial: u32) -> Vec<u8> {
    let call = zbus::Message::method_call(names::OBJECT, "Log").interface(names::VM);
    let mut call = call.build(&("gaming", false)).unwrap().data().to_vec();
    call[8..12].copy_from_slice(&serial.to_ne_bytes());
    call
}

#[tokio::test]
async fn a_call_that_comes_with_the_greeting_is_answered() {
    let served = Served::new(Rule::new(|_| Ok(true))).await;
    for _ in 0..50 {
        let mut raw = UnixStream::connect(served.path()).await.unwrap();
        raw.write_all(&[greeting(), call(1)].concat()).await.unwrap();
        // The log is 256 KiB; what is said before it is short.
        let mut some = vec![0; 200 << 10];
        timeout(Duration::from_secs(5), raw.read_exact(&mut some)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_not_read_from() {
    let served = Served::new(Rule::new(|_| Ok(true))).await;
    let mut raw = UnixStream::connect(served.path()).await.unwrap();
    raw.write_all(&greeting()).await.unwrap();
    // Each is answered by 256 KiB that nobody reads.
    let mut sent = 0;
    for serial in 1..200_000 {
        let write = timeout(Duration::from_millis(500), raw.write_all(&call(serial))).await;
        if write.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 2_000, "{sent} calls were taken");
    assert!(served.client().await.ask(&Ask::VmList).await.is_ok());
}

impl Served {
    /// A connection that is nobody's client.
    async fn raw(&self) -> zbus::Connection {
        let stream = std::os::unix::net::UnixStream::connect(self.path()).unwrap();
        zbus::connection::Builder::unix_stream(stream).p2p().build().await.unwrap()
    }
}

fn vm(state: VmState, pid: Option<u32>) -> VmView {
    let since = crate::base::Timestamp::from_secs(1);
    VmView { pid, ..VmView::new("win-11".parse().unwrap(), state, since, "on request") }
}

const WIN: &str = "/org/hostd/Host1/vm/win_2d11";

#[tokio::test]
async fn each_vm_is_an_object_whose_properties_follow_it() {
    let served = Served::new(Rule::new(|_| Ok(true))).await;
    served.fake.changes.know(vm(VmState::Off, None));
    let raw = served.raw().await;
    let manager =
        zbus::fdo::ObjectManagerProxy::builder(&raw).destination(names::BUS).path(names::OBJECT);
    let objects = manager.build().await.unwrap().get_managed_objects().await.unwrap();
    let ours = objects.iter().filter(|(_, all)| {
        all.keys().any(|interface| interface.as_str() == names::VIRTUAL_MACHINE)
    });
    let paths: Vec<_> = ours.map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, [WIN]);

    let proxy = zbus::proxy::Builder::<zbus::Proxy<'_>>::new(&raw)
        .destination(names::BUS)
        .path(WIN)
        .interface(names::VIRTUAL_MACHINE)
        .build()
        .await
        .unwrap();
    assert_eq!(proxy.get_property::<String>("State").await.unwrap(), "off");
    assert_eq!(proxy.get_property::<String>("Name").await.unwrap(), "win-11");
    let mut states = proxy.receive_property_changed::<String>("State").await;
    // What it is already.
    assert_eq!(states.next().await.unwrap().get().await.unwrap(), "off");
    served.fake.changes.send(vm(VmState::Running, Some(42)));
    assert_eq!(states.next().await.unwrap().get().await.unwrap(), "running");
    assert_eq!(proxy.get_property::<u32>("Pid").await.unwrap(), 42);
    assert_eq!(proxy.get_property::<u64>("Since").await.unwrap(), 1_000_000);

    let done: String = proxy.call("Start", &()).await.unwrap();
    assert!(done.contains("gaming runs"), "{done}");
    let ask = Ask::VmStart { name: "win-11".parse().unwrap() };
    assert_eq!(served.fake.seen().pop().unwrap().0, ask);
}

#[tokio::test]
async fn acting_on_an_object_needs_the_right_too() {
    let served = Served::new(Rule::new(|_| Ok(false))).await;
    served.fake.changes.know(vm(VmState::Off, None));
    let raw = served.raw().await;
    let call = async |path, interface, method, body: &str| {
        let called = match body {
            "" => raw.call_method(None::<&str>, path, Some(interface), method, &()).await,
            body => raw.call_method(None::<&str>, path, Some(interface), method, &body).await,
        };
        crate::api::wire::refusal(&called.unwrap_err())
    };
    let denied = call(WIN, names::VIRTUAL_MACHINE, "Kill", "").await;
    assert!(denied.message.contains("may not start or stop VMs"), "{denied}");
    let denied = call(names::OBJECT, names::VM, "Screenshot", "gaming").await;
    assert!(denied.message.contains("may not see what guests show"), "{denied}");
    assert!(served.fake.seen().is_empty(), "the daemon was not asked");
}

/// Our interfaces of an object, sorted: they come in the order of a hash map.
async fn introspect(raw: &zbus::Connection, path: &str) -> String {
    let interface = Some("org.freedesktop.DBus.Introspectable");
    let reply = raw.call_method(None::<&str>, path, interface, "Introspect", &()).await.unwrap();
    let xml: String = reply.body().deserialize().unwrap();
    let mut interfaces: Vec<_> = xml
        .split("  <interface ")
        .filter(|part| part.starts_with("name=\"org.hostd"))
        .map(|part| part.split("</interface>").next().unwrap_or_default())
        .map(|part| format!("  <interface {part}</interface>"))
        .collect();
    interfaces.sort_unstable();
    interfaces.join("\n")
}

#[tokio::test]
async fn the_contract_is_pinned() {
    let served = Served::new(Rule::new(|_| Ok(true))).await;
    served.fake.changes.know(vm(VmState::Off, None));
    let raw = served.raw().await;
    insta::assert_snapshot!("introspection", introspect(&raw, names::OBJECT).await);
    insta::assert_snapshot!("introspection_vm", introspect(&raw, WIN).await);
}
