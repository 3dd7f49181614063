//! A TLS handshake that takes any certificate and shows it.
//!
//! A home server's certificate is often its own authority's or nobody's, and
//! the question here is whether it will still be good next week. So the chain
//! is not judged; that the server has the key of what it shows is.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::x509::{self, Certificate};
use crate::host::dial::Stream;

#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn settings() -> Result<Arc<ClientConfig>, String> {
    static MADE: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = versions
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any(provider)))
            .with_no_client_auth();
        // Each probe sees the certificate anew; a resumed session shows the old one.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    })
    .clone()
}

/// Why there is no TLS.
#[derive(Debug)]
pub enum Broken {
    /// The connection broke.
    Io,
    /// What is there speaks no TLS that we do.
    Not(String),
}

/// Shakes hands over `stream` with `host`, a name or an address.
pub async fn shake(
    stream: Box<dyn Stream>,
    host: &str,
) -> Result<(Box<dyn Stream>, Option<Certificate>), Broken> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Broken::Not(format!("{host} is no name of a server")))?;
    let connector = TlsConnector::from(settings().map_err(Broken::Not)?);
    let stream = connector.connect(name, stream).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Broken::Not(error.to_string()),
        _ => Broken::Io,
    })?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.and_then(|der| x509::read(der));
    Ok((Box::new(stream), certificate))
}
