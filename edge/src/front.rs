//! The seam between the wiring and the public side: certificates, listeners, and the handler of their requests.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Result;
use causeway_acme::Answers;
use causeway_daemon::drain::Drain;
use causeway_daemon::limits::raise_nofile;
use causeway_tunnel::flow::Budget;
use causeway_tunnel::listen::Doorway;
use causeway_tunnel::{Host, Pin};
use tokio::sync::watch;

use crate::certified::Certified;
use crate::config::{self, Config};
use crate::issuing::Issuing;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::shard::Shard;
use crate::status::Listening;
use causeway_front::access::AccessLog;
use causeway_front::door::guests::Guests;
use causeway_front::door::{Door, Protocol, Secure};
use causeway_front::household::{Bounds, Households};
use causeway_front::http::entry::Service;
use causeway_front::http::forwarding::Forwarding;
use causeway_front::http::offer::Offer;
use causeway_front::http::timing::Limits;
use causeway_front::listen;
use causeway_front::metrics::Visitors;
use causeway_front::observe::{Observer, Observers};
use causeway_front::room::Room;
use causeway_front::tls::{DevAuthority, PemFiles, PemSources, Tls};

/// Open files that are not visitors' connections: sockets, sessions, store, log.
const RESERVED_FILES: u64 = 256;

/// The sockets of one shard that take connections over TCP, by what is spoken there.
#[derive(Debug, Default)]
pub(crate) struct Public {
    pub(crate) https: Vec<TcpListener>,
    pub(crate) http: Vec<TcpListener>,
    /// Where connectors come that UDP does not let through, and no visitors.
    pub(crate) tunnel: Vec<TcpListener>,
}

/// What all shards' public listeners share.
#[derive(Clone)]
pub(crate) struct Front {
    secure: Secure,
    room: Arc<Room>,
    forwarding: Forwarding,
    limits: Limits,
    /// Of every request.
    observers: Observers,
    visitors: Visitors,
    certified: Certified,
    /// What the process may have.
    memory_bytes: usize,
    /// Where HTTP/3 is spoken, if it is.
    offer: Option<Offer>,
    early_data: bool,
}

impl Front {
    /// # Errors
    /// When a certificate or the development CA cannot be used.
    pub(crate) fn new(
        config: &Config,
        registry: &Arc<Registry>,
        metrics: &Metrics,
        pin: Pin,
        budget: Budget,
        answers: Answers,
        listening: &Listening,
    ) -> Result<Self> {
        let granted = Arc::clone(registry);
        let dev = config
            .dev
            .then(|| DevAuthority::open(&config.data, Arc::new(move |host: &str| granted.is_granted(host))))
            .transpose()?;
        let limits = &config.limits;
        let connections = match limits.connections {
            0 => usize::try_from(raise_nofile().saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX).max(1),
            connections => connections,
        };
        let tls = Arc::new(Tls::new(sources(config), dev)?);
        let certified = match config.listen.https.as_slice() {
            [] => Certified::default(),
            _ => Certified::by(Arc::clone(&tls)),
        };
        let routes = Arc::clone(registry);
        let end_of = Arc::new(move |name: &Host| routes.end_of(name));
        let trusted: Vec<_> = config.trusted_proxies.iter().map(|cidr| cidr.0).collect();
        let bounds = Bounds {
            connections: limits.connections_per_ip,
            requests: limits.requests_per_ip,
            rate: limits.connection_rate_per_ip,
        };
        let households = Households::new(bounds, trusted.as_slice().into(), metrics.visitors.clone(), budget);
        let is_spoken = config.http3 && !listening.https.is_empty() && !listening.tunnel.is_empty();
        let offer = is_spoken.then(|| Offer::of(listening.tunnel.iter().map(SocketAddr::port)));
        Ok(Self {
            offer,
            early_data: config.early_data,
            secure: Secure { tls, handshake_timeout: limits.tls_handshake_timeout, answers, end_of },
            certified,
            room: Room::new(connections, households),
            forwarding: Forwarding::new(trusted, &pin.to_string()),
            limits: Limits {
                header: limits.header_timeout,
                idle: limits.keep_alive_timeout,
                read_idle: limits.visitor_idle_timeout,
                write_idle: limits.visitor_idle_timeout,
                upgraded_idle: limits.upgrade_idle(),
                body_idle: limits.body_idle(),
                ..Limits::default()
            },
            observers: observers(&config.access_log),
            visitors: metrics.visitors.clone(),
            memory_bytes: limits.memory(),
        })
    }

