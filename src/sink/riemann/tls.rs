//! TLS to a receiver: its certificate must be signed by the one that is
//! configured, and it may ask for ours. The files are read at each connection,
//! so that renewed ones need no restart.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Broken;
use crate::config::{Sink, UpstreamTls};
use crate::host::SysRoot;
use crate::host::dial::Stream;

/// Longest file.
const LIMIT: u64 = 1 << 20;

/// Shakes hands.
pub(super) async fn shake(
    stream: Box<dyn Stream>,
    files: &UpstreamTls,
    sys: &SysRoot,
    sink: &Sink,
) -> Result<Box<dyn Stream>, Broken> {
    let (own, sys) = (files.clone(), sys.clone());
    let read = spawn_blocking(move || settings(&own, &sys)).await;
    let config = read.map_err(|error| Broken::Tls(error.to_string()))?.map_err(Broken::Tls)?;
    let name = match &files.server_name {
        None => ServerName::IpAddress(sink.address.ip().into()),
        Some(name) => ServerName::try_from(name.clone())
            .map_err(|_| Broken::Tls(format!("{name} is no name of a server")))?,
    };
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match timeout(sink.deadline, shaken).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(Broken::Tls(error.to_string())),
        Err(_) => Err(Broken::Tls(format!("no handshake within {:?}", sink.deadline))),
    }
}

/// What the files say.
fn settings(files: &UpstreamTls, sys: &SysRoot) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca, sys)? {
        roots.add(certificate).map_err(|error| wrong(&files.ca, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &files.identity else {
        return Ok(config.with_no_client_auth());
    };
    let chain = certificates(certificate, sys)?;
    let secret = PrivateKeyDer::from_pem_slice(&bytes(key, sys)?)
        .map_err(|_| format!("{} has no private key in PEM", key.display()))?;
    config.with_client_auth_cert(chain, secret).map_err(|error| wrong(certificate, &error))
}

fn wrong(path: &Path, error: &rustls::Error) -> String {
    format!("{}: {error}", path.display())
}

fn bytes(path: &Path, sys: &SysRoot) -> Result<Vec<u8>, String> {
    sys.bytes(path, LIMIT).map_err(|error| super::chain(&error))
}

fn certificates(path: &Path, sys: &SysRoot) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = bytes(path, sys)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let none = || format!("{} has no certificate in PEM", path.display());
    found.ok().filter(|found| !found.is_empty()).ok_or_else(none)
}
