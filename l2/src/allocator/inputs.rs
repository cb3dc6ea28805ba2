//! What the allocator watches: each kind is reduced at once to small updates, and nothing else of it is kept.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use causeway_daemon::drain::Drain;
use causeway_daemon::readiness::{Hold, Readiness};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::cluster::node_entries;
use super::gateways::Report;
use super::names::STATE_NAME;
use super::observe::Observed;
use crate::api::{ConfigurationState, ConfigurationStateStatus, IPAddressPool, L2Advertisement, labels};
use crate::follow::{Change, Following, Presence, follow};
use crate::pool::Use;
use crate::range::IpRange;

/// How many updates may wait for the loop; beyond it the watches wait, and the API server with them.
const QUEUE: usize = 1024;
/// Objects per page of a list.
const PAGE: u32 = 200;

const REFUSED: &str =
    "the allocator's Role lacks `list` or `watch` for it, apply the manifests of this version";

/// What a watch says.
#[derive(Debug)]
pub(crate) enum Update {
    /// A list begins: what it will not show is gone.
    Restart(&'static str),
    Seen(Watched),
    /// Out of sight, and in which version of the object, where that is known.
    Gone(&'static str, String, Option<String>),
    /// The list is complete.
    Listed(&'static str),
}

/// An object, reduced to what matters.
#[derive(Debug)]
pub(crate) enum Watched {
    Service(Box<Observed>),
    Pool(Box<IPAddressPool>),
    Namespace(String, BTreeMap<String, String>),
    Node(String, Vec<(IpRange, Use)>),
    Advertisement(Box<L2Advertisement>),
    Gateways(String, Report),
    /// Our own ConfigurationState; nothing when it is not as we make it.
    State(Option<Box<ConfigurationStateStatus>>),
}

impl Watched {
    pub(super) const SERVICE: &'static str = "services";
    pub(super) const POOL: &'static str = "ipaddresspools";
    pub(super) const NAMESPACE: &'static str = "namespaces";
    pub(super) const NODE: &'static str = "nodes";
    pub(super) const ADVERTISEMENT: &'static str = "l2advertisements";
    pub(super) const GATEWAYS: &'static str = "configurationstates";
    pub(super) const STATE: &'static str = "configurationstate";

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Service(_) => Self::SERVICE,
            Self::Pool(_) => Self::POOL,
            Self::Namespace(..) => Self::NAMESPACE,
            Self::Node(..) => Self::NODE,
            Self::Advertisement(_) => Self::ADVERTISEMENT,
            Self::Gateways(..) => Self::GATEWAYS,
            Self::State(_) => Self::STATE,
        }
    }

    pub(super) fn key(&self) -> String {
        match self {
            Self::Service(observed) => observed.key().to_string(),
            Self::Pool(pool) => pool.name_any(),
            Self::Advertisement(advertisement) => advertisement.name_any(),
            Self::Namespace(name, _) | Self::Node(name, _) | Self::Gateways(name, _) => name.clone(),
            Self::State(_) => Self::STATE.to_owned(),
        }
    }
}

/// Where the updates come out, and whether every watch that decides has shown its first list.
#[derive(Debug)]
pub(super) struct Watches {
    pub(super) updates: mpsc::Receiver<Update>,
    pub(super) synced: Synced,
}

/// Resolves when all first lists are there.
#[derive(Clone, Debug)]
pub(super) struct Synced(watch::Receiver<usize>);

impl Synced {
    pub(super) async fn wait(&mut self) {
        // An error means that the watches ended, which they do only in a drain.
        let _ = self.0.wait_for(|missing| *missing == 0).await;
    }
}

/// Starts all watches.
pub(super) fn start(
    client: &Client,
    namespace: &str,
    class: Option<&str>,
    readiness: &Readiness,
    drain: &Drain,
) -> Watches {
    let (sender, updates) = mpsc::channel(QUEUE);
    let (missing, synced) = watch::channel(6);
    let starter = Starter { sender, missing: Arc::new(missing), drain, readiness };
    let class: Option<Arc<str>> = class.map(Arc::from);

    let services = watcher::Config::default().fields("spec.type=LoadBalancer");
    starter.watch(Watched::SERVICE, Api::<Service>::all(client.clone()), services, move |service| {
        Observed::new(&service, class.as_deref()).map(|observed| Watched::Service(Box::new(observed)))
    });
    let any = watcher::Config::default;
    starter.watch(
        Watched::POOL,
        Api::<IPAddressPool>::namespaced(client.clone(), namespace),
        any(),
        |mut pool| {
            prune(&mut pool);
            Some(Watched::Pool(Box::new(pool)))
        },
    );
    starter.watch(
        Watched::ADVERTISEMENT,
        Api::<L2Advertisement>::namespaced(client.clone(), namespace),
        any(),
        |mut advertisement| {
            prune(&mut advertisement);
            Some(Watched::Advertisement(Box::new(advertisement)))
        },
    );
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
    starter.watch(Watched::NAMESPACE, namespaces, any(), |namespace| {
        let labels = namespace.labels().clone();
        Some(Watched::Namespace(namespace.name_any(), labels))
    });
    starter.watch(Watched::NODE, Api::<Node>::all(client.clone()), any(), |node| {
        Some(Watched::Node(node.name_any(), node_entries(&node)))
    });
    // An older MetalLB has not installed this kind: then nothing waits for it. Else nothing is given before the gateways
    // are known.
    let states = Api::<ConfigurationState>::namespaced(client.clone(), namespace);
    starter.optional(Watched::GATEWAYS, true, states.clone(), any(), |state| {
        Some(Watched::Gateways(state.name_any(), Report::of(&state)))
    });
    let own = any().fields(&format!("metadata.name={STATE_NAME}"));
    starter.optional(Watched::STATE, false, states, own, |state| {
        // Without its label it is written anew, as if it were not there.
        let whole = state.labels().get(labels::COMPONENT_TYPE).is_some_and(|of| of == "controller");
        Some(Watched::State(whole.then(|| Box::new(state.status.unwrap_or_default()))))
    });
    Watches { updates, synced: Synced(synced) }
}

struct Starter<'a> {
    sender: mpsc::Sender<Update>,
    missing: Arc<watch::Sender<usize>>,
    drain: &'a Drain,
    readiness: &'a Readiness,
}

