//! The HTTP server over real sockets: a web socket client that is not ours,
//! and bytes as curl and browsers send them.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::guard::Token;
use super::*;
use crate::base::{Event, Metric, Timestamp};
use crate::host::clock::RealClock;
use crate::riemann::index::{self, Origin};

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "0123456789abcdef";

struct Running {
    index: Index,
    to: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn server(guard: Guard, limits: Limits) -> Running {
    server_of(index::Limits::default(), guard, limits).await
}

async fn server_of(size: index::Limits, guard: Guard, limits: Limits) -> Running {
    let index = Index::new(size, Arc::new(RealClock));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let router = router(index.clone(), guard, limits);
    let task = tokio::spawn(run(listener, router, None, index.clone(), limits, async {
        let _ = stopped.await;
    }));
    Running { index, to, stop, task }
}

async fn plain() -> Running {
    server(Guard::default(), Limits::default()).await
}

fn event(host: &str, service: &str, metric: i64) -> Event {
    Event {
        host: Some(host.into()),
        service: Some(service.into()),
        metric: Some(Metric::Int(metric)),
        ttl: Some(60.0),
        ..Event::default()
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Running {
    /// Sends bytes and reads all that comes back.
    async fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.to).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn post(&self, headers: &str, body: &str) -> (String, String) {
        let length = body.len();
        let request = format!(
            "POST /events HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}",
            self.to
        );
        let answer = self.raw(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    fn request(&self, path: &str) -> tungstenite::handshake::client::Request {
        format!("ws://{}{path}", self.to).into_client_request().unwrap()
    }

    async fn socket(&self, path: &str) -> Socket {
        timeout(PATIENCE, connect_async(self.request(path))).await.unwrap().unwrap().0
    }

    async fn until_open(&self, wanted: u64) {
        let wait = async {
            while self.index.stats().open() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
    }

    async fn end(self) {
        drop(self.stop);
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

async fn message(socket: &mut Socket) -> Message {
    timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

async fn told(socket: &mut Socket) -> Value {
    match message(socket).await {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn closed(socket: &mut Socket) -> CloseFrame {
    match message(socket).await {
        Message::Close(Some(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_socket_tells_what_is_there_and_closes() {
    let server = plain().await;
    let time = Some(Timestamp::from_secs(10));
    let found = Event { time, ttl: Some(1e9), ..event("a", "b c", 1) }.attribute("pool", "tank");
    server.index.apply(Origin::Outside, vec![found, event("z", "z", 2)]);
    let mut socket = server.socket("/index?query=service%20%3D%20%22b+c%22").await;
    let expected = json!({
        "host": "a", "service": "b c", "state": null, "description": null, "metric": 1,
        "tags": null, "time": "1970-01-01T00:00:10.000Z", "ttl": 1e9, "pool": "tank",
    });
    assert_eq!(told(&mut socket).await, expected);
    assert_eq!(closed(&mut socket).await.code, CloseCode::Normal);
    server.end().await;
}

#[tokio::test]
async fn a_topic_tells_what_streams_publish() {
    use crate::config::types::{Op, Step};
    use crate::query::Query;
    let server = plain().await;
    let publish = Op::Publish("news".to_owned());
    server.index.set_streams(&[Step { op: publish, then: Vec::new(), otherwise: Vec::new() }]);
    let mut news = server.socket("/pubsub/news?query=metric%20%3E%201").await;
    let heard = async {
        loop {
            server.index.apply(Origin::Outside, vec![event("a", "x", 1), event("a", "x", 2)]);
            if let Ok(event) = timeout(Duration::from_millis(50), news.next()).await {
                return event.unwrap().unwrap();
            }
        }
    };
    let heard = timeout(PATIENCE, heard).await.unwrap();
    assert!(heard.to_text().unwrap().contains("\"metric\":2"), "{heard:?}");
    assert!(server.index.query(&Query::all()).is_empty(), "these steps do not index");
    drop(news);
    server.end().await;
}

#[tokio::test]
async fn a_socket_that_subscribes_hears_what_comes() {
    let server = plain().await;
    server.index.apply(Origin::Outside, vec![event("a", "x", 1)]);
    let mut socket = server.socket("/index?query=host%20%3D%20%22a%22&subscribe=true").await;
    assert_eq!(told(&mut socket).await["metric"], 1);
    let mut news = server.socket("/pubsub/index").await;
    // A pong means that the socket is served; the subscription may still be on its way.
    let first = event("a", "x", 2);
    let heard = async {
        loop {
            server.index.apply(Origin::Outside, vec![first.clone()]);
            if let Ok(event) = timeout(Duration::from_millis(50), news.next()).await {
                return event.unwrap().unwrap();
            }
        }
    };
    let heard = timeout(PATIENCE, heard).await.unwrap();
    assert!(heard.to_text().unwrap().contains("\"metric\":2"), "{heard:?}");
    server.index.apply(Origin::Outside, vec![event("b", "x", 3), event("a", "x", 4)]);
    let mut last = Value::Null;
    while last["metric"] != 4 {
        last = told(&mut socket).await;
        assert_eq!(last["host"], "a", "only what was asked for");
    }
    assert_eq!(server.index.stats().open(), 2);
    let stopped = tokio::spawn(server.end());
    assert_eq!(closed(&mut socket).await.code, CloseCode::Away, "told when the server stops");
    drop((socket, news));
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_wrong_query_is_the_reason_of_the_end() {
    let server = plain().await;
    let mut socket = server.socket("/index?query=state%20%3D%3D%20%22ok%22").await;
    let end = closed(&mut socket).await;
    assert_eq!(end.code, CloseCode::Policy);
    assert!(end.reason.contains("at offset 6"), "{}", end.reason);
    let answer = server.raw("GET /index?query=state%20%3D%3D HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.0 400") && answer.contains("at offset 6"), "{answer}");
    assert_eq!(server.index.stats().refused(Reason::BadQuery), 2);
    server.end().await;
}

#[tokio::test]
async fn server_sent_events() {
    let server = plain().await;
    server.index.apply(Origin::Outside, vec![event("a", "x", 1)]);
    let stream = TcpStream::connect(server.to).await.unwrap();
    let mut stream = BufReader::new(stream);
    let head = format!("GET /index?query=true HTTP/1.1\r\nHost: {}\r\n\r\n", server.to);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut data = async |wanted: &str| {
        let mut line = String::new();
        loop {
            line.clear();
            timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
            if line.to_lowercase().starts_with(wanted) {
                return line.trim_end().to_owned();
            }
        }
    };
    assert_eq!(data("http").await, "HTTP/1.1 200 OK");
    assert!(data("content-type").await.ends_with("text/event-stream"));
    let first = data("data: {").await;
    let first: Value = serde_json::from_str(first.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&first["service"], &first["metric"]), (&json!("x"), &json!(1)));
    server.index.apply(Origin::Outside, vec![event("a", "x", 2)]);
    assert!(data("data: {").await.contains("\"metric\":2"));

    let once = server
        .raw("GET /index?query=true&subscribe=false HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await;
    assert!(once.ends_with("\n\n") && once.contains("data: {\"host\":\"a\""), "{once}");
    server.end().await;
}

#[tokio::test]
async fn events_come_in_as_lines() {
    let server = plain().await;
    let own = Event { host: Some("nas".into()), ..event("nas", "zpool health", 1) };
    server.index.apply_own(vec![own]);
    let body = "{\"host\":\"a\",\"service\":\"s\",\"metric\":0.5,\"pool\":\"tank\",\
                \"time\":\"2026-11-23T00:00:00Z\",\"ttl\":1e9}\n\n\
                {\"host\":\"nas\",\"service\":\"zpool health\",\"state\":\"critical\"}\nnonsense\n\
                {\"metric\":\"much\"}\n{\"service\":\"t\",\"tags\":[\"hostd\",\"x\"]}";
    let (status, answer) = server.post("", body).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let answers: Vec<Value> =
        answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5, "{answer}");
    assert_eq!((&answers[0], &answers[4]), (&json!({}), &json!({})));
    assert_eq!(answers[1]["error"], "this host and service belong to hostd itself");
    assert!(answers[2]["error"].as_str().unwrap().starts_with("not JSON"), "{answer}");
    assert_eq!(answers[3]["error"], "`metric` must be a number");
    let stored = server.index.get(Some("a"), Some("s")).unwrap();
    assert_eq!(stored.metric, Some(Metric::Double(0.5)));
    assert_eq!(stored.time, Some(Timestamp::from_secs(1_795_392_000)));
    assert_eq!(stored.attributes["pool"], "tank");
    let stored = server.index.get(None, Some("t")).unwrap();
    assert_eq!(stored.tags, ["x"], "hostd's own tag is taken away");
    assert_eq!(server.index.stats().refused(Reason::BadJson), 2);
    assert_eq!(server.index.stats().refused(Reason::OwnKey), 1);
    server.end().await;
}

#[tokio::test]
async fn bodies_are_bounded() {
    let limits = Limits { body_bytes: 400, line: 100, lines: 3, ..Limits::default() };
    let server = server(Guard::default(), limits).await;
    let stats = |reason| server.index.stats().refused(reason);
    let (status, _) = server.post("", &"x".repeat(101)).await;
    assert_eq!(
        (status.as_str(), stats(Reason::LineTooLong)),
        ("HTTP/1.1 413 Payload Too Large", 1)
    );
    let (_, body) = server.post("", &"{}\n".repeat(4)).await;
    assert!(body.contains("too many events; 3 lines before it were read"), "{body}");
    let (status, _) = server.post("", &format!("{}\n", " ".repeat(99)).repeat(5)).await;
    assert_eq!(
        (status.as_str(), stats(Reason::FrameTooLarge)),
        ("HTTP/1.1 413 Payload Too Large", 1)
    );
    server.end().await;
}

#[tokio::test]
async fn strangers_and_their_pages_are_refused() {
    let token = |text: &str| Token::new(text.as_bytes()).ok();
    let guard = Guard::default().with_tokens(token(SECRET), token("only-for-reading-1"));
    let server = server(guard, Limits::default()).await;
    let refused = async |path: &str, page: Option<&str>| {
        let mut request = server.request(path);
        if let Some(page) = page {
            request.headers_mut().insert("origin", page.parse().unwrap());
        }
        match timeout(PATIENCE, connect_async(request)).await.unwrap() {
            Err(tungstenite::Error::Http(answer)) => answer.status().as_u16(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused("/index", None).await, 401);
    assert_eq!(refused("/pubsub/index?token=wrong", None).await, 401);
    assert_eq!(refused(&format!("/index?token={SECRET}"), Some("https://evil.example")).await, 403);
    let mut socket = server.socket("/index?query=true&token=only-for-reading-1").await;
    assert_eq!(closed(&mut socket).await.code, CloseCode::Normal);
    let bearer = "Authorization: Bearer only-for-reading-1\r\n";
    assert_eq!(server.post(bearer, "{}").await.0, "HTTP/1.1 401 Unauthorized");
    let bearer = format!("Authorization: Bearer {SECRET}\r\n");
    assert_eq!(server.post(&bearer, "{}").await.0, "HTTP/1.1 200 OK");
    assert_eq!(server.index.stats().refused(Reason::BadToken), 3);
    assert_eq!(server.index.stats().refused(Reason::BadOrigin), 1);

    let open = plain().await;
    let answer = open.raw("GET /index HTTP/1.0\r\nHost: evil.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 403") && answer.contains("not a name of"), "{answer}");
    assert_eq!(open.index.stats().refused(Reason::BadHost), 1);
    let answer = open.raw("GET /nowhere HTTP/1.0\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 404") && answer.contains("/index?query="), "{answer}");
    let long = format!("GET /pubsub/{} HTTP/1.0\r\nHost: localhost\r\n\r\n", "x".repeat(65));
    let answer = open.raw(&long).await;
    assert!(answer.starts_with("HTTP/1.0 404") && answer.contains("`index` is one"), "{answer}");
    open.end().await;
    server.end().await;
}

#[tokio::test]
async fn connections_and_subscribers_are_bounded() {
    let few = index::Limits { subscribers: 1, ..index::Limits::default() };
    let limits = Limits { connections: 2, ..Limits::default() };
    let server = server_of(few, Guard::default(), limits).await;
    server.index.apply(Origin::Outside, vec![event("a", "x", 1)]);
    let mut first = server.socket("/index?query=true&subscribe=true").await;
    told(&mut first).await;
    let mut second = server.socket("/index?query=true&subscribe=true").await;
    let end = closed(&mut second).await;
    assert_eq!(
        (end.code, end.reason.as_str()),
        (CloseCode::Again, "there are already 1 subscriptions")
    );
    assert_eq!(server.index.stats().refused(Reason::TooManySubscribers), 1);
    drop(second);
    server.until_open(1).await;
    let _idle = TcpStream::connect(server.to).await.unwrap();
    server.until_open(2).await;
    let answer = server.raw("").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "a web socket is a connection: {answer}");
    assert_eq!(server.index.stats().refused(Reason::TooManyConnections), 1);
    // What the client says is listened to and means nothing.
    first.send(Message::Text("hello".into())).await.unwrap();
    first.close(None).await.unwrap();
    server.until_open(1).await;
    server.end().await;
}

#[tokio::test]
async fn a_subscriber_who_takes_nothing_is_cut_off() {
    let few = index::Limits { queue: 8, ..index::Limits::default() };
    let limits = Limits { write: Duration::from_millis(50), ..Limits::default() };
    let server = server_of(few, Guard::default(), limits).await;
    let mut socket = server.socket("/index?query=true&subscribe=true").await;
    server.index.apply(Origin::Outside, vec![event("a", "x", 1)]);
    told(&mut socket).await;
    // Not read from any more; the network's own buffers fill up at last.
    let long = event("a", "x", 2).attribute("long", "x".repeat(60_000));
    let stuff = async {
        while server.index.stats().open() > 0 {
            server.index.apply(Origin::Outside, vec![long.clone()]);
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, stuff).await.unwrap();
    assert_eq!(server.index.stats().refused(Reason::SlowReader), 1);
    assert!(server.index.stats().dropped.get() > 0, "its oldest were dropped, nobody waited");
    server.end().await;
}
