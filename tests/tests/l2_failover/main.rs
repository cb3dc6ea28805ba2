//! What a client on the segment lives through when nodes, links, the control plane or other hosts fail (A1-A15, F1-F8 and
//! the figures).
//!
//! Fail-over is measured by a client that opens a new connection every 10 ms, and by an ear on the wire.

mod conditions;
mod crashes;
mod hands;
mod neighbours;
mod unfit;

use std::process::ExitCode;
use std::time::Duration;

use causeway_tests::cluster::scenarios::{self, Scenario};

/// What a crash may cost at most.
const WORST: Duration = Duration::from_secs(2);
/// Two nodes may answer for so long after a single fault.
const OVERLAP: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    scenarios::main("l2_failover", 3, SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        number: "A1",
        name: "power off: a client on the segment and one behind the router get through again",
        run: crashes::power_off,
    },
    Scenario { number: "A2", name: "a graceful stop costs no connection", run: crashes::graceful_stop },
    Scenario {
        number: "A3",
        name: "an uplink that goes down moves its VIPs, and up again makes no second owner",
        run: crashes::uplink_down,
    },
    Scenario {
        number: "A4",
        name: "a partition makes two owners for at most a second",
        run: crashes::partition,
    },
    Scenario { number: "A5", name: "a healed partition has one owner", run: crashes::partition_heals },
    Scenario {
        number: "A6",
        name: "an address that a foreign host has is not announced, and another is given",
        run: neighbours::foreign_host,
    },
    Scenario {
        number: "A7",
        name: "unicast neighbour solicitations are answered",
        run: neighbours::unicast_solicitation,
    },
    Scenario { number: "A8", name: "address probes of both families are answered", run: neighbours::probes },
    Scenario { number: "A9", name: "a restarted node causes one move, not two", run: crashes::one_move },
    Scenario {
        number: "A10",
        name: "many Services: convergence, API calls at rest, memory",
        run: conditions::many_services,
    },
    Scenario {
        number: "A11",
        name: "hazard_188: a speaker short of CPU keeps its VIPs",
        run: conditions::short_of_cpu,
    },
    Scenario {
        number: "A12",
        name: "hazard_173: without the API server VIPs stay and still move when a node dies",
        run: conditions::api_away,
    },
    Scenario {
        number: "A13",
        name: "IPVS without strictARP is told",
        run: conditions::ipvs_without_strict_arp,
    },
    Scenario { number: "A14", name: "announcements are repeated", run: conditions::repeated },
    Scenario {
        number: "A15",
        name: "a pool that shrinks while the API is slow",
        run: conditions::shrink_slowly,
    },
    Scenario {
        number: "H176",
        name: "hazard_176: a paused owner that wakes up yields",
        run: crashes::paused_owner,
    },
    Scenario {
        number: "H180",
        name: "hazard_180: a rogue claim is answered, not fought over",
        run: neighbours::rogue_claim,
    },
    Scenario {
        number: "H181",
        name: "hazard_181: malformed frames change nothing",
        run: neighbours::malformed,
    },
    Scenario {
        number: "H181b",
        name: "hazard_181: a flood of questions is answered at the limit, and others after it",
        run: neighbours::flood,
    },
    Scenario { number: "H184", name: "hazard_184: a changed MAC is announced", run: neighbours::changed_mac },
    Scenario {
        number: "F1",
        name: "a node that loses its address, and not its carrier, does not win its VIPs back",
        run: unfit::address_lost,
    },
    Scenario {
        number: "F2",
        name: "a node that gets another address is a member again within a second",
        run: unfit::address_changed,
    },
    Scenario { number: "F3", name: "a speaker that hears no other yields, and says so", run: unfit::unheard },
    Scenario {
        number: "F4",
        name: "ServiceL2Status that somebody deletes or edits comes back",
        run: hands::statuses_deleted,
    },
    Scenario {
        number: "F5",
        name: "after a link that flaps the status is the last owner's",
        run: hands::flapping_link,
    },
    Scenario {
        number: "F6",
        name: "ConfigurationStates that somebody deletes or edits come back",
        run: hands::configuration_states_deleted,
    },
    Scenario {
        number: "F7",
        name: "a VIP is announced while a second controller writes over its status",
        run: hands::rival_writer,
    },
    Scenario {
        number: "F8",
        name: "a pool that shrinks while no allocator leads takes nothing away",
        run: hands::shrunk_while_nobody_leads,
    },
    Scenario { number: "K", name: "kills of the owner: its process, then its link", run: crashes::kills },
    Scenario {
        number: "L",
        name: "an owner that loses its address and keeps its carrier",
        run: crashes::address_losses,
    },
    Scenario { number: "H", name: "hand-overs without a failed connection", run: crashes::hand_overs },
];
