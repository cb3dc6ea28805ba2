//! The one point of policy: between the route that a request came in by and the way to its origin. What a route allows,
//! limits or redirects is decided here, from its policy and the request's head alone.

use std::num::NonZeroU16;

use causeway_tunnel::Scheme;
use causeway_tunnel::semantics::elements;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, LOCATION};
use http::{HeaderValue, Response, StatusCode};

use crate::exchange::{Exchange, OutBody};

/// A route's policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) plain_http: PlainHttp,
}

/// What becomes of a request that came unencrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    #[default]
    Serve,
    /// To the same address at the port where visitors reach HTTPS.
    Redirect(NonZeroU16),
}

/// What the gate says to a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    Pass,
    Answer(Response<OutBody>),
}

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTPS: NonZeroU16 = NonZeroU16::new(443).expect("it is not zero");

impl Gate {
    pub(crate) fn ask(self, exchange: &Exchange) -> Verdict {
        match self.plain_http {
            PlainHttp::Redirect(port) if came_in_clear(exchange) => redirect(exchange, port),
            _ => Verdict::Pass,
        }
    }
}

/// Whether the visitor himself spoke plain HTTP: a proxy that we trust may have ended his TLS, and says so.
fn came_in_clear(exchange: &Exchange) -> bool {
    // Of several proxies the first one met him.
    let told = elements(&exchange.head.headers, &X_FORWARDED_PROTO).next();
    exchange.visitor.scheme == Scheme::Http && told.is_none_or(|proto| !proto.eq_ignore_ascii_case("https"))
}

/// With 308 method and body stay what they are.
fn redirect(exchange: &Exchange, port: NonZeroU16) -> Verdict {
    let host = exchange.host.as_str();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = if port == HTTPS { String::new() } else { format!(":{port}") };
    // What is not a path (`*`) names the server as a whole.
    let path = Some(exchange.path()).filter(|path| path.starts_with('/')).unwrap_or("/");
    let Ok(location) = HeaderValue::try_from(format!("https://{host}{port}{path}")) else {
        // A request whose address fits no field is not one that a browser was sent with.
        return Verdict::Pass;
    };
    let mut response = Response::new(OutBody::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    // Whoever takes the setting back is not to be held by what browsers remember.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Verdict::Answer(response)
}

#[cfg(test)]
mod tests {
    use causeway_tunnel::Host;

    use super::*;
    use crate::forward::tests::bench::get;

    const REDIRECT: PlainHttp = PlainHttp::Redirect(HTTPS);

    fn plain(host: &str, path: &str) -> Exchange {
        let mut exchange = get(path);
        exchange.visitor.scheme = Scheme::Http;
        exchange.host = Host::name(host).unwrap();
        exchange
    }

    fn location(plain_http: PlainHttp, exchange: &Exchange) -> Option<String> {
        match (Gate { plain_http }).ask(exchange) {
            Verdict::Pass => None,
            Verdict::Answer(response) => {
                assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
                Some(response.headers()[LOCATION].to_str().unwrap().to_owned())
            }
        }
    }

    #[test]
    fn plain_http_is_served_unless_it_is_to_be_redirected() {
        assert_eq!(location(PlainHttp::Serve, &plain("a.example", "/x")), None);
        let told = location(REDIRECT, &plain("a.example", "/x?y=%20"));
        assert_eq!(told.as_deref(), Some("https://a.example/x?y=%20"));
        let elsewhere = PlainHttp::Redirect(NonZeroU16::new(8443).unwrap());
        let told = location(elsewhere, &plain("a.example", "/"));
        assert_eq!(told.as_deref(), Some("https://a.example:8443/"));
        let told = location(REDIRECT, &plain("a.example", "*"));
        assert_eq!(told.as_deref(), Some("https://a.example/"));
    }

    #[test]
    fn what_came_by_https_passes_also_when_a_trusted_proxy_ended_it() {
        assert_eq!(location(REDIRECT, &get("/")), None);
        let mut behind_proxy = plain("a.example", "/");
        behind_proxy.head.headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        assert_eq!(location(REDIRECT, &behind_proxy), None);
        behind_proxy.head.headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        assert!(location(REDIRECT, &behind_proxy).is_some());
    }
}
