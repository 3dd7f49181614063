//! The probes against small servers that answer as the protocols' documents
//! say: Plex among them, which has no free package that could be installed.

use tokio_rustls::TlsAcceptor;

use super::*;
use crate::ask::view::LayerView;
use crate::config::{Greets, Port};
use crate::host::run::{Exit, Output};
use crate::media::probes::{greeting, nfs, plex};

const DAY: Duration = Duration::from_secs(86_400);

fn port(to: SocketAddr) -> Port {
    Port { to, tls: false, name: None }
}

fn layer<'a>(view: &'a ServiceView, name: &str) -> &'a LayerView {
    let found = view.layers.iter().find(|layer| layer.name == name);
    found.unwrap_or_else(|| panic!("no layer {name}: {view:?}"))
}

fn shown(view: &ServiceView) -> Vec<(&str, Severity)> {
    view.layers.iter().map(|layer| (layer.name.as_str(), layer.health)).collect()
}

/// A server that speaks first, and then waits until its client has left.
async fn welcomes(words: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(words).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    to
}

/// A web server with these pages: path, status and body.
async fn pages(pages: Vec<(&'static str, &'static str, String)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = vec![0; 2048];
            let count = stream.read(&mut asked).await.unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..count]).into_owned();
            let path = asked.split(' ').nth(1).unwrap_or_default();
            let page = pages.iter().find(|(of, ..)| *of == path);
            let (status, body) = page.map_or(("404 Not Found", ""), |(_, s, b)| (*s, b.as_str()));
            let secret = matches!(path, plex::SECTIONS | plex::SESSIONS);
            let status = if secret && !asked.contains("X-Plex-Token: abc\r\n") {
                "401 Unauthorized"
            } else {
                status
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + body).as_bytes()).await;
        }
    });
    to
}

