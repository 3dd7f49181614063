//! A real Prometheus fetches `/metrics`, and its API is asked for the values.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the peer is started directly, not through the door")]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hostd::api::web;
use hostd::base::{Event, Metric, Severity};
use hostd::host::clock::RealClock;
use hostd::riemann::http::guard::{Guard, Token};
use hostd::riemann::index::{self, OWN_TAG, Origin};
use hostd::riemann::{Index, http};
use hostd::sink::metrics;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "0123456789abcdef";

/// The page, behind a token.
async fn page(index: &Index) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let token = Token::new(SECRET.as_bytes()).expect("a token");
    let of = index.clone();
    let router = web::router(web::Pages {
        index: index.clone(),
        guard: Guard::default().with_tokens(Some(token), None),
        metrics: Arc::new(move || metrics::render(&of)),
        metrics_type: metrics::TYPE,
    });
    let limits = http::Limits::default();
    tokio::spawn(http::run(listener, router, None, index.clone(), limits, std::future::pending()));
    at
}

async fn get(at: SocketAddr, path: &str, headers: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).await.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// Ended when it is dropped.
struct Prometheus {
    child: Child,
    at: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(scrapes: SocketAddr) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = free.local_addr().expect("its address");
        drop(free);
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
             - job_name: hostd\n  authorization: {{credentials: {SECRET}}}\n  \
             static_configs: [{{targets: ['{scrapes}']}}]\n"
        );
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={at}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("cannot run prometheus ({error}): apt-get install prometheus")
        });
        Self { child, at, _dir: dir }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let answer = get(self.at, path, "").await?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    /// The value of the only series that an expression finds.
    async fn value(&self, expression: &str) -> Option<f64> {
        let escaped = expression.replace('=', "%3D").replace('"', "%22").replace(' ', "%20");
        let escaped = escaped.replace('{', "%7B").replace('}', "%7D");
        let answer = self.ask(&format!("/api/v1/query?query={escaped}")).await?;
        let found = answer["data"]["result"].as_array()?;
        let [only] = found.as_slice() else { return None };
        only["value"][1].as_str()?.parse().ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_reads_what_hostd_knows() {
    let index = Index::new(index::Limits::default(), Arc::new(RealClock));
    let own = |service: &str, severity, metric| {
        let event = Event::new(service, severity, "").metric(Metric::Double(metric));
        let tags = vec![OWN_TAG.to_owned()];
        Event { host: Some("nas".into()), ttl: Some(600.0), tags, ..event }
    };
    let pool = own("zpool tank health", Severity::Warning, 1.0);
    index.apply_own(vec![
        pool.attribute("pool-state", "DEGRADED"),
        own("zpool tank capacity", Severity::Ok, 0.41),
    ]);
    let other =
        Event { service: Some("odd \"\\ name".into()), ttl: Some(600.0), ..Event::default() };
    index.apply(Origin::Outside, vec![other.metric(Metric::Int(-7))]);
    let at = page(&index).await;

    let answer = get(at, "/metrics", "").await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 401"), "without the token: {answer}");
    let bearer = format!("Authorization: Bearer {SECRET}\r\n");
    let answer = get(at, "/metrics", &bearer).await.expect("an answer");
    assert!(answer.contains(metrics::TYPE) && answer.ends_with("# EOF\n"), "{answer}");

    let prometheus = Prometheus::start(at);
    let scraped = async {
        while prometheus.value("up").await != Some(1.0) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let fetched = timeout(PATIENCE, scraped).await.is_ok();
    assert!(fetched, "never fetched: {:?}", prometheus.ask("/api/v1/targets").await);
    for (expression, value) in [
        ("node_zfs_zpool_state{zpool=\"tank\",state=\"degraded\"}", 1.0),
        ("node_zfs_zpool_state{zpool=\"tank\",state=\"online\"}", 0.0),
        ("hostd_zpool_tolerated_failures", 1.0),
        ("hostd_zpool_used_ratio{zpool=\"tank\"}", 0.41),
        ("hostd_event_state{service=\"zpool tank health\",state=\"warning\"}", 1.0),
        ("hostd_event_metric", -7.0),
        ("hostd_events_accepted_total", 3.0),
        ("hostd_refused_total{reason=\"bad-token\"}", 1.0),
    ] {
        assert_eq!(prometheus.value(expression).await, Some(value), "{expression}");
    }
    let known = prometheus.ask("/api/v1/metadata?metric=hostd_zpool_used_ratio").await;
    let known = known.expect("what Prometheus knows of it");
    let known = &known["data"]["hostd_zpool_used_ratio"][0];
    assert_eq!((&known["type"], &known["unit"]), (&"gauge".into(), &"ratio".into()));
    assert_eq!(known["help"], "Used part of the pool.");
}
