//! TLS for visitors: trusts the edge's development authority and nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

/// What visitors need to know of an edge.
pub trait Entrance {
    fn https(&self) -> SocketAddr;

    /// Where HTTP/3 is spoken, over UDP: by most on the port of the same number.
    fn http3(&self) -> SocketAddr {
        self.https()
    }

    /// The certificate authority that visitors must trust.
    fn ca(&self) -> PathBuf;
}

/// A client's configuration that trusts one PEM file and offers these protocols.
///
/// # Panics
/// When the file holds no certificate.
pub fn client_config(ca: &Path, alpn: &[&str]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(ca).unwrap_or_else(|error| panic!("{}: {error}", ca.display()))
    {
        roots.add(cert.expect("a PEM certificate")).expect("a certificate that rustls takes");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Connects and shakes hands.
///
/// # Errors
/// When the other side refuses.
pub async fn connect(
    addr: SocketAddr,
    ca: &Path,
    name: &str,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_from(ANY_SOURCE, addr, ca, name, alpn).await
}

/// The system chooses.
const ANY_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// [`connect`] from an address of this machine: any of 127.0.0.0/8 is one, so that a test has visitors of several households.
///
/// # Errors
/// As [`connect`].
pub async fn connect_from(
    source: IpAddr,
    addr: SocketAddr,
    ca: &Path,
    name: &str,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let tcp = socket.connect(addr).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    tokio_rustls::TlsConnector::from(client_config(ca, alpn)).connect(name, tcp).await
}
