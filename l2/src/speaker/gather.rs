//! The watches of Services, EndpointSlices, Nodes, pools and advertisements: each object is reduced at once to what
//! decides an announcement, and nothing else of it is kept; what follows from all of them is published.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use causeway_daemon::{
    drain::Drain,
    readiness::{Hold, Readiness},
};
use kube::{Api, Client, Resource, ResourceExt, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::{
    index::{Advertisement, Index, Node, Pool, Service, Slice},
    objects,
    options::Options,
    reduce,
    wanted::{ServiceKey, Wanted},
};
use crate::{
    api::{IPAddressPool, L2Advertisement},
    follow::{Change, Following, Presence, follow},
    node_name::NodeName,
};

const QUEUE: usize = 256;
/// A page of a list is in memory as a whole: the smaller, the less; a thousand Services are ten questions.
pub(super) const PAGE: u32 = 100;
/// What holds while a watch fails.
pub(super) const MEANWHILE: &str = "what is announced stays announced";
/// Changes that come together are one change.
const GATHER: Duration = Duration::from_millis(5);
/// A large first list arrives in pages; so long is waited at most before what is known is used.
const GATHER_AT_MOST: usize = 2048;
/// After a computation over everything follows a rest of so many times its length: a crowd of changes takes a tenth of
/// the time, not all of it. The wire thread's part in it is about as long.
const REST: u32 = 9;
const REST_AT_MOST: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Update {
    Begin(Kind),
    Seen(Kind, String, Box<Object>),
    Gone(Kind, String),
    Complete(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Services,
    EndpointSlices,
    Nodes,
    Pools,
    Advertisements,
}

const KINDS: [Kind; 5] =
    [Kind::Services, Kind::EndpointSlices, Kind::Nodes, Kind::Pools, Kind::Advertisements];

#[derive(Debug)]
enum Object {
    Service(Service),
    /// The Service it belongs to, and the nodes that serve.
    Slice(ServiceKey, Vec<NodeName>),
    Node(Node),
    Pool(Pool),
    Advertisement(Advertisement),
}

/// Starts the watches; the receiver gets its first value when each of them has seen its first list.
pub(super) fn start(
    client: &Client,
    options: &Options,
    readiness: &Readiness,
    drain: &Drain,
) -> watch::Receiver<Option<Arc<Wanted>>> {
    let (sender, updates) = mpsc::channel(QUEUE);
    let (out, wanted) = watch::channel(None);
    let starter = Starter { sender, drain };
    let class = options.class.clone().filter(|class| !class.is_empty());
    let any = watcher::Config::default;
    let services = any().fields("spec.type=LoadBalancer");
    starter.watch(Kind::Services, Api::<objects::Service>::all(client.clone()), services, move |service| {
        reduce::service(&service, class.as_deref()).map(Object::Service)
    });
    let slices = any().labels("kubernetes.io/service-name");
    starter.watch(
        Kind::EndpointSlices,
        Api::<objects::EndpointSlice>::all(client.clone()),
        slices,
        |slice| reduce::slice(&slice).map(|(service, nodes)| Object::Slice(service, nodes)),
    );
    let bar = options.ignore_exclude_label;
    starter.watch(Kind::Nodes, Api::<objects::Node>::all(client.clone()), any(), move |node| {
        Some(Object::Node(reduce::node(&node, bar)))
    });
    let pools = Api::<IPAddressPool>::namespaced(client.clone(), &options.namespace);
    starter.watch(Kind::Pools, pools, any(), |pool| Some(Object::Pool(reduce::pool(&pool))));
    let advertisements = Api::<L2Advertisement>::namespaced(client.clone(), &options.namespace);
    starter.watch(Kind::Advertisements, advertisements, any(), |advertisement| {
        reduce::advertisement(&advertisement).map(Object::Advertisement)
    });
    let node = NodeName::from(options.node_name.as_str());
    let slice_of = BTreeMap::new();
    let gather =
        Gather { index: Index::default(), slice_of, seen: KINDS.map(|_| None), missing: KINDS.into(), node };
    let task = gather.run(updates, out, readiness.hold("services"), drain.clone());
    drop(drain.spawn("index", task));
    wanted
}

struct Starter<'a> {
    sender: mpsc::Sender<Update>,
    drain: &'a Drain,
}

impl Starter<'_> {
    fn watch<K, F>(&self, kind: Kind, api: Api<K>, config: watcher::Config, mut map: F)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        F: FnMut(K) -> Option<Object> + Send + 'static,
    {
        let following = Following {
            kind: format!("{kind:?}"),
            api,
            config,
            page: PAGE,
            presence: Presence::Certain,
            meanwhile: MEANWHILE,
            refused: None,
        };
        let sender = self.sender.clone();
        let task =
            follow(following, self.drain.clone(), async move |change| match update(kind, change, &mut map) {
                Some(update) => sender.send(update).await.is_ok(),
                None => true,
            });
        drop(self.drain.spawn("watch", task));
    }
}

fn update<K: Resource>(
    kind: Kind,
    change: Change<K>,
    map: &mut impl FnMut(K) -> Option<Object>,
) -> Option<Update> {
    Some(match change {
        Change::Begin => Update::Begin(kind),
        Change::Listed(object) | Change::Seen(object) => {
            let key = key(kind, &object);
            match map(object) {
                Some(object) => Update::Seen(kind, key, Box::new(object)),
                None => Update::Gone(kind, key),
            }
        }
        Change::Gone(object) => Update::Gone(kind, key(kind, &object)),
        Change::Complete => Update::Complete(kind),
        Change::Absent => return None,
    })
}

