//! Events about Services and about this node.

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use tracing::{debug, warn};

use super::{MANAGER, Reporter};
use crate::speaker::wanted::ServiceKey;

/// The component that tools for MetalLB look for.
const SOURCE: &str = "metallb-speaker";
/// Where events about objects go that are in no namespace.
const NAMESPACE_OF_NODES: &str = "default";

#[derive(Clone, Copy, Debug)]
pub(super) enum Tone {
    Normal,
    Warning,
}

impl Reporter {
    pub(super) async fn tell(&mut self, key: &ServiceKey, tone: Tone, reason: &str, message: String) {
        let wanted = self.sources.wanted.borrow().clone();
        let about = ObjectReference {
            kind: Some("Service".to_owned()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: wanted.and_then(|wanted| Some(wanted.uids.get(key)?.to_string())),
            ..ObjectReference::default()
        };
        self.publish(about, tone, reason, message).await;
    }

    pub(super) async fn tell_of_node(&mut self, tone: Tone, reason: &str, message: String) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.options.node_name.clone()),
            // As the kubelet has it: what `kubectl describe node` looks for.
            uid: Some(self.options.node_name.clone()),
            ..ObjectReference::default()
        };
        self.publish(about, tone, reason, message).await;
    }

    /// Publishes an event; one that fails is not worth a second try.
    async fn publish(&mut self, about: ObjectReference, tone: Tone, reason: &str, message: String) {
        let now = Timestamp::now();
        let namespace = about.namespace.clone().unwrap_or_else(|| NAMESPACE_OF_NODES.to_owned());
        let name = about.name.clone().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference { api_version: Some("v1".to_owned()), ..about },
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
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => self.events_fail = false,
            Err(error) if std::mem::replace(&mut self.events_fail, true) => {
                debug!(%error, name, reason, "event not published");
            }
            Err(error) => warn!(%error, name, reason, "event not published"),
        }
    }
}
