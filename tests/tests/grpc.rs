//! gRPC of every kind, with Google's own server and client, passes through unchanged.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use causeway_tests::origin::grpc::Grpc;
use causeway_tests::site::{APP, Site};
use causeway_tests::{needs, run};

/// Runs one kind of call through a whole site.
fn call(kind: &'static str) {
    let Some(python) = needs("python") else { return };
    run(async move {
        let grpc = Grpc::start(&python).await;
        let site = Site::of(grpc.service()).await;
        let seen = grpc.call(&site.edge, APP, kind).await;
        assert_eq!(seen.code, 0, "{}", seen.text());
        assert!(seen.stdout.contains("passed"), "{}", seen.text());
    });
}

#[test]
fn hazard_081_unary_calls_keep_metadata_and_trailers() {
    call("unary");
}

#[test]
fn server_streaming_arrives_in_order() {
    call("server_stream");
}

#[test]
fn client_streaming_arrives_whole() {
    call("client_stream");
}

#[test]
fn bidirectional_streaming_is_never_held_back() {
    call("bidi");
}

#[test]
fn hazard_081_errors_arrive_with_code_details_and_trailing_metadata() {
    call("fail");
}

#[test]
fn hazard_081_a_trailers_only_answer_arrives() {
    call("unimplemented");
}

#[test]
fn deadlines_end_a_call_in_time() {
    call("deadline");
}

#[test]
fn a_cancelled_stream_leaves_the_connection_usable() {
    call("cancel");
}
