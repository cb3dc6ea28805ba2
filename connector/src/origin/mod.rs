//! Origins: where the rules lead, and the connections that are kept to them.

mod answer_body;
mod connect;
mod convoy;
mod frames;
mod h1;
mod h2;
mod io;
pub(crate) mod mend;
mod room;
pub(crate) mod server_name;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use causeway_daemon::drain::Drain;
use causeway_tunnel::semantics::without_port;
use parking_lot::Mutex;

use crate::config::OriginSettings;
use crate::service::Service;
use crate::upload::ReplayBudget;

pub(crate) use answer_body::{AnswerBody, BodyError};
pub(crate) use connect::Alpn;
pub(crate) use connect::{ConnectError, Egress, is_reserved};
use convoy::{Convoy, Turn};
pub(crate) use h1::H1;
pub(crate) use h2::{Download, H2, InUse, Uploading};
pub(crate) use io::{Io, poll_read_bytes};
use room::{Found, GivenBack, Permit, Room};
pub(crate) use tls::TlsSetupError;

/// What moves beside the future that is awaited: a connection, or an upload.
pub(crate) trait Companion {
    fn poll_beside(&mut self, cx: &mut Context<'_>);

    /// Whether the origin takes nothing more of an upload.
    fn is_deaf(&self) -> bool {
        false
    }
}

/// One service with its settings. Lives as long as a rule or a request uses it; rules that say the same share it, also
/// across a reload, so that a changed file closes no connection that is still right.
#[derive(Debug)]
pub(crate) struct Origin {
    service: Service,
    settings: OriginSettings,
    tls: Option<tls::TlsSetup>,
    egress: Arc<Egress>,
    /// One a shard: never contended.
    shelves: Box<[Mutex<Shelf>]>,
    /// One a shard: a burst of requests makes one HTTP/2 connection.
    convoys: Box<[Convoy]>,
    room: Room,
    /// When the ports ran out: the search for one takes long, and is not repeated for each request.
    no_port: Mutex<Option<Instant>>,
    /// Set when TLS agreed on HTTP/1.1 although HTTP/2 was offered: requests need not wait for each other's connections.
    refuses_h2: AtomicBool,
    trouble: Mutex<Trouble>,
    replay_budget: Arc<ReplayBudget>,
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
    /// A new one, of its own at first: a kept or shared one just failed.
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
    pub(crate) fn new(
        service: Service,
        settings: OriginSettings,
        egress: Arc<Egress>,
        shards: usize,
    ) -> Result<Self, TlsSetupError> {
        let room = Room::new(settings.max_connections, shards);
        let tls = if service.is_tls() { Some(tls::TlsSetup::new(&settings)?) } else { None };
        Ok(Self {
            service,
            settings,
            tls,
            egress,
            shelves: (0..shards).map(|_| Mutex::default()).collect(),
            convoys: (0..shards).map(|_| Convoy::default()).collect(),
            room,
            no_port: Mutex::default(),
            refuses_h2: AtomicBool::new(false),
            trouble: Mutex::default(),
            replay_budget: Arc::default(),
        })
    }

    pub(crate) fn settings(&self) -> &OriginSettings {
        &self.settings
    }

