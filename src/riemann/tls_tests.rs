//! The TLS server with a client's certificate, without, and with a stranger's.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::base::{Event, Metric};
use crate::host::clock::RealClock;
use crate::riemann::index::{self, Index};
use crate::riemann::tcp::{self, Entrance};
use crate::riemann::wire;

const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a name, and its key.
    fn signs(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

struct Running {
    authority: Authority,
    index: Index,
    to: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn server() -> Running {
    let authority = Authority::new();
    let (certificate, key) = authority.signs("localhost");
    let issuers = Some(authority.pem.as_bytes());
    let acceptor = acceptor(certificate.as_bytes(), key.as_bytes(), issuers).unwrap();
    let index = Index::new(index::Limits::default(), Arc::new(RealClock));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let entrance = Entrance::Tls(acceptor);
    let limits = tcp::Limits::default();
    let task = tokio::spawn(tcp::run_behind(listener, index.clone(), limits, entrance, async {
        let _ = stopped.await;
    }));
    Running { authority, index, to, stop, task }
}

impl Running {
    /// Asks after sending an event; what comes back until the end.
    async fn exchange(&self, client: Option<(String, String)>) -> io::Result<Vec<u8>> {
        let mut roots = RootCertStore::empty();
        for root in certificates("", self.authority.pem.as_bytes()).unwrap() {
            roots.add(root).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("", certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.to).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let event = Event { service: Some("x".into()), ..Event::default() };
        let event = wire::events([&event.metric(Metric::Int(7))]);
        for message in [event, wire::query("metric = 7")] {
            stream.write_all(&wire::framed(&message, usize::MAX).unwrap()).await?;
        }
        let mut said = vec![0; wire::ACK.len()];
        stream.read_exact(&mut said).await?;
        let more = stream.read_u32().await?;
        let mut answer = vec![0; more as usize];
        stream.read_exact(&mut answer).await?;
        stream.shutdown().await?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await?;
        assert_eq!(rest, b"", "and its end is said");
        Ok(answer)
    }

    async fn end(self) {
        drop(self.stop);
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_has_a_certificate_comes_in() {
    let server = server().await;
    let client = server.authority.signs("client");
    let answer = timeout(PATIENCE, server.exchange(Some(client))).await.unwrap().unwrap();
    let answer = crate::riemann::decode::message(
        &answer,
        server.index.now(),
        &crate::riemann::decode::Caps::default(),
    )
    .unwrap();
    assert_eq!((answer.ok, answer.events.len()), (Some(true), 1));
    assert_eq!(answer.events[0].metric, Some(Metric::Int(7)));
    server.end().await;
}

#[tokio::test]
async fn nobody_else_does() {
    let server = server().await;
    let stranger = Authority::new().signs("client");
    for client in [None, Some(stranger)] {
        let refused = timeout(PATIENCE, server.exchange(client)).await.unwrap();
        assert!(refused.is_err());
    }
    let mut plain = TcpStream::connect(server.to).await.unwrap();
    plain.write_all(&[0, 0, 0, 0]).await.unwrap();
    let mut said = Vec::new();
    // The connection may be reset instead.
    let _ = timeout(PATIENCE, plain.read_to_end(&mut said)).await.unwrap();
    let counted = async {
        while server.index.stats().refused(Reason::Handshake) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap();
    assert_eq!(server.index.size().0, 0);
    server.end().await;
}

#[test]
fn wrong_files_are_told_apart() {
    let authority = Authority::new();
    let (certificate, key) = authority.signs("localhost");
    let other = authority.signs("localhost").1;
    let why = |certificate: &str, key: &str, issuers: Option<&str>| {
        let made = acceptor(certificate.as_bytes(), key.as_bytes(), issuers.map(str::as_bytes));
        made.err().map(|error| error.to_string())
    };
    assert_eq!(why(&certificate, &key, None), None);
    assert_eq!(why("", &key, None).unwrap(), "`certificate` holds no certificate");
    assert_eq!(why(&certificate, "x", None).unwrap(), "`key` cannot be read as PEM");
    let pair = "the certificate and its key cannot be used";
    assert_eq!(why(&certificate, &other, None).unwrap(), pair);
    assert_eq!(why(&certificate, &key, Some("")).unwrap(), "`client-ca` holds no certificate");
}
