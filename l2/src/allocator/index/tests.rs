use serde_json::{Value, json};

use super::*;
use crate::allocator::index::services::Outcome;

/// An index with one pool, and an API server that takes every write.
struct World {
    index: Index,
    now: Instant,
    version: u64,
}

impl World {
    fn new(addresses: &[&str]) -> Self {
        let settings = Settings { cool_down: Duration::from_secs(60), reserved: Vec::new() };
        let mut world = Self { index: Index::new(settings), now: Instant::now(), version: 100 };
        world.pool("home", addresses);
        world
    }

    fn pool(&mut self, name: &str, addresses: &[&str]) {
        let pool = json!({"metadata": {"name": name, "generation": 1}, "spec": {"addresses": addresses}});
        self.see(Watched::Pool(Box::new(serde_json::from_value(pool).unwrap())));
    }

    fn see_status(&mut self, name: &str, status: Value) {
        let mut pool = self.index.pools[name].clone();
        pool.status = serde_json::from_value(status).unwrap();
        self.see(Watched::Pool(Box::new(pool)));
    }

    fn see(&mut self, object: Watched) {
        self.index.update(Update::Seen(object), self.now);
    }

    fn service(&mut self, name: &str, status: Value, more: Value) {
        self.version += 1;
        let mut service = json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"),
                "resourceVersion": self.version.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": status}},
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            service["metadata"][field] = value.clone();
        }
        let observed = Observed::new(&serde_json::from_value(service).unwrap(), None).unwrap();
        self.see(Watched::Service(Box::new(observed)));
    }

    fn gone(&mut self, name: &str) {
        self.index.update(Update::Gone(Watched::SERVICE, format!("default/{name}"), None), self.now);
    }

    /// Settles, and hands out what would be written, as `name → patch`.
    fn writes(&mut self) -> BTreeMap<String, Value> {
        self.index.settle(self.now);
        let writes = self.index.next_writes(100, self.now);
        writes.into_iter().map(|write| (write.key.name().to_owned(), write.body)).collect()
    }

    /// As `writes`, and the API server has taken them.
    fn written(&mut self) -> BTreeMap<String, Value> {
        let writes = self.writes();
        for name in writes.keys() {
            self.version += 1;
            let outcome = Outcome::Written(self.version.to_string());
            self.index.wrote(&ServiceKey::new("default", name), outcome, self.now);
        }
        writes
    }

    fn events(&mut self) -> Vec<String> {
        self.index.take_notes().into_iter().map(|note| format!("{} {}", note.reason, note.message)).collect()
    }
}

/// A pool as the API server answers to the write of its status.
fn written_pool(name: &str, status: Value) -> IPAddressPool {
    let pool = json!({"metadata": {"name": name}, "spec": {"addresses": ["10.0.0.0/30"]}, "status": status});
    serde_json::from_value(pool).unwrap()
}

fn ingress(patch: &Value) -> &Value {
    &patch["status"]["loadBalancer"]["ingress"]
}

#[test]
fn a_new_service_gets_one_write_with_status_and_annotation() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.index.lead(true);
    world.service("web", json!(null), json!({}));
    let writes = world.written();
    assert_eq!(ingress(&writes["web"]), &json!([{"ip": "10.0.0.1"}]));
    assert_eq!(writes["web"]["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"], "home");
    assert_eq!(writes["web"]["metadata"]["resourceVersion"], "101");
    assert!(writes["web"]["status"].get("conditions").is_none());
    assert_eq!(world.events(), ["IPAllocated Assigned IP [\"10.0.0.1\"]"]);
    assert!(world.writes().is_empty(), "written once");
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    let note = json!({"annotations": {"metallb.io/ip-allocated-from-pool": "home"}});
    world.service("web", json!([{"ip": "10.0.0.5", "ipMode": "VIP"}]), note.clone());
    world.index.lead(true);
    assert!(world.writes().is_empty(), "what a restart finds is as it should be");
    world.service("web", json!([{"ip": "10.0.0.5", "ipMode": "VIP"}]), note);
    assert!(world.writes().is_empty());
    assert!(world.events().is_empty());
}

#[test]
fn a_service_from_metallb_keeps_its_address_and_gets_the_annotation_of_today() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    let old = json!({"annotations": {"metallb.universe.tf/ip-allocated-from-pool": "home"}});
    world.service("old", json!([{"ip": "10.0.0.5"}]), old);
    world.index.lead(true);
    let writes = world.written();
    let notes = &writes["old"]["metadata"]["annotations"];
    assert_eq!(notes["metallb.io/ip-allocated-from-pool"], "home");
    assert_eq!(notes["metallb.universe.tf/ip-allocated-from-pool"], Value::Null);
    assert!(writes["old"].get("status").is_none(), "the address is not touched");
}