    pub(crate) fn replay_budget(&self) -> &Arc<ReplayBudget> {
        &self.replay_budget
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Whether this is what a rule with these words needs.
    pub(crate) fn is(&self, service: &Service, settings: &OriginSettings) -> bool {
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
        self.h1_connection(shard, server_name, want).await
    }

    async fn h1_connection(
        &self,
        shard: usize,
        server_name: Option<&str>,
        want: Want,
    ) -> Result<Connection, ConnectError> {
        match self.kept_or_permit(shard, server_name, want).await? {
            Ok(connection) => Ok(Connection::H1 { connection, reused: true }),
            Err(permit) => self.h1(self.dial(server_name, Alpn::H1).await?.holding(permit)).await,
        }
    }

    async fn h2_connection(
        &self,
        shard: usize,
        drain: &Drain,
        server_name: Option<&str>,
        want: Want,
    ) -> Result<Connection, ConnectError> {
        if want == Want::Fresh {
            // The first request on a connection of its own is not refused together with many others.
            return self.dial_h2(shard, drain, server_name, want).await;
        }
        let patience = self.patience();
        let follow = async {
            loop {
                if let Some(connection) = self.shared_h2(shard, server_name) {
                    return Ok(connection);
                }
                if !self.speaks_h2() {
                    return self.h1_connection(shard, server_name, want).await;
                }
                match self.convoys[shard].join(server_name) {
                    Turn::Lead(lead) => {
                        let dialled = self.dial_h2(shard, drain, server_name, want).await.map_err(Arc::new);
                        lead.end(dialled.as_ref().map(|_| ()).map_err(Arc::clone));
                        return dialled.map_err(ConnectError::Shared);
                    }
                    Turn::Follow(follow) => {
                        if let Some(Err(error)) = convoy::outcome(follow).await {
                            return Err(ConnectError::Shared(error));
                        }
                    }
                }
            }
        };
        let late = |_| Err(ConnectError::ConnectTimeout(self.service.to_string(), patience));
        tokio::time::timeout(patience, follow).await.unwrap_or_else(late)
    }

    async fn dial_h2(
        &self,
        shard: usize,
        drain: &Drain,
        server_name: Option<&str>,
        want: Want,
    ) -> Result<Connection, ConnectError> {
        let permit = match self.kept_or_permit(shard, server_name, want).await? {
            Ok(connection) => return Ok(Connection::H1 { connection, reused: true }),
            Err(permit) => permit,
        };
        let io = self.dial(server_name, Alpn::H2OrH1).await?.holding(permit);
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

    /// A kept HTTP/1.1 connection, or the right to make a new one; waits for either when the origin has all that it may.
    async fn kept_or_permit(
        &self,
        shard: usize,
        server_name: Option<&str>,
        want: Want,
    ) -> Result<Result<Box<H1>, Permit>, ConnectError> {
        let patience = connect::or_for_ever(self.settings.connect_timeout);
        let begun = tokio::time::Instant::now();
        loop {
            if let Want::Kept(assurance) = want
                && let Some(connection) = self.take(shard, server_name, assurance)
            {
                return Ok(Ok(connection));
            }
            if let Some(permit) = self.room.try_enter() {
                return Ok(Err(permit));
            }
            if self.drop_idle(shard) {
                continue;
            }
            match self.room.wait(shard, patience.saturating_sub(begun.elapsed())).await {
                Some(Found::Room(permit)) => return Ok(Err(permit)),
                Some(Found::Returned) => {}
                None => {
                    let limit = self.room.limit();
                    return Err(ConnectError::Busy(self.service.to_string(), limit, patience));
                }
            }
        }
    }

    /// Closes the HTTP/1.1 connection that is idle for longest, of this shard before others: somebody waits who cannot use
    /// it. HTTP/2 connections that are idle make room as well, a little later.
    fn drop_idle(&self, shard: usize) -> bool {
        let mut own = self.shelves[shard].lock();
        own.h2.retain(|(_, connection)| !connection.is_idle());
        drop(own);
        let shards = self.shelves.len();
        (0..shards).any(|offset| {
            let mut shelf = self.shelves[(shard + offset) % shards].lock();
            let oldest = (!shelf.h1.is_empty()).then(|| shelf.h1.remove(0));
            oldest.is_some()
        })
    }

    /// How long a request may wait for a shared connection: as long as it would take itself to make one.
    fn patience(&self) -> Duration {
        let connect = connect::or_for_ever(self.settings.connect_timeout);
        let tls =
            if self.tls.is_some() { connect::or_for_ever(self.settings.tls_timeout) } else { Duration::ZERO };
        connect + tls + h2::HANDSHAKE_TIMEOUT
    }

    /// Takes back a connection whose request is wholly over. One that is not fit for another is dropped.
    pub(crate) fn give_back(&self, shard: usize, host: &str, mut connection: Box<H1>) {
        if self.settings.keep_alive_connections == 0 || !connection.is_reusable() {
            return;
        }
        if self.room.give_back(shard) == GivenBack::Close {
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
            None if self.settings.match_sni_to_host => Some(without_port(host)),
            None => None,
        }
    }

    /// The shared connection with the fewest requests on it: what one of them suffers, few others do.
    fn shared_h2(&self, shard: usize, server_name: Option<&str>) -> Option<Connection> {
        let mut shelf = self.shelves[shard].lock();
        shelf.h2.retain_mut(|(_, connection)| connection.is_open());
        let fit = shelf
            .h2
            .iter()
            .filter(|(name, connection)| name.as_deref() == server_name && connection.has_room());
        let (_, connection) = fit.min_by_key(|(_, connection)| connection.load())?;
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
        if self.no_port.lock().is_some_and(|since| since.elapsed() < NO_PORT_FOR) {
            return Err(ConnectError::NoPort(self.service.to_string()));
        }
        let tls = self.tls.as_ref();
        let dialled =
            connect::connect(&self.service, &self.settings, tls, server_name, alpn, &self.egress).await;
        if matches!(dialled, Err(ConnectError::NoPort(_))) {
            *self.no_port.lock() = Some(Instant::now());
        }
        dialled
    }

    /// A connection of its own, TLS included, for whoever looks what is there.
    pub(crate) async fn probe(&self, host: &str) -> Result<Io, ConnectError> {
        self.dial(self.server_name(host), Alpn::H1).await
    }

    /// A connection that nobody here speaks on, TLS included; counted like all others.
    pub(crate) async fn raw(&self, shard: usize) -> Result<Io, ConnectError> {
        let Err(permit) = self.kept_or_permit(shard, None, Want::ForUpgrade).await? else {
            unreachable!("only those are given a kept connection who ask for one");
        };
        let socket = connect::socket(&self.service, &self.settings, &self.egress).await?;
        Ok(Io::plain(socket).holding(permit))
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

/// Ports become free a minute after their use, so that a second later more than one is.
const NO_PORT_FOR: Duration = Duration::from_secs(1);
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// How often idle connections are looked through.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(5);