    /// What runs beside the listeners, once for the process.
    pub(crate) fn spawn_services(&self, registry: &Arc<Registry>, drain: &Drain) {
        let patrol = self.certified.clone().patrol(Arc::clone(registry));
        drop(drain.spawn_service("names without a certificate", patrol));
        let overload = Arc::clone(&self.room.pressure.overload);
        drop(
            drain.spawn_service("memory", overload.watch(self.memory_bytes, self.visitors.overload.clone())),
        );
        let tls = Arc::clone(&self.secure.tls);
        drop(drain.spawn_service("certificates", async move { tls.watch().await }));
    }

    pub(crate) fn tls(&self) -> &Arc<Tls> {
        &self.secure.tls
    }

    /// Names that get their certificates by themselves are not to be complained of.
    pub(crate) fn issue_by(&mut self, issuing: Issuing) {
        self.certified = self.certified.clone().with(issuing);
    }

    pub(crate) fn certified(&self) -> Certified {
        self.certified.clone()
    }

    /// Takes over other certificates. On error nothing changes.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub(crate) fn reload(&self, config: &Config) -> Result<()> {
        Ok(self.secure.tls.reload(sources(config))?)
    }

    /// What all visitors of one shard are served by.
    pub(crate) fn service(&self, shard: &Arc<Shard>) -> Arc<Service<Arc<Shard>>> {
        Service::new(
            Arc::clone(shard),
            self.observers.clone(),
            self.forwarding.clone(),
            self.limits,
            shard.drain.clone(),
            &self.room,
            self.offer.clone().unwrap_or_default(),
        )
    }

    /// The door of a shard's HTTP/3, if it is spoken.
    pub(crate) fn guests(&self, service: &Arc<Service<Arc<Shard>>>) -> Option<Guests<Arc<Shard>>> {
        let offer = self.offer.clone()?;
        let Secure { tls, end_of, .. } = self.secure.clone();
        let room = Arc::clone(&self.room);
        let guests = Guests::new(tls, end_of, room, Arc::clone(service), offer, self.visitors.clone());
        Some(if self.early_data { guests.with_early_data() } else { guests })
    }

    /// Serves visitors on one shard. Must be called within its runtime.
    ///
    /// # Errors
    /// When a socket cannot be watched.
    pub(crate) fn listen(
        &self,
        shard: &Arc<Shard>,
        service: &Arc<Service<Arc<Shard>>>,
        sockets: Public,
        tunnels: &Doorway,
        doors: &Doors,
    ) -> io::Result<()> {
        let Public { https, http, tunnel } = sockets;
        for (protocol, listeners) in
            [(Protocol::Https, https), (Protocol::Http, http), (Protocol::Tunnel, tunnel)]
        {
            if listeners.is_empty() {
                continue;
            }
            let (secure, visitors) = (self.secure.clone(), self.visitors.clone());
            let door = Door::new(protocol, secure, Arc::clone(service), visitors, Some(tunnels.clone()));
            for listener in listeners {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let accepting = listen::serve(listener, Arc::clone(&door), Arc::clone(&self.room));
                let (mut doors, drain) = (doors.clone(), shard.drain.clone());
                let accepting = async move {
                    tokio::select! {
                        biased;
                        () = drain.draining() => {}
                        () = doors.opened() => accepting.await,
                    }
                };
                drop(shard.drain.spawn("listener", accepting));
            }
        }
        Ok(())
    }
}

/// Shut until there is somebody to serve visitors by: while another process still does.
#[derive(Clone, Debug)]
pub(crate) struct Doors(watch::Receiver<bool>);

impl Doors {
    pub(crate) fn new(are_open: bool) -> (watch::Sender<bool>, Self) {
        let (open, opened) = watch::channel(are_open);
        (open, Self(opened))
    }

    /// Cancel safe. For ever, when whoever would open them is gone.
    async fn opened(&mut self) {
        if self.0.wait_for(|are_open| *are_open).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Whether every certificate of the configuration can be read.
///
/// # Errors
/// For the first that cannot.
pub(crate) fn check_certificates(config: &Config) -> Result<Certified> {
    let tls = Tls::new(sources(config), None)?;
    let is_needed = !config.listen.https.is_empty() && !config.dev;
    Ok(if is_needed { Certified::by(Arc::new(tls)) } else { Certified::default() })
}

fn observers(log: &config::AccessLog) -> Observers {
    let log = log.enabled.then(|| Arc::new(AccessLog { query: log.query }) as Arc<dyn Observer>);
    Observers::new(log)
}

fn sources(config: &Config) -> PemSources {
    let pairs = config.certificates.iter();
    let pairs = pairs.map(|files| PemFiles { cert: files.cert.clone(), key: files.key.clone() }).collect();
    PemSources { pairs, folders: config.certificate_folders.clone() }
}
