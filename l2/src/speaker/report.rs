//! Tells the cluster what the wire thread does: ServiceL2Status as MetalLB writes it, events, conditions on Services
//! whose address is in conflict, and what this node's kernel says. Writes on change, and again what somebody else deletes;
//! what fails is tried again.

mod conditions;
mod node_state;
mod restore;
mod statuses;
mod tell;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use causeway_daemon::{backoff::Backoff, drain::Drain};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{
    isolation::Isolation,
    options::Options,
    record::Epochs,
    state::{Interfaces, State},
    wanted::{ServiceKey, Wanted},
    written::Written,
};
use crate::{api::GROUP, mac::Mac, node_name::NodeName, ownership::Gain};
use node_state::NodeState;
use restore::Restored;

const MANAGER: &str = "causeway-speaker";
/// Changes that come together are written together.
const GATHER: Duration = Duration::from_millis(30);
/// The kernel's routes and switches are looked at so often.
const HOST_EVERY: Duration = Duration::from_secs(60);
/// A write in the last stage of a stop, or while this node is cut off.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is said of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Each with the epoch of its claim and its interfaces, in order; one as a rule, a second one of the other family.
    addresses: Vec<(IpAddr, u64, Interfaces)>,
    /// Whether the advertisements name interfaces.
    named: bool,
    since: i64,
    /// Of the last address.
    why: Gain,
}

impl Entry {
    /// As MetalLB: no interfaces means all of them.
    fn interfaces(&self) -> BTreeSet<&String> {
        self.addresses.iter().filter(|_| self.named).flat_map(|(.., on)| on.values()).collect()
    }

    fn epochs(&self) -> Epochs {
        let mut epochs: Epochs = self.addresses.iter().map(|(vip, epoch, _)| (*vip, *epoch)).collect();
        epochs.sort_unstable();
        epochs
    }
}

type Entries = BTreeMap<Arc<ServiceKey>, Entry>;

/// Everything that should be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Desired {
    statuses: Entries,
    /// Services whose address is not announced because a foreign host uses it; and whose.
    conflicts: BTreeMap<Arc<ServiceKey>, (IpAddr, Mac)>,
    /// Claims of a foreign host that are defended.
    defended: BTreeMap<Arc<ServiceKey>, (IpAddr, Mac)>,
    /// Claims of a speaker that is not heard, and its node.
    contested: BTreeMap<Arc<ServiceKey>, (IpAddr, NodeName)>,
    /// Services that no node can announce, reported by this one.
    stranded: BTreeSet<Arc<ServiceKey>>,
}

/// What the reporter looks at.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) wanted: watch::Receiver<Option<Arc<Wanted>>>,
    pub(super) written: Arc<watch::Sender<Written>>,
    pub(super) isolation: watch::Receiver<Isolation>,
}

pub(super) struct Reporter {
    client: Client,
    options: Options,
    sources: Sources,
    /// What was written here, or told in an event.
    said: Desired,
    /// Conditions of ours that were seen on their Services.
    seen_in_conflict: BTreeSet<Arc<ServiceKey>>,
    node: NodeState,
    restored: Restored,
    /// The last event could not be published; that is said once.
    events_fail: bool,
}

impl Reporter {
    pub(super) fn new(client: Client, options: Options, sources: Sources) -> Self {
        Self {
            client,
            options,
            sources,
            said: Desired::default(),
            seen_in_conflict: BTreeSet::new(),
            node: NodeState::default(),
            restored: Restored::default(),
            events_fail: false,
        }
    }