#[tokio::test]
async fn greetings_are_told_from_silence_and_strangers() {
    let lab = Lab::new();
    for kind in greeting::tests::ALL {
        let ask = |to| once(lab.fake.host(), service("mail", Probe::Greeting(kind, port(to))));
        let view = ask(welcomes(greeting::tests::good(kind)).await).await;
        assert_eq!((view.health, view.layer.as_str()), (Severity::Ok, "protocol"), "{view:?}");
        assert!(view.message.starts_with("answers "), "{view:?}");
        let view = ask(welcomes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await;
        assert_eq!((view.health, view.layer.as_str()), (Severity::Critical, "protocol"));
        assert!(view.message.contains("does not speak"), "{view:?}");
    }
    let (_open, to) = stopped().await;
    let view =
        once(lab.fake.host(), service("mail", Probe::Greeting(Greets::Smtp, port(to)))).await;
    assert!(view.message.contains("says no SMTP"), "{view:?}");
    assert_eq!(shown(&view), [("connect", Severity::Ok), ("protocol", Severity::Critical)]);
}

#[tokio::test]
async fn layers_above_a_failure_are_not_reached() {
    let lab = Lab::new();
    let token_file = Some("/etc/hostd/plex.token".into());
    let to = nobody().await;
    let view =
        once(lab.fake.host(), service("plex", Probe::Plex { port: port(to), token_file })).await;
    assert_eq!(view.layer, "connect");
    let expected = [
        ("connect", Severity::Critical),
        ("protocol", Severity::Unknown),
        ("library", Severity::Unknown),
    ];
    assert_eq!(shown(&view), expected);
    assert_eq!(layer(&view, "library").message, "not reached");
}

#[tokio::test]
async fn pages_are_judged_by_status_and_text() {
    let lab = Lab::new();
    let to = pages(vec![
        ("/health", "200 OK", "all healthy".into()),
        ("/old", "302 Found\r\nLocation: /new", String::new()),
    ])
    .await;
    let ask = async |page: &str, expect: Option<&str>| {
        let (page, expect) = (page.to_owned(), expect.map(str::to_owned));
        once(lab.fake.host(), service("web", Probe::Http { port: port(to), page, expect })).await
    };
    let good = ask("/health", Some("healthy")).await;
    assert_eq!((good.health, good.message.as_str()), (Severity::Ok, "answers HTTP 200"));
    let other = ask("/health", Some("sick")).await;
    assert!(other.message.ends_with("its page does not say \"sick\""), "{other:?}");
    assert!(ask("/gone", None).await.message.ends_with("HTTP status 404 Not Found"));
    assert!(ask("/old", None).await.message.ends_with("302 Found, sent on to /new"));
}

#[tokio::test]
async fn plex_tells_its_sessions_and_libraries() {
    let lab = Lab::new();
    let identity = || ("/identity", "200 OK", plex::tests::IDENTITY_REPLY.to_owned());
    let ready = pages(vec![
        identity(),
        (plex::SESSIONS, "200 OK", plex::tests::SESSIONS_REPLY.to_owned()),
        (plex::SECTIONS, "200 OK", plex::tests::SECTIONS_REPLY.to_owned()),
    ])
    .await;
    let ask = async |to, token: bool| {
        let token_file = token.then(|| "/etc/plex.token".into());
        once(lab.real(), service("plex", Probe::Plex { port: port(to), token_file })).await
    };
    let view = ask(ready, false).await;
    assert_eq!((view.health, view.sessions), (Severity::Ok, None), "{view:?}");
    let view = ask(ready, true).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Unknown, "library"), "{view:?}");
    lab.fake.file("/etc/plex.token", "wrong\n").unwrap();
    assert!(ask(ready, true).await.message.contains("does not take the token"));
    lab.fake.file("/etc/plex.token", "abc\n").unwrap();
    lab.fake.host().sys.replace("/etc/plex.token", b"abc\n", 0o600).unwrap();
    for folder in ["/tank/media/movies", "/tank/more"] {
        lab.fake.dir(folder).unwrap();
    }
    let view = ask(ready, true).await;
    // Of its three folders one is not there: Plex itself says nothing of it.
    assert_eq!((view.health, view.layer.as_str()), (Severity::Critical, "share"), "{view:?}");
    assert_eq!(view.message, "share TV: /tank/media/tv does not exist");
    assert_eq!((view.sessions, view.shares.len()), (Some(2), 3));
    assert!(layer(&view, "library").message.starts_with("2 libraries, 2 sessions, scanning TV"));
    lab.fake.dir("/tank/media/tv").unwrap();
    assert_eq!(ask(ready, true).await.health, Severity::Ok);
    lab.fake.host().sys.replace("/etc/plex.token", b"abc\n", 0o644).unwrap();
    let view = ask(ready, true).await;
    assert!(view.health == Severity::Warning && view.message.contains("everybody"), "{view:?}");
    let loading = pages(vec![
        identity(),
        (plex::SESSIONS, "503 Maintenance", String::new()),
        (plex::SECTIONS, "503 Maintenance", String::new()),
    ])
    .await;
    let view = ask(loading, true).await;
    assert_eq!(
        (view.health, view.message.as_str()),
        (Severity::Warning, "the library still loads")
    );
}

#[tokio::test]
async fn nfs_is_asked_for_each_version() {
    let lab = Lab::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    // Only version 3 is served here.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; nfs::REQUEST];
            while stream.read_exact(&mut asked).await.is_ok() {
                let xid = u32::from_be_bytes(asked[4..8].try_into().unwrap());
                let words: &[u32] =
                    if asked[23] == 3 { &[1, 0, 0, 0, 0] } else { &[1, 0, 0, 0, 2, 3, 3] };
                let _ = stream.write_all(&nfs::tests::reply(xid, words)).await;
            }
        }
    });
    let view = once(lab.fake.host(), service("nfs", Probe::Nfs(to))).await;
    assert_eq!((view.health, view.message.as_str()), (Severity::Ok, "answers NFS 3"));
    let (_open, to) = stopped().await;
    let view = once(lab.fake.host(), service("nfs", Probe::Nfs(to))).await;
    assert!(view.message.contains("says no NFS"), "{view:?}");
}

