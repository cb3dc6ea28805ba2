//! The allocator against a real API server: which address a Service gets, keeps and loses (scenarios 7, 8, 13-36, 58,
//! 60-65), and what it makes of people's hands, rival controllers and its own commands (S15).
//!
//! The numbers are explained in tests/kubernetes/README.md.

mod allocation;
mod commands;
mod configuration;
mod crowd;
mod families;
mod hands;
mod pools;
mod rival;

use std::process::ExitCode;

use causeway_tests::cluster::scenarios::{self, Scenario};

const POOL: &str = "metallb.io/address-pool";
const ADDRESSES: &str = "metallb.io/loadBalancerIPs";
const SHARE: &str = "metallb.io/allow-shared-ip";
const FROM: &str = "metallb.io/ip-allocated-from-pool";

fn main() -> ExitCode {
    scenarios::main("l2_addresses", 1, SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    Scenario { number: "7", name: "a pool given as a range gives its lowest address", run: pools::range },
    Scenario { number: "8", name: "a pool given as a prefix gives an address in it", run: pools::prefix },
    Scenario {
        number: "13",
        name: "the annotation picks the pool: IPv4",
        run: |c| pools::picks_pool(c, "IPv4", true),
    },
    Scenario {
        number: "14",
        name: "the annotation picks the pool: IPv6",
        run: |c| pools::picks_pool(c, "IPv6", true),
    },
    Scenario {
        number: "15",
        name: "the annotation picks a pool without autoAssign: IPv4",
        run: |c| pools::picks_pool(c, "IPv4", false),
    },
    Scenario {
        number: "16",
        name: "the annotation picks a pool without autoAssign: IPv6",
        run: |c| pools::picks_pool(c, "IPv6", false),
    },
    Scenario {
        number: "17",
        name: "a change to ClusterIP frees the address for the pending",
        run: pools::frees_by_type,
    },
    Scenario {
        number: "18",
        name: "a deletion frees the address for the pending",
        run: pools::frees_by_deletion,
    },
    Scenario {
        number: "19",
        name: "a restart of the allocators moves no address",
        run: pools::restart_moves_nothing,
    },
    Scenario {
        number: "20",
        name: "a shared address is judged anew when policy or selector changes",
        run: pools::sharing_is_judged_anew,
    },
    Scenario { number: "21", name: "without pools the address goes", run: pools::no_pools_no_address },
    Scenario {
        number: "22",
        name: "a deleted pool's Service gets an address of another",
        run: pools::deleted_pool,
    },
    Scenario {
        number: "23",
        name: "serviceAllocation by namespace and priority",
        run: allocation::by_namespace,
    },
    Scenario { number: "24", name: "serviceAllocation by priority alone", run: allocation::by_priority },
    Scenario {
        number: "25",
        name: "serviceAllocation by namespace or its labels",
        run: allocation::by_namespace_or_labels,
    },
    Scenario {
        number: "26",
        name: "serviceAllocation by the Service's label",
        run: allocation::by_service_label,
    },
    Scenario {
        number: "27",
        name: "serviceAllocation by namespace and label together",
        run: allocation::by_namespace_and_label,
    },
    Scenario {
        number: "28",
        name: "serviceAllocation follows a namespace's labels at run time",
        run: allocation::by_changing_labels,
    },
    Scenario {
        number: "29",
        name: "PreferDualStack takes the pool with both families",
        run: families::prefers_dual_pool,
    },
    Scenario {
        number: "30",
        name: "PreferDualStack on single pools takes IPv4",
        run: |c| families::prefers_family(c, &["IPv4", "IPv6"], 0),
    },
    Scenario {
        number: "31",
        name: "PreferDualStack with IPv6 first takes IPv6",
        run: |c| families::prefers_family(c, &["IPv6", "IPv4"], 1),
    },
    Scenario {
        number: "32",
        name: "a pool that becomes dual adds the second address and keeps the first",
        run: families::becomes_dual,
    },
    Scenario {
        number: "33",
        name: "PreferDualStack and RequireDualStack on a single pool",
        run: families::prefer_require,
    },
    Scenario { number: "34", name: "no jump from a single pool to a new dual one", run: families::no_jump },
    Scenario {
        number: "35",
        name: "a dual pool that becomes single sends its Service to another dual one",
        run: families::becomes_single,
    },
    Scenario { number: "36", name: "the pool's counters follow", run: families::counters },
    Scenario {
        number: "58",
        name: "a foreign loadBalancerClass gets nothing",
        run: configuration::foreign_class,
    },
    Scenario {
        number: "60",
        name: "of overlapping pools the later gives nothing and says why",
        run: configuration::overlap,
    },
    Scenario {
        number: "61",
        name: "a pool outside the system namespace gives nothing",
        run: configuration::pool_elsewhere,
    },
    Scenario {
        number: "63",
        name: "every component's ConfigurationState is Valid",
        run: configuration::all_valid,
    },
    Scenario {
        number: "64",
        name: "a bad configuration shows in ConfigurationState, and its mending too",
        run: configuration::invalid_then_valid,
    },
    Scenario {
        number: "65",
        name: "a deleted ConfigurationState comes back and is still Invalid",
        run: configuration::state_heals,
    },
    Scenario {
        number: "N1",
        name: "both annotation prefixes and spec.loadBalancerIP are honoured",
        run: configuration::ways_to_ask,
    },
    Scenario {
        number: "N2",
        name: "bad ranges are refused at the API server",
        run: configuration::bad_ranges,
    },
    Scenario {
        number: "N3",
        name: "hazard_189: addresses of nodes, gateway, pods and Services are never given",
        run: configuration::reserved,
    },
    Scenario {
        number: "N4",
        name: "a new wish is granted before the old address is taken",
        run: pools::replaced_before_taken,
    },
    Scenario {
        number: "N5",
        name: "hazard_186: a killed leader's work goes on within 10 s",
        run: pools::standby_takes_over,
    },
    Scenario {
        number: "N6",
        name: "an exhausted pool says so and serves when it grows",
        run: pools::exhausted,
    },
    Scenario {
        number: "N7",
        name: "two Services that ask for one address: the first keeps it",
        run: pools::two_ask,
    },
    Scenario {
        number: "H190",
        name: "hazard_190: a stolen token reads no Secret, changes no spec, and may what its program needs and no more",
        run: configuration::stolen_token,
    },
    Scenario {
        number: "S15.3a",
        name: "a gateway stays reserved when the state that named it is deleted",
        run: hands::gateway_is_remembered,
    },
    Scenario {
        number: "S15.3b",
        name: "an address that turns out to be a gateway is taken off, and the event says why",
        run: hands::gateway_is_taken_off,
    },
    Scenario {
        number: "S15.3c",
        name: "statuses that somebody edits or deletes come back",
        run: hands::statuses_come_back,
    },
    Scenario {
        number: "S15.3d",
        name: "after definitions were deleted and installed again each Service has its address back",
        run: hands::definitions_come_back,
    },
    Scenario {
        number: "S15.4",
        name: "a rival writer is named once, answered ever slower, and outlasted",
        run: rival::named_and_outlasted,
    },
    Scenario {
        number: "S15.5a",
        name: "explain says why nobody announces, under the account of the manual",
        run: commands::explain_reasons,
    },
    Scenario {
        number: "S15.5b",
        name: "explain under an account that lacks a verb fails and names the verb",
        run: commands::explain_refused,
    },
    Scenario {
        number: "S15.6a",
        name: "check and the API server agree about manifests",
        run: commands::check_agrees,
    },
    Scenario {
        number: "S15.6b",
        name: "what convert makes of refused names is applied and used",
        run: commands::convert_mends_names,
    },
    Scenario {
        number: "S15.7",
        name: "a pool that is deleted and made again moves nobody",
        run: hands::pool_made_again,
    },
    Scenario {
        number: "S15.8a",
        name: "a type that flips forth and back leaves its Service an address and its note",
        run: hands::type_flips,
    },
    Scenario {
        number: "S15.8b",
        name: "a type that changed while no allocator ran leaves no note behind",
        run: hands::type_changed_meanwhile,
    },
    Scenario {
        number: "S15.9",
        name: "without any pool a foreign address is left alone",
        run: hands::foreign_address,
    },
    Scenario {
        number: "C1",
        name: "thousands of Services: one more, a restart, API calls at rest, memory",
        run: crowd::many_services,
    },
];
