//! Why a Service is announced by nobody, from the same index and by the same rules by which it would be. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Advertisement, Home, Index, Node, Service, Shared, Slice, Traffic};
use crate::node_name::NodeName;
use crate::speaker::reduce::EXCLUDE_LABEL;
use crate::speaker::wanted::ServiceKey;

impl Index {
    /// Each reason in words that name the mend; the last resort is that the speakers themselves are at fault.
    pub(crate) fn silence(&self, key: &ServiceKey) -> Vec<String> {
        let Some(service) = self.services.get(key).filter(|service| !service.addresses.is_empty()) else {
            return vec!["it has no address yet".to_owned()];
        };
        let slices = self.endpoints.get(key).map_or(&[][..], Vec::as_slice);
        let mut reasons = Vec::new();
        if slices.iter().all(|slice| slice.nodes.is_empty()) {
            reasons.push(
                "no endpoint is ready: look at the pods that its selector matches (kubectl get endpointslices)"
                    .to_owned(),
            );
        }
        for address in &service.addresses {
            let reason = self.silence_of(*address, service, slices);
            if let Some(reason) = reason.filter(|reason| !reasons.contains(reason)) {
                reasons.push(reason);
            }
        }
        if reasons.is_empty() {
            reasons.push(
                "nothing in the API server speaks against it: do the speakers run, and what do they say? (kubectl logs, \
                 causeway-speaker status)"
                    .to_owned(),
            );
        }
        reasons
    }

    fn silence_of(&self, address: IpAddr, service: &Service, slices: &[Slice]) -> Option<String> {
        let advertisements: Vec<&Advertisement> = self.advertisements.values().collect();
        let Some(pool) = self.home(address) else {
            return Some(format!("{address} is in no IPAddressPool, so that nobody may announce it"));
        };
        let matching = Self::matching(&advertisements, &pool, service);
        if matching.is_empty() {
            return Some(self.unadvertised(&pool));
        }
        let all = self.candidates(&advertisements, &matching, service, slices, &mut Shared::new());
        if all.is_empty() {
            return Some(self.no_candidate(&advertisements, &matching, service, slices));
        }
        let ready = |name: &NodeName| self.nodes.get(name).is_some_and(|node| !node.unready);
        (!all.keys().any(ready))
            .then(|| format!("the nodes that may announce it are not Ready: {}", list(all.keys())))
    }

    /// There is no advertisement for the addresses of a pool.
    fn unadvertised(&self, pool: &Home) -> String {
        let name = &pool.name;
        if self.advertisements.is_empty() {
            return format!("there is no L2Advertisement: make one that selects pool `{name}`");
        }
        let selecting = self.advertisements.iter().filter(|(_, one)| one.selects_pool(pool));
        let names: Vec<&String> = selecting.map(|(name, _)| name).collect();
        if names.is_empty() {
            return format!(
                "no L2Advertisement selects pool `{name}` (spec.ipAddressPools, spec.ipAddressPoolSelectors)"
            );
        }
        format!(
            "no L2Advertisement of pool `{name}` selects this Service by its labels (spec.serviceSelectors of {})",
            list(names)
        )
    }

    /// There are advertisements, and no node for them.
    fn no_candidate(
        &self,
        advertisements: &[&Advertisement],
        matching: &[usize],
        service: &Service,
        slices: &[Slice],
    ) -> String {
        let chosen = |node: &Node| matching.iter().any(|at| advertisements[*at].selects_node(node));
        let selected: Vec<(&NodeName, &Node)> = self.nodes.iter().filter(|(_, node)| chosen(node)).collect();
        if selected.is_empty() {
            return "the nodeSelectors of its L2Advertisements select no node".to_owned();
        }
        let able: BTreeSet<&NodeName> =
            selected.iter().filter(|(_, node)| !node.barred).map(|(name, _)| *name).collect();
        if able.is_empty() {
            let why = selected.iter().map(|(name, node)| format!("{name} {}", barred_by(node)));
            return format!("no node may announce: {}", why.collect::<Vec<_>>().join("; "));
        }
        debug_assert_eq!(service.traffic, Traffic::Local, "else these nodes are candidates");
        let serving: BTreeSet<&NodeName> = slices.iter().flat_map(|slice| slice.nodes.iter()).collect();
        format!(
            "externalTrafficPolicy is Local, and no node that may announce ({}) has a ready endpoint ({})",
            list(able),
            if serving.is_empty() {
                "there is none".to_owned()
            } else {
                format!("those are on {}", list(serving))
            }
        )
    }
}

fn barred_by(node: &Node) -> String {
    if node.labels.contains_key(EXCLUDE_LABEL) {
        format!("has the label {EXCLUDE_LABEL} (remove it, or run the speakers with --ignore-exclude-lb)")
    } else {
        "has the condition NetworkUnavailable".to_owned()
    }
}

fn list<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{index, key, labels, selector};
    use super::*;

    fn told(index: &Index) -> String {
        // What the speakers would do agrees: nobody is a candidate where a reason is given.
        index.silence(&key("web")).join("\n")
    }

    #[test]
    fn each_reason_for_silence_is_told() {
        let says = |change: &dyn Fn(&mut Index), part: &str| {
            let mut index = index();
            change(&mut index);
            let text = told(&index);
            assert!(text.contains(part), "{part:?} is missing in {text:?}");
            let wanted = index.wanted(&"node1".into());
            assert!(wanted.demands.values().all(|demand| demand.candidates.is_empty()), "{text}");
        };
        says(&|i| i.endpoints.clear(), "no endpoint is ready");
        says(
            &|i| {
                let web = i.services[&key("web")].clone();
                i.remove_service(&key("web"));
                i.pools.clear();
                i.put_service(key("web"), web);
            },
            "is in no IPAddressPool",
        );
        says(&|i| i.advertisements.clear(), "there is no L2Advertisement");
        let only = |change: fn(&mut Advertisement)| {
            move |index: &mut Index| {
                let mut one = Advertisement::default();
                change(&mut one);
                index.advertisements.insert("all".into(), one);
            }
        };
        says(&only(|one| one.pools = ["other".to_owned()].into()), "no L2Advertisement selects pool `home`");
        says(&only(|one| one.services = vec![selector(&[("app", "mail")])]), "spec.serviceSelectors of all");
        says(&only(|one| one.nodes = vec![selector(&[("name", "node9")])]), "select no node");
        says(
            &|i| {
                for node in i.nodes.values_mut() {
                    node.barred = true;
                }
                i.nodes.get_mut("node2").unwrap().labels = labels(&[(EXCLUDE_LABEL, "")]);
            },
            "node2 has the label node.kubernetes.io/exclude-from-external-load-balancers",
        );
        says(
            &|i| {
                i.services.values_mut().for_each(|service| service.traffic = Traffic::Local);
                i.nodes.get_mut("node1").unwrap().barred = true;
            },
            "externalTrafficPolicy is Local, and no node that may announce (node2, node3)",
        );
    }

    #[test]
    fn nodes_that_are_not_ready_and_speakers_at_fault_are_named() {
        let mut index = index();
        assert!(told(&index).contains("do the speakers run"));
        index.nodes.values_mut().for_each(|node| node.unready = true);
        assert!(told(&index).contains("not Ready: node1, node2, node3"));
        index.services.clear();
        assert_eq!(told(&index), "it has no address yet");
    }
}
