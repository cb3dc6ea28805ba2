//! Puts the allocator together: client, watches, election, loop, admin server; and takes it apart in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use causeway_daemon::admin::{Admin, BoundAdmin};
use causeway_daemon::drain::{Drain, Finished};
use causeway_daemon::readiness::Readiness;
use causeway_daemon::telemetry::Levels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::events::Publisher;
use super::index::{Index, Settings};
use super::inputs;
use super::metrics::Metrics;
use super::options::Options;
use super::run::Loop;
use super::writer::Writer;
use crate::call::Outages;
use crate::lease::{Elector, Standing};

/// An allocator that runs.
#[derive(Debug)]
pub struct App {
    drain: Drain,
    readiness: Readiness,
    standing: watch::Receiver<Standing>,
    admin: Option<SocketAddr>,
}

impl App {
    /// Writes under way have at most this long; no lease of ours outlives it by much.
    pub const GRACE: Duration = Duration::from_secs(12);

    /// Starts everything; returns when the admin server listens and the watches are under way.
    ///
    /// # Errors
    /// When the admin address cannot be had.
    pub async fn start(client: Client, options: &Options, levels: Option<Levels>) -> anyhow::Result<Self> {
        let (drain, readiness) = (Drain::new(), Readiness::new());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        if let Some(levels) = &levels {
            levels.register(&mut registry, "causeway_allocator");
        }
        let admin = Admin::new(Arc::new(registry), readiness.clone(), levels);
        let admin: BoundAdmin = admin.bind(options.admin).await.context("the admin server does not start")?;
        let address = admin.local_addr();
        drop(admin.run(&drain));

        let identity = identity(options);
        let class = options.class.as_deref().filter(|class| !class.is_empty());
        let watches = inputs::start(&client, &options.namespace, class, &readiness, &drain);
        let standing = elect(&client, options, &identity, watches.synced, &drain);
        let owner = owner(options);
        let outages = Outages::default();
        let work = Loop {
            index: Index::new(Settings { cool_down: options.cool_down, reserved: options.reserve.clone() }),
            updates: watches.updates,
            standing: standing.clone(),
            writer: Writer::new(client.clone(), options.namespace.clone(), owner, outages.clone()),
            publisher: Publisher::start(client, identity, outages, &drain),
            metrics,
        };
        drop(drain.spawn("allocator", work.run(drain.clone())));
        Ok(Self { drain, readiness, standing, admin: address })
    }

    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Whether this replica may write now.
    pub fn leads(&self) -> bool {
        self.standing.borrow().leads(std::time::Instant::now())
    }

    /// Tasks that panicked; each was ended alone.
    pub fn panics(&self) -> u64 {
        self.drain.panics()
    }

    /// To end it at once, writes under way included: [`Drain::force`].
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Stops in stages: no new writes, those under way are finished, the lease is released.
    pub async fn stop(&self) -> Finished {
        self.readiness.fail();
        self.drain.finish(Self::GRACE).await
    }
}

/// Takes part in the election as soon as everything has been seen once: a leader that knows half of the Services
/// would give away the addresses of the other half.
fn elect(
    client: &Client,
    options: &Options,
    identity: &str,
    mut synced: inputs::Synced,
    drain: &Drain,
) -> watch::Receiver<Standing> {
    let elector = Elector::new(client.clone(), &options.namespace, &options.lease, identity);
    let (sender, standing) = watch::channel(Standing::default());
    let stop = drain.clone();
    drop(drain.spawn("election", async move {
        tokio::select! {
            () = stop.draining() => return,
            () = synced.wait() => {}
        }
        let mut inner = elector.start(&stop);
        while inner.changed().await.is_ok() {
            let now = *inner.borrow_and_update();
            sender.send_replace(now);
        }
    }));
    standing
}

fn identity(options: &Options) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let name = options.identity.clone().unwrap_or_else(|| host().unwrap_or_else(|_| "allocator".to_owned()));
    // Two processes with one name would both believe that the lease is theirs.
    format!("{name}_{:08x}", rand::random::<u32>())
}

fn owner(options: &Options) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: options.identity.clone()?,
        uid: options.pod_uid.clone()?,
        ..OwnerReference::default()
    })
}
