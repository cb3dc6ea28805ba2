//! The wiring of the whole edge: build everything, bind, spawn, wait, drain.
//!
//! ```text
//! thread of the caller: keeper (store), control socket, admin port, certificates, signals
//! shard-0 … shard-N:    listeners, visitors' connections, requests, sessions     (children of one Drain)
//! ```
//! Nothing here is global: an `App` can be built several times in one process.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::TcpListener;
use std::num::NonZeroU16;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use causeway_acme::Answers;
use causeway_daemon::admin::Admin;
use causeway_daemon::config::ConfigError;
use causeway_daemon::drain::{Drain, Finished};
use causeway_daemon::pulse::Pulse;
use causeway_daemon::readiness::Readiness;
use causeway_daemon::signals::{Signals, Stopping};
use causeway_daemon::telemetry::Levels;
use causeway_tunnel::EdgeIdentity;
use causeway_tunnel::carrier::memory::Network;
use prometheus_client::registry::Registry as MetricsRegistry;

use crate::bind::{self, Sockets};
use crate::certified::Certified;
use crate::config::Config;
use crate::control::{Source, with_certificates, with_refresh, with_status};
use crate::declared::Declared;
use crate::doorman::Doorman;
use crate::front::{Doors, Front};
use crate::gate::Gate;
use crate::handover::{self, Estate, Kind, Legacy, Office, Predecessor, Successor};
use crate::issuing::Issuing;
use crate::keeper::{Keeper, KeeperHandle, Note};
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::shard::Shard;
use crate::status::{Listening, Status};
use crate::store::Store;
use crate::thread::Thread;
use crate::unix_now;
use causeway_front::forward::Patience;
use causeway_front::metrics::certificates;

/// A running edge.
#[derive(Debug)]
pub struct App {
    config: Config,
    drain: Drain,
    readiness: Readiness,
    shards: Vec<Thread>,
    front: Front,
    metrics: Metrics,
    source: Arc<Source>,
    keeper: KeeperHandle,
    levels: Option<Levels>,
}

impl App {
    /// Builds and starts an edge; when it returns, visitors and connectors are served.
    ///
    /// # Errors
    /// When the data folder, the store, a certificate or a port cannot be used; the text names the mend.
    pub async fn start(config: Config, levels: Option<Levels>) -> Result<Self> {
        Self::start_within(config, levels, None).await
    }

    /// [`App::start`] in the place of the process that runs on this data folder, if there is one: from it come the listeners, then
    /// the sessions, then the visitors, and none of them notices.
    ///
    /// # Errors
    /// As [`App::start`], and when that process does not hand over. It serves on then.
    pub async fn take_over(config: Config, levels: Option<Levels>) -> Result<Self> {
        match handover::find(&handover::socket(&config.data))? {
            Some((predecessor, legacy)) => Self::begin(config, levels, None, Some(predecessor), legacy).await,
            None => Self::start(config, levels).await,
        }
    }