/// A server whose certificate, made for this test, ends on 20 November 2036.
async fn shakes_hands() -> SocketAddr {
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(include_bytes!("key.der").to_vec());
    let chain = vec![include_bytes!("certificate.der").to_vec().into()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.write_all(b"* OK ready\r\n").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    to
}

#[tokio::test]
async fn certificates_are_judged_by_their_end_and_name() {
    let lab = Lab::new();
    let to = shakes_hands().await;
    let ask = async |name: Option<&str>| {
        let port = Port { to, tls: true, name: name.map(str::to_owned) };
        once(lab.fake.host(), service("imaps", Probe::Greeting(Greets::Imap, port))).await
    };
    lab.fake.clock.advance(DAY * 30);
    let view = ask(Some("nas.home.arpa")).await;
    assert_eq!(view.health, Severity::Ok, "{view:?}");
    assert!(view.message.starts_with("its certificate for nas.home.arpa is good for "), "{view:?}");
    assert!(view.message.ends_with("answers IMAP: OK ready"), "{view:?}");
    let view = ask(Some("other.home.arpa")).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Warning, "tls"), "{view:?}");
    for (days, severity, says) in [
        (3614, Severity::Warning, "is good for 10 more days"),
        (8, Severity::Critical, "is good for 2 more days"),
        (5, Severity::Critical, "has expired"),
    ] {
        lab.fake.clock.advance(DAY * days);
        let view = ask(None).await;
        assert_eq!((view.health, view.layer.as_str()), (severity, "tls"), "{view:?}");
        assert!(view.message.contains(says), "{view:?}");
    }
    // Who speaks no TLS is told, and so is who says nothing.
    let tls = |to| Probe::Tls(Port { to, tls: true, name: None });
    let view = once(lab.fake.host(), service("tls", tls(says(b"no\r\n".to_vec()).await))).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Critical, "tls"), "{view:?}");
    let (_open, silent) = stopped().await;
    let view = once(lab.fake.host(), service("tls", tls(silent))).await;
    assert!(view.layer == "tls" && view.message.contains("says no TLS"), "{view:?}");
}

#[tokio::test]
async fn a_plugin_is_taken_at_its_word() {
    let lab = Lab::new();
    let ask = async |script: &str| {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        once(lab.real(), service("plugin", Probe::Command { argv, user: None })).await
    };
    let view = ask("echo 'LOAD WARNING - 5.1 | load1=5.1;4;8 b=2s'; exit 1").await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Warning, "command"), "{view:?}");
    assert_eq!((view.message.as_str(), view.value), ("LOAD WARNING - 5.1", Some(5.1)));
    assert_eq!(view.values["b"], "2s");
    assert_eq!(ask("echo gone; exit 2").await.health, Severity::Critical);
    assert_eq!(ask("exec sleep 60").await.health, Severity::Critical);
    let argv = vec!["/no/such/plugin".to_owned()];
    let view = once(lab.real(), service("plugin", Probe::Command { argv, user: None })).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Unknown, "command"), "{view:?}");
}

#[tokio::test]
async fn a_stopped_process_is_named() {
    let lab = Lab::new();
    let group = "/sys/fs/cgroup/system.slice/smbd.service/cgroup.procs";
    lab.fake.file(group, "812\n").unwrap();
    lab.fake.file("/proc/812/stat", "812 (smbd) T 1 812\n").unwrap();
    let (_open, to) = stopped().await;
    let smb = Service { unit: Some("smbd.service".into()), ..service("smb", Probe::Smb(to)) };
    let view = once(lab.fake.host(), smb).await;
    assert!(view.message.ends_with("smbd (process 812) is stopped (SIGSTOP)"), "{view:?}");
    assert_eq!(view.advice, "`kill -CONT 812`");
}

const ROOT: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
const TANK: &str = "31 22 0:41 / /tank/media rw - zfs tank/media rw\n";

