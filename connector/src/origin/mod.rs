//! Origins: where the rules lead, and the connections that are kept to them.

mod connect;
mod h1;
mod h2;
mod io;
pub(crate) mod server_name;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use causeway_daemon::drain::Drain;
use parking_lot::Mutex;

use crate::config::OriginSettings;
use crate::service::Service;

pub(crate) use connect::Alpn;
pub use connect::{ConnectError, Guard};
pub(crate) use h1::{H1, poll_incoming};
pub(crate) use h2::{Download, H2, InUse, Uploading};
pub(crate) use io::{Io, poll_read_bytes};
pub use tls::TlsSetupError;

/// What moves beside the future that is awaited: a connection, or an upload.
pub(crate) trait Side {
    fn poll_side(&mut self, cx: &mut Context<'_>);
}

/// One service with its settings. Lives as long as a rule or a request uses it; rules that say the same share it, also
/// across a reload, so that a changed file closes no connection that is still right.
#[derive(Debug)]
pub struct Origin {
    service: Service,
    settings: OriginSettings,
    tls: Option<tls::TlsSetup>,
    guard: Arc<Guard>,
    /// One a shard: never contended.
    shelves: Box<[Mutex<Shelf>]>,
    /// One a shard: held while an HTTP/2 connection is being made, so that a burst of requests makes one.
    connecting: Box<[tokio::sync::Mutex<()>]>,
    /// Set when TLS agreed on HTTP/1.1 although HTTP/2 was offered: requests need not wait for each other's connections.
    refuses_h2: AtomicBool,
    trouble: Mutex<Trouble>,
}

/// The idle connections of one shard.
#[derive(Debug, Default)]
struct Shelf {
    h1: Vec<Idle>,
    h2: Vec<(Option<Box<str>>, H2)>,
}

#[derive(Debug)]
struct Idle {
    /// The name that TLS was made for, with `matchSNItoHost`.
    server_name: Option<Box<str>>,
    connection: Box<H1>,
    since: Instant,
}

/// When a failure was last logged, and how many were not.
#[derive(Debug, Default)]
struct Trouble {
    last: Option<Instant>,
    unsaid: u64,
}

/// A connection to use for one request.
#[derive(Debug)]
pub(crate) enum Connection {
    H1 { connection: Box<H1>, reused: bool },
    H2 { connection: H2, _in_use: InUse },
}

/// Which connections a request can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Any, kept ones first. Whoever cannot send again asks for a surely live one.
    Kept(Assurance),
    /// A new one: a kept one just failed.
    Fresh,
    /// HTTP/1.1 that nobody will get back: an upgrade.
    ForUpgrade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assurance {
    /// A connection that died meanwhile is noticed by its failure, and the request sent again.
    Usual,
    /// One more system call: the kernel is asked whether the origin has closed.
    Sure,
}

impl Origin {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        service: Service,
        settings: OriginSettings,
        guard: Arc<Guard>,
        shards: usize,
    ) -> Result<Self, TlsSetupError> {
        let tls = if service.is_tls() { Some(tls::TlsSetup::new(&settings)?) } else { None };
        Ok(Self {
            service,
            settings,
            tls,
            guard,
            shelves: (0..shards).map(|_| Mutex::default()).collect(),
            connecting: (0..shards).map(|_| tokio::sync::Mutex::default()).collect(),
            refuses_h2: AtomicBool::new(false),
            trouble: Mutex::default(),
        })
    }