#[test]
fn s19_after_a_restart_the_pending_service_does_not_steal() {
    let mut world = World::new(&["10.0.0.1/32"]);
    world.service("a-pending", json!(null), json!({}));
    world.service(
        "z-holder",
        json!([{"ip": "10.0.0.1"}]),
        json!({"creationTimestamp": "2026-06-01T00:00:00Z"}),
    );
    world.index.lead(true);
    let writes = world.written();
    assert!(!writes.contains_key("z-holder") || ingress(&writes["z-holder"]).is_null(), "{writes:?}");
    assert!(world.index.table().holding(&ServiceKey::new("default", "z-holder")).is_some());
    assert_eq!(writes["a-pending"]["status"]["conditions"][0]["status"], "False");
}

#[test]
fn s17_s18_what_is_freed_goes_to_who_waits() {
    let mut world = World::new(&["10.0.0.1/32"]);
    world.index.lead(true);
    world.service("first", json!(null), json!({}));
    world.written();
    world.service("second", json!(null), json!({}));
    assert!(ingress(&world.written()["second"]).is_null());
    world.gone("first");
    let writes = world.written();
    assert_eq!(ingress(&writes["second"]), &json!([{"ip": "10.0.0.1"}]));
    assert_eq!(writes["second"]["status"]["conditions"][0]["status"], "True", "its trouble is over");
}

#[test]
fn a_failure_is_told_once_and_again_only_when_it_changes() {
    let mut world = World::new(&["10.0.0.1/32"]);
    world.index.lead(true);
    world.service("first", json!(null), json!({}));
    world.service("second", json!(null), json!({}));
    world.written();
    let failed = |events: Vec<String>| {
        events.into_iter().filter(|event| event.starts_with("AllocationFailed")).count()
    };
    assert_eq!(failed(world.events()), 1);
    for _ in 0..3 {
        world.service("third", json!(null), json!({}));
        world.written();
        world.gone("third");
        world.written();
    }
    world.events();
    world.pool("home", &["10.0.0.1/32", "10.0.0.2/31"]);
    world.written();
    assert_eq!(failed(world.events()), 0, "it has an address now");
}

#[test]
fn hazard_175_a_conflict_waits_for_the_update_and_is_not_forced() {
    let mut world = World::new(&["10.0.0.1/32"]);
    world.index.lead(true);
    world.service("web", json!(null), json!({}));
    assert_eq!(world.writes().len(), 1);
    let key = ServiceKey::new("default", "web");
    world.index.wrote(&key, Outcome::Conflict, world.now);
    assert!(world.writes().is_empty(), "the version is old: a write now would fail again");
    world.service("web", json!(null), json!({}));
    let again = world.writes();
    assert_eq!(again["web"]["metadata"]["resourceVersion"], "102");
}

#[test]
fn a_failed_write_is_tried_again_later_and_later() {
    let mut world = World::new(&["10.0.0.1/32"]);
    world.index.lead(true);
    world.service("web", json!(null), json!({}));
    let key = ServiceKey::new("default", "web");
    let mut waits = Vec::new();
    for _ in 0..4 {
        assert_eq!(world.writes().len(), 1);
        world.index.wrote(&key, Outcome::Failed, world.now);
        let at = world.index.next_deadline().unwrap();
        waits.push(at - world.now);
        assert!(world.writes().is_empty());
        world.now = at;
    }
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
}

#[test]
fn hazard_174_a_relist_withdraws_nothing_until_it_is_complete() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.index.lead(true);
    world.service("stays", json!(null), json!({}));
    world.service("goes", json!(null), json!({}));
    world.written();
    world.index.update(Update::Restart(Watched::SERVICE), world.now);
    world.index.update(Update::Restart(Watched::POOL), world.now);
    assert!(world.writes().is_empty());
    world.service("stays", json!([{"ip": "10.0.0.1"}]), json!({}));
    assert_eq!(world.index.table().len(), 2);
    world.index.update(Update::Listed(Watched::SERVICE), world.now);
    assert_eq!(world.index.table().len(), 1, "what the complete list does not show is gone");
}

#[test]
fn an_update_from_before_our_own_write_changes_nothing() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.index.lead(true);
    world.service("web", json!(null), json!({}));
    world.written();
    world.version = 50;
    world.service("web", json!(null), json!({}));
    assert!(world.writes().is_empty(), "the write is not repeated");
}

#[test]
fn a_service_made_again_under_the_same_name_starts_anew() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.index.lead(true);
    world.service("web", json!(null), json!({}));
    world.written();
    world.service("web", json!(null), json!({"uid": "another"}));
    let writes = world.written();
    assert_eq!(writes["web"]["metadata"]["uid"], "another");
    assert_eq!(ingress(&writes["web"]), &json!([{"ip": "10.0.0.1"}]), "and may have its address back");
}

