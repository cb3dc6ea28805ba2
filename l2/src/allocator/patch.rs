//! What a Service's status is to say, and the one patch that makes it say so.

use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::observe::Observed;
use crate::allocate::{Holding, ServiceKey};
use crate::api::{annotations, conditions};

/// The parts of a Service that are ours to write.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    ingress: Vec<String>,
    pool: Option<String>,
    conditions: Vec<Condition>,
}

/// A merge patch for `services/status`, good for the version that was seen and no other.
#[derive(Clone, Debug)]
pub(super) struct ServicePatch {
    pub(super) key: ServiceKey,
    pub(super) body: Value,
    /// When the cause was seen.
    pub(super) since: Instant,
}

impl Desired {
    /// What follows from the decision: `trouble` for the condition about the allocation, `rival` for the one about
    /// somebody else who writes.
    pub(super) fn new(
        holding: Option<&Holding>,
        trouble: Option<&str>,
        rival: Option<&str>,
        observed: &Observed,
    ) -> Self {
        let addresses = holding.map_or(&[][..], |holding| &holding.addresses);
        let mut list = observed.conditions.clone();
        // A conflict is over when the address is given up.
        let contested = observed.request.contested.filter(|address| !addresses.contains(address));
        list.retain(|condition| contested.is_none() || condition.type_ != conditions::ADDRESS_CONFLICT);
        let allocated = |list: &[Condition]| {
            list.iter().any(|condition| condition.type_ == conditions::ADDRESS_ALLOCATED)
        };
        // A Service that never had trouble gets no condition: the status of most Services stays as MetalLB's.
        match trouble {
            Some(message) => {
                set(&mut list, conditions::ADDRESS_ALLOCATED, ["False", "AllocationFailed", message])
            }
            None if allocated(&list) => {
                set(&mut list, conditions::ADDRESS_ALLOCATED, ["True", "Allocated", ""])
            }
            None => {}
        }
        match rival {
            Some(message) => set(&mut list, conditions::STATUS_CONTESTED, ["True", "OtherWriter", message]),
            None => list.retain(|condition| condition.type_ != conditions::STATUS_CONTESTED),
        }
        Self {
            ingress: addresses.iter().map(ToString::to_string).collect(),
            pool: holding.map(|holding| holding.pool.to_string()),
            conditions: list,
        }
    }

    /// Whether the address and the note of its pool are as the decision has them.
    pub(super) fn stands(holding: Option<&Holding>, observed: &Observed) -> bool {
        let addresses = holding.map_or(&[][..], |holding| &holding.addresses);
        addresses.len() == observed.ingress.len()
            && addresses.iter().zip(&observed.ingress).all(|(ours, there)| *there == ours.to_string())
            && holding.map(|holding| &*holding.pool) == observed.noted_pool.as_deref()
            && !observed.noted_by_old
    }

    /// Whether the API server says all of it already.
    pub(super) fn is_in(&self, observed: &Observed) -> bool {
        self.ingress == observed.ingress
            && self.pool == observed.noted_pool
            && !observed.noted_by_old
            && self.conditions == observed.conditions
    }

    pub(super) fn patch(&self, key: ServiceKey, observed: &Observed, since: Instant) -> ServicePatch {
        let mut notes = Map::new();
        if self.pool != observed.noted_pool {
            notes.insert(annotations::ALLOCATED_FROM_POOL.to_owned(), json!(self.pool));
        }
        if observed.noted_by_old {
            notes.insert(annotations::deprecated(annotations::ALLOCATED_FROM_POOL), Value::Null);
        }
        let mut status = Map::new();
        if self.ingress != observed.ingress {
            let ingress: Vec<Value> = self.ingress.iter().map(|ip| json!({"ip": ip})).collect();
            let ingress = if ingress.is_empty() { Value::Null } else { Value::Array(ingress) };
            status.insert("loadBalancer".to_owned(), json!({"ingress": ingress}));
        }
        if self.conditions != observed.conditions {
            status.insert("conditions".to_owned(), json!(self.conditions));
        }
        let mut metadata = json!({"resourceVersion": observed.resource_version, "uid": observed.uid});
        if !notes.is_empty() {
            metadata["annotations"] = Value::Object(notes);
        }
        let mut body = json!({"metadata": metadata});
        if !status.is_empty() {
            body["status"] = Value::Object(status);
        }
        ServicePatch { key, body, since }
    }

    /// Makes the seen state what was written, until the watch brings it.
    pub(super) fn apply_to(&self, observed: &mut Observed) {
        observed.ingress.clone_from(&self.ingress);
        observed.noted_pool.clone_from(&self.pool);
        observed.noted_by_old = false;
        observed.conditions.clone_from(&self.conditions);
    }
}

/// The patch for a Service that is of another type now, so that it does not claim a pool any more: good for the one
/// version that was seen to be of another type. If it was deleted instead, nothing is there, which is as well.
pub(super) fn forget(uid: &str, version: &str) -> Value {
    json!({
        "metadata": {
            "uid": uid, "resourceVersion": version, "annotations": {annotations::ALLOCATED_FROM_POOL: null},
        },
        "status": {"loadBalancer": {"ingress": null}},
    })
}

/// Makes the list say so: in place, and with the time of the last change of status.
fn set(list: &mut Vec<Condition>, type_: &str, [status, reason, message]: [&str; 3]) {
    let known = list.iter().position(|condition| condition.type_ == type_);
    if known.is_some_and(|i| list[i].status == status && list[i].message == message) {
        return;
    }
    let since = known.map(|i| &list[i]).filter(|known| known.status == status);
    let since = since.map_or_else(|| Time(Timestamp::now()), |known| known.last_transition_time.clone());
    let condition = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: None,
    };
    match known {
        Some(i) => list[i] = condition,
        None => list.push(condition),
    }
}
