//! TLS by rustls: certificate and key from files in PEM.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sealift::{Error, ErrorKind, Result};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// What takes TLS connections with the certificate of `tls`.
pub(super) fn acceptor(tls: &Tls) -> Result<TlsAcceptor> {
    let invalid = |path: &Path, why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::InvalidInput, format!("TLS cannot use {}: {why}", path.display()))
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| invalid(&tls.certificate, &error))?;
    if certificates.is_empty() {
        return Err(invalid(&tls.certificate, &"there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| invalid(&tls.key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, "TLS has no protocol version").with_source(error))?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| invalid(&tls.certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
