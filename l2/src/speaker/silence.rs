//! Looks, for `explain`, at what the speakers see of one Service, and says why none of them announces it.

use std::sync::Arc;

use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::index::{Index, Slice};
use super::wanted::ServiceKey;
use super::{objects, reduce};
use crate::api::{IPAddressPool, L2Advertisement};
use crate::call::{Call, CallError};

/// The speakers' index with one Service in it.
#[derive(Debug)]
pub(crate) struct Silence {
    index: Index,
    key: ServiceKey,
    /// Advertisements that no speaker uses, since a selector of theirs is wrong.
    broken: Vec<String>,
}

impl Silence {
    /// Reads what decides about the Service.
    ///
    /// # Errors
    /// When any of it cannot be read.
    pub(crate) async fn look(
        client: &Client,
        namespace: &str,
        class: Option<&str>,
        service_namespace: &str,
        name: &str,
    ) -> Result<Self, CallError> {
        let all = ListParams::default();
        let key = ServiceKey { namespace: service_namespace.to_owned(), name: name.to_owned() };
        let (mut index, mut broken) = (Index::default(), Vec::new());
        let services: Api<objects::Service> = Api::namespaced(client.clone(), service_namespace);
        let service = Call::new("get", "services").run(services.get_opt(name)).await?;
        if let Some(service) = service.and_then(|service| reduce::service(&service, class)) {
            index.put_service(Arc::new(key.clone()), service);
        }
        let slices: Api<objects::EndpointSlice> = Api::namespaced(client.clone(), service_namespace);
        let of_service = ListParams::default().labels(&format!("{}={name}", reduce::SERVICE_NAME_LABEL));
        for slice in Call::new("list", "endpointslices").run(slices.list(&of_service)).await? {
            let Some((service, nodes)) = reduce::slice(&slice) else { continue };
            let slice = Slice { name: slice.name_any().into(), nodes: nodes.into() };
            index.endpoints.entry(Arc::new(service)).or_default().push(slice);
        }
        let nodes: Api<objects::Node> = Api::all(client.clone());
        for node in Call::new("list", "nodes").run(nodes.list(&all)).await? {
            index.nodes.insert(node.name_any().as_str().into(), reduce::node(&node, false));
        }
        let pools: Api<IPAddressPool> = Api::namespaced(client.clone(), namespace);
        for pool in Call::new("list", "ipaddresspools").run(pools.list(&all)).await? {
            index.put_pool(&pool.name_any(), reduce::pool(&pool));
        }
        let advertisements: Api<L2Advertisement> = Api::namespaced(client.clone(), namespace);
        for one in Call::new("list", "l2advertisements").run(advertisements.list(&all)).await? {
            match reduce::advertisement(&one) {
                Some(reduced) => drop(index.advertisements.insert(one.name_any(), reduced)),
                None => broken.push(one.name_any()),
            }
        }
        Ok(Self { index, key, broken })
    }

    /// Each reason in words that name the mend.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = self.index.silence(&self.key);
        reasons.extend(self.broken.iter().map(|name| {
            format!(
                "L2Advertisement `{name}` is not used: a selector of it is wrong (causeway-allocator check)"
            )
        }));
        reasons
    }
}
