//! Kubernetes objects as the speaker reads them: the fields that decide something, and no others. Of what the API server
//! sends most is bookkeeping (managedFields, a Node's images); a list of a thousand Services is read in the memory of one page.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::{Resource, core::ObjectMeta};
use serde::{Deserialize, Deserializer};

use crate::api;

#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::Service)]
pub(super) struct Service {
    #[serde(deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: ServiceSpec,
    #[serde(default)]
    pub(super) status: ServiceStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(super) type_: Option<String>,
    pub(super) load_balancer_class: Option<String>,
    pub(super) external_traffic_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceStatus {
    pub(super) load_balancer: LoadBalancer,
    pub(super) conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct LoadBalancer {
    pub(super) ingress: Option<Vec<Ingress>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ingress {
    pub(super) ip: Option<String>,
}

#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = discovery::EndpointSlice)]
pub(super) struct EndpointSlice {
    #[serde(deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    /// Null where there are none.
    pub(super) endpoints: Option<Vec<Endpoint>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) node_name: Option<String>,
    pub(super) conditions: Option<EndpointConditions>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct EndpointConditions {
    pub(super) ready: Option<bool>,
    pub(super) serving: Option<bool>,
}

#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = core::Node)]
pub(super) struct Node {
    #[serde(deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct NodeStatus {
    pub(super) conditions: Option<Vec<Condition>>,
    pub(super) addresses: Option<Vec<NodeAddress>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) type_: String,
    pub(super) status: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct NodeAddress {
    #[serde(rename = "type")]
    pub(super) type_: String,
    pub(super) address: String,
}

/// A ServiceL2Status of any speaker: what is read of it stands in its labels and annotations.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = api::ServiceL2Status)]
pub(super) struct Status {
    #[serde(deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
}

/// A ConfigurationState of any component.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = api::ConfigurationState)]
pub(super) struct Configuration {
    #[serde(deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
}

/// Of the metadata what is used here and by the watches.
fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Read {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
    }
    let Read { name, namespace, uid, resource_version, labels, annotations } =
        Read::deserialize(deserializer)?;
    Ok(ObjectMeta { name, namespace, uid, resource_version, labels, annotations, ..ObjectMeta::default() })
}