    /// [`App::start`], and takes connectors of this process too.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn start_within(
        config: Config,
        levels: Option<Levels>,
        within: Option<Network>,
    ) -> Result<Self> {
        Self::begin(config, levels, within, None, Legacy::default()).await
    }

    async fn begin(
        config: Config,
        levels: Option<Levels>,
        within: Option<Network>,
        mut predecessor: Option<Predecessor>,
        mut legacy: Legacy,
    ) -> Result<Self> {
        make_data_folder(&config.data)?;
        let lock = match legacy.lock.take() {
            Some(lock) => lock,
            None => lock(&config.data)?,
        };
        let store = Store::open(&config).await?;
        let identity = Arc::new(EdgeIdentity::load_or_create(&config.data)?);
        store.join(identity.pin()).await?;

        let metrics = Metrics::default();
        let mut metrics_registry = MetricsRegistry::default();
        metrics.register(&mut metrics_registry);
        let registry = Arc::new(Registry::new(metrics.clone()));
        let (keeper, keeper_handle) = Keeper::new(store.clone(), Arc::clone(&registry)).await?;
        let declared = Declared::read(&config)?;
        registry.declare(declared.clone(), unix_now())?;
        keeper_handle.note(Note::Declared(declared));
        let budget = config.limits.budget();
        let answers = Answers::default();
        let count = legacy.shards.unwrap_or_else(|| config.shards.count());
        if count != config.shards.count() {
            tracing::warn!(
                shards = count,
                "`shards` is another: it takes effect at the next start that takes over from nobody"
            );
        }
        let (mut sockets, listening) = bind::bind(&config.listen, count, &mut legacy)?;
        let tcp = to_hand_over(&sockets)?;
        let mut front = Front::new(
            &config,
            &registry,
            &metrics,
            identity.pin(),
            budget.clone(),
            answers.clone(),
            &listening,
        )?;
        let mut settings = config.issuing();
        if let Some(settings) = &mut settings {
            settings.dns = config.acme.solver()?;
        }
        let (issuing, desk) =
            Issuing::open(settings, &store, &registry, front.tls(), answers.clone()).await?;
        front.issue_by(issuing.clone());
        certificates::register(
            metrics_registry.sub_registry_with_prefix("causeway_edge"),
            issuing.handle().cloned(),
            Arc::clone(front.tls()),
        );
        if let Some(first) = sockets.first_mut() {
            first.within = within;
        }
        let gate = gate(&config, &listening, front.certified());
        let (drain, readiness) = (Drain::new(), Readiness::new());
        let starting = readiness.hold("listeners");
        causeway_daemon::tasks::register(&mut metrics_registry, "causeway_edge", &drain);
        let of_buffers = budget.clone();
        let held = move || of_buffers.held();
        causeway_daemon::buffers::register(&mut metrics_registry, "causeway_edge", budget.bytes(), held);
        if let Some(levels) = &levels {
            levels.register(&mut metrics_registry, "causeway_edge");
        }
        let pulse = Pulse::new();
        let admin = Admin::new(Arc::new(metrics_registry), readiness.clone(), levels.clone());
        let admin = admin.watch(pulse.clone());
        let source = Arc::new(Source {
            registry: Arc::clone(&registry),
            readiness: readiness.clone(),
            listening,
            admin: OnceLock::new(),
            address: config.address.clone(),
            shards: count,
            budget: budget.clone(),
            certified: front.certified(),
            issuing: issuing.clone(),
            keeper: keeper_handle.clone(),
            started: Instant::now(),
        });
        let admin = with_status(admin, Arc::clone(&source));
        let on_socket = with_certificates(with_refresh(admin.clone(), keeper_handle.clone()), &issuing);
        let on_port = match legacy.admin(config.admin) {
            Some(listener) => admin.on(listener)?,
            None => admin.bind(config.admin).await?,
        };
        if let Some(address) = on_port.local_addr() {
            // Set nowhere else.
            let _ = source.admin.set(address);
        }
        let admin_listener = on_port.tcp_listener()?.context("the admin port is one of TCP")?;
        let admin_task = on_port.run(&drain).abort_handle();
        drop(drain.spawn_service("keeper", keeper.run()));
        front.spawn_services(&registry, &drain);
        if let Some(desk) = desk {
            desk.run(Arc::clone(&registry), Arc::clone(front.tls()), &drain);
        }

        // What was not taken is not wanted any more.
        drop(legacy);
        if let Some(predecessor) = &mut predecessor {
            predecessor.take_sessions().await?;
        }
        let (open, doors) = Doors::new(predecessor.is_none());
        let successor = Successor::none();
        let fellows: Arc<[String]> = config.fellows.iter().map(ToString::to_string).collect();
        let mut shards = Vec::new();
        for (index, sockets) in (0..count).zip(sockets) {
            let shard = Arc::new(Shard {
                index,
                registry: Arc::clone(&registry),
                gate: gate.clone(),
                drain: drain.child(),
                patience: Patience {
                    response_header: config.limits.response_header_timeout,
                    body_idle: config.limits.body_idle_timeout,
                },
                sessions_per_tunnel: config.limits.sessions_per_tunnel,
                budget: budget.clone(),
                congestion: config.congestion,
                doorman: Doorman::default(),
                successor: successor.clone(),
                fellows: Arc::clone(&fellows),
                keeper: keeper_handle.clone(),
                pulse: pulse.clone(),
                answers: answers.clone(),
            });
            let (identity, front) = (Arc::clone(&identity), front.clone());
            let thread = Thread::start(shard, count, sockets, identity, front, doors.clone()).await;
            shards.push(thread.with_context(|| format!("cannot start shard {index}"))?);
        }
        if let Some(predecessor) = &mut predecessor {
            predecessor.await_sessions(&registry).await;
            open.send_replace(true);
            predecessor.take_visitors().await?;
        }
        let control = &config.control_socket();
        let on_socket = if predecessor.is_some() {
            on_socket.replace_unix(control)
        } else {
            on_socket.bind_unix(control)
        };
        let in_folder = || format!("cannot listen on a socket in {}", config.data.display());
        drop(on_socket.with_context(in_folder)?.run(&drain));
        let office = Office::open(&handover::socket(&config.data)).with_context(in_folder)?;
        let listeners = (0..).zip(&shards).flat_map(|(index, shard): (u16, &Thread)| {
            shard.listeners.iter().map(move |listener| (index, Arc::clone(listener)))
        });
        let estate = Estate {
            lock,
            admin: admin_listener,
            admin_task,
            tcp,
            listeners: listeners.collect(),
            shards: count,
            registry,
            successor,
            drain: drain.clone(),
        };
        drop(drain.spawn_service("hand-over", office.run(estate)));
        starting.release();
        let keeper = keeper_handle;
        let app = Self { config, drain, readiness, shards, front, metrics, source, keeper, levels };
        let Listening { https, http, tunnel, admin } = app.listening();
        tracing::info!(?https, ?http, ?tunnel, ?admin, shards = count, pin = %identity.pin(), "the edge is up");
        Ok(app)
    }

    pub fn listening(&self) -> Listening {
        self.source.listening()
    }

    pub fn status(&self) -> Status {
        self.source.status()
    }

    /// To stop the edge from elsewhere: its [`Drain::start`] ends [`App::run`] like a signal.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Serves until a signal asks for the end, then stops in stages. `reload` reads the configuration again.
    pub async fn run(
        mut self,
        signals: &mut Signals,
        reload: impl Fn() -> Result<Config, ConfigError>,
    ) -> Finished {
        let drain = self.drain.clone();
        signals.until_stop(&drain, || self.reload(&reload)).await;
        let grace = if drain.is_at_leisure() { self.config.hand_over_grace } else { self.config.grace };
        let stopping = Stopping { grace, in_flight: drain.tasks() as u64 };
        signals.until_stopped(&drain, stopping, self.stop(stopping.grace)).await
    }

    /// Stops in stages: no new work, what is in flight up to `grace`, then force.
    pub async fn stop(self, grace: Duration) -> Finished {
        self.readiness.fail();
        let finished = self.drain.finish(grace).await;
        let threads: Vec<_> = self.shards.into_iter().map(Thread::stop).collect();
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(std::thread::JoinHandle::join).all(|r| r.is_ok())
        });
        if !joined.await.unwrap_or(false) {
            tracing::error!("a shard's thread panicked");
        }
        tracing::info!(?finished, "stopped");
        finished
    }

    /// Takes over what can change while it runs: tunnels, certificates, log level, grace. Names what cannot.
    fn reload(&mut self, read: impl Fn() -> Result<Config, ConfigError>) {
        let new = match read() {
            Ok(new) => new,
            Err(error) => {
                self.metrics.reload_errors.inc();
                return tracing::error!(%error, "the configuration is wrong: nothing was changed");
            }
        };
        let registry = &self.source.registry;
        // All is looked at before anything is taken over.
        let declared = Declared::read(&new).map_err(anyhow::Error::from).and_then(|declared| {
            registry.check(&declared)?;
            self.front.reload(&new)?;
            registry.declare(declared.clone(), unix_now())?;
            Ok(declared)
        });
        match declared {
            Ok(declared) => self.keeper.note(Note::Declared(declared)),
            Err(error) => {
                self.metrics.reload_errors.inc();
                return tracing::error!("{error:#}: nothing was changed");
            }
        }
        if let Some(levels) = &self.levels
            && new.log.level != self.config.log.level
            && let Err(error) = levels.set(&new.log.level)
        {
            tracing::error!("{error}: the log level was not changed");
        }
        let (old, kept) = (&self.config, fixed(&new));
        let changed: Vec<_> =
            fixed(old).into_iter().zip(kept).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        if !changed.is_empty() {
            tracing::warn!(keys = changed.join(", "), "these keys take effect at the next start only");
        }
        self.config.tunnels = new.tunnels;
        self.config.certificates = new.certificates;
        self.config.certificate_folders = new.certificate_folders;
        self.config.log = new.log;
        self.config.grace = new.grace;
        self.config.hand_over_grace = new.hand_over_grace;
        tracing::info!("the configuration was read again");
    }
}

