//! Tells the cluster what the wire thread does: ServiceL2Status as MetalLB writes it, events, conditions on Services
//! whose address is in conflict, and what this node's kernel says. Writes on change only; what fails is tried again.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use causeway_daemon::{backoff::Backoff, drain::Drain};
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{
    host::Host,
    objects,
    options::Options,
    record,
    state::{self, Interfaces, State},
    wanted::{ServiceKey, Wanted},
    watches::PAGE,
};
use crate::{
    api::{ConfigurationState, GROUP, ServiceL2Status, annotations, conditions, labels},
    chance::mix,
    mac::Mac,
    ownership::Gain,
};

const MANAGER: &str = "causeway-speaker";
/// The component that tools for MetalLB look for.
const SOURCE: &str = "metallb-speaker";
/// Changes that come together are written together.
const GATHER: Duration = Duration::from_millis(30);
/// The kernel's routes and switches are looked at so often.
const HOST_EVERY: Duration = Duration::from_secs(60);
/// A write in the last stage of a stop.
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
    /// Services that no node can announce, reported by this one.
    stranded: BTreeSet<Arc<ServiceKey>>,
}

pub(super) struct Reporter {
    client: Client,
    options: Options,
    state: watch::Receiver<Arc<State>>,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    written: Desired,
    /// Whether statuses of an earlier process were removed.
    swept: bool,
    host: Option<Host>,
}

impl Reporter {
    pub(super) fn new(
        client: Client,
        options: Options,
        state: watch::Receiver<Arc<State>>,
        wanted: watch::Receiver<Option<Arc<Wanted>>>,
    ) -> Self {
        Self { client, options, state, wanted, written: Desired::default(), swept: false, host: None }
    }

