//! Takes the output annotation from Services that are of another type now: each patch names the one version that was
//! seen to be of another type, since a Service may be a LoadBalancer again a millisecond later.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::{Api, ResourceExt};

use super::index::Forgotten;
use super::names::FIELD_MANAGER;
use super::patch;
use super::writer::{PATCH_SERVICE, Writer};
use crate::allocate::ServiceKey;
use crate::api::annotations;
use crate::call::{Call, CallError};

/// Looks at a Service whose version was not known, or is not the current one any more.
const ATTEMPTS: usize = 4;
/// Services per page of a list.
const PAGE: u32 = 200;
const LIST: Call = Call::new("list", "services");
const GET: Call = Call::new("get", "services");

impl Writer {
    /// Forgets one Service; false when that is to be tried again.
    pub(super) async fn forget(&self, forgotten: &Forgotten) -> bool {
        let mut version = forgotten.version.clone();
        for _ in 0..ATTEMPTS {
            let seen = match version.take() {
                Some(version) => version,
                None => match self.still_noted(forgotten).await {
                    Ok(Some(version)) => version,
                    Ok(None) => return true,
                    Err(_) => return false,
                },
            };
            match self.take_note(forgotten, &seen).await {
                Ok(()) => return true,
                // Somebody has written since: what the Service is now decides.
                Err(error) if error.code() == Some(409) => {}
                Err(_) => return false,
            }
        }
        false
    }

    async fn take_note(&self, forgotten: &Forgotten, version: &str) -> Result<(), CallError> {
        let key = &forgotten.key;
        let services: Api<Service> = Api::namespaced(self.client.clone(), key.namespace());
        let body = patch::forget(&forgotten.uid, version);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&body);
        let result = PATCH_SERVICE.run(services.patch_status(key.name(), &params, &patch)).await;
        let expected = |error: &CallError| matches!(error.code(), Some(404 | 409));
        match self.outages.tell(PATCH_SERVICE, key, result, expected) {
            Err(error) if error.code() != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// The version of the Service, if it is the same one, is no LoadBalancer, and has the annotation.
    async fn still_noted(&self, forgotten: &Forgotten) -> Result<Option<String>, CallError> {
        let key = &forgotten.key;
        let services: Api<Service> = Api::namespaced(self.client.clone(), key.namespace());
        let result = GET.run(services.get_opt(key.name())).await;
        let found = self.outages.tell(GET, key, result, |_| false)?;
        Ok(found
            .filter(|service| is_stale(service, &forgotten.uid))
            .and_then(|service| service.resource_version()))
    }

    /// Forgets what was left behind while no allocator ran: Services of another type that carry our note.
    pub(super) async fn sweep(&self, pools: &BTreeSet<String>) -> bool {
        let services: Api<PartialObjectMeta<Service>> = Api::all(self.client.clone());
        let mut params = ListParams::default().fields("spec.type!=LoadBalancer").limit(PAGE);
        let mut complete = true;
        loop {
            let result = LIST.run(services.list(&params)).await;
            let Ok(list) = self.outages.tell(LIST, &"of other types", result, |_| false) else {
                return false;
            };
            for service in list.items.iter().filter(|service| is_ours(&service.metadata, pools)) {
                let forgotten = Forgotten {
                    key: ServiceKey::new(&service.namespace().unwrap_or_default(), &service.name_any()),
                    uid: service.uid().unwrap_or_default(),
                    version: service.resource_version(),
                };
                complete &= self.forget(&forgotten).await;
            }
            let Some(next) = list.metadata.continue_.filter(|token| !token.is_empty()) else {
                return complete;
            };
            params.continue_token = Some(next);
        }
    }
}

/// Whether the note is there in vain. A LoadBalancer's is in use: by us, or by whoever serves its class.
fn is_stale(service: &Service, uid: &str) -> bool {
    let type_ = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    service.metadata.uid.as_deref() == Some(uid)
        && type_ != Some("LoadBalancer")
        && service.annotations().contains_key(annotations::ALLOCATED_FROM_POOL)
}

/// Whether the note is one of ours: it names one of our pools, or we have written it.
fn is_ours(meta: &ObjectMeta, pools: &BTreeSet<String>) -> bool {
    let note = annotations::ALLOCATED_FROM_POOL;
    let Some(pool) = meta.annotations.as_ref().and_then(|all| all.get(note)) else { return false };
    let field = format!("f:{note}");
    let wrote = meta.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry
                .fields_v1
                .as_ref()
                .is_some_and(|fields| fields.0["f:metadata"]["f:annotations"].get(&field).is_some())
    });
    wrote || pools.contains(pool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_note_is_ours_when_it_names_our_pool_or_we_wrote_it() {
        let meta = |pool: &str, manager: &str| -> ObjectMeta {
            serde_json::from_value(json!({
                "name": "web", "annotations": {"metallb.io/ip-allocated-from-pool": pool},
                "managedFields": [{"manager": manager, "fieldsV1":
                    {"f:metadata": {"f:annotations": {"f:metallb.io/ip-allocated-from-pool": {}}}}}],
            }))
            .unwrap()
        };
        let pools = BTreeSet::from(["home".to_owned()]);
        assert!(is_ours(&meta("home", "controller"), &pools));
        assert!(is_ours(&meta("gone", "causeway-allocator"), &pools));
        assert!(!is_ours(&meta("theirs", "controller"), &pools));
        assert!(!is_ours(&ObjectMeta::default(), &pools));
    }

    #[test]
    fn a_service_that_is_a_load_balancer_again_is_left_alone() {
        let service = |type_: &str, uid: &str| -> Service {
            serde_json::from_value(json!({
                "metadata": {"name": "web", "uid": uid, "annotations": {"metallb.io/ip-allocated-from-pool": "a"}},
                "spec": {"type": type_},
            }))
            .unwrap()
        };
        assert!(is_stale(&service("ClusterIP", "u"), "u"));
        assert!(!is_stale(&service("LoadBalancer", "u"), "u"));
        assert!(!is_stale(&service("ClusterIP", "another"), "u"));
    }
}
