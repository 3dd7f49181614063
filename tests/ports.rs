//! The whole daemon on a made-up machine, and each of its ports: on, off, and
//! refused off loopback in words.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hostd::api::client::{Client, Where};
use hostd::ask::{Ask, Reply};
use hostd::config::{self, Source};
use hostd::daemon;
use hostd::host::fake::FakeHost;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "0123456789abcdef";

/// What `hostctl config check` would say.
fn problems(host: &str) -> String {
    let judged = config::judge(&[Source::host("host.yaml", host)], &config::not_asked);
    judged.problems.to_string()
}

#[test]
fn off_loopback_a_port_says_what_it_needs() {
    for (host, message, fix) in [
        (
            "events: {tcp: '0.0.0.0:5555'}",
            "`tcp` would listen on 0.0.0.0:5555, where anybody on the network can send events",
            "`allow: [192.168.1.0/24]`",
        ),
        ("events: {udp: '[::]:5555'}", "`udp` would listen on [::]:5555", "127.0.0.1:5555"),
        ("events: {graphite: '192.168.1.2:2003'}", "`graphite` would listen", "127.0.0.1:2003"),
        (
            "events: {websocket: '0.0.0.0:5556'}",
            "`websocket` would listen on 0.0.0.0:5556, where anybody on the network comes in",
            "add `token-file`",
        ),
        ("events: {tls: '127.0.0.1:5554'}", "TLS needs `certificate`, `key`, `client-ca`", "PEM"),
        ("events: {websocket-tls: true, key: /k}", "TLS needs `certificate` as well", "PEM"),
        ("web: {listen: '0.0.0.0:9555'}", "where anybody on the network can read", "`token-file`"),
        ("web: {listen: '127.0.0.1:5556'}", "is the address of `events` already", "of its own"),
        ("events: {tcp: '127.0.0.1:5556'}", "is the address of `tcp` already", "of its own"),
        ("events: {tcp: '0.0.0.0:1', allow: [192.168.1.7/24]}", "192.168.1.7/24", "192.168.1.0/24"),
        ("events: {allow: [0.0.0.0/0]}", "0.0.0.0/0 is everybody", "networks that you trust"),
    ] {
        let said = problems(host);
        assert!(said.contains(message) && said.contains(fix), "{host}\n{said}");
    }
    for host in [
        "events: {tcp: '0.0.0.0:5555', udp: '0.0.0.0:5555', allow: [192.168.1.0/24]}",
        "events: {tls: '0.0.0.0:5554', certificate: /c, key: /k, client-ca: /a}",
        "events: {websocket: '0.0.0.0:5556', token-file: /t}",
        "web: {listen: '0.0.0.0:9555', token-file: /t}",
        "web: {listen: '0.0.0.0:9555', certificate: /c, key: /k, client-ca: /a}",
        "events: {tcp: off, udp: off, tls: off, websocket: off, graphite: off}\nweb: {listen: off}",
    ] {
        assert_eq!(problems(host), "no problems", "{host}");
    }
}

