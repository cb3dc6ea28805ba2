//! The writes to the API server: each one call, good for the version that was seen.

use std::time::Instant;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{error, warn};

use super::index::Outcome;
use super::names::{FIELD_MANAGER, STATE_NAME};
use super::patch::ServicePatch;
use crate::allocate::ServiceKey;
use crate::api::{ConfigurationState, ConfigurationStateStatus, IPAddressPool, IPAddressPoolStatus, labels};
use crate::call::{Call, CallError, Outages};
use crate::range::IpRange;

/// MetalLB's names for the same.
const GOSSIP_SECRET: &str = "memberlist";
const GOSSIP_KEY: &str = "secretkey";
/// Kinds that MetalLB serves and that are not served here.
const BGP_KINDS: [(&str, &str, Call); 4] = [
    ("v1beta1", "BGPAdvertisement", Call::new("list", "bgpadvertisements")),
    ("v1beta2", "BGPPeer", Call::new("list", "bgppeers")),
    ("v1beta1", "BFDProfile", Call::new("list", "bfdprofiles")),
    ("v1beta1", "Community", Call::new("list", "communities")),
];
pub(super) const PATCH_SERVICE: Call = Call::new("patch", "services/status");
const PATCH_POOL: Call = Call::new("patch", "ipaddresspools/status");
const PATCH_STATE: Call = Call::new("patch", "configurationstates");
const PATCH_STATE_STATUS: Call = Call::new("patch", "configurationstates/status");
const CREATE_SECRET: Call = Call::new("create", "secrets");
const LIST_SERVICE_CIDRS: Call = Call::new("list", "servicecidrs");

/// Writes what the index wants written.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) client: Client,
    namespace: String,
    owner: Option<OwnerReference>,
    pub(super) outages: Outages,
}

impl Writer {
    pub(super) fn new(
        client: Client,
        namespace: String,
        owner: Option<OwnerReference>,
        outages: Outages,
    ) -> Self {
        Self { client, namespace, owner, outages }
    }

