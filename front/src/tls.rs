//! Public TLS: which certificate answers for which name, and the handshake.
//!
//! A visitor that names no host, or one that nobody here has a certificate for, gets `unrecognized_name` and learns
//! nothing (hazard 43). What remains of a handshake is rustls' part: 1.2 and 1.3 only, no renegotiation, no
//! compression, no early data.

mod dev;
mod files;
mod folder;
mod hello;
mod issued;
mod names;
mod pem;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use causeway_daemon::tls::provider;
use causeway_daemon::watch::Watch;
use causeway_tunnel::{Host, Pattern};
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

pub use dev::{DevAuthority, DevError};
use files::Loaded;
#[cfg(test)]
pub use hello::tests::hello as said_by_client;
pub use hello::{Alert, Spoken, TlsHello};
pub use issued::Issued;
pub use names::Names;
pub use pem::{CertificateError, PemFiles, PemSources};

/// Certificates and what is needed to shake hands with them. Shared by all listeners of the process.
pub struct Tls {
    chooser: Arc<Chooser>,
    config: Arc<ServerConfig>,
    sources: ArcSwap<PemSources>,
    /// Of what was read last, for [`Tls::watch`] to take up.
    watch: Mutex<Watch>,
    /// That other files are to be watched.
    reloaded: Notify,
}

/// One certificate, ready to use.
#[derive(Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Arc<Names>,
}

/// A finished handshake.
pub(crate) struct Accepted<T> {
    pub stream: TlsStream<T>,
    pub sni: Arc<str>,
    /// The names of the certificate that was shown.
    pub names: Arc<Names>,
    pub is_h2: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("visitor named no host")]
    NoName,
    #[error("no certificate for that name")]
    UnknownName,
    #[error("handshake failed")]
    Failed(#[source] io::Error),
}

const H2: &[u8] = b"h2";
const HTTP_11: &[u8] = b"http/1.1";

impl Tls {
    /// Reads the certificate files. With `dev` names that are in none of them are signed on demand.
    ///
    /// # Errors
    /// When a file cannot be used: names it, and what is wrong with it.
    pub fn new(sources: impl Into<PemSources>, dev: Option<DevAuthority>) -> Result<Self, CertificateError> {
        let sources = sources.into();
        let (watch, table) = Loaded::read(&sources);
        let table = table?;
        let issued = Arc::new(Issued::default());
        let chooser = Arc::new(Chooser { table: ArcSwap::from_pointee(table), issued, dev });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("the provider has suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&chooser) as _);
        config.alpn_protocols = vec![H2.to_vec(), HTTP_11.to_vec()];
        // Without tickets sessions are resumed from a small cache: slower, and as safe. Keys rotate every six hours,
        // and rustls binds each ticket to its SNI (hazard 103).
        match rustls::crypto::aws_lc_rs::Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            Err(error) => tracing::warn!(%error, "cannot make keys for session tickets"),
        }
        Ok(Self {
            chooser,
            config: Arc::new(config),
            sources: ArcSwap::from_pointee(sources),
            watch: Mutex::new(watch),
            reloaded: Notify::new(),
        })
    }

    /// Reads other files from now on. On error nothing changes.
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn reload(&self, sources: impl Into<PemSources>) -> Result<(), CertificateError> {
        let sources = sources.into();
        let (watch, table) = Loaded::read(&sources);
        self.chooser.table.store(Arc::new(table?));
        self.sources.store(Arc::new(sources));
        *self.watch.lock() = watch;
        self.reloaded.notify_one();
        Ok(())
    }

