//! The wiring of the whole connector: build everything, spawn, wait, drain.
//!
//! ```text
//! thread of the caller: signals, reload, admin server, one manager an edge
//! shard-0 … shard-N:    slots (sessions with edges), requests, connections to origins   (children of one Drain)
//! ```
//! Nothing here is global: an `App` can be built several times in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use causeway_acme::Handle;
use causeway_daemon::admin::{Admin, BoundAdmin, Reply, get};
use causeway_daemon::drain::{Drain, Finished};
use causeway_daemon::pulse::Pulse;
use causeway_daemon::readiness::Readiness;
use causeway_daemon::signals::{Signals, Stopping};
use causeway_daemon::telemetry::Levels;
use causeway_front::metrics::{Visitors, certificates as of_certificates};
use causeway_tunnel::carrier::memory::Network;
use causeway_tunnel::dial::Dialer;
use causeway_tunnel::flow::Budget;
use causeway_tunnel::{ConnectorId, Token};
use http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::Config;
use crate::edges::{Edge, Edges, Make};
use crate::home::{Home, certificates};
use crate::kubernetes::{Cluster, Discovery};
use crate::listing::Listing;
use crate::metrics::Metrics;
use crate::origin::Egress;
use crate::reload::{self, Found, Reloader, Source};
use crate::rules::{Ground, RouteIds, RuleSet};
use crate::session::Ties;
use crate::shard::Shard;
use crate::slots::{ShardThread, manage};
use crate::stalled::Stalls;
use crate::status::{Board, Buffers, ClusterStatus, ConfigStatus, EdgeStatus, Status, TlsElsewhere};
use crate::threads::Thread;
use crate::visits::Visits;

/// What a connector is built from.
#[derive(Debug)]
pub struct Settings {
    pub config: Config,
    /// The rule file, watched since before `config` was read from it; `None` when the rules came from elsewhere.
    pub file: Option<Source>,
    pub token: Token,
    /// Instead of the token's and the file's edges.
    pub edges: Vec<String>,
    /// Instead of the file's.
    pub metrics: Option<SocketAddr>,
    pub shards: Option<usize>,
    /// A unix socket with the same pages as the admin address.
    pub control: Option<PathBuf>,
    pub levels: Option<Levels>,
    /// Who is told of each request.
    pub visits: Visits,
    /// Dial inside this process, whatever the edges' addresses say.
    pub within: Option<Network>,
}

/// A running connector.
#[derive(Debug)]
pub struct App {
    drain: Drain,
    readiness: Readiness,
    threads: Vec<Thread>,
    view: Arc<View>,
    reloader: Option<Arc<Reloader>>,
    grace: Duration,
}

/// What `status` is made of.
#[derive(Debug)]
struct View {
    id: ConnectorId,
    token: Token,
    edges: Arc<Edges>,
    board: Arc<Board>,
    rules: Arc<ArcSwap<RuleSet>>,
    metrics: Metrics,
    budget: Budget,
    drain: Drain,
    started: Instant,
    orders: Option<Handle>,
    /// The cluster that is followed, if one is.
    discovery: Option<Discovery>,
    admin: Option<SocketAddr>,
}