#[tokio::test]
async fn unmounted_and_read_only_folders_are_told() {
    let lab = Lab::new();
    lab.fake.dir("/tank/media/films").unwrap();
    let media = Service { path: Some("/tank/media/films".into()), ..service("media", Probe::None) };
    let fixed = Service {
        mount: Some("/tank/media".into()),
        name: "fixed".parse().unwrap(),
        ..media.clone()
    };
    let mut observer = Observer::new(lab.real(), vec![media, fixed]);
    let mut at = async |mounts: &str| {
        lab.fake.file("/proc/1/mountinfo", mounts).unwrap();
        lab.fake.clock.advance(Duration::from_secs(31));
        let services = observer.settled().await.services;
        let told = |at: usize| (services[at].health, services[at].message.clone());
        (told(0), told(1))
    };
    let (fixed, media) = at(ROOT).await;
    assert_eq!((fixed.0, media.0), (Severity::Critical, Severity::Ok));
    assert!(fixed.1.starts_with("/tank/media is not mounted"), "{fixed:?}");
    let (fixed, media) = at(&format!("{ROOT}{TANK}")).await;
    assert_eq!((fixed.0, media.0), (Severity::Ok, Severity::Ok));
    let (fixed, media) = at(ROOT).await;
    assert_eq!((fixed.0, media.0), (Severity::Critical, Severity::Critical));
    assert_eq!(
        media.1,
        "tank/media (zfs) is no longer mounted on /tank/media: /tank/media/films now lies on /"
    );
    let (_, media) = at(&format!("{ROOT}{}", TANK.replace("media rw\n", "media ro\n"))).await;
    assert!(media.0 == Severity::Critical && media.1.contains("read-only"), "{media:?}");
}

#[tokio::test]
async fn a_full_file_system_is_told() {
    let lab = Lab::new();
    lab.fake.dir("/tank/media").unwrap();
    let place = lab.fake.host().sys.path("/tank/media").display().to_string();
    for (free, inodes, severity) in [
        ("900 0 0", "", Severity::Ok),
        ("40 0 0", "", Severity::Warning),
        ("5 0 0", "", Severity::Critical),
        ("900 1000 1", " of its inodes", Severity::Critical),
    ] {
        let lab = Lab { dir: tempfile::tempdir().unwrap(), fake: FakeHost::new(lab.dir.path()) };
        lab.fake.runner.says("find", "");
        lab.fake.runner.says("stat -f", format!("1000 {free} {place}\0"));
        let media = Service { path: Some("/tank/media".into()), ..service("media", Probe::None) };
        let view = once(lab.fake.host(), media).await;
        assert_eq!((view.health, view.layer.as_str()), (severity, "path"), "{view:?}");
        assert!(view.message.ends_with(inodes), "{view:?}");
    }
}

#[tokio::test]
async fn the_shares_of_this_machine_are_looked_at() {
    let lab = Lab::new();
    let conf = "[global]\ninclude = /etc/samba/more.conf\n[films]\npath = /tank/films\n\
                [users]\npath = /tank/users/%U\n[music]\npath = /tank/music\n";
    lab.fake.file("/etc/samba/smb.conf", conf).unwrap();
    lab.fake.dir("/tank/films").unwrap();
    lab.fake.dir("/tank/music").unwrap();
    let to = says(smb_reply()).await;
    let view = once(lab.real(), service("smb", Probe::Smb(to))).await;
    assert_eq!((view.health, view.shares.len()), (Severity::Ok, 3), "{view:?}");
    let told = &layer(&view, "share").message;
    assert_eq!(told, "the folders of 2 shares are there; `include` is not followed");
    lab.fake.remove("/tank/music").unwrap();
    lab.fake.file("/tank/music", "").unwrap();
    let view = once(lab.real(), service("smb", Probe::Smb(to))).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Critical, "share"));
    assert_eq!(view.message, "share music: /tank/music is not a folder");
}

#[tokio::test]
async fn each_layer_knows_since_when() {
    let lab = Lab::new();
    let once_missing = |command: &Command| {
        let missing = command.args.first()?.to_string_lossy().contains("/tank/gone");
        let stderr = b"find: 'x': No such file or directory\n".to_vec();
        missing.then(|| Ok(Output { exit: Exit::Code(1), stdout: Vec::new(), stderr }))
    };
    lab.fake.runner.on(once_missing);
    let to = says(smb_reply()).await;
    let media = Service { path: Some("/tank/gone".into()), ..service("media", Probe::Smb(to)) };
    let mut observer = Observer::new(lab.fake.host(), vec![media]);
    let first = observer.settled().await.services.remove(0);
    lab.fake.clock.advance(Duration::from_secs(31));
    let second = observer.settled().await.services.remove(0);
    assert_eq!(shown(&second)[1..], [("protocol", Severity::Ok), ("path", Severity::Critical)]);
    assert_eq!(layer(&second, "path").since, layer(&first, "path").since);
    assert!(second.latency.is_some());
}
