//! What goes wrong with an address, told on its Service: a condition while a foreign host has it, and events.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Desired, MANAGER, Reporter, tell::Tone};
use crate::{
    api::conditions,
    speaker::{
        objects,
        wanted::{ServiceKey, Wanted},
    },
};

impl Reporter {
    pub(super) async fn write_conflicts(
        &mut self,
        desired: &Desired,
        wanted: &Wanted,
    ) -> Result<(), kube::Error> {
        // Of an earlier process as well: what is announced from here is in no conflict.
        let stale = wanted.in_conflict.iter().filter(|key| desired.statuses.contains_key(*key));
        let over = self.said.conflicts.keys().chain(stale);
        let over: Vec<_> = over.filter(|key| !desired.conflicts.contains_key(*key)).cloned().collect();
        for key in over {
            self.condition(&key, json!([])).await?;
            self.said.conflicts.remove(&key);
        }
        self.seen_in_conflict.retain(|key| self.said.conflicts.contains_key(key));
        for (key, (vip, mac)) in &desired.conflicts {
            // Seen once and not any more: somebody took it away.
            let taken_away = self.seen_in_conflict.contains(key) && !wanted.in_conflict.contains(key);
            let said = self.said.conflicts.get(key) == Some(&(*vip, *mac));
            if wanted.in_conflict.contains(key) {
                self.seen_in_conflict.insert(key.clone());
            }
            if said && (!taken_away || !self.may_restore(&format!("condition of {key}"))) {
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
            self.seen_in_conflict.remove(key);
            self.said.conflicts.insert(key.clone(), (*vip, *mac));
            if !said {
                self.tell(key, Tone::Warning, "announceFailed", message).await;
            }
        }
        for (key, (vip, mac)) in &desired.defended {
            if self.said.defended.get(key) != Some(&(*vip, *mac)) {
                let message = format!("{vip}: the host {mac} claims this address too; it is defended");
                self.tell(key, Tone::Warning, "addressContested", message).await;
            }
        }
        self.said.defended.clone_from(&desired.defended);
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

    pub(super) async fn tell_contests(&mut self, desired: &Desired) {
        for (key, (vip, rival)) in &desired.contested {
            if self.said.contested.get(key) != Some(&(*vip, rival.clone())) {
                let message = format!(
                    "{vip}: the speaker of node {rival} claims this address on the wire too, and cannot be heard from \
                     node {}: look for a firewall in the way of UDP and TCP port {}",
                    self.options.node_name,
                    self.options.memberlist_bind.port(),
                );
                self.tell(key, Tone::Warning, "addressContested", message).await;
            }
        }
        self.said.contested.clone_from(&desired.contested);
    }

    pub(super) async fn tell_stranded(&mut self, desired: &Desired) {
        let fresh: Vec<_> = desired.stranded.difference(&self.said.stranded).cloned().collect();
        for key in fresh {
            let message = "no node has an interface that the advertisements name and that is up".to_owned();
            self.tell(&key, Tone::Warning, "announceFailed", message).await;
        }
        self.said.stranded.clone_from(&desired.stranded);
    }
}