#[test]
fn a_standby_writes_nothing_and_takes_over_from_the_status() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.service("web", json!([{"ip": "10.0.0.7"}]), json!({}));
    world.service("new", json!(null), json!({}));
    assert!(world.writes().is_empty());
    world.index.lead(true);
    let writes = world.written();
    assert_eq!(ingress(&writes["new"]), &json!([{"ip": "10.0.0.1"}]));
    world.index.lead(false);
    world.service("later", json!(null), json!({}));
    assert!(world.writes().is_empty());
}

#[test]
fn a_contested_address_is_replaced_and_the_speakers_condition_goes() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.index.lead(true);
    world.service("web", json!(null), json!({}));
    world.written();
    world.version += 10;
    let conflict = json!([{"type": "metallb.io/AddressConflict", "status": "True", "reason": "ForeignHost",
        "message": "10.0.0.1: 02:00:00:00:00:01 answers for it", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let service = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "uid-web", "resourceVersion": "999",
            "annotations": {"metallb.io/ip-allocated-from-pool": "home"}},
        "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}, "conditions": conflict},
    });
    let observed = Observed::new(&serde_json::from_value(service).unwrap(), None).unwrap();
    world.see(Watched::Service(Box::new(observed)));
    let writes = world.written();
    assert_eq!(ingress(&writes["web"]), &json!([{"ip": "10.0.0.2"}]));
    assert_eq!(writes["web"]["status"]["conditions"], json!([]));
}

#[test]
fn a_pools_status_counts_and_says_what_is_wrong() {
    let mut world = World::new(&["10.0.0.0/30"]);
    world.pool("younger", &["10.0.0.2/32"]);
    world.index.lead(true);
    world.service("web", json!(null), json!({}));
    world.written();
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::now());
    let statuses: BTreeMap<String, _> = world.index.pool_statuses(&now).into_iter().collect();
    let home = &statuses["home"];
    assert_eq!((home.assigned_ipv4, home.available_ipv4), (1, 3));
    let said = |name: &str, type_: &str| {
        let condition =
            statuses[name].conditions.iter().find(|condition| condition.type_ == type_).unwrap().clone();
        (condition.status, condition.reason)
    };
    use crate::api::ConditionStatus;
    assert_eq!(said("home", "Valid"), (ConditionStatus::True, "Reconciled".to_owned()));
    assert_eq!(said("home", "Advertised"), (ConditionStatus::False, "NoL2Advertisement".to_owned()));
    assert_eq!(said("younger", "Valid"), (ConditionStatus::False, "PoolsOverlap".to_owned()));
    for (name, status) in &statuses {
        world.index.wrote_pool(written_pool(name, json!(status)));
    }
    assert!(world.index.pool_statuses(&now).is_empty(), "written only on change");
    let mut without = statuses["home"].clone();
    without.conditions.clear();
    world.index.wrote_pool(written_pool("younger", json!(statuses["younger"])));
    world.see_status("home", json!(without));
    assert_eq!(world.index.pool_statuses(&now).len(), 1, "somebody took the conditions away");
    world.index.wrote_pool(written_pool("home", json!(without)));
    assert!(world.index.pool_statuses(&now).is_empty(), "a CRD of MetalLB's own keeps none");
    for (name, status) in &statuses {
        world.index.wrote_pool(written_pool(name, json!(status)));
    }
    let state = world.index.state_to_write(&now).unwrap();
    assert_eq!(state.result, Some(crate::api::ConfigurationResult::Invalid));
    assert!(state.error_summary.contains("pool \"younger\""), "{}", state.error_summary);
    world.index.wrote_state(state);
    assert!(world.index.state_to_write(&now).is_none());
    world.index.update(Update::Gone(Watched::STATE, String::new(), None), world.now);
    assert!(world.index.state_to_write(&now).is_some(), "s65: made again when it was deleted");
}

#[test]
fn unreadable_wishes_leave_what_is_held_and_are_told_by_metallbs_event() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.index.lead(true);
    world.service(
        "web",
        json!([{"ip": "10.0.0.4"}]),
        json!({"annotations": {"metallb.io/loadBalancerIPs": "nonsense"}}),
    );
    world.written();
    assert!(world.events().iter().any(|event| event.starts_with("LoadBalancerFailed")));
    assert_eq!(world.index.table().len(), 1);
}

#[test]
fn the_note_of_a_service_that_changed_its_type_goes_by_the_version_that_was_seen() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.index.lead(true);
    world.service("web", json!(null), json!({}));
    world.written();
    let key = "default/web".to_owned();
    world.index.update(Update::Gone(Watched::SERVICE, key, Some("321".to_owned())), world.now);
    let forgotten = world.index.take_forgotten();
    assert_eq!(forgotten[0].version.as_deref(), Some("321"));
    assert_eq!(forgotten[0].uid, "uid-web");
}

mod rivals;
