//! The writes to the API server: each one call, good for the version that was seen.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::index::Outcome;
use super::patch::{self, ServicePatch};
use super::watches::STATE_NAME;
use crate::allocate::ServiceKey;
use crate::api::{ConfigurationState, ConfigurationStateStatus, IPAddressPool, IPAddressPoolStatus, labels};
use crate::range::IpRange;

/// A write that takes longer has failed: the outcome is seen by the watch, if it came through after all.
const DEADLINE: Duration = Duration::from_secs(10);
/// MetalLB's names for the same.
const GOSSIP_SECRET: &str = "memberlist";
const GOSSIP_KEY: &str = "secretkey";
const FIELD_MANAGER: &str = "causeway-allocator";
/// Kinds that MetalLB serves and that are not served here.
const BGP_KINDS: [(&str, &str, &str); 4] = [
    ("v1beta1", "BGPAdvertisement", "bgpadvertisements"),
    ("v1beta2", "BGPPeer", "bgppeers"),
    ("v1beta1", "BFDProfile", "bfdprofiles"),
    ("v1beta1", "Community", "communities"),
];

/// Writes what the index wants written.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    namespace: String,
    owner: Option<OwnerReference>,
}

impl Writer {
    pub(super) fn new(client: Client, namespace: String, owner: Option<OwnerReference>) -> Self {
        Self { client, namespace, owner }
    }

    pub(super) async fn service(&self, write: ServicePatch) -> (ServiceKey, Instant, Outcome) {
        let services: Api<Service> = Api::namespaced(self.client.clone(), write.key.namespace());
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&write.body);
        let call = services.patch_status(write.key.name(), &params, &patch);
        let outcome = match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(service)) => Outcome::Written(service.resource_version().unwrap_or_default()),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Outcome::Conflict,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Outcome::Gone,
            Ok(Err(error)) => {
                warn!(service = %write.key, %error, "status not written, trying again");
                Outcome::Failed
            }
            Err(_) => {
                warn!(service = %write.key, "status not written within {DEADLINE:?}, trying again");
                Outcome::Failed
            }
        };
        (write.key, write.since, outcome)
    }

    /// Takes the output annotation from a Service that is of another type now.
    pub(super) async fn forget(&self, key: &ServiceKey, uid: &str) {
        let services: Api<Service> = Api::namespaced(self.client.clone(), key.namespace());
        let body = patch::forget(uid);
        let (params, patch) = (PatchParams::default(), Patch::Merge(&body));
        let call = services.patch_status(key.name(), &params, &patch);
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {}
            Ok(Err(error)) => debug!(service = %key, %error, "annotation not removed"),
            _ => {}
        }
    }

    /// Makes the Secret that the speakers seal their gossip with, unless there is one; it is never read here, nor
    /// changed. False when that is to be tried again.
    pub(super) async fn ensure_gossip_key(&self) -> bool {
        let mut key = [0u8; 32];
        if aws_lc_rs::rand::fill(&mut key).is_err() {
            return false;
        }
        let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = Secret {
            metadata: ObjectMeta { name: Some(GOSSIP_SECRET.to_owned()), ..ObjectMeta::default() },
            string_data: Some([(GOSSIP_KEY.to_owned(), text)].into()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = PostParams::default();
        match tokio::time::timeout(DEADLINE, secrets.create(&params, &secret)).await {
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => true,
            // Not allowed to: then whoever installed it that way brings the key as well.
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                debug!(secret = GOSSIP_SECRET, "not made: no permission");
                true
            }
            made => report("Secret", GOSSIP_SECRET, made),
        }
    }

    /// Whether the pool's status was written.
    pub(super) async fn pool(&self, name: &str, status: &IPAddressPoolStatus) -> bool {
        let pools: Api<IPAddressPool> = Api::namespaced(self.client.clone(), &self.namespace);
        let body = json!({"status": status});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&body));
        let call = pools.patch_status(name, &params, &patch);
        report("pool", name, tokio::time::timeout(DEADLINE, call).await)
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
        let patch = Patch::Apply(&object);
        let make = states.patch(STATE_NAME, &params, &patch);
        match tokio::time::timeout(DEADLINE, make).await {
            // An older MetalLB's CRDs: there is no such kind, and nobody misses it.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return true,
            made => {
                if !report("ConfigurationState", STATE_NAME, made) {
                    return false;
                }
            }
        }
        let object = header(json!({"status": status}));
        let patch = Patch::Apply(&object);
        let write = states.patch_status(STATE_NAME, &params, &patch);
        report("ConfigurationState", STATE_NAME, tokio::time::timeout(DEADLINE, write).await)
    }

    /// Ranges of the cluster's ServiceCIDRs; none where the API server has no such kind.
    pub(super) async fn service_ranges(&self) -> Vec<IpRange> {
        let kind = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("networking.k8s.io", "v1", "ServiceCIDR"),
            "servicecidrs",
        );
        let found =
            Api::<DynamicObject>::all_with(self.client.clone(), &kind).list(&ListParams::default()).await;
        let found = found.inspect_err(|error| debug!(%error, "ServiceCIDRs not listed"));
        let objects = found.map(|list| list.items).unwrap_or_default();
        let cidrs =
            objects.iter().flat_map(|object| object.data["spec"]["cidrs"].as_array().into_iter().flatten());
        cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
    }

    /// BGP resources, as `Kind/name`.
    pub(super) async fn bgp(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (version, kind, plural) in BGP_KINDS {
            let resource = ApiResource::from_gvk_with_plural(
                &GroupVersionKind::gvk("metallb.io", version, kind),
                plural,
            );
            let api: Api<PartialObjectMeta<DynamicObject>> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
            if let Ok(list) = api.list(&ListParams::default()).await {
                found.extend(list.items.iter().map(|object| format!("{kind}/{}", object.name_any())));
            }
        }
        found
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

fn report<T, E: std::fmt::Display>(
    kind: &str,
    name: &str,
    result: Result<Result<T, E>, tokio::time::error::Elapsed>,
) -> bool {
    match result {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            debug!(kind, name, %error, "status not written, trying again");
            false
        }
        Err(_) => false,
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