    pub(super) async fn service(&self, write: ServicePatch) -> (ServiceKey, Instant, Outcome) {
        let services: Api<Service> = Api::namespaced(self.client.clone(), write.key.namespace());
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&write.body);
        let result = PATCH_SERVICE.run(services.patch_status(write.key.name(), &params, &patch)).await;
        let expected = |error: &CallError| matches!(error.code(), Some(404 | 409));
        let outcome = match self.outages.tell(PATCH_SERVICE, &write.key, result, expected) {
            Ok(service) => Outcome::Written(service.resource_version().unwrap_or_default()),
            Err(error) if error.code() == Some(409) => Outcome::Conflict,
            Err(error) if error.code() == Some(404) => Outcome::Gone,
            Err(_) => Outcome::Failed,
        };
        (write.key, write.since, outcome)
    }

    /// Makes the Secret that the speakers seal their gossip with, unless there is one; it is never read here, nor
    /// changed. False when that is to be tried again.
    pub(super) async fn ensure_gossip_key(&self) -> bool {
        let mut key = [0u8; 32];
        if aws_lc_rs::rand::fill(&mut key).is_err() {
            error!("the system gives no randomness: the Secret `{GOSSIP_SECRET}` is not made; trying again");
            return false;
        }
        let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = Secret {
            metadata: ObjectMeta { name: Some(GOSSIP_SECRET.to_owned()), ..ObjectMeta::default() },
            string_data: Some([(GOSSIP_KEY.to_owned(), text)].into()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let result = CREATE_SECRET.run(secrets.create(&PostParams::default(), &secret)).await;
        match result {
            // Whoever installed it that way brings the key as well.
            Err(error @ CallError::Forbidden { .. }) => {
                warn!(
                    "the Secret `{GOSSIP_SECRET}` is not made, the speakers need it from elsewhere: {error}"
                );
                true
            }
            made => {
                let is_there = |error: &CallError| error.code() == Some(409);
                let made = self.outages.tell(CREATE_SECRET, &GOSSIP_SECRET, made, is_there);
                made.map_or_else(|error| is_there(&error), |_| true)
            }
        }
    }

    /// Writes a pool's status; what the API server has made of it.
    pub(super) async fn pool(&self, name: &str, status: &IPAddressPoolStatus) -> Option<IPAddressPool> {
        let pools: Api<IPAddressPool> = Api::namespaced(self.client.clone(), &self.namespace);
        let body = json!({"status": status});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&body));
        let result = PATCH_POOL.run(pools.patch_status(name, &params, &patch)).await;
        // It was deleted meanwhile, which its watch says as well.
        self.outages.tell(PATCH_POOL, &name, result, |error| error.code() == Some(404)).ok()
    }

    /// Whether our ConfigurationState was written; it is made if it is not there.
    pub(super) async fn state(&self, status: &ConfigurationStateStatus) -> bool {
        let states: Api<ConfigurationState> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let header = |more: Value| {
            let mut object = json!({
                "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
                "metadata": {"name": STATE_NAME, "namespace": self.namespace},
            });
            merge(&mut object, more);
            object
        };
        let object = header(json!({"metadata": {
            "labels": {labels::COMPONENT_TYPE: "controller"}, "ownerReferences": self.owner.as_slice(),
        }}));
        // An older MetalLB's CRDs have no such kind, and nobody misses it. Should it come, the watch will show that
        // our object is not there.
        let absent = |error: &CallError| error.code() == Some(404);
        let result = PATCH_STATE.run(states.patch(STATE_NAME, &params, &Patch::Apply(&object))).await;
        match self.outages.tell(PATCH_STATE, &STATE_NAME, result, absent) {
            Err(error) if absent(&error) => return true,
            Err(_) => return false,
            Ok(_) => {}
        }
        let object = header(json!({"status": status}));
        let patch = Patch::Apply(&object);
        let write = states.patch_status(STATE_NAME, &params, &patch);
        let result = PATCH_STATE_STATUS.run(write).await;
        self.outages.tell(PATCH_STATE_STATUS, &STATE_NAME, result, |_| false).is_ok()
    }

    /// Ranges of the cluster's ServiceCIDRs; none where the API server has no such kind.
    pub(super) async fn service_ranges(&self) -> Result<Vec<IpRange>, CallError> {
        let kind = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("networking.k8s.io", "v1", "ServiceCIDR"),
            "servicecidrs",
        );
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &kind);
        let objects = self.list_if_any(LIST_SERVICE_CIDRS, &api).await?;
        let cidrs =
            objects.iter().flat_map(|object| object.data["spec"]["cidrs"].as_array().into_iter().flatten());
        Ok(cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect())
    }

    /// BGP resources, as `Kind/name`.
    pub(super) async fn bgp(&self) -> Result<Vec<String>, CallError> {
        let mut found = Vec::new();
        for (version, kind, call) in BGP_KINDS {
            let resource = ApiResource::from_gvk_with_plural(
                &GroupVersionKind::gvk("metallb.io", version, kind),
                call.resource,
            );
            let api: Api<PartialObjectMeta<DynamicObject>> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
            let list = self.list_if_any(call, &api).await?;
            found.extend(list.iter().map(|object| format!("{kind}/{}", object.name_any())));
        }
        Ok(found)
    }

    /// All objects; none where the API server has no such kind.
    async fn list_if_any<K>(&self, call: Call, api: &Api<K>) -> Result<Vec<K>, CallError>
    where
        K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let result = call.run(api.list(&ListParams::default())).await;
        let absent = |error: &CallError| error.code() == Some(404);
        match self.outages.tell(call, &"", result, absent) {
            Ok(list) => Ok(list.items),
            Err(error) if absent(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (base, more) => *base = more,
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
