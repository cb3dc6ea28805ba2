//! Who else writes a Service's status, and what nobody here may judge.

use super::*;
use crate::api::conditions::STATUS_CONTESTED;

const THEIRS: &str = "192.168.1.77";

/// A Service that has 10.0.0.1 of us, and the world that it is in.
fn settled() -> World {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.index.lead(true);
    world.service("web", json!(null), json!({}));
    world.written();
    world.events();
    world
}

/// The rival's write comes by the watch, with whatever conditions there are.
fn overwritten(world: &mut World) {
    let conditions = world.index.observed(&ServiceKey::new("default", "web")).unwrap().conditions.clone();
    world.version += 1;
    let service = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "uid-web",
            "resourceVersion": world.version.to_string(),
            "annotations": {"metallb.io/ip-allocated-from-pool": "home"},
            "managedFields": [
                {"manager": "causeway-allocator", "time": "2026-01-01T00:00:00Z",
                    "fieldsV1": {"f:metadata": {"f:annotations": {"f:metallb.io/ip-allocated-from-pool": {}}}}},
                {"manager": "kubectl", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:spec": {}}},
                {"manager": "k3s", "time": "2026-01-02T00:00:00Z",
                    "fieldsV1": {"f:status": {"f:loadBalancer": {"f:ingress": {}}}}}]},
        "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": THEIRS}]}, "conditions": conditions},
    });
    let observed = Observed::new(&serde_json::from_value(service).unwrap(), None).unwrap();
    world.see(Watched::Service(Box::new(observed)));
}

fn contested(patch: &Value) -> Option<String> {
    let conditions = patch["status"]["conditions"].as_array()?;
    let one = conditions.iter().find(|one| one["type"] == STATUS_CONTESTED && one["status"] == "True")?;
    one["message"].as_str().map(str::to_owned)
}

#[test]
fn what_a_hand_changes_is_mended_at_once_and_without_a_word() {
    let mut world = settled();
    overwritten(&mut world);
    let writes = world.written();
    assert_eq!(ingress(&writes["web"]), &json!([{"ip": "10.0.0.1"}]));
    assert_eq!(contested(&writes["web"]), None);
    assert!(world.events().is_empty());
    assert_eq!(world.index.contested(), 0);
}

#[test]
fn a_war_is_told_once_named_in_a_condition_and_fought_slowly() {
    let mut world = settled();
    let start = world.now;
    let (mut writes, mut events) = (0, Vec::new());
    while world.now < start + Duration::from_secs(600) {
        overwritten(&mut world);
        events.extend(world.events());
        while world.writes().is_empty() {
            world.now = world.index.next_deadline().expect("ours is written again some time");
        }
        // Taken up by `writes` above: the API server accepts it.
        world.version += 1;
        let outcome = Outcome::Written(world.version.to_string());
        world.index.wrote(&ServiceKey::new("default", "web"), outcome, world.now);
        writes += 1;
    }
    assert!(writes < 24, "{writes} writes in ten minutes");
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("StatusContested `k3s` also writes"), "{events:?}");
    assert!(events[0].contains(THEIRS) && events[0].contains("10.0.0.1"), "{events:?}");
    assert_eq!(world.index.contested(), 1);
}

#[test]
fn the_note_of_the_pool_stays_while_the_decision_stands() {
    let mut world = settled();
    for _ in 0..3 {
        overwritten(&mut world);
        world.now += Duration::from_secs(10);
        let writes = world.written();
        let notes = &writes["web"]["metadata"]["annotations"];
        assert!(notes.is_null(), "what the speakers go by is not touched: {notes}");
    }
    // A new decision is written at once, and both in one patch.
    overwritten(&mut world);
    assert!(world.writes().is_empty(), "the war goes on");
    world.index.update(Update::Gone(Watched::POOL, "home".to_owned(), None), world.now);
    let writes = world.written();
    assert_eq!(ingress(&writes["web"]), &Value::Null);
    assert_eq!(writes["web"]["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"], Value::Null);
}

#[test]
fn peace_takes_the_condition_away_and_a_new_leader_inherits_the_war() {
    let mut world = settled();
    for _ in 0..2 {
        overwritten(&mut world);
        world.now += Duration::from_secs(2);
        let writes = world.written();
        assert_eq!(ingress(&writes["web"]), &json!([{"ip": "10.0.0.1"}]));
    }
    assert_eq!(world.index.contested(), 1);
    world.index.lead(false);
    world.index.lead(true);
    assert!(world.writes().is_empty(), "the condition stays under the new leader");
    assert_eq!(world.index.contested(), 1);
    world.now = world.index.next_deadline().expect("peace comes");
    let writes = world.written();
    assert_eq!(contested(&writes["web"]), None);
    assert_eq!(writes["web"]["status"]["conditions"], json!([]));
    assert_eq!(world.index.contested(), 0);
    assert!(world.writes().is_empty());
}

#[test]
fn an_answer_that_comes_after_a_newer_version_does_not_hide_it() {
    let mut world = settled();
    overwritten(&mut world);
    assert_eq!(world.writes().len(), 1);
    let ours = world.version + 1;
    world.version += 1;
    // The rival was quicker than the answer to our write.
    overwritten(&mut world);
    world.index.wrote(&ServiceKey::new("default", "web"), Outcome::Written(ours.to_string()), world.now);
    world.now += Duration::from_secs(120);
    assert_eq!(world.writes().len(), 1, "theirs is there, and known to be");
}

#[test]
fn without_any_pool_a_foreign_address_is_left_alone() {
    let mut world = World::new(&[]);
    world.index.update(Update::Gone(Watched::POOL, "home".to_owned(), None), world.now);
    world.service("foreign", json!([{"ip": THEIRS}]), json!({}));
    world.service(
        "ours",
        json!([{"ip": "10.0.0.5"}]),
        json!({"annotations": {"metallb.io/ip-allocated-from-pool": "home"}}),
    );
    world.service("none", json!(null), json!({}));
    world.index.lead(true);
    let writes = world.written();
    assert!(!writes.contains_key("foreign"), "{writes:?}");
    assert_eq!(ingress(&writes["ours"]), &Value::Null, "what was given here goes with its pool");
    assert_eq!(writes["none"]["status"]["conditions"][0]["status"], "False");
    world.service("foreign", json!([{"ip": "192.168.1.78"}]), json!({}));
    assert!(world.writes().is_empty(), "whatever its owner writes");
    // A pool that has it takes it over; one that has it not judges it.
    world.pool("home", &["192.168.1.78/32", "10.0.0.1-10.0.0.9"]);
    let writes = world.written();
    assert!(writes["foreign"].get("status").is_none(), "{writes:?}");
    assert_eq!(writes["foreign"]["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"], "home");
}

#[test]
fn a_pool_that_has_it_not_judges_a_foreign_address() {
    let mut world = World::new(&["10.0.0.1-10.0.0.9"]);
    world.service("foreign", json!([{"ip": THEIRS}]), json!({}));
    world.index.lead(true);
    assert_eq!(ingress(&world.written()["foreign"]), &json!([{"ip": "10.0.0.1"}]));
}