    pub(super) async fn run(mut self, drain: Drain) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut complained = false;
        let mut host = tokio::time::interval(HOST_EVERY);
        let mut retry: Option<Duration> = None;
        loop {
            let pause = retry.take();
            tokio::select! {
                biased;
                () = drain.draining() => break,
                changed = self.state.changed() => if changed.is_err() { break },
                changed = self.wanted.changed() => if changed.is_err() { break },
                _ = host.tick() => {}
                () = async { tokio::time::sleep(pause.unwrap_or_default()).await }, if pause.is_some() => {}
            }
            tokio::time::sleep(GATHER).await;
            let result = tokio::select! {
                biased;
                () = drain.draining() => break,
                result = self.reconcile() => result,
            };
            match result {
                Ok(()) => {
                    backoff.reset();
                    complained = false;
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
        let wanted = self.wanted.borrow_and_update().clone();
        let state = self.state.borrow_and_update().clone();
        let Some(wanted) = wanted else { return Ok(()) };
        let desired = desired(&self.options.node_name, &state, &wanted);
        self.write_statuses(&desired.statuses).await?;
        self.write_conflicts(&desired).await?;
        self.tell_stranded(&desired).await;
        self.write_host().await
    }

    async fn write_statuses(&mut self, desired: &Entries) -> Result<(), kube::Error> {
        let api: Api<ServiceL2Status> = Api::namespaced(self.client.clone(), &self.options.namespace);
        if !self.swept {
            self.sweep(&api, desired).await?;
            self.swept = true;
        }
        let gone: Vec<_> =
            self.written.statuses.keys().filter(|key| !desired.contains_key(*key)).cloned().collect();
        for key in gone {
            delete(&api, &status_name(&self.options.node_name, &key)).await?;
            self.written.statuses.remove(&key);
        }
        for (key, entry) in desired {
            if self.written.statuses.get(key) == Some(entry) {
                continue;
            }
            let first = !self.written.statuses.contains_key(key);
            self.write_status(&api, key, entry).await?;
            self.written.statuses.insert(key.clone(), entry.clone());
            if first {
                let message =
                    format!("announcing from node \"{}\" with protocol \"layer2\"", self.options.node_name);
                self.tell(key, Tone::Normal, "nodeAssigned", message).await;
            }
            // A node that died cannot take its own status back.
            if let Some(from) = state::owner_before(&entry.why) {
                delete(&api, &status_name(from.as_str(), key)).await?;
            }
        }
        Ok(())
    }

    /// Removes what an earlier process on this node left.
    async fn sweep(&self, api: &Api<ServiceL2Status>, desired: &Entries) -> Result<(), kube::Error> {
        let node = &self.options.node_name;
        let names: BTreeSet<_> = desired.keys().map(|key| status_name(node, key)).collect();
        let written: Api<objects::Status> = Api::namespaced(self.client.clone(), &self.options.namespace);
        let mut ours = ListParams::default().labels(&format!("{}={node}", labels::NODE)).limit(PAGE);
        loop {
            let page = written.list(&ours).await?;
            for old in page.items.iter().map(ResourceExt::name_any).filter(|name| !names.contains(name)) {
                delete(api, &old).await?;
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => ours = ours.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    async fn write_status(
        &self,
        api: &Api<ServiceL2Status>,
        key: &ServiceKey,
        entry: &Entry,
    ) -> Result<(), kube::Error> {
        let (node, name) = (&self.options.node_name, status_name(&self.options.node_name, key));
        let labels = json!({
            labels::NODE: node, labels::SERVICE_NAME: key.name, labels::SERVICE_NAMESPACE: key.namespace,
        });
        let mut object = self.object("ServiceL2Status", &name, &labels);
        let boot = self.state.borrow().boot;
        let epochs = entry.addresses.iter().map(|(vip, epoch, _)| (*vip, *epoch)).collect();
        object["metadata"]["annotations"] = json!({ annotations::CLAIMS: record::encode(boot, &epochs) });
        object["spec"] = json!({});
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&object)).await?;
        let since = Timestamp::from_millisecond(entry.since).map(|at| at.to_string()).unwrap_or_default();
        let interfaces: Vec<_> = entry.interfaces().iter().map(|name| json!({ "name": name })).collect();
        let addresses: Vec<_> = entry.addresses.iter().map(|(vip, ..)| vip).collect();
        let status = json!({
            "apiVersion": format!("{GROUP}/v1beta1"), "kind": "ServiceL2Status", "metadata": { "name": name },
            "status": {
                "node": node, "serviceName": key.name, "serviceNamespace": key.namespace,
                "interfaces": interfaces, "addresses": addresses, "since": since,
                "reason": state::reason(&entry.why),
            },
        });
        api.patch_status(&name, &params, &Patch::Apply(&status)).await.map(drop)
    }

    async fn write_conflicts(&mut self, desired: &Desired) -> Result<(), kube::Error> {
        let over: Vec<_> = self
            .written
            .conflicts
            .keys()
            .filter(|key| !desired.conflicts.contains_key(*key))
            .cloned()
            .collect();
        for key in over {
            self.condition(&key, json!([])).await?;
            self.written.conflicts.remove(&key);
        }
        for (key, (vip, mac)) in &desired.conflicts {
            if self.written.conflicts.get(key) == Some(&(*vip, *mac)) {
                continue;
            }
            let message = format!(
                "{vip}: the host {mac} on the network of node {} answers for this address, so it is not announced; \
                 take it out of that host or out of the DHCP range, or out of the pool",
                self.options.node_name
            );
            let condition = json!([{
                "type": conditions::ADDRESS_CONFLICT, "status": "True", "reason": "ForeignHost", "message": message,
                "lastTransitionTime": Time(Timestamp::now()),
            }]);
            self.condition(key, condition).await?;
            self.written.conflicts.insert(key.clone(), (*vip, *mac));
            self.tell(key, Tone::Warning, "announceFailed", message).await;
        }
        for (key, (vip, mac)) in &desired.defended {
            if self.written.defended.get(key) != Some(&(*vip, *mac)) {
                let message = format!("{vip}: the host {mac} claims this address too; it is defended");
                self.tell(key, Tone::Warning, "addressContested", message).await;
            }
        }
        self.written.defended.clone_from(&desired.defended);
        Ok(())
    }

    async fn condition(&self, key: &ServiceKey, conditions: Value) -> Result<(), kube::Error> {
        let api: Api<objects::Service> = Api::namespaced(self.client.clone(), &key.namespace);
        let body = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": key.name },
            "status": { "conditions": conditions },
        });
        let params = PatchParams::apply(MANAGER).force();
        match api.patch_status(&key.name, &params, &Patch::Apply(&body)).await {
            Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn tell_stranded(&mut self, desired: &Desired) {
        for key in desired.stranded.difference(&self.written.stranded) {
            let message = "no node has an interface that the advertisements name and that is up".to_owned();
            self.tell(key, Tone::Warning, "announceFailed", message).await;
        }
        self.written.stranded.clone_from(&desired.stranded);
    }

    /// The allocator never gives a gateway's address to a Service; only its node knows it.
    async fn write_host(&mut self) -> Result<(), kube::Error> {
        let host = Host::read();
        if self.host.as_ref() == Some(&host) {
            return Ok(());
        }
        let name = format!("speaker-{}", self.options.node_name);
        let api: Api<ConfigurationState> = Api::namespaced(self.client.clone(), &self.options.namespace);
        let labels = json!({ labels::COMPONENT_TYPE: "speaker", labels::NODE_NAME: self.options.node_name });
        let mut object = self.object("ConfigurationState", &name, &labels);
        let gateways = host.gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        object["metadata"]["annotations"] = json!({ annotations::GATEWAYS: gateways });
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&object)).await?;
        let (result, holds, reason, message) = match host.trouble {
            None => ("Valid", "True", "Reconciled", ""),
            Some(trouble) => ("Invalid", "False", "IPVSWithoutStrictARP", trouble),
        };
        if let Some(trouble) = host.trouble {
            warn!("{trouble}");
        }
        let status = json!({
            "apiVersion": format!("{GROUP}/v1beta1"), "kind": "ConfigurationState", "metadata": { "name": name },
            "status": { "result": result, "errorSummary": message, "conditions": [{
                "type": "configReconcilerValid", "status": holds, "reason": reason, "message": message,
                "lastTransitionTime": Time(Timestamp::now()),
            }] },
        });
        api.patch_status(&name, &params, &Patch::Apply(&status)).await?;
        self.host = Some(host);
        Ok(())
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

    /// Publishes an event; one that fails is not worth a second try.
    async fn tell(&self, key: &ServiceKey, tone: Tone, reason: &str, message: String) {
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", key.name, now.as_nanosecond())),
                namespace: Some(key.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Service".to_owned()),
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: self.wanted.borrow().as_ref().and_then(|wanted| Some(wanted.uids.get(key)?.to_string())),
                ..ObjectReference::default()
            },
            type_: Some(format!("{tone:?}")),
            reason: Some(reason.to_owned()),
            message: Some(message),
            source: Some(EventSource {
                component: Some(SOURCE.to_owned()),
                host: Some(self.options.node_name.clone()),
            }),
            reporting_component: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.options.node_name.clone()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            debug!(%error, service = %key, "event not published");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Tone {
    Normal,
    Warning,
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

/// The same for every process on a node, so that writing twice makes one object.
fn status_name(node: &str, key: &ServiceKey) -> String {
    let text = format!("{node}\n{key}");
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("l2-{:016x}", mix(hash))
}

async fn delete(api: &Api<ServiceL2Status>, name: &str) -> Result<(), kube::Error> {
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_name_is_stable_and_differs_by_node() {
        let key = ServiceKey { namespace: "a".into(), name: "b".into() };
        assert_eq!(status_name("n", &key), status_name("n", &key));
        assert_ne!(status_name("n", &key), status_name("m", &key));
    }
}