impl App {
    /// Builds and starts a connector; sessions come up in the background (see [`App::ready`]).
    ///
    /// # Errors
    /// When a rule's files, the admin address or a thread cannot be had; the text names the mend.
    pub async fn start(settings: Settings) -> Result<Self> {
        let Settings {
            config,
            file,
            token,
            edges,
            metrics: admin_address,
            shards,
            control,
            levels,
            visits,
            within,
        } = settings;
        let count = shards.or(config.shards).unwrap_or(1);
        let (drain, readiness) = (Drain::new(), Readiness::new());
        let metrics = Metrics::new();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        causeway_daemon::tasks::register(&mut registry, "causeway_connector", &drain);
        let budget = config.buffer_bytes.map_or_else(Budget::of_machine, Budget::new);
        let of_buffers = budget.clone();
        let held = move || of_buffers.held();
        causeway_daemon::buffers::register(&mut registry, "causeway_connector", budget.bytes(), held);
        if let Some(levels) = &levels {
            levels.register(&mut registry, "causeway_connector");
        }
        let pulse = Pulse::new();
        let ground = Ground {
            egress: Arc::new(Egress::default()),
            ids: Arc::new(RouteIds::default()),
            metrics: metrics.clone(),
            shards: count,
        };
        let named = Some(edges).filter(|edges| !edges.is_empty()).or_else(|| config.edges.clone());
        let follows = named.is_none();
        let names = named.unwrap_or_else(|| token.edges.clone());
        let admin_address = admin_address.or(config.metrics);
        let (grace, congestion, carriers) = (config.grace, config.congestion, config.carriers);
        let outward = config.outward()?;
        if let Some(trouble) = outward.trouble() {
            tracing::warn!("{trouble}");
        }
        let stalls = Stalls::new(budget.clone(), metrics.bodies_evicted.clone());
        let at_home = config.home.clone();
        let tls = certificates::from_files(&at_home)?;
        let cluster = file.as_ref().and_then(|source| source.cluster.as_ref());
        let discovery = cluster.map(Cluster::discovery);
        let found = discovery.clone().map(|discovery| Found { discovery, base: Mutex::new(config.clone()) });
        let config = match &discovery {
            Some(discovery) => discovery.over(&config),
            None => config,
        };
        reload::remark(&config, &[]);
        let rules = RuleSet::build(config, None, &ground)?;
        reload::note(&ground, &rules);
        metrics.config_valid.set(1);
        let rules = Arc::new(ArcSwap::from_pointee(rules));
        let board =
            Board::new(readiness.clone(), metrics.sessions.clone(), metrics.sessions_suspected.clone());

        let id = ConnectorId::random();
        let dialer = match within {
            Some(network) => Dialer::within(network, token.clone(), id, machine_name()),
            None => Dialer::new(token.clone(), id, machine_name(), causeway_daemon::tls::provider())
                .context("TLS towards the edges cannot be set up")?,
        }
        .with_budget(budget.clone())
        .with_congestion(congestion);
        let reloaded = watch::Sender::new(1);
        let visitors = Visitors::default();
        let home = Home::new(Arc::clone(&tls), visitors.clone(), budget.clone(), (token.tunnel, id));
        let orders =
            certificates::order(&at_home, &home, &rules, &board, reloaded.subscribe(), &drain).await?;
        let of_home = registry.sub_registry_with_prefix("causeway_connector");
        visitors.register(of_home);
        of_certificates::register(of_home, orders.clone(), Arc::clone(&tls));
        let watched = Arc::clone(&tls);
        drop(drain.spawn_service("certificates", async move { watched.watch().await }));
        let edge = move |name: String| {
            let proxy = outward.proxy(&name);
            Arc::new(Edge::new(name, carriers, proxy))
        };
        let edges = Arc::new(Edges::new(names, follows, Make(Box::new(edge))));

        let ties = Arc::new(Ties {
            dialer,
            rules: Arc::clone(&rules),
            reloaded: reloaded.clone(),
            board: Arc::clone(&board),
            edges: Arc::clone(&edges),
            started: Instant::now(),
        });

        // The view knows the admin address, and the admin server shows the view.
        let (showing, shown) = watch::channel::<Option<Arc<View>>>(None);
        let of_rules = shown.clone();
        let admin = Admin::new(Arc::new(registry), readiness.clone(), levels)
            .watch(pulse.clone())
            .route("/rules", get(async move || page(of_rules.borrow().as_deref().map(View::rules))))
            .route("/status", get(async move || page(shown.borrow().as_deref().map(View::status))));
        if let Some(path) = &control {
            let socket = admin.clone().bind_unix(path);
            let socket =
                socket.with_context(|| format!("cannot listen on the control socket {}", path.display()))?;
            drop(socket.run(&drain));
        }
        let bound = bind_admin(admin, admin_address).await?;
        let bound_to = bound.local_addr();
        if let Some(address) = bound_to {
            ground.egress.set_admin(address);
        }
        drop(bound.run(&drain));
        let view = Arc::new(View {
            id,
            token,
            edges: Arc::clone(&edges),
            board: Arc::clone(&board),
            rules: Arc::clone(&rules),
            metrics: metrics.clone(),
            budget,
            drain: drain.clone(),
            started: Instant::now(),
            orders,
            discovery,
            admin: bound_to,
        });
        showing.send_replace(Some(Arc::clone(&view)));

        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let shard = || {
                let drain = drain.child();
                Shard {
                    index,
                    home: home.of_shard(&rules, &drain),
                    drain,
                    rules: Arc::clone(&rules),
                    metrics: metrics.clone(),
                    challenges: home.challenges.clone(),
                    stalls: stalls.clone(),
                    visits: visits.clone(),
                }
            };
            let thread = Thread::start(index, shard, &pulse);
            threads.push(thread.with_context(|| format!("cannot start the thread of shard {index}"))?);
        }
        let threads_of_slots: Arc<[ShardThread]> = threads.iter().map(ShardThread::of).collect();
        let of_managers = drain.clone();
        let managers = edges.keep(move |index, edge| {
            let manager = manage(edge, index, Arc::clone(&ties), Arc::clone(&threads_of_slots));
            drop(of_managers.spawn_service("edge manager", manager));
        });
        drop(drain.spawn_service("edge managers", managers));
        let reloader = file.map(|Source { places, watch, text, data, cluster }| {
            let (text, asked) = (Mutex::new(text), Notify::new());
            let reloader = Reloader { places, text, data, found, rules, ground, reloaded, board, tls, asked };
            let reloader = Arc::new(reloader);
            drop(drain.spawn_service("reload", Arc::clone(&reloader).run(watch)));
            if let Some(cluster) = cluster {
                drop(drain.spawn_service("cluster", cluster.run()));
            }
            reloader
        });
        let app = Self { drain, readiness, threads, view, reloader, grace };
        let status = app.status();
        tracing::info!(connector = %id, tunnel = status.tunnel, rules = status.config.rules, shards = count,
            metrics = ?status.metrics, version = status.version, "the connector is up");
        Ok(app)
    }

    /// Where health, status and metrics are served.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.view.admin
    }

    pub fn status(&self) -> Status {
        self.view.status()
    }

    /// Whether there is a session with an edge.
    pub fn ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// To stop the connector from elsewhere: its [`Drain::start`] ends [`App::run`] like a signal.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Reads the rule file again, as SIGHUP does.
    pub fn reload(&self) {
        match &self.reloader {
            Some(reloader) => reloader.ask(),
            None => tracing::warn!("there is no rule file to read again"),
        }
    }

    /// Serves until a signal asks for the end, then stops in stages.
    pub async fn run(self, signals: &mut Signals) -> Finished {
        let drain = self.drain.clone();
        signals.until_stop(&drain, || self.reload()).await;
        let stopping = Stopping { grace: self.grace, in_flight: self.status().in_flight };
        signals.until_stopped(&drain, stopping, self.stop(stopping.grace)).await
    }

    /// Stops in stages: edges are told, what is in flight is finished up to `grace`, then force.
    pub async fn stop(self, grace: Duration) -> Finished {
        self.readiness.fail();
        let finished = self.drain.finish(grace).await;
        let joins: Vec<_> = self.threads.into_iter().map(Thread::stop).collect();
        let joined = tokio::task::spawn_blocking(move || joins.into_iter().all(|join| join.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a shard's thread panicked");
        }
        tracing::info!(?finished, "stopped");
        finished
    }
}

