//! ServiceL2Status of the Services that are announced from here: written, restored, and taken back.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;

use super::{Entries, Entry, MANAGER, Reporter, tell::Tone};
use crate::{
    api::{GROUP, ServiceL2Status, annotations, labels},
    chance::mix,
    ownership::Claim,
    speaker::{
        objects, record, state,
        state::State,
        wanted::ServiceKey,
        written::{self, Status},
    },
};

const PREFIX: &str = "l2-";

impl Reporter {
    pub(super) async fn write_statuses(
        &mut self,
        desired: &Entries,
        state: &State,
    ) -> Result<(), kube::Error> {
        let over: Vec<_> =
            self.said.statuses.keys().filter(|key| !desired.contains_key(*key)).cloned().collect();
        for key in over {
            self.said.statuses.remove(&key);
            self.restored.forget(&status_name(&self.options.node_name, &key));
        }
        for (name, old) in self.superfluous(desired, state) {
            self.delete_status(&name, &old).await?;
        }
        for (key, entry) in desired {
            let name = status_name(&self.options.node_name, key);
            let is_said = self.said.statuses.get(key) == Some(entry);
            if is_said && (!self.was_changed(&name, entry, state.boot) || !self.may_restore(&name)) {
                continue;
            }
            let first = !self.said.statuses.contains_key(key);
            self.write_status(&name, key, entry, state.boot).await?;
            self.said.statuses.insert(key.clone(), entry.clone());
            if first {
                let message =
                    format!("announcing from node \"{}\" with protocol \"layer2\"", self.options.node_name);
                self.tell(key, Tone::Normal, "nodeAssigned", message).await;
            }
        }
        Ok(())
    }

    /// Whether somebody else deleted or changed what was written.
    fn was_changed(&self, name: &str, entry: &Entry, boot: u64) -> bool {
        let written = self.sources.written.borrow();
        let other = |known: &Status| known.boot != boot || known.epochs != entry.epochs();
        written.statuses.lacks(name) || written.statuses.get(name).is_some_and(other)
    }

    /// What this node wrote and does not announce any more, in this life or an earlier one; and what a node wrote whose
    /// every claim is older than ours: it died, and cannot take it back.
    fn superfluous(&self, desired: &Entries, state: &State) -> Vec<(String, Status)> {
        let node = self.options.node_name.as_str();
        let outweighed = |vip: &IpAddr, epoch: u64| {
            let ours = |claim: &&Claim| claim.owner().is_some_and(|owner| owner.name.as_str() == node);
            state.claim(*vip).filter(ours).is_some_and(|claim| claim.epoch > epoch)
        };
        let wanted: BTreeSet<_> = desired.keys().map(|key| status_number(node, key)).collect();
        let is = |name: &str, status: &Status| {
            if status.node.as_str() == node {
                return number_of(name).is_none_or(|number| !wanted.contains(&number));
            }
            !status.epochs.is_empty() && status.epochs.iter().all(|(vip, epoch)| outweighed(vip, *epoch))
        };
        let written = self.sources.written.borrow();
        let found = written.statuses.all().filter(|(name, status)| is(name, status));
        found.map(|(name, status)| (name.clone(), status.clone())).collect()
    }

    /// Deletes the version that was seen and no other: its writer may be back, and mean it.
    async fn delete_status(&self, name: &str, seen: &Status) -> Result<(), kube::Error> {
        let api: Api<ServiceL2Status> = Api::namespaced(self.client.clone(), &self.options.namespace);
        let (uid, version) = (seen.uid.to_string(), seen.version.to_string());
        let preconditions = Preconditions { uid: Some(uid), resource_version: Some(version) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(name, &params).await {
            // Gone already, or another version by now, which the watch will show.
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn write_status(
        &self,
        name: &str,
        key: &Arc<ServiceKey>,
        entry: &Entry,
        boot: u64,
    ) -> Result<(), kube::Error> {
        let node = &self.options.node_name;
        let labels = json!({
            labels::NODE: node, labels::SERVICE_NAME: key.name, labels::SERVICE_NAMESPACE: key.namespace,
        });
        let mut object = self.object("ServiceL2Status", name, &labels);
        let epochs = entry.epochs();
        object["metadata"]["annotations"] = json!({ annotations::CLAIMS: record::encode(boot, &epochs) });
        object["spec"] = json!({});
        let params = PatchParams::apply(MANAGER).force();
        let api: Api<objects::Status> = Api::namespaced(self.client.clone(), &self.options.namespace);
        api.patch(name, &params, &Patch::Apply(&object)).await?;
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
        let made = api.patch_status(name, &params, &Patch::Apply(&status)).await?;
        if let Some(made) = written::status(&made) {
            self.sources.written.send_if_modified(|written| {
                written.put_status(name, made);
                false
            });
        }
        Ok(())
    }
}

/// The same for every process on a node, so that writing twice makes one object.
fn status_name(node: &str, key: &ServiceKey) -> String {
    format!("{PREFIX}{:016x}", status_number(node, key))
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX).and_then(|number| u64::from_str_radix(number, 16).ok())
}

fn status_number(node: &str, key: &ServiceKey) -> u64 {
    let text = format!("{node}\n{key}");
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_name_is_stable_and_differs_by_node() {
        let key = ServiceKey { namespace: "a".into(), name: "b".into() };
        assert_eq!(status_name("n", &key), status_name("n", &key));
        assert_ne!(status_name("n", &key), status_name("m", &key));
        assert_eq!(number_of(&status_name("n", &key)), Some(status_number("n", &key)));
    }
}