    /// Reads the files again whenever they change, for ever. What is wrong is logged once, and the certificates that
    /// were read before stay.
    pub async fn watch(&self) {
        let mut watch = self.watch.lock().clone();
        loop {
            tokio::select! {
                () = watch.changed() => {}
                () = self.reloaded.notified() => {
                    watch = self.watch.lock().clone();
                    continue;
                }
            }
            let sources = self.sources.load_full();
            let read = tokio::task::spawn_blocking(move || (Loaded::read(&sources), sources)).await;
            let (next, table) = match read {
                Ok((read, sources)) if Arc::ptr_eq(&sources, &self.sources.load()) => read,
                Ok(_) => continue,
                Err(error) => {
                    tracing::error!(%error, "reading certificates failed");
                    continue;
                }
            };
            watch = next;
            match table {
                Ok(table) => {
                    self.chooser.table.store(Arc::new(table));
                    tracing::info!("certificates read again");
                }
                Err(error) => tracing::error!(
                    error = format_args!("{error:#}"),
                    "changed certificate files cannot be used: the old ones stay"
                ),
            }
        }
    }

    /// Whether there is a certificate for this name; of a wildcard, for one of its names at least.
    pub fn covers(&self, pattern: &Pattern) -> bool {
        let by_dev = |name: &str| self.chooser.dev.as_ref().is_some_and(|dev| dev.signs(name));
        self.files_cover(pattern)
            || self.chooser.issued.covers(pattern)
            || match pattern {
                Pattern::Any => self.chooser.dev.is_some(),
                Pattern::Exact(name) => by_dev(name),
                Pattern::Wildcard(suffix) => by_dev(&format!("any.{suffix}")),
            }
    }

    /// [`Tls::covers`], by a file of the configuration.
    pub fn files_cover(&self, pattern: &Pattern) -> bool {
        self.chooser.table.load().covers(pattern)
    }

    /// The names that files are good for, and when those end that are shown, in Unix seconds.
    pub fn ends_of_files(&self) -> BTreeMap<String, i64> {
        self.chooser.table.load().ends()
    }

    /// Where certificates go that were ordered.
    pub fn issued(&self) -> Arc<Issued> {
        Arc::clone(&self.chooser.issued)
    }

    /// What is shown to whom, for handshakes that are shaken elsewhere.
    pub fn certificates(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.chooser) as _
    }

    /// The names of the certificate that is shown for this one.
    pub fn names(&self, name: &Host) -> Option<Arc<Names>> {
        self.chooser.choose(name).map(|certificate| Arc::clone(&certificate.names))
    }

    /// Shakes hands with a visitor who has said hello. Give it a deadline: it waits for him. Not cancel safe.
    pub(crate) async fn accept<T>(&self, hello: TlsHello, mut io: T) -> Result<Accepted<T>, HandshakeError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let TlsHello { accepted, bytes } = hello;
        drop(bytes);
        let name = accepted.client_hello().server_name().map(Host::name);
        let known = match name {
            None => Err(HandshakeError::NoName),
            Some(Err(_)) => Err(HandshakeError::UnknownName),
            Some(Ok(name)) => match self.chooser.choose(&name) {
                Some(certificate) => Ok((name, certificate)),
                None => Err(HandshakeError::UnknownName),
            },
        };
        let (name, certificate) = match known {
            Ok(known) => known,
            Err(error) => {
                Alert::UnrecognizedName.send(&mut io).await;
                return Err(error);
            }
        };
        let start = StartHandshake::from_parts(*accepted, io);
        let stream = start.into_stream(Arc::clone(&self.config)).await.map_err(HandshakeError::Failed)?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        Ok(Accepted { stream, sni: Arc::clone(name.shared()), names: Arc::clone(&certificate.names), is_h2 })
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("sources", &self.sources.load()).finish_non_exhaustive()
    }
}

/// Finds the certificate for a name.
#[derive(Debug)]
struct Chooser {
    table: ArcSwap<Loaded>,
    issued: Arc<Issued>,
    dev: Option<DevAuthority>,
}

impl Chooser {
    /// What somebody put there by hand comes first.
    fn choose(&self, name: &Host) -> Option<Arc<Certificate>> {
        let listed = self.table.load().find(name).or_else(|| self.issued.find(name));
        listed.or_else(|| self.dev.as_ref().and_then(|dev| dev.certificate(name)))
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = Host::name(hello.server_name()?).ok()?;
        self.choose(&name).map(|certificate| Arc::clone(&certificate.key))
    }
}

#[cfg(test)]
mod tests;