impl View {
    fn rules(&self) -> Listing {
        Listing::of(&self.rules.load().config)
    }

    fn status(&self) -> Status {
        let rules = self.rules.load();
        let (requests, in_flight, origin_errors) = self.metrics.totals();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            connector: self.id.to_string(),
            tunnel: self.token.tunnel.to_string(),
            uptime_seconds: self.started.elapsed().as_secs(),
            draining: self.drain.is_draining(),
            config: ConfigStatus {
                file: rules.config.file.clone(),
                generation: rules.generation,
                rules: rules.config.rules.len(),
                error: self.board.config_error(),
                cluster: self.discovery.as_ref().map(|discovery| ClusterStatus::of(discovery, &rules.config)),
                tls: rules
                    .elsewhere()
                    .into_iter()
                    .map(|offer| TlsElsewhere { hostname: offer.pattern.to_string(), tls: offer.tls })
                    .collect(),
            },
            edges: self
                .edges
                .all()
                .iter()
                .map(|edge| EdgeStatus {
                    proxy: edge.name.proxy().map(ToString::to_string),
                    trouble: edge.name.trouble.lock().clone(),
                    ..self.board.edge(&edge.name.name)
                })
                .collect(),
            certificates: self
                .orders
                .as_ref()
                .map(|handle| handle.overview().names.clone())
                .unwrap_or_default(),
            requests,
            in_flight,
            origin_errors,
            buffers: Buffers { held_bytes: self.budget.held(), limit_bytes: self.budget.bytes() },
            metrics: self.admin,
        }
    }
}

fn page(shown: Option<impl Serialize>) -> Reply {
    let text = shown.and_then(|shown| serde_json::to_vec(&shown).ok());
    match text {
        Some(json) => Reply::json(StatusCode::OK, json),
        None => Reply::json(StatusCode::SERVICE_UNAVAILABLE, "{}"),
    }
}

/// The address asked for, or the first free one of cloudflared's usual ports, or any.
async fn bind_admin(admin: Admin, address: Option<SocketAddr>) -> Result<BoundAdmin> {
    if let Some(address) = address {
        return Ok(admin.bind(address).await?);
    }
    for port in DEFAULT_PORTS {
        if let Ok(bound) = admin.clone().bind((Ipv4Addr::LOCALHOST, port).into()).await {
            return Ok(bound);
        }
    }
    Ok(admin.bind((Ipv4Addr::LOCALHOST, 0).into()).await?)
}

/// For people who read the edge's list of connectors.
pub(crate) fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().chars().take(64).collect()
}

/// Where the admin server listens when nobody says; the first free one is taken.
pub const DEFAULT_PORTS: std::ops::RangeInclusive<u16> = 20241..=20245;