/// The listeners once more, for the process after this one.
fn to_hand_over(sockets: &[Sockets]) -> io::Result<Vec<(Kind, u16, TcpListener)>> {
    let mut all = Vec::new();
    for (shard, Sockets { public, .. }) in (0..).zip(sockets) {
        let kinds =
            [(Kind::Https, &public.https), (Kind::Http, &public.http), (Kind::Tunnel, &public.tunnel)];
        for (kind, listeners) in kinds {
            for listener in listeners {
                all.push((kind, shard, listener.try_clone()?));
            }
        }
    }
    Ok(all)
}

/// Where who comes unencrypted is sent.
fn gate(config: &Config, listening: &Listening, certified: Certified) -> Gate {
    let own = || listening.https.first().and_then(|address| NonZeroU16::new(address.port()));
    let https = (!listening.https.is_empty()).then(|| config.https_port.or_else(own)).flatten();
    Gate { https, certified }
}

/// What is fixed once the edge runs, by key.
fn fixed(config: &Config) -> [(&'static str, String); 16] {
    [
        ("data", format!("{:?}", config.data)),
        ("store", format!("{:?}", config.store)),
        ("storePasswordFile", format!("{:?}", config.store_password_file)),
        ("address", format!("{:?}", config.address)),
        ("fellows", format!("{:?}", config.fellows)),
        ("listen", format!("{:?}", config.listen)),
        ("admin", config.admin.to_string()),
        ("shards", format!("{:?}", config.shards)),
        ("http3", config.http3.to_string()),
        ("earlyData", config.early_data.to_string()),
        ("httpsPort", format!("{:?}", config.https_port)),
        ("trustedProxies", format!("{:?}", config.trusted_proxies)),
        ("accessLog", format!("{:?}", config.access_log)),
        ("limits", format!("{:?}", config.limits)),
        ("acme", format!("{:?}", config.acme)),
        ("dev", config.dev.to_string()),
    ]
}

/// Makes the folder for its owner alone, if it is not there.
///
/// # Errors
/// When it cannot be made; the text names the mend.
pub(crate) fn make_data_folder(path: &Path) -> Result<()> {
    let result = DirBuilder::new().recursive(true).mode(0o700).create(path);
    match result {
        Ok(()) => Ok(()),
        Err(error) => {
            let mend = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "run as a user who may, or give another folder with --data"
                }
                io::ErrorKind::StorageFull => "the disk is full: free some space",
                io::ErrorKind::ReadOnlyFilesystem => {
                    "the file system is read-only: give another folder with --data"
                }
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                    "something else has this name: give another folder with --data"
                }
                _ => "give another folder with --data",
            };
            bail!("cannot make the data folder {}: {error}; {mend}", path.display())
        }
    }
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| {
        format!("cannot write to the data folder {}: make it writable for this user", folder.display())
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => bail!(
            "another edge runs on the data folder {}: stop it, or give each its own with --data",
            folder.display()
        ),
        Err(fs::TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
    }
}
