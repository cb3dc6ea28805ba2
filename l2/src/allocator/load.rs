//! Reads everything once into an index, for commands that look and do not run.

use std::time::Instant;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};

use super::cluster::{gateway_entries, node_entries};
use super::index::Index;
use super::observe::Observed;
use super::watches::{Update, Watched};
use super::writer::Writer;
use crate::api::{ConfigurationState, IPAddressPool, L2Advertisement};

/// Fills the index and lets it decide; nothing is written.
pub(crate) async fn load(
    client: &Client,
    namespace: &str,
    class: Option<&str>,
    index: &mut Index,
) -> anyhow::Result<()> {
    let all = ListParams::default();
    let services = ListParams::default().fields("spec.type=LoadBalancer");
    let services =
        Api::<Service>::all(client.clone()).list(&services).await.context("Services cannot be listed")?;
    let pools = Api::<IPAddressPool>::namespaced(client.clone(), namespace).list(&all).await;
    let pools = pools.context("IPAddressPools cannot be listed: are the CRDs installed?")?;
    let advertisements = Api::<L2Advertisement>::namespaced(client.clone(), namespace).list(&all).await;
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone()).list(&all).await;
    let nodes = Api::<Node>::all(client.clone()).list(&all).await;
    let states = Api::<ConfigurationState>::namespaced(client.clone(), namespace).list(&all).await;

    let mut seen: Vec<Watched> = Vec::new();
    for one in namespaces.iter().flat_map(|list| &list.items) {
        seen.push(Watched::Namespace(one.name_any(), one.labels().clone()));
    }
    seen.extend(
        nodes
            .iter()
            .flat_map(|list| &list.items)
            .map(|node| Watched::Node(node.name_any(), node_entries(node))),
    );
    let states = states.iter().flat_map(|list| &list.items);
    seen.extend(states.map(|state| Watched::Gateways(state.name_any(), gateway_entries(state))));
    seen.extend(pools.items.into_iter().map(|pool| Watched::Pool(Box::new(pool))));
    let advertisements = advertisements.map(|list| list.items).unwrap_or_default();
    seen.extend(advertisements.into_iter().map(|one| Watched::Advertisement(Box::new(one))));
    let observed = services.items.iter().filter_map(|service| Observed::new(service, class));
    seen.extend(observed.map(|observed| Watched::Service(Box::new(observed))));

    let now = Instant::now();
    index.lead(true);
    seen.into_iter().for_each(|object| index.update(Update::Seen(object), now));
    let writer = Writer::new(client.clone(), namespace.to_owned(), None);
    index.set_service_ranges(writer.service_ranges().await);
    index.settle(now);
    Ok(())
}
