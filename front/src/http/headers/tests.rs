use super::super::testing::map;
use super::*;

#[test]
fn hazard_023_underscore_aliases_of_managed_fields_are_dropped() {
    let mut headers = map(&[
        ("x_forwarded_for", "1.2.3.4"),
        ("transfer_encoding", "chunked"),
        ("content_length", "3"),
        ("x_real_ip", "1.2.3.4"),
        ("my_own_field", "kept"),
    ]);
    clean_request(&mut headers, Trust::Visitor);
    assert_eq!(headers, map(&[("my_own_field", "kept")]));
}

#[test]
fn hazard_048_hop_by_hop_fields_end_here_both_ways() {
    let fields = [
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("proxy-authorization", "Basic x"),
        ("proxy-authenticate", "Basic"),
        ("transfer-encoding", "chunked"),
        ("accept", "*/*"),
    ];
    let mut request = map(&fields);
    clean_request(&mut request, Trust::Visitor);
    assert_eq!(request, map(&[("accept", "*/*")]));
    let mut response = map(&fields);
    clean_response(&mut response);
    assert_eq!(response, map(&[("accept", "*/*")]));
}

#[test]
fn hazard_081_te_trailers_is_kept_for_grpc() {
    let mut headers = map(&[("te", "trailers, deflate")]);
    clean_request(&mut headers, Trust::Visitor);
    assert_eq!(headers, map(&[("te", "trailers")]));
}
