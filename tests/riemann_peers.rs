//! Programs that others wrote for Riemann's protocol, against our servers.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the peer is started directly, not through the door")]

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hostd::base::{Event, Metric, Severity};
use hostd::host::clock::RealClock;
use hostd::query::{Query, parse};
use hostd::riemann::{Index, Reason, decode::Caps, index, tcp, udp};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// Both servers on one port number each, for as long as the runtime lives.
async fn servers() -> (Index, SocketAddr, SocketAddr) {
    let index = Index::new(index::Limits::default(), Arc::new(RealClock));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let tcp_at = listener.local_addr().expect("an address");
    let udp_at = socket.local_addr().expect("an address");
    let never = std::future::pending;
    tokio::spawn(tcp::run(listener, index.clone(), tcp::Limits::default(), never()));
    tokio::spawn(udp::run(socket, index.clone(), Caps::default(), never()));
    (index, tcp_at, udp_at)
}

/// Runs riemann-client; its exit code, what it prints and what it complains of.
async fn riemann_client(args: &[&str], to: SocketAddr) -> (Option<i32>, String, String) {
    let (ip, port) = (to.ip().to_string(), to.port().to_string());
    let mut command = Command::new("riemann-client");
    command.args(args).args([ip, port]);
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = timeout(PATIENCE, run).await.expect("riemann-client hangs").expect("a task");
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run riemann-client ({error}): apt-get install riemann-c-client")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_sends_every_field() {
    let (index, to, _) = servers().await;
    let before = index.now();
    let args = [
        "send",
        "-h",
        "nas",
        "-S",
        "disk /",
        "-s",
        "ok",
        "-D",
        "12 % used",
        "-t",
        "disk",
        "-t",
        "root",
        "-a",
        "pool=tank",
        "-L",
        "30",
    ];
    for (service, option, value, metric) in [
        ("long", "-i", "-7", Metric::Int(-7)),
        ("double", "-d", "0.1", Metric::Double(0.1)),
        ("float", "-f", "0.5", Metric::Float(0.5)),
    ] {
        let args = [&args[..], &["-S", service, option, value]].concat();
        let (code, _, complaints) = riemann_client(&args, to).await;
        assert_eq!((code, complaints.as_str()), (Some(0), ""));
        let event = index.get(Some("nas"), Some(service)).expect("the event");
        let expected = Event {
            host: Some("nas".into()),
            service: Some(service.into()),
            state: Some("ok".into()),
            description: Some("12 % used".into()),
            metric: Some(metric),
            tags: vec!["disk".into(), "root".into()],
            ttl: Some(30.0),
            time: event.time,
            ..Event::default()
        };
        let expected = expected.attribute("pool", "tank").attribute("x-client", "riemann-c-client");
        assert_eq!(*event, expected);
        assert!(event.time.is_some_and(|time| time >= before && time <= index.now()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_sends_datagrams() {
    let (index, _, to) = servers().await;
    let mut seen = index.subscribe(Query::all()).expect("a subscription");
    let (code, ..) = riemann_client(&["send", "-U", "-S", "udp", "-i", "1"], to).await;
    assert_eq!(code, Some(0));
    let event = timeout(PATIENCE, seen.next()).await.expect("the event");
    assert_eq!((event.host.as_ref(), event.service.as_deref()), (None, Some("udp")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_queries() {
    let (index, to, _) = servers().await;
    let own = Event::new("zpool tank health", Severity::Warning, "one disk is missing")
        .metric(Metric::Int(1))
        .attribute("pool", "tank");
    index.apply_own(vec![
        Event { host: Some("nas".into()), ttl: Some(10.0), ..own },
        Event { host: Some("nas".into()), ..Event::new("cpu", Severity::Ok, "") },
    ]);
    for query in [
        "pool = \"tank\" and metric <= 1",
        "host = \"nas\" and service = \"zpool tank health\"",
        "service =~ \"zpool % health\" and not state = \"ok\"",
    ] {
        let (code, found, complaints) = riemann_client(&["query", query, "-j"], to).await;
        assert_eq!((code, complaints.as_str()), (Some(0), ""), "{query}");
        let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
        let found = found.as_array().expect("a list");
        assert_eq!(found.len(), 1, "{query}");
        assert_eq!(found[0]["service"], "zpool tank health");
        assert_eq!(found[0]["state"], "warning");
        assert_eq!(found[0]["description"], "one disk is missing");
    }
    let (code, found, _) = riemann_client(&["query", "true"], to).await;
    assert_eq!(code, Some(0));
    assert_eq!(found.matches("host = nas").count(), 2, "{found}");
    let (_, found, _) = riemann_client(&["query", "false"], to).await;
    assert!(!found.contains("nas"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_is_told_what_is_wrong() {
    let (index, to, _) = servers().await;
    let (code, said, complaints) = riemann_client(&["query", "state == \"ok\""], to).await;
    assert_ne!(code, Some(0), "{said}");
    assert!(complaints.contains("at offset 6") && complaints.contains("write `=`"), "{complaints}");
    assert_eq!(index.stats().refused(Reason::BadQuery), 1);

    index.apply_own(vec![Event {
        host: Some("nas".into()),
        ..Event::new("zpool health", Severity::Ok, "")
    }]);
    let lie = ["send", "-h", "nas", "-S", "zpool health", "-s", "critical", "-t", "hostd"];
    let (code, said, complaints) = riemann_client(&lie, to).await;
    assert_ne!(code, Some(0), "{said} {complaints}");
    let kept = index.query(&parse("service = \"zpool health\"").expect("a query"));
    assert_eq!(kept.first().and_then(|event| event.state.clone()).as_deref(), Some("ok"));
    assert_eq!(index.stats().refused(Reason::OwnKey), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_leaves_no_connection_behind() {
    let (index, to, _) = servers().await;
    riemann_client(&["send", "-S", "x"], to).await;
    let closed = async {
        while index.stats().open() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("the connection closes");
    assert_eq!(index.stats().connections.get(), 1);
}

/// Runs a program with a script for it; what it prints.
async fn script(program: &str, args: Vec<String>, missing: &str) -> String {
    let mut command = Command::new(program);
    command.args(args);
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = timeout(PATIENCE, run).await.expect("it hangs").expect("a task");
    let output = output.unwrap_or_else(|error| panic!("cannot run {program} ({error}): {missing}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}: {missing}?");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where scripts/peers puts clients that Debian does not have.
fn peers() -> std::path::PathBuf {
    let home = || std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned()) + "/.cache";
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| home());
    std::path::Path::new(&cache).join("hostd/tools/peers")
}

/// What each of the three scripts below has to leave behind.
fn sent_by(index: &Index, client: &str, metric: Metric) {
    let event = index.get(Some("nas"), Some(client)).expect("the event");
    assert_eq!((event.state.as_deref(), event.metric), (Some("ok"), Some(metric)), "{client}");
    assert_eq!(
        (event.tags.as_slice(), event.ttl),
        (&["a".to_owned(), "b".to_owned()][..], Some(30.0))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ruby_riemann_client_sends_and_asks() {
    let (index, to, udp) = servers().await;
    let program = "
require 'riemann/client'
port, datagrams = ARGV.map(&:to_i)
tcp = Riemann::Client.new(host: '127.0.0.1', port: port, timeout: 10).tcp
event = {host: 'nas', service: 'ruby', state: 'ok', metric: 7, tags: %w[a b], ttl: 30, pool: 'tank'}
tcp << event
tcp << event.merge(service: 'ruby float', metric: 0.5)
tcp['service =~ \"ruby%\"'].map(&:service).sort.each { |service| puts service }
begin
  tcp['state == 1']
rescue Riemann::Client::ServerError => e
  puts e.message
end
Riemann::Client.new(host: '127.0.0.1', port: datagrams).udp << event.merge(service: 'ruby udp')
";
    let mut seen = index.subscribe(parse("service = \"ruby udp\"").expect("a query")).expect("one");
    let args = ["-e", program, &to.port().to_string(), &udp.port().to_string()];
    let args = args.map(str::to_owned).to_vec();
    let said = script("ruby", args, "apt-get install ruby-riemann-client").await;
    let mut lines = said.lines();
    assert_eq!((lines.next(), lines.next()), (Some("ruby"), Some("ruby float")), "{said}");
    assert!(lines.any(|why| why.contains("at offset 6")), "{said}");
    sent_by(&index, "ruby", Metric::Int(7));
    let event = index.get(Some("nas"), Some("ruby")).expect("the event");
    assert_eq!(event.attributes["pool"], "tank");
    timeout(PATIENCE, seen.next()).await.expect("the datagram");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: scripts/peers installs bernhard with pip"]
async fn bernhard_sends_and_asks() {
    let (index, to, _) = servers().await;
    let program = "
import sys, bernhard
client = bernhard.Client(host='127.0.0.1', port=int(sys.argv[1]))
event = dict(host='nas', service='python', state='ok', metric=0.5, tags=['a', 'b'], ttl=30)
client.send(event)
client.send(dict(event, service='python more', attributes={'pool': 'tank'}))
print(sorted(e.service for e in client.query('host = \"nas\"')))
";
    let args = ["-c", program, &to.port().to_string()].map(str::to_owned).to_vec();
    let python = peers().join("python/bin/python");
    let said = script(&python.to_string_lossy(), args, "run scripts/peers").await;
    assert_eq!(said.trim(), "['python', 'python more']");
    sent_by(&index, "python", Metric::Float(0.5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: scripts/peers installs riemann with npm"]
async fn the_client_for_node_sends_and_asks() {
    let (index, to, _) = servers().await;
    let program = "
const client = require(process.argv[1] + '/node_modules/riemann').createClient(
  {host: '127.0.0.1', port: Number(process.argv[2])});
const event = {host: 'nas', service: 'node', state: 'ok', metric: 0.5, tags: ['a', 'b'], ttl: 30};
// One after the other: its parser breaks when replies of different length come
// in one piece.
let acks = 0;
const next = () => acks < 20
  ? client.send(client.Event(event), client.tcp)
  : client.send(client.Query({string: 'service = \"node\"'}), client.tcp);
client.on('data', reply => {
  if (reply.events && reply.events.length) {
    console.log(acks, reply.events.map(e => e.service).join(','));
    process.exit(0);
  }
  acks += 1;
  next();
});
client.on('error', e => { console.error(e); process.exit(1); });
client.on('connect', next);
";
    let folder = peers();
    let args = ["-e", program, &folder.to_string_lossy(), &to.port().to_string()];
    let args = args.map(str::to_owned).to_vec();
    let said = script("node", args, "run scripts/peers").await;
    assert_eq!(said.trim(), "20 node");
    sent_by(&index, "node", Metric::Float(0.5));
}

/// Ended when it is dropped.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collectd_sends_values_and_notifications() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (index, to, _) = servers().await;
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path().display();
    let config = format!(
        "BaseDir \"{at}\"\nPIDFile \"{at}/pid\"\nTypesDB \"/usr/share/collectd/types.db\"\n\
         Hostname \"nas\"\nFQDNLookup false\nInterval 10\nLoadPlugin unixsock\n<Plugin unixsock>\n\
         SocketFile \"{at}/sock\"\n</Plugin>\nLoadPlugin write_riemann\n<Plugin write_riemann>\n\
         <Node \"hostd\">\nHost \"127.0.0.1\"\nPort \"{}\"\nProtocol TCP\nBatch false\n</Node>\n\
         Tag \"collectd\"\n</Plugin>\n",
        to.port()
    );
    let file = dir.path().join("collectd.conf");
    std::fs::write(&file, config).expect("written");
    let missing = "apt-get install collectd-core libriemann-client0";
    let log = std::fs::File::create(dir.path().join("log")).expect("a log");
    let child =
        Command::new("/usr/sbin/collectd").args(["-f", "-C"]).arg(&file).stderr(log).spawn();
    let _child = Child(child.unwrap_or_else(|error| panic!("no collectd ({error}): {missing}")));
    let told = async {
        let mut stream = loop {
            match tokio::net::UnixStream::connect(dir.path().join("sock")).await {
                Ok(stream) => break stream,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        };
        let words = "PUTVAL \"nas/ours-a/gauge-b\" interval=10 N:7.5\n\
                     PUTNOTIF host=nas plugin=ours type=gauge severity=warning time=1000000000 \
                     message=\"too warm\"\n";
        stream.write_all(words.as_bytes()).await.expect("sent");
        let mut said = vec![0; 1024];
        let length = stream.read(&mut said).await.expect("an answer");
        said.truncate(length);
        let both = async {
            while index.stats().accepted.get() < 2 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        both.await;
        String::from_utf8_lossy(&said).into_owned()
    };
    let mut seen = index.subscribe(Query::all()).expect("a subscription");
    if timeout(PATIENCE, told).await.is_err() {
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("collectd sent {} events: {log}: {missing}?", index.stats().accepted.get());
    }
    let mut events = Vec::new();
    while let Some(event) = seen.try_next() {
        events.push(event);
    }
    let value = events.iter().find(|event| event.metric.is_some()).expect("the value");
    assert_eq!(value.host.as_deref(), Some("nas"));
    assert_eq!(value.service.as_deref(), Some("ours-a/gauge-b"));
    assert_eq!(
        (value.metric, &value.tags),
        (Some(Metric::Double(7.5)), &vec!["collectd".to_owned()])
    );
    assert_eq!(value.attributes["plugin_instance"], "a");
    assert_eq!(value.ttl, Some(20.0));
    let told = events.iter().find(|event| event.metric.is_none()).expect("the notification");
    assert_eq!((told.host.as_deref(), told.state.as_deref()), (Some("nas"), Some("warning")));
    assert_eq!(told.description.as_deref(), Some("too warm"));
    assert!(told.tags.contains(&"notification".to_owned()), "{told:?}");
}
