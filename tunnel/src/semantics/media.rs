//! Media types that say how a message behaves. Both ends of a tunnel must take the same message for the same.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use super::fields::elements;

/// Whether a message is an event stream or a gRPC call, whose silence says nothing: such streams pause for as long as
/// nothing happens (hazard 140).
pub fn is_long_silent(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    // Types compare without regard to case, and what follows `;` are parameters (RFC 9110 §8.3.1).
    let kind = kind.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let starts =
        |prefix: &[u8]| kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    // `application/grpc+proto` and `application/grpc-web` are gRPC too.
    let is_grpc = starts(GRPC) && matches!(kind.get(GRPC.len()), None | Some(b'+' | b'-'));
    is_grpc || kind.eq_ignore_ascii_case(EVENT_STREAM.as_bytes())
}

/// Whether a request asks for a stream of server-sent events.
pub fn asks_for_event_stream(headers: &HeaderMap) -> bool {
    elements(headers, &ACCEPT)
        .any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(EVENT_STREAM))
}

const GRPC: &[u8] = b"application/grpc";
const EVENT_STREAM: &str = "text/event-stream";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn types_compare_without_case_and_without_their_parameters() {
        let is = |kind: &'static str| {
            is_long_silent(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]))
        };
        for kind in [
            "text/event-stream",
            "Text/Event-Stream;charset=utf-8",
            "text/event-stream ; charset=utf-8",
            "application/grpc",
            "Application/gRPC",
            "application/grpc+proto",
            "application/grpc-web-text",
        ] {
            assert!(is(kind), "{kind}");
        }
        for kind in ["", "text/event-streams", "application/grpcx", "text/plain; a=text/event-stream"] {
            assert!(!is(kind), "{kind}");
        }
        assert!(!is_long_silent(&HeaderMap::new()));
    }
}
