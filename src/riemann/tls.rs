//! TLS for the servers: certificates from PEM to an acceptor, and its handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, server::VerifierBuilderError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::End;
use super::stats::Reason;

/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not PEM, or not of what it should be.
    #[error("{what} cannot be read as PEM")]
    Pem {
        /// Which file.
        what: &'static str,
        /// In what way.
        source: pem::Error,
    },
    /// A file without any.
    #[error("{0} holds no certificate")]
    Empty(&'static str),
    /// The certificate and the key.
    #[error("the certificate and its key cannot be used")]
    Pair(#[source] rustls::Error),
    /// The issuers of clients.
    #[error("the certificates of `client-ca` cannot be used")]
    Issuers(#[source] rustls::Error),
    /// The same.
    #[error("the certificates of `client-ca` cannot be used")]
    Verifier(#[from] VerifierBuilderError),
}

/// An acceptor; with `client_ca`, clients must have a certificate from there.
pub fn acceptor(
    certificate: &[u8],
    key: &[u8],
    client_ca: Option<&[u8]>,
) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates("`certificate`", certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|source| TlsError::Pem { what: "`key`", source })?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(issuers) => {
            let mut roots = RootCertStore::empty();
            for issuer in certificates("`client-ca`", issuers)? {
                roots.add(issuer).map_err(TlsError::Issuers)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(what: &'static str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|source| TlsError::Pem { what, source })?;
    if all.is_empty() { Err(TlsError::Empty(what)) } else { Ok(all) }
}

/// Shakes hands within its time.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    acceptor: &TlsAcceptor,
    stream: S,
) -> Result<TlsStream<S>, End> {
    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        // Who connects and goes away again has only looked.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(End::Lost(error)),
        Ok(Err(_)) | Err(_) => Err(End::Refused(Reason::Handshake)),
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
