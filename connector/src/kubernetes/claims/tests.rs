//! Several Services and one name.

use proptest::prelude::*;

use super::*;
use crate::kubernetes::annotations::{Loopback, Names};

const READING: Reading = Reading { names: Names::Ours, loopback: Loopback::Refuse };

fn service(name: &str, since: &str, ours: &[(&str, &str)]) -> Service {
    Service::sample(name, since, &format!("10.0.0.{since}"), ours)
}

/// `hostname path from`, and the remarks.
fn decided(services: &[Service], room: usize) -> (Vec<String>, Vec<String>) {
    let (claims, remarks) = decide(services, READING, room);
    let shown = |claim: &Claim| {
        let path = claim.path.as_ref().map_or("", PathPattern::as_str);
        format!("{} {path} {}", claim.hostname, claim.from)
    };
    (claims.iter().map(shown).collect(), remarks)
}

#[test]
fn of_two_services_with_one_name_the_older_has_it() {
    let young = service("shop/a", "2", &[("hostname", "a.dev")]);
    let old = service("shop/b", "1", &[("hostname", "a.dev")]);
    for services in [[young.clone(), old.clone()], [old, young]] {
        let (rules, remarks) = decided(&services, 10);
        assert_eq!(rules, ["a.dev  shop/b"]);
        let [remark] = remarks.try_into().unwrap();
        assert!(
            remark.starts_with("Service shop/a: `a.dev` is served by Service shop/b, which is older"),
            "{remark}"
        );
    }
}

#[test]
fn a_name_belongs_to_the_namespace_of_its_oldest_service() {
    let services = [
        service("shop/web", "1", &[("hostname", "a.dev")]),
        service("shop/api", "2", &[("hostname", "a.dev"), ("path", "/api")]),
        service("shop/v2", "3", &[("hostname", "a.dev"), ("path", "/api/v2")]),
        service("evil/login", "4", &[("hostname", "a.dev"), ("path", "/login")]),
    ];
    let (rules, remarks) = decided(&services, 10);
    assert_eq!(rules, ["a.dev ^/api/v2(/|$) shop/v2", "a.dev ^/api(/|$) shop/api", "a.dev  shop/web"]);
    let [remark] = remarks.try_into().unwrap();
    assert!(remark.contains("evil/login") && remark.contains("of another namespace"), "{remark}");
}

#[test]
fn names_stand_before_wildcards_and_longer_ones_before_shorter() {
    let services = [
        service("a/a", "1", &[("hostname", "*.dev,*.b.dev")]),
        service("a/b", "2", &[("hostname", "x.b.dev,y.dev")]),
    ];
    let (rules, remarks) = decided(&services, 10);
    assert_eq!(rules, ["x.b.dev  a/b", "y.dev  a/b", "*.b.dev  a/a", "*.dev  a/a"]);
    assert!(remarks.is_empty());
}

#[test]
fn where_tls_ends_is_said_once_for_a_name() {
    let services = [
        service("a/a", "1", &[("hostname", "a.dev"), ("tls", "passthrough")]),
        service("a/b", "2", &[("hostname", "a.dev")]),
    ];
    let (rules, remarks) = decided(&services, 10);
    assert_eq!(rules, ["a.dev  a/a"]);
    assert!(remarks[0].contains("`causeway.dev/tls: passthrough` at Service a/a"), "{remarks:?}");
}

#[test]
fn without_room_for_all_the_youngest_are_left_out() {
    let services: Vec<_> = (1..=4)
        .map(|n| service(&format!("a/s{n}"), &n.to_string(), &[("hostname", &format!("n{n}.dev"))]))
        .collect();
    let (rules, remarks) = decided(&services, 3);
    assert_eq!(rules, ["n1.dev  a/s1", "n2.dev  a/s2", "n3.dev  a/s3"]);
    assert!(remarks[0].starts_with("1 names of Services are left out"), "{remarks:?}");
}

prop_compose! {
    fn any_service()(
        namespace in "[ab]", name in "[a-d]", since in 1_u8..5,
        hostname in "(a|b|\\*)\\.dev(,c\\.dev)?", path in proptest::option::of("/[xy](/z)?"), tls in "(edge|passthrough|connector)",
    ) -> Service {
        let mut ours = vec![("hostname", hostname.as_str()), ("tls", tls.as_str())];
        ours.extend(path.as_deref().map(|path| ("path", path)));
        service(&format!("{namespace}/{name}"), &since.to_string(), &ours)
    }
}

proptest! {
    #[test]
    fn the_order_in_which_services_come_changes_nothing_and_each_name_is_of_one_namespace_and_one_kind(
        all in proptest::collection::vec(any_service(), 0..10), shift in 0_usize..10,
    ) {
        // As a cluster has them: one of a name.
        let mut services: Vec<Service> = Vec::new();
        for service in all {
            if services.iter().all(|other| other.key() != service.key()) {
                services.push(service);
            }
        }
        let decided_once = decided(&services, 100);
        if !services.is_empty() {
            let by = shift % services.len();
            services.rotate_left(by);
        }
        prop_assert_eq!(&decided_once, &decided(&services, 100));
        let (claims, _) = decide(&services, READING, 100);
        for (index, one) in claims.iter().enumerate() {
            for other in &claims[..index] {
                prop_assert!(!(other.hostname.covers(&one.hostname) && other.path.is_none()), "it could never match");
                if other.hostname == one.hostname {
                    prop_assert_eq!(other.tls, one.tls);
                    prop_assert_eq!(other.from.split('/').next(), one.from.split('/').next());
                    let path = |claim: &Claim| claim.path.as_ref().map(|path| path.as_str().to_owned());
                    prop_assert_ne!(path(other), path(one));
                }
            }
        }
    }
}
