//! What holds for every request to the admin server, whatever page it is for: who may change something, how large a body
//! is, how long an answer may take to begin.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;

use super::Reply;

/// Whether the caller may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Local,
    Remote,
}

/// A page whose handlers see only requests that may be answered, with their whole body.
pub(super) fn guarded(methods: MethodRouter, caller: Caller) -> MethodRouter {
    methods
        .route_layer(from_fn(move |request, next| admit(caller, request, next)))
        .fallback(async || Reply::plain(StatusCode::METHOD_NOT_ALLOWED, "this method does nothing here\n"))
}

/// Marks every answer. Around the whole: a router adds to the answers of its pages after their own layers.
pub(super) fn finished(router: Router) -> Router {
    Router::new().fallback_service(router).layer(map_response(async |mut response: Response| {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allowed) = headers.get(header::ALLOW).and_then(|allowed| allowed.to_str().ok()) {
            // Whoever may GET may HEAD, which says nothing that anybody asked.
            let said: Vec<&str> = allowed.split(',').filter(|method| *method != "HEAD").collect();
            if let Ok(said) = HeaderValue::try_from(said.join(", ")) {
                headers.insert(header::ALLOW, said);
            }
        }
        response
    }))
}

async fn admit(caller: Caller, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = match parts.method {
        // Nobody takes notice of it.
        Method::GET | Method::HEAD => Body::empty(),
        _ => match change(caller, &parts.headers, body).await {
            Ok(body) => Body::from(body),
            Err(refused) => return refused.into_response(),
        },
    };
    match timeout(ANSWER_TIMEOUT, next.run(Request::from_parts(parts, body))).await {
        Ok(response) => response,
        Err(_) => Reply::plain(StatusCode::GATEWAY_TIMEOUT, "the answer takes too long: see the log\n")
            .into_response(),
    }
}

/// The body of a request that may change something.
async fn change(caller: Caller, headers: &HeaderMap, body: Body) -> Result<Bytes, Reply> {
    if caller == Caller::Remote {
        return Err(Reply::plain(StatusCode::FORBIDDEN, "only this machine itself may change something\n"));
    }
    // Every browser sends it: a page on the Internet must not reach into its visitor's machine.
    if headers.contains_key(header::ORIGIN) {
        return Err(Reply::plain(StatusCode::FORBIDDEN, "this is not for browsers\n"));
    }
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        let text = format!("a body has at most {MAX_BODY_BYTES} bytes\n");
        return Err(Reply::plain(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => {
            Err(Reply::plain(StatusCode::BAD_REQUEST, format!("cannot read the body: {error}\n")))
        }
        Err(_) => Err(Reply::plain(StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n")),
    }
}

const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than any answer needs to begin, short enough that a stuck one is seen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Log levels and small JSON documents.
const MAX_BODY_BYTES: usize = 64 << 10;