    pub(super) async fn run(mut self, drain: Drain) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut complained = false;
        let mut host = tokio::time::interval(HOST_EVERY);
        let mut retry: Option<Duration> = None;
        let mut written = self.sources.written.subscribe();
        loop {
            let pause = retry.take();
            let Sources { state, wanted, isolation, .. } = &mut self.sources;
            tokio::select! {
                biased;
                () = drain.draining() => break,
                changed = state.changed() => if changed.is_err() { break },
                changed = wanted.changed() => if changed.is_err() { break },
                changed = written.changed() => if changed.is_err() { break },
                changed = isolation.changed() => if changed.is_err() { break },
                _ = host.tick() => {}
                () = async { tokio::time::sleep(pause.unwrap_or_default()).await }, if pause.is_some() => {}
            }
            tokio::time::sleep(GATHER).await;
            written.mark_unchanged();
            let result = tokio::select! {
                biased;
                () = drain.draining() => break,
                result = self.reconcile() => result,
            };
            match result {
                Ok(()) => {
                    backoff.reset();
                    complained = false;
                    retry = self.restored.next(Instant::now());
                }
                Err(error) => {
                    if std::mem::replace(&mut complained, true) {
                        debug!(%error, "the status cannot be written, trying again");
                    } else {
                        warn!(%error, "the status cannot be written, trying again; announcements go on");
                    }
                    retry = Some(backoff.next(&mut rand::rng()));
                }
            }
        }
        let _ = tokio::time::timeout(LAST_WORDS, self.reconcile()).await;
    }

    /// Makes what is written equal to what is.
    async fn reconcile(&mut self) -> Result<(), kube::Error> {
        let wanted = self.sources.wanted.borrow_and_update().clone();
        let state = self.sources.state.borrow_and_update().clone();
        let isolation = self.sources.isolation.borrow_and_update().clone();
        let Some(wanted) = wanted else { return Ok(()) };
        if isolation.is_cut_off() {
            // What is said of VIPs is the others' now; of this node it is told if the API server can be reached all the same.
            return match tokio::time::timeout(LAST_WORDS, self.write_node_state(isolation)).await {
                Ok(written) => written,
                Err(_) => Ok(()),
            };
        }
        let desired = desired(&self.options.node_name, &state, &wanted);
        // What fails for one does not keep the others from being written.
        let node_state = self.write_node_state(isolation).await;
        let statuses = self.write_statuses(&desired.statuses, &state).await;
        let conflicts = self.write_conflicts(&desired, &wanted).await;
        self.tell_contests(&desired).await;
        self.tell_stranded(&desired).await;
        node_state.and(statuses).and(conflicts)
    }

    /// An object of ours, which goes when the pod does.
    fn object(&self, kind: &str, name: &str, labels: &Value) -> Value {
        let mut metadata = json!({ "name": name, "namespace": self.options.namespace, "labels": labels });
        if let (Some(pod), Some(uid)) = (&self.options.pod_name, &self.options.pod_uid) {
            metadata["ownerReferences"] =
                json!([{ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid }]);
        }
        json!({ "apiVersion": format!("{GROUP}/v1beta1"), "kind": kind, "metadata": metadata })
    }
}

fn desired(node: &str, state: &State, wanted: &Wanted) -> Desired {
    let mut desired = Desired::default();
    for (vip, held) in &state.held {
        let Some(place) = wanted.places.get(vip) else { continue };
        for key in &place.services {
            let address = (*vip, state.claim(*vip).map_or(0, |claim| claim.epoch), held.on.clone());
            let named = place.interfaces.is_some();
            match desired.statuses.entry(key.clone()) {
                btree_map::Entry::Vacant(entry) => {
                    let (since, why) = (held.since, held.why.clone());
                    entry.insert(Entry { addresses: vec![address], named, since, why });
                }
                btree_map::Entry::Occupied(mut entry) => {
                    let entry = entry.get_mut();
                    entry.addresses.push(address);
                    entry.named |= named;
                    entry.since = entry.since.max(held.since);
                    entry.why = held.why.clone();
                }
            }
        }
    }
    for (vip, mac) in &state.conflicts {
        let list = if state.in_conflict(*vip) { &mut desired.conflicts } else { &mut desired.defended };
        for key in wanted.places.get(vip).into_iter().flat_map(|place| &place.services) {
            list.insert(key.clone(), (*vip, *mac));
        }
    }
    for (vip, rival) in &state.rivals {
        for key in wanted.places.get(vip).into_iter().flat_map(|place| &place.services) {
            desired.contested.insert(key.clone(), (*vip, rival.clone()));
        }
    }
    let up = |name: &str| name == node || state.members.iter().any(|member| member.up && member.node == name);
    for vip in &state.unable {
        let owned = state.claim(*vip).is_some_and(|claim| claim.owner().is_some());
        let Some(demand) = wanted.demands.get(vip).filter(|_| !owned) else { continue };
        // One node tells for all.
        let first = demand.candidates.keys().find(|name| up(name.as_str()));
        if first.is_some_and(|name| name.as_str() == node) {
            desired
                .stranded
                .extend(wanted.places.get(vip).into_iter().flat_map(|place| place.services.clone()));
        }
    }
    desired
}
