//! One Service's annotations: what they mean, what they cannot do, and how mistakes are told.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const READING: Reading = Reading { names: Names::Ours, loopback: Loopback::Refuse };

fn service(ours: &[(&str, &str)]) -> Service {
    Service::sample("shop/web", "1", "10.0.0.104", ours)
}

fn wished(service: &Service) -> Wish {
    let (wish, remarks) = read(service, READING);
    assert_eq!(remarks, Vec::<String>::new());
    wish.unwrap()
}

/// The one thing that there is to say.
fn refused(service: &Service) -> String {
    let (wish, remarks) = read(service, READING);
    assert!(wish.is_none(), "{wish:?}");
    let [remark] = remarks.try_into().unwrap();
    assert!(remark.starts_with("Service shop/web: "), "{remark}");
    remark
}

fn refused_with(name: &str, value: &str) -> String {
    let remark = refused(&service(&[("hostname", "a.dev"), (name, value)]));
    assert!(remark.contains(&format!("`causeway.dev/{name}`")), "the annotation is named: {remark}");
    remark
}

#[test]
fn a_hostname_is_all_that_is_needed() {
    let wish = wished(&service(&[("hostname", "A.dev., *.b.dev,,a.dev")]));
    assert_eq!(wish.names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.dev", "*.b.dev"]);
    assert_eq!(wish.target.to_string(), "http://10.0.0.104:80");
    assert!(wish.path.is_none() && wish.host_header.is_none() && wish.tls.is_edge());
    let (wish, remarks) = read(&service(&[]), READING);
    assert!(wish.is_none() && remarks.is_empty());
}

#[test]
fn every_annotation_means_what_it_says() {
    let ours = [
        ("hostname", "a.dev"),
        ("port", "web"),
        ("path", "/api.v1/"),
        ("scheme", "h2c"),
        ("host-header", "shop.internal:8080"),
        ("tls", "connector"),
    ];
    let wish = wished(&service(&ours).with_ports(&[("http", 80), ("web", 8080)]));
    assert_eq!(wish.target.to_string(), "h2c://10.0.0.104:8080");
    assert_eq!(wish.host_header.as_deref(), Some("shop.internal:8080"));
    assert_eq!(wish.tls, TlsEnd::Connector);
    let path = wish.path.unwrap();
    for (asked, is_match) in [
        ("/api.v1", true),
        ("/api.v1/", true),
        ("/api.v1/items", true),
        ("/api.v12", false),
        ("/apixv1", false),
        ("/x/api.v1", false),
    ] {
        assert_eq!(path.is_match(asked), is_match, "{asked}");
    }
    assert!(wished(&service(&[("hostname", "a.dev"), ("path", "/")])).path.is_none());
}

#[test]
fn of_several_ports_the_usual_one_of_the_scheme_is_meant() {
    let of = |ours: &[(&str, &str)], ports: &[(&str, u16)]| {
        let ours: Vec<_> = [("hostname", "a.dev")].iter().chain(ours).copied().collect();
        read(&service(&ours).with_ports(ports), READING).0.map(|wish| wish.target.to_string())
    };
    let both = [("https", 443), ("http", 80)];
    assert_eq!(of(&[], &both).as_deref(), Some("http://10.0.0.104:80"));
    assert_eq!(of(&[("scheme", "https")], &both).as_deref(), Some("https://10.0.0.104:443"));
    assert_eq!(of(&[("port", "443")], &both).as_deref(), Some("https://10.0.0.104:443"));
    assert_eq!(of(&[("tls", "passthrough")], &both).as_deref(), Some("tcp://10.0.0.104:443"));
    assert_eq!(of(&[], &[("web", 3000)]).as_deref(), Some("http://10.0.0.104:3000"));
    assert_eq!(of(&[], &[("a", 3000), ("b", 3001)]), None);
    let remark = refused(&service(&[("hostname", "a.dev")]).with_ports(&[("a", 3000), ("b", 3001)]));
    assert!(remark.contains("3000, 3001") && remark.contains("`causeway.dev/port`"), "{remark}");
    let mut udp = service(&[("hostname", "a.dev")]);
    udp.spec.ports.as_mut().unwrap()[0].protocol = Some("UDP".to_owned());
    assert!(refused(&udp).contains("none for TCP"));
}

#[test]
fn the_origin_is_the_vip_of_this_service_whatever_the_annotations_say() {
    for (name, value) in [
        ("port", "6443"),
        ("port", "80@10.0.0.1:6443"),
        ("scheme", "unix:/run/docker.sock"),
        ("scheme", "http://10.0.0.1"),
        ("scheme", "HTTP"),
        ("host-header", "a\r\nX-Evil: 1"),
        ("host-header", "user@a"),
        ("host-header", ""),
        ("host-header", "a b"),
        ("path", "/a\nb"),
        ("path", "/a\r\nHost: evil"),
        ("path", "api"),
        ("path", "/(a{1000}){1000}*"),
        ("path", "/a/../b"),
        ("path", "//b"),
        ("path", "/a%2e"),
        ("path", "/a?b"),
        ("tls", "off"),
    ] {
        refused_with(name, value);
    }
    assert!(refused_with("scheme", "htps").contains("`http`, `https`, `h2c`"));
    assert!(refused_with("path", "/api*").contains("without `*`"));
    let both = service(&[("hostname", "a.dev"), ("tls", "passthrough"), ("path", "/a")]);
    assert!(refused(&both).contains("`causeway.dev/path` cannot be done"));
}

#[test]
fn a_mistake_in_one_name_leaves_the_others() {
    let (wish, remarks) = read(&service(&[("hostname", "a.dev,https://b.dev,*,c d")]), READING);
    assert_eq!(wish.unwrap().names.len(), 1);
    assert_eq!(remarks.len(), 3);
    assert!(
        remarks[0].contains("`https://b.dev` is no hostname") && remarks[1].contains("last rule of a file")
    );
    let many: Vec<_> = (0..40).map(|n| format!("n{n}.dev")).collect();
    let (wish, remarks) = read(&service(&[("hostname", &many.join(","))]), READING);
    assert_eq!((wish.unwrap().names.len(), remarks.len()), (MAX_NAMES, 1));
}

#[test]
fn a_slip_in_an_annotations_name_is_told_and_what_it_was_meant_for() {
    let remark = refused(&service(&[("hostnames", "a.dev")]));
    assert!(
        remark.contains("`causeway.dev/hostnames`")
            && remark.contains("did you mean `causeway.dev/hostname`?")
    );
    let remark = refused(&service(&[("path", "/a")]));
    assert!(remark.contains("says nothing without `causeway.dev/hostname`"), "{remark}");
    let (wish, remarks) = read(&service(&[("hostname", "a.dev"), ("host-heder", "x")]), READING);
    assert!(wish.is_some() && remarks[0].contains("`causeway.dev/host-header`"), "{remarks:?}");
    let evil = refused(&service(&[("hostname", "a.dev"), ("scheme", "\u{1b}[31m`\n")]));
    assert!(!evil.contains(|c: char| c.is_control()), "{evil:?}");
}

#[test]
fn only_a_load_balancer_with_an_address_of_the_lan_has_a_rule() {
    let mut other = service(&[("hostname", "a.dev")]);
    other.spec.kind = None;
    assert!(refused(&other).contains("of type ClusterIP"));
    let at = |ip: &str| Service::sample("shop/web", "1", ip, &[("hostname", "a.dev")]);
    for ip in
        ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1", "x"]
    {
        assert!(refused(&at(ip)).contains("is none that a connector goes to"), "{ip}");
    }
    assert_eq!(wished(&at("fd00::7")).target.to_string(), "http://[fd00::7]:80");
    let here = Reading { loopback: Loopback::Allow, ..READING };
    assert_eq!(read(&at("127.0.0.1"), here).0.unwrap().target.to_string(), "http://127.0.0.1:80");
    let mut pending = at("10.0.0.1");
    pending.status.load_balancer.ingress = None;
    let (wish, remarks) = read(&pending, READING);
    assert!(wish.is_none() && remarks.is_empty(), "it has no address yet, which is no mistake");
    let named = super::super::object::Ingress { ip: None, hostname: Some("lb.example".to_owned()) };
    pending.status.load_balancer.ingress = Some(vec![named]);
    assert!(refused(&pending).contains("a name and no address"));
}

#[test]
fn external_dns_names_count_when_asked_for_and_ours_are_missing() {
    let named = |ours: &[(&str, &str)]| {
        let mut service = service(ours);
        let annotations = service.metadata.annotations.get_or_insert_default();
        annotations.insert(EXTERNAL_DNS[0].to_owned(), "a.dev".to_owned());
        annotations.insert(EXTERNAL_DNS[1].to_owned(), "b.dev, a.dev".to_owned());
        service
    };
    let asked = Reading { names: Names::WithExternalDns, ..READING };
    let names = |service: &Service, reading| read(service, reading).0.map_or(0, |wish| wish.names.len());
    assert_eq!(names(&named(&[]), READING), 0);
    assert_eq!(names(&named(&[]), asked), 2);
    assert_eq!(names(&named(&[("hostname", "c.dev")]), asked), 1);
    assert_eq!(names(&named(&[("hostname", "")]), asked), 0, "an empty one takes the Service out");
}

proptest! {
    #[test]
    fn whatever_is_written_leads_to_a_port_of_this_service_at_its_address(
        values in proptest::collection::vec(("(hostname|port|path|scheme|host-header|tls|[a-z-]{1,9})", "\\PC{0,40}|[ -~\n\r\t]{0,40}|[a-z.,/*]{0,20}"), 0..8),
        ports in proptest::collection::vec(0_u16..9000, 0..4),
    ) {
        let ours: Vec<_> = [("hostname", "a.dev")].into_iter()
            .chain(values.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect();
        let ports: Vec<_> = ports.into_iter().map(|port| ("p", port)).collect();
        let service = service(&ours).with_ports(&ports);
        let (wish, remarks) = read(&service, READING);
        for remark in &remarks {
            prop_assert!(!remark.contains(|c: char| c.is_control()) && remark.len() < 1000, "{:?}", remark);
        }
        let Some(wish) = wish else { return Ok(()) };
        prop_assert!(wish.names.len() <= MAX_NAMES && !wish.names.contains(&Pattern::Any));
        let (Target::Http(address) | Target::Https(address) | Target::H2c(address) | Target::Tcp(address)) = &wish.target
            else { return Err(TestCaseError::fail("another kind of origin")) };
        prop_assert_eq!(&address.host, &OriginHost::Ip("10.0.0.104".parse().unwrap()));
        prop_assert!(address.port != 0 && ports.iter().any(|(_, port)| *port == address.port));
        if let Some(host) = &wish.host_header {
            prop_assert!(HeaderValue::try_from(host).is_ok() && !host.contains(['@', ' ', '\r', '\n']));
        }
    }
}
