//! Reads everything once into an index, for commands that look and do not run.

use std::time::Instant;

use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};

use super::cluster::node_entries;
use super::gateways::Report;
use super::index::Index;
use super::inputs::{Update, Watched};
use super::observe::Observed;
use super::writer::Writer;
use crate::api::{ConfigurationState, IPAddressPool, L2Advertisement};
use crate::call::{Call, CallError, Outages};

/// Fills the index and lets it decide; nothing is written.
///
/// # Errors
/// When anything cannot be listed: half of a cluster would give wrong answers.
pub(crate) async fn load(
    client: &Client,
    namespace: &str,
    class: Option<&str>,
    index: &mut Index,
) -> Result<(), CallError> {
    let all = ListParams::default();
    let of_type = ListParams::default().fields("spec.type=LoadBalancer");
    let services: Api<Service> = Api::all(client.clone());
    let services = Call::new("list", "services").run(services.list(&of_type)).await?;
    let pools: Api<IPAddressPool> = Api::namespaced(client.clone(), namespace);
    let pools = Call::new("list", "ipaddresspools").run(pools.list(&all)).await?;
    let advertisements: Api<L2Advertisement> = Api::namespaced(client.clone(), namespace);
    let advertisements = Call::new("list", "l2advertisements").run(advertisements.list(&all)).await?;
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let namespaces = Call::new("list", "namespaces").run(namespaces.list(&all)).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = Call::new("list", "nodes").run(nodes.list(&all)).await?;
    let states: Api<ConfigurationState> = Api::namespaced(client.clone(), namespace);
    let states = match Call::new("list", "configurationstates").run(states.list(&all)).await {
        Ok(list) => list.items,
        // An older MetalLB's CRDs have no such kind.
        Err(error) if error.code() == Some(404) => Vec::new(),
        Err(error) => return Err(error),
    };

    let mut seen: Vec<Watched> = Vec::new();
    let names = namespaces.items.iter();
    seen.extend(names.map(|one| Watched::Namespace(one.name_any(), one.labels().clone())));
    seen.extend(nodes.items.iter().map(|node| Watched::Node(node.name_any(), node_entries(node))));
    seen.extend(states.iter().map(|state| Watched::Gateways(state.name_any(), Report::of(state))));
    seen.extend(pools.items.into_iter().map(|pool| Watched::Pool(Box::new(pool))));
    seen.extend(advertisements.items.into_iter().map(|one| Watched::Advertisement(Box::new(one))));
    let observed = services.items.iter().filter_map(|service| Observed::new(service, class));
    seen.extend(observed.map(|observed| Watched::Service(Box::new(observed))));

    let now = Instant::now();
    index.lead(true);
    seen.into_iter().for_each(|object| index.update(Update::Seen(object), now));
    let writer = Writer::new(client.clone(), namespace.to_owned(), None, Outages::default());
    index.set_service_ranges(writer.service_ranges().await?);
    index.settle(now);
    Ok(())
}
