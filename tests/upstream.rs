//! Where events go: a real carbon, and another hostd over TCP and TLS, asked
//! with a client that is not ours.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hostd::base::{Event, Metric, Timestamp};
use hostd::config::{self, GraphiteFormat, GraphiteSink, Source};
use hostd::daemon;
use hostd::host::clock::RealClock;
use hostd::host::dial::RealDial;
use hostd::host::fake::FakeHost;
use hostd::host::spool::{RealSpool, Spool};
use hostd::riemann::client::Client;
use hostd::sink::graphite::Sender;
use hostd::sink::outbox::{Limits, Mail, Outbox};
use hostd::sink::standing::Standing;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);

/// The one that has what Debian packages.
const PYTHON: &str = "/usr/bin/python3";

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

/// Runs a program to its end; what it prints.
fn run(program: &str, args: &[&str], package: &str) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {program} ({error}): apt-get install {package}")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

// --- a real carbon ------------------------------------------------------------

/// A carbon with its files in a folder; ended when it is dropped.
struct Carbon(Child);

impl Drop for Carbon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn carbon(dir: &Path, lines: SocketAddr, pickle: SocketAddr) -> Carbon {
    let query = free();
    let at = dir.display();
    let conf = format!(
        "[cache]\nSTORAGE_DIR = {at}\nLOCAL_DATA_DIR = {at}/whisper\nCONF_DIR = {at}\n\
         LOG_DIR = {at}\nPID_DIR = {at}\nUSER =\nMAX_UPDATES_PER_SECOND = inf\n\
         MAX_CREATES_PER_MINUTE = inf\nLINE_RECEIVER_INTERFACE = 127.0.0.1\n\
         LINE_RECEIVER_PORT = {}\nPICKLE_RECEIVER_INTERFACE = 127.0.0.1\n\
         PICKLE_RECEIVER_PORT = {}\nCACHE_QUERY_INTERFACE = 127.0.0.1\n\
         CACHE_QUERY_PORT = {}\nENABLE_UDP_LISTENER = False\n",
        lines.port(),
        pickle.port(),
        query.port()
    );
    std::fs::write(dir.join("carbon.conf"), conf).expect("written");
    let schemas = "[all]\npattern = .*\nretentions = 1s:1h\n";
    std::fs::write(dir.join("storage-schemas.conf"), schemas).expect("written");
    let log = std::fs::File::create(dir.join("carbon.log")).expect("a log");
    let mut command = Command::new("carbon-cache");
    command.arg(format!("--config={}", dir.join("carbon.conf").display()));
    command.args(["--nodaemon", "start"]).stdout(Stdio::null()).stderr(log);
    let child = command.spawn().unwrap_or_else(|error| {
        panic!("cannot run carbon-cache ({error}): apt-get install graphite-carbon")
    });
    Carbon(child)
}

/// Every point of every whisper file: path, seconds, value.
const READ: &str = "
import json, os, sys, whisper
out = {}
for top, _, names in os.walk(sys.argv[1]):
    for name in names:
        file = os.path.join(top, name)
        path = os.path.relpath(file, sys.argv[1])[:-4].replace('/', '.')
        (start, end, step), values = whisper.fetch(file, int(sys.argv[2]), int(sys.argv[3]))
        times = range(start, end, step)
        out[path] = {str(t): repr(v) for t, v in zip(times, values) if v is not None}
print(json.dumps(out))
";

type Points = BTreeMap<String, BTreeMap<String, f64>>;

/// Numbers that are hard to carry.
fn value(n: i64) -> Metric {
    match n % 4 {
        0 => Metric::Int(n * 1_000_003),
        1 => Metric::Double(0.1 * n as f64),
        2 => Metric::Double(-1.0 / n as f64),
        #[allow(clippy::cast_possible_truncation, reason = "that is what floats are for")]
        _ => Metric::Float(n as f32 * 0.3),
    }
}