struct Daemon {
    _dir: tempfile::TempDir,
    client: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// A daemon with these ports, and these files on its machine.
async fn daemon(host: &str, files: &[(&str, &str)]) -> Daemon {
    let dir = tempfile::tempdir().expect("a folder");
    let fake = Arc::new(FakeHost::new(dir.path()));
    for (path, text) in files {
        fake.file(path, text).expect("a file");
    }
    let sources = [Source::host("host.yaml", format!("host: {{name: nas, interval: 1s}}\n{host}"))];
    let config = config::load(&sources, &config::not_asked).expect("a configuration").0;
    let (stop, stopped) = oneshot::channel();
    let machine = fake.host();
    let task = tokio::spawn(async move {
        daemon::run(machine, config, BTreeMap::new(), async {
            // Its sender's absence ends the daemon as well.
            let _ = stopped.await;
        })
        .await
    });
    let to = Where::Socket(dir.path().join("runtime/control.sock"));
    let connect = async {
        loop {
            match Client::connect(&to).await {
                Ok(client) => return client,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let client = timeout(PATIENCE, connect).await.expect("the daemon answers");
    Daemon { _dir: dir, client, stop, task }
}

impl Daemon {
    /// Asks until something matches.
    async fn event(&self, query: &str) -> hostd::ask::view::EventView {
        for _ in 0..200 {
            let ask = Ask::EventQuery { query: query.to_owned() };
            let answer = timeout(PATIENCE, self.client.ask(&ask)).await.expect("in time");
            if let Ok(Reply::Events(view)) = answer
                && let Some(event) = view.events.first()
            {
                return event.clone();
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("{query} never matched");
    }

    async fn end(self) {
        drop(self.stop);
        let ended = timeout(PATIENCE, self.task).await.expect("it ends in time");
        ended.expect("no panic").expect("no failure");
    }
}

/// Ports that were free a moment ago.
fn free<const N: usize>() -> [SocketAddr; N] {
    let all = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    all.map(|listener| listener.local_addr().expect("its address"))
}

async fn http(at: SocketAddr, request: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(at).await.expect("a connection");
    let length = body.len();
    let host = if headers.contains("Host:") { String::new() } else { format!("Host: {at}\r\n") };
    let all =
        format!("{request} HTTP/1.0\r\n{host}{headers}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(all.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("text");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_port_is_open_when_it_is_wanted() {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    let key = key.serialize_pem();
    let files = [
        ("/etc/ca.pem", authority.as_str()),
        ("/etc/cert.pem", certificate.as_str()),
        ("/etc/key.pem", key.as_str()),
        ("/etc/token", SECRET),
    ];
    let [tcp, tls, websocket, graphite, web] = free();
    let host = format!(
        "events: {{tcp: '{tcp}', udp: off, tls: '{tls}', websocket: '{websocket}', graphite: \
         '{graphite}', certificate: /etc/cert.pem, key: /etc/key.pem, client-ca: /etc/ca.pem, \
         token-file: /etc/token}}\nweb: {{listen: '{web}'}}\n"
    );
    let daemon = daemon(&host, &files).await;

    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(b"line.udp 1 -1", graphite).await.expect("sent");
    let mut stream = TcpStream::connect(graphite).await.expect("a connection");
    stream.write_all(b"line.tcp 2 -1\n").await.expect("sent");
    for service in ["line.udp", "line.tcp"] {
        let event = daemon.event(&format!("service = \"{service}\"")).await;
        assert_eq!((event.host, event.tags), (None, vec!["graphite".to_owned()]));
    }

    let refused = http(websocket, "POST /events", "", "{}").await;
    assert!(refused.starts_with("HTTP/1.0 401"), "{refused}");
    let bearer = format!("Authorization: Bearer {SECRET}\r\n");
    // Nobody from outside speaks for hostd.
    let event = r#"{"host":"nas","service":"hostd","state":"critical"}"#;
    daemon.event("host = \"nas\" and service = \"hostd\"").await;
    let answer = http(websocket, "POST /events", &bearer, event).await;
    assert!(answer.contains("belong to hostd itself"), "{answer}");
    let path =
        format!("GET /index?query=service%20%3D%20%22hostd%22&subscribe=false&token={SECRET}");
    let answer = http(websocket, &path, "", "").await;
    assert!(answer.contains("data: {\"host\":\"nas\",\"service\":\"hostd\""), "{answer}");

    let page = http(web, "GET /metrics", "", "").await;
    assert!(page.contains("\nhostd_event_state{host=\"nas\",service=\"hostd\",state="), "{page}");
    assert!(page.contains("\nhostd_refused_total{reason=\"bad-token\"} 1"), "{page}");
    let stranger = http(web, "GET /metrics", "Host: evil.example\r\n", "").await;
    assert!(stranger.starts_with("HTTP/1.0 403"), "{stranger}");

    let said = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new("openssl");
        command.args(["s_client", "-brief", "-connect", &tls.to_string()]);
        command.stdin(std::process::Stdio::null()).output()
    });
    let said = said.await.expect("a task").expect("openssl runs: apt-get install openssl");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("Protocol version: TLSv1"), "{said}");
    daemon.end().await;
    assert!(TcpStream::connect(web).await.is_err(), "closed with the daemon");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_port_is_open_when_all_are_off_and_missing_files_are_told() {
    let [tls] = free();
    let host = format!(
        "events: {{tcp: off, udp: off, websocket: off, tls: '{tls}', certificate: /etc/cert.pem, \
         key: /etc/key.pem, client-ca: /etc/ca.pem}}\nweb: {{listen: off}}\n"
    );
    let daemon = daemon(&host, &[]).await;
    let event = daemon.event("service = \"hostd\" and state = \"warning\"").await;
    let told = event.description.unwrap_or_default();
    assert!(told.contains("events over TLS"), "{told}");
    assert!(TcpStream::connect(tls).await.is_err(), "not open without its certificate");
    daemon.end().await;
}
