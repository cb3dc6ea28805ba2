//! What a connection to the API server needs: its address, whom to know it by, and whom it knows us as.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use causeway_daemon::config::Secret;
use causeway_daemon::tls::provider;
use http::{HeaderValue, Uri};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// Why there is no way to the API server, with the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct AccessError(pub(super) String);

/// The API server.
#[derive(Debug)]
pub(super) struct Server {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    prefix: String,
    /// None: it speaks no TLS.
    name: Option<ServerName<'static>>,
    /// PEM. None: the system's authorities.
    authority: Option<Vec<u8>>,
}

/// Whom it knows us as.
pub(super) enum Identity {
    Token(Secret),
    TokenFile(PathBuf),
    /// Both PEM.
    Certificate {
        chain: Vec<u8>,
        key: Vec<u8>,
    },
    Nobody,
}

/// All that a connection needs.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) server: Server,
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(super) authorization: Option<HeaderValue>,
}

impl Access {
    /// # Errors
    /// When a token, an authority or a certificate cannot be used.
    pub(super) fn new(server: Server, identity: &Identity) -> Result<Self, AccessError> {
        let authorization = identity.authorization()?;
        let tls = server.tls(identity)?;
        Ok(Self { server, tls, authorization })
    }
}

impl Server {
    pub(super) fn parse(text: &str, authority: Option<Vec<u8>>, name: Option<&str>) -> Result<Self, String> {
        let odd = || format!("`{text}` is not an address: write it as in https://10.0.0.1:6443");
        let uri: Uri = text.parse().map_err(|_| odd())?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(odd()),
        };
        let (Some(written), Some(host)) = (uri.authority(), uri.host().filter(|host| !host.is_empty()))
        else {
            return Err(odd());
        };
        let port = match uri.port_u16() {
            // What there is beside the host is the port, and nothing else.
            Some(port) if written.as_str() == format!("{host}:{port}") => port,
            None if written.as_str() == host => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            _ => return Err(odd()),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !is_tls && !is_here {
            return Err(format!(
                "`{text}` speaks no TLS: write https://, or the address of a `kubectl proxy` on this machine"
            ));
        }
        let name = name.unwrap_or(&host).to_owned();
        let name = match is_tls {
            true => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| format!("`{name}` cannot be a name in TLS"))?,
            ),
            false => None,
        };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port, prefix, name, authority })
    }

    /// For people, and to know it again.
    pub(super) fn shown(&self) -> String {
        let scheme = if self.is_plain() { "http" } else { "https" };
        match self.host.parse::<Ipv6Addr>() {
            Ok(ip) => format!("{scheme}://[{ip}]:{}", self.port),
            Err(_) => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }

    /// What paths begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn is_plain(&self) -> bool {
        self.name.is_none()
    }

    /// Whether it is this machine, or what is forwarded from it.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    fn tls(
        &self,
        identity: &Identity,
    ) -> Result<Option<(Arc<ClientConfig>, ServerName<'static>)>, AccessError> {
        let Some(name) = self.name.clone() else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        match &self.authority {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let unusable = |error: &dyn std::fmt::Display| {
                        AccessError(format!("the API server's authority cannot be used: {error}"))
                    };
                    let certificate = certificate.map_err(|error| unusable(&error))?;
                    roots.add(certificate).map_err(|error| unusable(&error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(AccessError(
                "there is no authority to know the API server by: the kubeconfig wants `certificate-authority`".to_owned(),
            ));
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .with_root_certificates(roots);
        let mut config = match identity {
            Identity::Certificate { chain, key } => {
                let unusable = |error: &dyn std::fmt::Display| {
                    AccessError(format!("the kubeconfig's client certificate cannot be used: {error}"))
                };
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let chain = chain.map_err(|error| unusable(&error))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(&error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some((Arc::new(config), name)))
    }
}

impl Identity {
    fn authorization(&self) -> Result<Option<HeaderValue>, AccessError> {
        let token = match self {
            Self::Token(token) => token.clone(),
            Self::TokenFile(path) => {
                // Not by `Secret::from_file`, which warns of what the kubelet mounts readable to all, at each connection.
                let text = std::fs::read_to_string(path).map_err(|error| {
                    AccessError(format!("cannot read the token in {}: {error}", path.display()))
                })?;
                Secret::written(&text)
            }
            Self::Certificate { .. } | Self::Nobody => return Ok(None),
        };
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| AccessError("the API server's token has signs that no token has".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_certificate_is_taken() {
        let made = rcgen::generate_simple_self_signed(vec!["me".to_owned()]).unwrap();
        let authority = Some(made.cert.pem().into_bytes());
        let server = Server::parse("https://10.0.0.1:6443", authority, Some("kubernetes")).unwrap();
        let (chain, key) = (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes());
        let (_, name) = server.tls(&Identity::Certificate { chain: chain.clone(), key }).unwrap().unwrap();
        assert_eq!(name.to_str(), "kubernetes");
        let error = server.tls(&Identity::Certificate { chain, key: b"none".to_vec() }).unwrap_err();
        assert!(error.to_string().contains("client certificate"), "{error}");
        let none = Server::parse("https://10.0.0.1", Some(b"none".to_vec()), None).unwrap();
        assert!(none.tls(&Identity::Nobody).unwrap_err().to_string().contains("certificate-authority"));
    }
}
