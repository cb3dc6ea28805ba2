//! The speakers on three nodes and a wire: who announces a VIP, on which interface, and what moves it (scenarios 1-6, 9-12, 37-57, 59, 62).

mod given;
mod interfaces;
mod nodes;
mod selectors;
mod service;

use std::process::ExitCode;
use std::time::Duration;

use causeway_tests::cluster::scenarios::{self, Scenario};

const SHARE: &str = "metallb.io/allow-shared-ip";
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Longer than a wrong answer would take to come.
const A_WHILE: Duration = Duration::from_millis(600);

fn main() -> ExitCode {
    scenarios::main("l2_announce", 3, SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        number: "1",
        name: "a Service is reached from outside through its VIP",
        run: service::reached,
    },
    Scenario {
        number: "2",
        name: "ServiceL2Status comes and goes with the Service",
        run: service::l2_status,
    },
    Scenario { number: "3", name: "with policy Local the node with the pod announces", run: service::local },
    Scenario { number: "4", name: "TCP and UDP on one VIP", run: service::mixed_protocols },
    Scenario {
        number: "5",
        name: "a node without network hands over and may come back",
        run: service::network_unavailable,
    },
    Scenario { number: "6", name: "an excluded node hands over and may come back", run: service::excluded },
    Scenario {
        number: "9",
        name: "two Services on a shared address have one announcer: IPv4",
        run: |c| service::shared(c, "IPv4"),
    },
    Scenario {
        number: "10",
        name: "two Services on a shared address have one announcer: IPv6",
        run: |c| service::shared(c, "IPv6"),
    },
    Scenario {
        number: "11",
        name: "metrics under MetalLB's names: IPv4",
        run: |c| service::metrics(c, "IPv4"),
    },
    Scenario {
        number: "12",
        name: "metrics under MetalLB's names: IPv6",
        run: |c| service::metrics(c, "IPv6"),
    },
    Scenario {
        number: "37",
        name: "ServiceL2Status lists the chosen interfaces",
        run: interfaces::status_interfaces,
    },
    Scenario {
        number: "38",
        name: "the chosen interface answers with its MAC, the others are silent",
        run: interfaces::chosen_interface,
    },
    Scenario {
        number: "39",
        name: "another interface in the advertisement moves the announcement",
        run: interfaces::other_interface,
    },
    Scenario {
        number: "40",
        name: "an interface that does not exist announces nothing and tells it",
        run: interfaces::no_such_interface,
    },
    Scenario {
        number: "41",
        name: "two advertisements give the union of their interfaces",
        run: interfaces::union_of_interfaces,
    },
    Scenario {
        number: "42",
        name: "interface and node selectors together",
        run: interfaces::interface_and_node,
    },
    Scenario { number: "43", name: "the one selected node announces", run: nodes::one_node },
    Scenario { number: "44", name: "node selectors are alternatives", run: nodes::node_alternatives },
    Scenario {
        number: "45",
        name: "labels given at run time make nodes eligible",
        run: nodes::labels_at_run_time,
    },
    Scenario {
        number: "46",
        name: "the preferred node wins, and without the label the VIP is still served",
        run: nodes::preferred,
    },
    Scenario {
        number: "47",
        name: "a preference that no node meets changes nothing",
        run: nodes::nobody_preferred,
    },
    Scenario {
        number: "48",
        name: "the preferred node, excluded for a while, takes its VIP back",
        run: nodes::preferred_reclaims,
    },
    Scenario {
        number: "49",
        name: "a preference given at run time moves the VIP",
        run: nodes::preference_at_run_time,
    },
    Scenario { number: "50", name: "node selectors outrank preference", run: nodes::hard_filter },
    Scenario {
        number: "51",
        name: "preference outside of the selection is void",
        run: nodes::disjoint_preference,
    },
    Scenario { number: "52", name: "weights add up over advertisements", run: nodes::weights_add_up },
    Scenario {
        number: "53",
        name: "a preference counts for the selected Services only",
        run: nodes::scoped_preference,
    },
    Scenario {
        number: "54",
        name: "only Services that match pool and selector are announced",
        run: selectors::service_selector,
    },
    Scenario {
        number: "55",
        name: "two matching advertisements, one announcer",
        run: selectors::one_announcer,
    },
    Scenario {
        number: "56",
        name: "no announcer where no advertisement matches Service and node",
        run: selectors::no_announcer,
    },
    Scenario {
        number: "57",
        name: "service selectors are alternatives",
        run: selectors::selector_alternatives,
    },
    Scenario {
        number: "59",
        name: "a speaker taken away loses its VIPs and may come back",
        run: service::speaker_away,
    },
    Scenario {
        number: "62",
        name: "an advertisement outside the system namespace announces nothing",
        run: selectors::advertisement_elsewhere,
    },
    Scenario {
        number: "S1",
        name: "MetalLB's sample manifests work as they are, by kubectl",
        run: selectors::samples,
    },
    Scenario {
        number: "S2",
        name: "the old ConfigMap works through convert",
        run: selectors::old_config_map,
    },
    Scenario {
        number: "S3",
        name: "no pool's address is announced without an advertisement",
        run: selectors::not_advertised,
    },
    Scenario {
        number: "S4",
        name: "a VIP moved by hand goes to the named node and stays",
        run: nodes::moved_by_hand,
    },
    Scenario { number: "S5", name: "the VIPs are spread over the nodes", run: nodes::spread },
];
