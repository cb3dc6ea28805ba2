use super::super::headers::clean_request;
use super::super::testing::map;
use super::*;

fn forwarder(trusted: &[&str], peer: &str) -> Forwarder {
    let trusted = trusted.iter().map(|net| net.parse().unwrap()).collect();
    Forwarder::new(&Forwarding::new(trusted, "edge.test"), peer.parse().unwrap(), Scheme::Https)
}

#[test]
fn hazard_047_connection_cannot_remove_what_is_vital_or_ours() {
    let mut headers = map(&[
        ("host", "a.example"),
        ("connection", "X-Forwarded-For, Host, Authorization, Content-Length, Cookie, X-Hop"),
        ("authorization", "secret"),
        ("content-length", "5"),
        ("cookie", "a=b"),
        ("x-hop", "1"),
        ("x-end", "1"),
    ]);
    clean_request(&mut headers, Trust::Visitor);
    forwarder(&[], "192.0.2.1:1").apply(&mut headers, RequestId([1; 16]));
    for kept in ["host", "authorization", "content-length", "cookie", "x-end", "x-forwarded-for"] {
        assert!(headers.contains_key(kept), "{kept} is gone");
    }
    assert!(!headers.contains_key("x-hop") && !headers.contains_key("connection"));
}

#[test]
fn hazard_049_forwarding_fields_from_outside_are_overwritten() {
    let mut headers = map(&[
        ("host", "a.example"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("cf-connecting-ip", "127.0.0.1"),
        ("true-client-ip", "127.0.0.1"),
        ("x-request-id", "forged"),
        ("x-causeway-route", "7"),
    ]);
    clean_request(&mut headers, Trust::Visitor);
    let visitor = forwarder(&[], "[::ffff:192.0.2.7]:9").apply(&mut headers, RequestId([1; 16]));
    assert_eq!(visitor, "192.0.2.7:9".parse().unwrap());
    let wanted = map(&[
        ("host", "a.example"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("x-real-ip", "192.0.2.7"),
        ("forwarded", "for=192.0.2.7;host=a.example;proto=https"),
        ("x-request-id", &"01".repeat(16)),
        ("cdn-loop", "causeway-edge.test"),
    ]);
    assert_eq!(headers, wanted);
}

#[test]
fn hazard_049_a_trusted_proxy_is_believed_counting_from_the_right() {
    let mut headers = map(&[
        ("host", "a.example:8443"),
        ("x-forwarded-for", "127.0.0.1, 203.0.113.9, 10.0.0.3"),
        ("x-forwarded-proto", "http"),
    ]);
    clean_request(&mut headers, Trust::Proxy);
    let visitor = forwarder(&["10.0.0.0/8"], "10.0.0.2:9").apply(&mut headers, RequestId([1; 16]));
    assert_eq!(visitor.ip(), "203.0.113.9".parse::<IpAddr>().unwrap());
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1, 203.0.113.9, 10.0.0.3, 10.0.0.2");
    assert_eq!(headers["x-real-ip"], "203.0.113.9");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["forwarded"], "for=10.0.0.2;host=\"a.example:8443\";proto=https");
}

#[test]
fn hazard_051_a_request_that_comes_back_is_known() {
    let forwarding = Forwarding::new(vec![], "edge.test");
    assert!(forwarding.is_loop(&map(&[("cdn-loop", "other; x=1, causeway-edge.test;n=1")])));
    assert!(!forwarding.is_loop(&map(&[("cdn-loop", "causeway-other, cloudflare")])));
    let mut headers = map(&[("host", "a"), ("cdn-loop", "other")]);
    forwarder(&[], "192.0.2.1:1").apply(&mut headers, RequestId([1; 16]));
    assert!(forwarding.is_loop(&headers) && headers.get_all("cdn-loop").iter().count() == 2);
}