async fn into_a_real_carbon(format: GraphiteFormat) {
    const SERIES: i64 = 20;
    const POINTS: i64 = 150;
    let dir = tempfile::tempdir().expect("a folder");
    let (lines, pickle) = (free(), free());
    let clock = Arc::new(RealClock);
    let now = Timestamp::from(SystemTime::now());
    let spool = RealSpool::new(&dir.path().join("outbox"));
    let spool = spool.map(|spool| Box::new(spool) as Box<dyn Spool>);
    let mail = Mail::new(Outbox::open(spool, Limits::default(), now), clock);
    let text = format!(
        "upstream: {{graphite: [{{name: c, address: '{}', protocol: {}, prefix: test}}]}}",
        if format == GraphiteFormat::Pickle { pickle } else { lines },
        if format == GraphiteFormat::Pickle { "pickle" } else { "plaintext" },
    );
    let sources = [Source::host("host.yaml", text)];
    let config = config::load(&sources, &config::not_asked).expect("a configuration").0;
    let [to]: [GraphiteSink; 1] = config.upstream.graphite.try_into().expect("one sink");
    let standing = Standing::default();
    let sender =
        Sender { to, mail: mail.clone(), standing: standing.clone(), dial: Arc::new(RealDial) };
    let sending = tokio::spawn(sender.run());

    // While nobody is there, points wait.
    let begin = now.secs() - POINTS - 10;
    let mut wanted = Points::new();
    for t in 0..POINTS {
        let mut events = Vec::new();
        for series in 0..SERIES {
            let service = format!("disk /mnt/{series} used 0.95");
            let metric = value(t * SERIES + series + 1);
            events.push(Arc::new(Event {
                host: Some("nas.home".into()),
                service: Some(service),
                metric: Some(metric),
                time: Some(Timestamp::from_secs(begin + t)),
                ..Event::default()
            }));
            let path = format!("test.home.nas.disk._mnt_{series}.used.95");
            // A float's text is its shortest, its pickle is exact.
            let value = match (metric, format) {
                (Metric::Float(value), GraphiteFormat::Plaintext) => {
                    value.to_string().parse().expect("a number")
                }
                (metric, _) => metric.as_f64(),
            };
            wanted.entry(path).or_default().insert((begin + t).to_string(), value);
        }
        mail.append(events).await;
    }
    let _carbon = carbon(dir.path(), lines, pickle);
    let whole = async {
        while mail.gauge().await.waiting > 0 {
            sleep(Duration::from_millis(50)).await;
        }
        loop {
            let (whisper, from) = (dir.path().join("whisper/test"), (begin - 5).to_string());
            let until = (now.secs() + 60).to_string();
            let args = ["-c", READ, whisper.to_str().expect("a path"), &from, &until];
            let found: BTreeMap<String, BTreeMap<String, String>> =
                serde_json::from_str(&run(PYTHON, &args, "graphite-carbon")).expect("JSON");
            // As text: a JSON number may lose its last bit.
            let value = |(at, text): (String, String)| (at, text.parse().expect("a number"));
            let points = found.into_iter().map(|(path, points)| {
                (format!("test.{path}"), points.into_iter().map(value).collect())
            });
            let found: Points = points.collect();
            let count = found.values().map(BTreeMap::len).sum::<usize>();
            if i64::try_from(count).is_ok_and(|count| count >= SERIES * POINTS) {
                return found;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let found = timeout(PATIENCE, whole).await.unwrap_or_else(|_| {
        let log = std::fs::read_to_string(dir.path().join("carbon.log")).unwrap_or_default();
        panic!("{:?}\n{log}", standing.now())
    });
    assert_eq!(found, wanted);
    let count = u64::try_from(SERIES * POINTS).expect("positive");
    assert_eq!(standing.now().delivered, count);
    println!("{format:?}: {count} points in {} whisper files are equal", found.len());
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_carbon_takes_plaintext() {
    into_a_real_carbon(GraphiteFormat::Plaintext).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_carbon_takes_pickle() {
    into_a_real_carbon(GraphiteFormat::Pickle).await;
}

// --- another hostd --------------------------------------------------------------

struct Daemon {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    async fn end(self) {
        drop(self.stop);
        let ended = timeout(PATIENCE, self.task).await.expect("it ends in time");
        ended.expect("no panic").expect("no failure");
    }
}

/// A daemon on an empty machine.
fn start(fake: &FakeHost, text: &str) -> Daemon {
    let sources = [Source::host("host.yaml", text)];
    let config = config::load(&sources, &config::not_asked).expect("a configuration").0;
    let (stop, stopped) = oneshot::channel();
    let host = fake.host();
    let task = tokio::spawn(async move {
        daemon::run(host, config, BTreeMap::new(), async {
            // Its sender's absence ends the daemon as well.
            let _ = stopped.await;
        })
        .await
    });
    Daemon { stop, task }
}

/// Asks a daemon until something matches.
async fn until(at: SocketAddr, query: &str) -> Vec<Event> {
    let asking = async {
        loop {
            if let Ok(mut client) = Client::connect(&RealDial, at, PATIENCE).await
                && let Ok(found) = client.query(query).await
                && !found.is_empty()
            {
                return found;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("nothing matches {query}"))
}

fn machine() -> (tempfile::TempDir, FakeHost) {
    let dir = tempfile::tempdir().expect("a folder");
    let fake = FakeHost::new(dir.path());
    (dir, fake)
}

async fn send(to: SocketAddr, service: &str) {
    let event = Event {
        host: Some("guest".into()),
        service: Some(service.into()),
        state: Some("ok".into()),
        ttl: Some(3600.0),
        ..Event::default()
    };
    let mut client = Client::connect(&RealDial, to, PATIENCE).await.expect("a connection");
    client.send(&[event]).await.expect("taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hostd_gets_everything_also_what_came_while_it_was_away() {
    let (_here, near) = machine();
    let (_there, far) = machine();
    let (near_at, far_at) = (free(), free());
    let far_text =
        format!("host: {{name: fleet, interval: 1s}}\nevents: {{tcp: '{far_at}', udp: off}}\n");
    let near_text = format!(
        "host: {{name: nas, interval: 1s}}\nevents: {{tcp: '{near_at}', udp: off}}\n\
         upstream: {{riemann: [{{name: fleet, address: '{far_at}'}}]}}\n"
    );
    let above = start(&far, &far_text);
    let below = start(&near, &near_text);
    until(near_at, "service = \"sink fleet\" and state = \"ok\" and delivered != nil").await;
    // hostd's own events, under its name.
    let own = until(far_at, "host = \"nas\" and service = \"hostd\"").await;
    assert!(!own[0].tags.contains(&"hostd".to_owned()), "the tag is the receiver's own");
    send(near_at, "before").await;
    until(far_at, "host = \"guest\" and service = \"before\"").await;
    // It goes away; events go on; so does a restart of ours.
    above.end().await;
    until(near_at, "service = \"sink fleet\" and metric > 0").await;
    send(near_at, "away").await;
    below.end().await;
    let below = start(&near, &near_text);
    until(near_at, "service = \"sink fleet\"").await;
    send(near_at, "restarted").await;
    let above = start(&far, &far_text);
    for service in ["away", "restarted"] {
        until(far_at, &format!("host = \"guest\" and service = \"{service}\"")).await;
    }
    // The C client, asking the receiver.
    let (ip, port) = (far_at.ip().to_string(), far_at.port().to_string());
    let asked = tokio::task::spawn_blocking(move || {
        let query = "host = \"guest\" and service = \"away\"";
        run("riemann-client", &["query", query, "-j", &ip, &port], "riemann-c-client")
    });
    let found = asked.await.expect("a task");
    assert!(found.contains("away"), "{found}");
    below.end().await;
    above.end().await;
}

/// An authority, a server's and a client's certificate, below `dir`.
fn certificates(dir: &Path) {
    let conf = dir.join("openssl.conf");
    let text = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = test\n\
                [ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n\
                [leaf]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
    std::fs::write(&conf, text).expect("written");
    let at = |name: &str| dir.join(name).display().to_string();
    for (name, kind) in [("ca", "ca"), ("server", "leaf"), ("client", "leaf"), ("other", "ca")] {
        let (key, pem) = (at(&format!("{name}.key")), at(&format!("{name}.pem")));
        let (conf, ca, ca_key) = (conf.display().to_string(), at("ca.pem"), at("ca.key"));
        let mut args = vec!["req", "-x509", "-config", &conf, "-extensions", kind, "-newkey", "ec"];
        args.extend(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
        args.extend(["-keyout", &key, "-out", &pem]);
        if kind == "leaf" {
            args.extend(["-CA", &ca, "-CAkey", &ca_key]);
        }
        run("openssl", &args, "openssl");
    }
}

/// A port that speaks TLS, wants a client's certificate, and hands on to `to`.
async fn encrypted(dir: &Path, to: SocketAddr) -> SocketAddr {
    let pem = |name: &str| std::fs::read(dir.join(name)).expect("a file");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem("ca.pem")).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    );
    let chain = vec![CertificateDer::from_pem_slice(&pem("server.pem")).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(&pem("server.key")).expect("PEM");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let Ok(mut onward) = TcpStream::connect(to).await else { return };
                // Either end may close.
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_both_sides_show_certificates() {
    let (here, near) = machine();
    let (_there, far) = machine();
    certificates(here.path());
    for name in ["ca.pem", "other.pem", "client.pem", "client.key"] {
        let bytes = std::fs::read(here.path().join(name)).expect("a file");
        near.file(&format!("/etc/hostd/{name}"), bytes).expect("written");
    }
    let (near_at, far_at) = (free(), free());
    let above =
        start(&far, &format!("host: {{name: fleet}}\nevents: {{tcp: '{far_at}', udp: off}}\n"));
    until(far_at, "true").await;
    let tls_at = encrypted(here.path(), far_at).await;
    let sink = |name: &str, more: &str| {
        format!("  - {{name: {name}, address: '{tls_at}', protocol: tls{more}}}\n")
    };
    let ours = ", certificate: /etc/hostd/client.pem, key: /etc/hostd/client.key";
    let text = format!(
        "host: {{name: nas, interval: 1s}}\nevents: {{tcp: '{near_at}', udp: off}}\n\
         upstream:\n  riemann:\n{}{}{}{}",
        sink("good", &format!(", ca: /etc/hostd/ca.pem{ours}")),
        sink("stranger", &format!(", ca: /etc/hostd/other.pem{ours}")),
        sink("shy", ", ca: /etc/hostd/ca.pem"),
        sink("named", &format!(", ca: /etc/hostd/ca.pem, server-name: nas.home{ours}")),
    );
    let below = start(&near, &text);
    until(far_at, "host = \"nas\" and service = \"hostd\"").await;
    let says = async |name: &str, words: &str| {
        let query = format!("service = \"sink {name}\" and description =~ \"%{words}%\"");
        until(near_at, &query).await[0].description.clone().unwrap_or_default()
    };
    println!("{}", says("good", "has everything").await);
    println!("{}", says("stranger", "TLS: invalid peer certificate").await);
    println!("{}", says("named", "TLS: invalid peer certificate").await);
    println!("{}", says("shy", "events wait").await);
    below.end().await;
    above.end().await;
}