impl Starter<'_> {
    fn watch<K, F>(&self, kind: &'static str, api: Api<K>, config: watcher::Config, map: F)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        F: FnMut(K) -> Option<Watched> + Send + 'static,
    {
        let first = Some(self.first(kind));
        self.follow(kind, Presence::Certain, first, api, config, map);
    }

    /// A kind that the API server may lack; `awaited` until it is listed or known to be lacking.
    fn optional<K, F>(&self, kind: &'static str, awaited: bool, api: Api<K>, config: watcher::Config, map: F)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        F: FnMut(K) -> Option<Watched> + Send + 'static,
    {
        let first = awaited.then(|| self.first(kind));
        self.follow(kind, Presence::Optional, first, api, config, map);
    }

    fn first(&self, kind: &'static str) -> First {
        First { hold: self.readiness.hold(kind), missing: self.missing.clone() }
    }

    fn follow<K, F>(
        &self,
        kind: &'static str,
        presence: Presence,
        mut first: Option<First>,
        api: Api<K>,
        config: watcher::Config,
        mut map: F,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        F: FnMut(K) -> Option<Watched> + Send + 'static,
    {
        let following = Following {
            kind: kind.to_owned(),
            api,
            config,
            page: PAGE,
            presence,
            meanwhile: "what is known stays in force",
            refused: Some(REFUSED),
        };
        let sender = self.sender.clone();
        let task = follow(following, self.drain.clone(), async move |change| {
            let is_listed = matches!(change, Change::Complete | Change::Absent);
            if let Some(update) = update(kind, change, &mut map)
                && sender.send(update).await.is_err()
            {
                return false;
            }
            if is_listed && let Some(first) = first.take() {
                first.done();
            }
            true
        });
        drop(self.drain.spawn(kind, task));
    }
}

/// Held until the first list of a kind is complete, or the kind is known to be lacking.
struct First {
    hold: Hold,
    missing: Arc<watch::Sender<usize>>,
}

impl First {
    fn done(self) {
        self.hold.release();
        self.missing.send_modify(|missing| *missing -= 1);
    }
}

fn update<K: Resource>(
    kind: &'static str,
    change: Change<K>,
    map: &mut impl FnMut(K) -> Option<Watched>,
) -> Option<Update> {
    Some(match change {
        Change::Begin => Update::Restart(kind),
        Change::Listed(object) | Change::Seen(object) => {
            let (key, version) = (key(kind, &object), object.resource_version());
            map(object).map_or(Update::Gone(kind, key, version), Update::Seen)
        }
        Change::Gone(object) => Update::Gone(kind, key(kind, &object), object.resource_version()),
        Change::Complete => Update::Listed(kind),
        Change::Absent => return None,
    })
}

fn key<K: Resource>(kind: &'static str, object: &K) -> String {
    let name = object.meta().name.as_deref().unwrap_or_default();
    match object.meta().namespace.as_deref() {
        Some(namespace) if kind == Watched::SERVICE => format!("{namespace}/{name}"),
        _ if kind == Watched::STATE => Watched::STATE.to_owned(),
        _ => name.to_owned(),
    }
}

/// Drops what nobody reads, before the object is kept.
fn prune<K: Resource>(object: &mut K) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.annotations = None;
    meta.owner_references = None;
}