fn key<K: Resource>(kind: Kind, object: &K) -> String {
    // Pools and advertisements are all in one namespace, and named without it.
    let bare = matches!(kind, Kind::Pools | Kind::Advertisements);
    match &object.meta().namespace {
        Some(namespace) if !bare => format!("{namespace}/{}", object.name_any()),
        _ => object.name_any(),
    }
}

/// Applies updates to the index and publishes what follows.
struct Gather {
    index: Index,
    /// Which Service each slice belongs to.
    slice_of: BTreeMap<Arc<str>, Arc<ServiceKey>>,
    /// During a list: what it has shown so far.
    seen: [Option<BTreeSet<String>>; KINDS.len()],
    /// Kinds whose first list is not complete.
    missing: BTreeSet<Kind>,
    node: NodeName,
}

impl Gather {
    async fn run(
        mut self,
        mut updates: mpsc::Receiver<Update>,
        out: watch::Sender<Option<Arc<Wanted>>>,
        hold: Hold,
        drain: Drain,
    ) {
        let mut hold = Some(hold);
        let mut rested = Instant::now();
        loop {
            let update = tokio::select! {
                biased;
                () = drain.draining() => return,
                update = updates.recv() => update,
            };
            let Some(update) = update else { return };
            let mut changed = self.apply(update);
            tokio::time::sleep_until((Instant::now() + GATHER).max(rested).into()).await;
            for _ in 0..GATHER_AT_MOST {
                let Ok(update) = updates.try_recv() else { break };
                changed |= self.apply(update);
            }
            if !changed || !self.missing.is_empty() {
                continue;
            }
            drop(hold.take());
            let start = Instant::now();
            let wanted = Some(Arc::new(self.index.wanted(&self.node)));
            out.send_if_modified(|known| {
                let changed = *known != wanted;
                *known = wanted;
                changed
            });
            rested = Instant::now() + (start.elapsed() * REST).min(REST_AT_MOST);
        }
    }

    /// Whether anything that decides is different now.
    fn apply(&mut self, update: Update) -> bool {
        match update {
            Update::Begin(kind) => {
                self.seen[kind as usize] = Some(BTreeSet::new());
                false
            }
            Update::Seen(kind, key, object) => {
                if let Some(seen) = &mut self.seen[kind as usize] {
                    seen.insert(key.clone());
                }
                self.put(kind, &key, *object)
            }
            Update::Gone(kind, key) => self.remove(kind, &key),
            Update::Complete(kind) => {
                let seen = self.seen[kind as usize].take().unwrap_or_default();
                let gone: Vec<_> = self.keys(kind).into_iter().filter(|key| !seen.contains(key)).collect();
                let removed = gone.iter().fold(false, |removed, key| self.remove(kind, key) | removed);
                self.missing.remove(&kind) || removed
            }
        }
    }

    fn put(&mut self, kind: Kind, key: &str, object: Object) -> bool {
        match object {
            Object::Service(service) => {
                let Some(key) = service_key(key).map(|key| self.index.key(key)) else { return false };
                self.index.put_service(key, service)
            }
            Object::Slice(service, nodes) => {
                if self.slice_of.get(key).is_some_and(|before| **before != service) {
                    self.remove(kind, key);
                }
                let service = self.index.key(service);
                let nodes = nodes.into_iter().map(|name| self.index.node_name(name)).collect();
                let slice = Slice { name: key.into(), nodes };
                self.slice_of.insert(slice.name.clone(), service.clone());
                let slices = self.index.endpoints.entry(service).or_default();
                match slices.iter_mut().find(|known| known.name == slice.name) {
                    Some(known) => std::mem::replace(known, slice.clone()) != slice,
                    None => {
                        slices.push(slice);
                        true
                    }
                }
            }
            Object::Node(node) => {
                let name = self.index.node_name(key.into());
                self.index.nodes.insert(name, node.clone()).as_ref() != Some(&node)
            }
            Object::Pool(pool) => self.index.put_pool(key, pool),
            Object::Advertisement(ad) => {
                self.index.advertisements.insert(key.to_owned(), ad.clone()).as_ref() != Some(&ad)
            }
        }
    }

    fn remove(&mut self, kind: Kind, key: &str) -> bool {
        match kind {
            Kind::Services => service_key(key).is_some_and(|key| self.index.remove_service(&key)),
            Kind::EndpointSlices => {
                let Some(service) = self.slice_of.remove(key) else { return false };
                let Some(slices) = self.index.endpoints.get_mut(&service) else { return false };
                slices.retain(|slice| &*slice.name != key);
                if slices.is_empty() {
                    self.index.endpoints.remove(&service);
                }
                true
            }
            Kind::Nodes => self.index.nodes.remove(key).is_some(),
            Kind::Pools => self.index.remove_pool(key),
            Kind::Advertisements => self.index.advertisements.remove(key).is_some(),
        }
    }

    fn keys(&self, kind: Kind) -> Vec<String> {
        match kind {
            Kind::Services => self.index.services.keys().map(ToString::to_string).collect(),
            Kind::EndpointSlices => self.slice_of.keys().map(ToString::to_string).collect(),
            Kind::Nodes => self.index.nodes.keys().map(ToString::to_string).collect(),
            Kind::Pools => self.index.pools.keys().map(ToString::to_string).collect(),
            Kind::Advertisements => self.index.advertisements.keys().cloned().collect(),
        }
    }
}

fn service_key(key: &str) -> Option<ServiceKey> {
    let (namespace, name) = key.split_once('/')?;
    Some(ServiceKey { namespace: namespace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests;
