//! The edge's public side, as visitors reach it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub struct Entrance {
    https: SocketAddr,
    tls: TlsConnector,
}

impl Entrance {
    /// Of the edge at this address, whose development authority is in `folder`.
    pub fn new(https: SocketAddr, folder: &Path) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        for root in
            CertificateDer::pem_file_iter(folder.join("dev-ca.pem")).expect("the development authority")
        {
            roots.add(root.expect("PEM")).expect("an authority");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { https, tls: TlsConnector::from(Arc::new(config)) }
    }

    /// A visitor's connection that speaks HTTP/2.
    pub async fn visit(&self, host: &'static str) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.https).await.expect("the edge listens");
        let name = ServerName::try_from(host).expect("a name");
        self.tls.connect(name, tcp).await.expect("the edge has a certificate for it")
    }
}
