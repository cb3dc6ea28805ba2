//! The one point of policy: between the route that a request came in by and the way to its origin. What a route allows,
//! limits or redirects is decided here, from what its connector announced and the request's head alone.

use std::num::NonZeroU16;

use causeway_tunnel::semantics::elements;
use causeway_tunnel::{Pattern, PlainHttp, Scheme, TlsEnd};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, LOCATION};
use http::{HeaderValue, Response, StatusCode};

use crate::certified::Certified;
use causeway_front::exchange::{Exchange, OutBody};

/// What is known here of the way that requests should have come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// Where visitors reach HTTPS. None: nowhere.
    pub(crate) https: Option<NonZeroU16>,
    /// Names without a certificate cannot be reached there.
    pub(crate) certified: Certified,
}

/// What the gate says to a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    Pass,
    Answer(Response<OutBody>),
}

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTPS: NonZeroU16 = NonZeroU16::new(443).expect("it is not zero");
/// Certificate authorities look here over plain HTTP, and whoever gets his certificates himself answers here (RFC 8555, 8.3).
const ACME_PATH: &str = "/.well-known/acme-challenge/";

impl Gate {
    /// `end` is where TLS of the name ends; `plain_http` what the route says of unencrypted requests, None: nobody is there to
    /// say it.
    pub(crate) fn ask(
        &self,
        exchange: &Exchange,
        end: TlsEnd,
        plain_http: impl FnOnce() -> Option<PlainHttp>,
    ) -> Verdict {
        let Some(port) = self.https else { return Verdict::Pass };
        let redirects = came_in_clear(exchange)
            && !exchange.path().starts_with(ACME_PATH)
            && plain_http() == Some(PlainHttp::Redirect)
            // A connector that ends it has rules for what comes in the clear because it has them for both.
            && (end == TlsEnd::Connector
                || self.certified.covers(&Pattern::Exact(exchange.host.shared().clone())));
        if redirects { redirect(exchange, port) } else { Verdict::Pass }
    }
}

/// Whether the visitor himself spoke plain HTTP: a proxy that we trust may have ended his TLS, and says so.
pub(crate) fn came_in_clear(exchange: &Exchange) -> bool {
    if exchange.visitor.scheme == Scheme::Https {
        return false;
    }
    // Of several proxies the first one met him.
    let told = elements(&exchange.head.headers, &X_FORWARDED_PROTO).next();
    told.is_none_or(|proto| !proto.eq_ignore_ascii_case("https"))
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
    // Whoever serves plain HTTP later is not to be held by what browsers remember.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Verdict::Answer(response)
}

#[cfg(test)]
mod tests {
    use causeway_tunnel::Host;

    use super::*;
    use crate::forward::tests::bench::get;

    /// An edge whose every name has a certificate.
    fn gate(port: u16) -> Gate {
        Gate { https: NonZeroU16::new(port), certified: Certified::default() }
    }

    fn plain(host: &str, path: &str) -> Exchange {
        let mut exchange = get(path);
        exchange.visitor.scheme = Scheme::Http;
        exchange.host = Host::name(host).unwrap();
        exchange
    }

    fn location(gate: &Gate, said: Option<PlainHttp>, exchange: &Exchange) -> Option<String> {
        match gate.ask(exchange, TlsEnd::Edge, || said) {
            Verdict::Pass => None,
            Verdict::Answer(response) => {
                assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
                Some(response.headers()[LOCATION].to_str().unwrap().to_owned())
            }
        }
    }

    const REDIRECT: Option<PlainHttp> = Some(PlainHttp::Redirect);

    #[test]
    fn plain_http_is_sent_to_https_unless_a_rule_serves_it() {
        let told = |port, said, path| location(&gate(port), said, &plain("a.example", path));
        assert_eq!(told(443, Some(PlainHttp::Serve), "/x"), None);
        assert_eq!(told(443, None, "/x"), None, "nobody is there: that is what the visitor is to hear");
        assert_eq!(told(443, REDIRECT, "/x?y=%20").as_deref(), Some("https://a.example/x?y=%20"));
        assert_eq!(told(8443, REDIRECT, "/").as_deref(), Some("https://a.example:8443/"));
        assert_eq!(told(443, REDIRECT, "*").as_deref(), Some("https://a.example/"));
        assert_eq!(told(0, REDIRECT, "/x"), None, "there is no HTTPS listener");
    }

    #[test]
    fn hazard_131_challenges_of_certificate_authorities_are_never_redirected() {
        let told = |path| location(&gate(443), REDIRECT, &plain("a.example", path));
        assert_eq!(told("/.well-known/acme-challenge/x"), None);
        assert!(told("/.well-known/acme-challenges").is_some());
    }

    #[test]
    fn what_came_by_https_passes_also_when_a_trusted_proxy_ended_it() {
        assert_eq!(location(&gate(443), REDIRECT, &get("/")), None);
        let mut behind_proxy = plain("a.example", "/");
        behind_proxy.head.headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        assert_eq!(location(&gate(443), REDIRECT, &behind_proxy), None);
        behind_proxy.head.headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        assert!(location(&gate(443), REDIRECT, &behind_proxy).is_some());
    }
}
