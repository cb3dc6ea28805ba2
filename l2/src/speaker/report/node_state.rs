//! This node's ConfigurationState: the gateways that its kernel knows, what is wrong with it, and whether its speaker is
//! heard by the others.

use std::time::Instant;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tracing::warn;

use super::{MANAGER, Reporter, tell::Tone};
use crate::{
    api::{GROUP, annotations, labels},
    speaker::{host::Host, isolation::Isolation, objects},
};

/// What was written last, and what is to be told once it can be.
#[derive(Debug, Default)]
pub(super) struct NodeState {
    said: Option<(Host, Isolation, String)>,
    /// The object that was written.
    uid: Option<String>,
    /// What this speaker is or was cut off by, since when: told when the API server can be reached.
    isolated: Option<(Isolation, Instant)>,
}

impl Reporter {
    /// The allocator never gives a gateway's address to a Service; only its node knows it.
    pub(super) async fn write_node_state(&mut self, isolation: Isolation) -> Result<(), kube::Error> {
        self.tell_isolation(&isolation).await;
        let host = Host::read();
        let name = format!("speaker-{}", self.options.node_name);
        let gateways = host.gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let macs = self.sources.state.borrow().macs.clone();
        let stations = macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let now = (host, isolation, stations);
        let is_said = self.node.said.as_ref() == Some(&now);
        if is_said && (!self.state_was_changed(&name, &gateways, &now.2) || !self.may_restore(&name)) {
            return Ok(());
        }
        let (host, isolation, stations) = now;
        let api: Api<objects::Configuration> = Api::namespaced(self.client.clone(), &self.options.namespace);
        let labels = json!({ labels::COMPONENT_TYPE: "speaker", labels::NODE_NAME: self.options.node_name });
        let mut object = self.object("ConfigurationState", &name, &labels);
        object["metadata"]["annotations"] =
            json!({ annotations::GATEWAYS: gateways, annotations::STATIONS: stations });
        let params = PatchParams::apply(MANAGER).force();
        let made = api.patch(&name, &params, &Patch::Apply(&object)).await?;
        if let Some(trouble) = host.trouble {
            warn!("{trouble}");
        }
        let status = json!({
            "apiVersion": format!("{GROUP}/v1beta1"), "kind": "ConfigurationState", "metadata": { "name": name },
            "status": status(&host, &isolation),
        });
        api.patch_status(&name, &params, &Patch::Apply(&status)).await?;
        self.node.uid = made.uid();
        self.node.said = Some((host, isolation, stations));
        Ok(())
    }

    /// Whether somebody else deleted it, made another one, or changed what the allocator relies on.
    fn state_was_changed(&self, name: &str, gateways: &str, stations: &str) -> bool {
        let written = self.sources.written.borrow();
        let known = written.configurations.get(name);
        written.configurations.lacks(name)
            || known.is_some_and(|known| {
                Some(&known.uid) != self.node.uid.as_ref()
                    || known.gateways != gateways
                    || known.stations != stations
            })
    }

    /// An event when this speaker is cut off or alone, if the API server can still be reached then, and one when it is over.
    async fn tell_isolation(&mut self, isolation: &Isolation) {
        match (&self.node.isolated, isolation.what()) {
            (Some((known, _)), Some(_)) if known == isolation => {}
            (_, Some(what)) => {
                let since = self.node.isolated.as_ref().map_or_else(Instant::now, |(_, since)| *since);
                self.node.isolated = Some((isolation.clone(), since));
                self.tell_of_node(Tone::Warning, "speakerIsolated", what).await;
            }
            (Some((known, since)), None) => {
                let was = known.what().unwrap_or_default();
                let message =
                    format!("heard by the other speakers again, after {:.1?}: {was}", since.elapsed());
                self.node.isolated = None;
                self.tell_of_node(Tone::Normal, "speakerRejoined", message).await;
            }
            (None, None) => {}
        }
    }
}

fn status(host: &Host, isolation: &Isolation) -> Value {
    let (result, holds, reason, message) = match host.trouble {
        None => ("Valid", "True", "Reconciled", ""),
        Some(trouble) => ("Invalid", "False", "IPVSWithoutStrictARP", trouble),
    };
    let heard = isolation.what();
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": Time(Timestamp::now()),
        })
    };
    json!({ "result": result, "errorSummary": message, "conditions": [
        condition("configReconcilerValid", holds, reason, message),
        condition(
            "peersReached",
            if heard.is_none() { "True" } else { "False" },
            isolation.reason(),
            heard.as_deref().unwrap_or_default(),
        ),
    ] })
}
