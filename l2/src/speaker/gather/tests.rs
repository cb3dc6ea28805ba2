use super::*;
use crate::speaker::index::Traffic;

fn gather() -> Gather {
    let mut gather = Gather {
        index: Index::default(),
        slice_of: BTreeMap::new(),
        seen: KINDS.map(|_| None),
        missing: KINDS.into(),
        node: "node1".into(),
    };
    for kind in KINDS {
        gather.apply(Update::Begin(kind));
    }
    gather.apply(seen(Kind::Nodes, "node1", Object::Node(Node::default())));
    let ranges = vec!["10.0.0.0/24".parse().unwrap()];
    gather.apply(seen(Kind::Pools, "home", Object::Pool(Pool { ranges, ..Pool::default() })));
    gather.apply(seen(Kind::Advertisements, "all", Object::Advertisement(Advertisement::default())));
    for (name, address) in [("a/web", "10.0.0.1"), ("a/mail", "10.0.0.2")] {
        gather.apply(service(name, address));
        gather.apply(slice(&format!("{name}-1"), name));
    }
    for kind in KINDS {
        gather.apply(Update::Complete(kind));
    }
    assert!(gather.missing.is_empty());
    gather
}

fn seen(kind: Kind, key: &str, object: Object) -> Update {
    Update::Seen(kind, key.to_owned(), Box::new(object))
}

fn service(key: &str, address: &str) -> Update {
    let service = Service {
        addresses: vec![address.parse().unwrap()],
        traffic: Traffic::Cluster,
        labels: BTreeMap::new(),
        uid: "".into(),
        allocated: true,
        in_conflict: false,
        pin: None,
    };
    seen(Kind::Services, key, Object::Service(service))
}

fn slice(key: &str, of: &str) -> Update {
    seen(Kind::EndpointSlices, key, Object::Slice(service_key(of).unwrap(), vec!["node1".into()]))
}

fn announced(gather: &Gather) -> Vec<String> {
    gather.index.wanted(&gather.node).demands.keys().map(ToString::to_string).collect()
}

#[test]
fn hazard_174_a_relist_withdraws_nothing_until_it_is_complete() {
    let mut gather = gather();
    assert_eq!(announced(&gather), ["10.0.0.1", "10.0.0.2"]);
    // "410 Gone": everything is listed again, and one of the Services is no longer there.
    gather.apply(Update::Begin(Kind::Services));
    assert_eq!(announced(&gather), ["10.0.0.1", "10.0.0.2"]);
    assert!(!gather.apply(service("a/web", "10.0.0.1")), "what is the same changes nothing");
    assert!(!gather.apply(service("a/web", "10.0.0.1")), "nor does an event that comes twice");
    assert_eq!(announced(&gather), ["10.0.0.1", "10.0.0.2"]);
    assert!(gather.apply(Update::Complete(Kind::Services)));
    assert_eq!(announced(&gather), ["10.0.0.1"]);
}

#[test]
fn a_slice_that_goes_takes_its_endpoints_along_and_no_others() {
    let mut gather = gather();
    gather.apply(slice("a/web-2", "a/web"));
    assert!(gather.apply(Update::Gone(Kind::EndpointSlices, "a/web-1".to_owned())));
    assert_eq!(announced(&gather), ["10.0.0.1", "10.0.0.2"], "the second slice serves");
    // It belongs to another Service now.
    assert!(gather.apply(slice("a/web-2", "a/mail")));
    assert_eq!(announced(&gather), ["10.0.0.2"]);
    assert!(!gather.apply(Update::Gone(Kind::EndpointSlices, "a/web-1".to_owned())), "it is gone already");
}