    pub fn settings(&self) -> &OriginSettings {
        &self.settings
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Whether this is what a rule with these words needs.
    pub fn is(&self, service: &Service, settings: &OriginSettings) -> bool {
        self.service == *service && self.settings == *settings
    }

    /// A connection for one request, kept or new. `host` is the request's Host at the origin.
    pub(crate) async fn connection(
        &self,
        shard: usize,
        drain: &Drain,
        host: &str,
        want: Want,
    ) -> Result<Connection, ConnectError> {
        let server_name = self.server_name(host);
        if self.speaks_h2() && want != Want::ForUpgrade {
            return self.h2_connection(shard, drain, server_name, want).await;
        }
        if let Want::Kept(assurance) = want
            && let Some(connection) = self.take(shard, server_name, assurance)
        {
            return Ok(Connection::H1 { connection, reused: true });
        }
        let io = self.dial(server_name, Alpn::H1).await?;
        self.h1(io).await
    }

    async fn h2_connection(
        &self,
        shard: usize,
        drain: &Drain,
        server_name: Option<&str>,
        want: Want,
    ) -> Result<Connection, ConnectError> {
        if let Some(connection) = self.shared_h2(shard, server_name) {
            return Ok(connection);
        }
        let _turn = self.connecting[shard].lock().await;
        // Somebody else's connection may be there by now.
        if let Some(connection) = self.shared_h2(shard, server_name) {
            return Ok(connection);
        }
        if let Want::Kept(assurance) = want
            && let Some(connection) = self.take(shard, server_name, assurance)
        {
            return Ok(Connection::H1 { connection, reused: true });
        }
        let io = self.dial(server_name, Alpn::H2OrH1).await?;
        if !matches!(self.service, Service::H2c(_)) && !io.is_h2() {
            self.refuses_h2.store(true, Ordering::Relaxed);
            return self.h1(io).await;
        }
        let refused = |error: std::io::Error| ConnectError::Refused(self.service.to_string(), error);
        let connection = tokio::time::timeout(h2::HANDSHAKE_TIMEOUT, H2::new(io, drain))
            .await
            .map_err(|_| ConnectError::ConnectTimeout(self.service.to_string(), h2::HANDSHAKE_TIMEOUT))?
            .map_err(|error| refused(std::io::Error::other(error)))?;
        let in_use = connection.enter();
        self.shelves[shard].lock().h2.push((server_name.map(Into::into), connection.clone()));
        Ok(Connection::H2 { connection, _in_use: in_use })
    }

    /// Takes back a connection whose request is wholly over. One that is not fit for another is dropped.
    pub(crate) fn give_back(&self, shard: usize, host: &str, mut connection: Box<H1>) {
        if self.settings.keep_alive_connections == 0 || !connection.is_reusable() {
            return;
        }
        let server_name = self.server_name(host).map(Into::into);
        let mut shelf = self.shelves[shard].lock();
        if shelf.h1.len() >= self.settings.keep_alive_connections {
            // The oldest has waited in vain for longest.
            shelf.h1.remove(0);
        }
        shelf.h1.push(Idle { server_name, connection, since: Instant::now() });
    }

    /// Drops what was idle for too long or was closed by the origin.
    pub(crate) fn sweep(&self, shard: usize) {
        let limit = self.settings.keep_alive_timeout;
        let mut shelf = self.shelves[shard].lock();
        shelf.h1.retain_mut(|idle| is_young(idle.since, limit) && idle.connection.is_reusable());
        shelf.h2.retain(|(_, connection)| !connection.is_closed());
        // Over HTTP/2 one connection is enough to keep.
        let mut kept = false;
        shelf.h2.retain(|(_, connection)| !connection.is_idle() || !std::mem::replace(&mut kept, true));
    }

    /// How many idle or shared connections are kept.
    pub fn kept(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.lock()).map(|shelf| shelf.h1.len() + shelf.h2.len()).sum()
    }

    /// Whether a failure should be logged now, with the number of those that were not. Once, then every ten seconds.
    pub(crate) fn may_complain(&self) -> Option<u64> {
        let mut trouble = self.trouble.lock();
        if trouble.last.is_some_and(|last| last.elapsed() < COMPLAIN_EVERY) {
            trouble.unsaid += 1;
            return None;
        }
        trouble.last = Some(Instant::now());
        Some(std::mem::take(&mut trouble.unsaid))
    }

    fn speaks_h2(&self) -> bool {
        match self.service {
            Service::H2c(_) => true,
            _ => self.tls.is_some() && self.settings.http2_origin && !self.refuses_h2.load(Ordering::Relaxed),
        }
    }

    /// What TLS is made for when it is not the service's own host. Part of a kept connection's identity: with
    /// `matchSNItoHost` one host's connection never serves another's request.
    fn server_name<'a>(&'a self, host: &'a str) -> Option<&'a str> {
        self.tls.as_ref()?;
        match &self.settings.origin_server_name {
            Some(name) => Some(name),
            None if self.settings.match_sni_to_host => Some(bare_host(host)),
            None => None,
        }
    }

    fn shared_h2(&self, shard: usize, server_name: Option<&str>) -> Option<Connection> {
        let shelf = self.shelves[shard].lock();
        let (_, connection) = shelf.h2.iter().find(|(name, connection)| {
            name.as_deref() == server_name && !connection.is_closed() && connection.has_room()
        })?;
        Some(Connection::H2 { connection: connection.clone(), _in_use: connection.enter() })
    }

    /// The most recently used connection that still lives.
    fn take(&self, shard: usize, server_name: Option<&str>, assurance: Assurance) -> Option<Box<H1>> {
        loop {
            let mut idle = {
                let mut shelf = self.shelves[shard].lock();
                let at = shelf.h1.iter().rposition(|idle| idle.server_name.as_deref() == server_name)?;
                shelf.h1.remove(at)
            };
            let fresh_enough = is_young(idle.since, self.settings.keep_alive_timeout);
            let alive = match assurance {
                Assurance::Usual => idle.connection.is_reusable(),
                Assurance::Sure => idle.connection.is_surely_reusable(),
            };
            if fresh_enough && alive {
                return Some(idle.connection);
            }
        }
    }

    async fn dial(&self, server_name: Option<&str>, alpn: Alpn) -> Result<Io, ConnectError> {
        connect::connect(&self.service, &self.settings, self.tls.as_ref(), server_name, alpn, &self.guard)
            .await
    }

    async fn h1(&self, io: Io) -> Result<Connection, ConnectError> {
        let connection = H1::new(io)
            .await
            .map_err(|error| ConnectError::Refused(self.service.to_string(), std::io::Error::other(error)))?;
        Ok(Connection::H1 { connection: Box::new(connection), reused: false })
    }
}

/// Zero is no limit, as in cloudflared.
fn is_young(since: Instant, limit: Duration) -> bool {
    limit.is_zero() || since.elapsed() < limit
}

/// A Host without its port and brackets: what TLS can name.
fn bare_host(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// How often idle connections are looked through.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(5);
