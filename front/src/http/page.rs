//! Error pages: small, self-contained, in the form that the visitor prefers. They name the hop that failed and the
//! request id, and nothing of the inside.

use causeway_tunnel::RequestId;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::exchange::{InError, OutBody};

/// Where on the way it failed, in the visitor's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// The request itself.
    Visitor,
    /// This server.
    Edge,
    /// The way from this server to the site.
    Tunnel,
    /// The site's own server.
    Origin,
}

impl Hop {
    fn as_str(self) -> &'static str {
        match self {
            Self::Visitor => "request",
            Self::Edge => "edge",
            Self::Tunnel => "tunnel",
            Self::Origin => "origin",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Visitor => "your request",
            Self::Edge => "this server",
            Self::Tunnel => "the way to the site",
            Self::Origin => "the site's own server",
        }
    }
}

/// What an error page says. `text` is one constant sentence: nothing from the request or the inside goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub status: StatusCode,
    pub hop: Hop,
    pub text: &'static str,
    /// Seconds after which it is worth to try again.
    pub retry_after: Option<u32>,
}

/// Makes the pages of one request, once the rest of it has been taken apart.
#[derive(Clone, Debug)]
pub struct Pages {
    id: RequestId,
    style: Style,
    method: Method,
}

impl Pages {
    pub fn new(id: RequestId, style: Style, method: Method) -> Self {
        Self { id, style, method }
    }

    /// For the request with this head.
    pub fn of(id: RequestId, head: &Parts) -> Self {
        Self::new(id, Style::of(&head.headers), head.method.clone())
    }

    pub fn answer(&self, page: &Page) -> Response<OutBody> {
        page.respond(self.style, self.id, &self.method)
    }
}

/// The form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Html,
    Text,
    Json,
}

impl Style {
    /// What Accept asks for first. Quality values are not weighed: programs send one type, browsers `text/html` first.
    pub fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        for range in accept.split(',') {
            let kind = range.split(';').next().unwrap_or_default().trim();
            if kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml") {
                return Self::Html;
            }
            if kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json") {
                return Self::Json;
            }
        }
        Self::Text
    }
}

impl Page {
    pub const fn new(status: StatusCode, hop: Hop, text: &'static str) -> Self {
        Self { status, hop, text, retry_after: None }
    }

    #[must_use]
    pub const fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub fn respond(&self, style: Style, id: RequestId, method: &Method) -> Response<OutBody> {
        let (kind, text) = match style {
            Style::Html => ("text/html; charset=utf-8", self.html(id)),
            Style::Text => ("text/plain; charset=utf-8", self.plain(id)),
            Style::Json => ("application/json", self.json(id)),
        };
        let length = text.len();
        let body = if *method == Method::HEAD { OutBody::empty() } else { OutBody::full(text) };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(
                http::header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"),
            );
        }
        response
    }

    fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    fn plain(&self, id: RequestId) -> String {
        let (status, title) = (self.status.as_u16(), self.title());
        format!("{status} {title}\n{}\nFailed at: {}\nRequest: {id}\n", self.text, self.hop.words())
    }

    fn json(&self, id: RequestId) -> String {
        // All parts are constants without quotes or controls, but for the id, which is hexadecimal.
        format!(
            "{{\"status\":{},\"error\":\"{}\",\"message\":\"{}\",\"hop\":\"{}\",\"request\":\"{id}\"}}\n",
            self.status.as_u16(),
            self.title(),
            self.text,
            self.hop.as_str(),
        )
    }

    fn html(&self, id: RequestId) -> String {
        let (status, title) = (self.status.as_u16(), self.title());
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{status} {title}</title><style>{STYLE}</style>\
             </head><body><main><h1>{status} {title}</h1><p>{}</p><p>Failed at: <b>{}</b></p>\
             <p><small>Request {id}</small></p></main></body></html>\n",
            self.text,
            self.hop.words(),
        )
    }
}

impl InError {
    /// The answer to a request whose body broke, if no response was started yet.
    pub fn page(self) -> Page {
        match self {
            Self::Gone => Page::new(
                StatusCode::BAD_REQUEST,
                Hop::Visitor,
                "The request ended before its body was complete.",
            ),
            Self::Malformed(_) => {
                Page::new(StatusCode::BAD_REQUEST, Hop::Visitor, "The body of the request is malformed.")
            }
            Self::Slow => Page::new(
                StatusCode::REQUEST_TIMEOUT,
                Hop::Visitor,
                "The body of the request came too slowly.",
            ),
        }
    }
}

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:0;display:grid;\
place-items:center;min-height:100vh}main{max-width:34em;padding:2em}h1{font-size:1.4em}small{opacity:.6}";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use http_body_util::BodyExt;

    use super::*;

    /// All source text below a folder, tests left out.
    fn sources(folder: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                into.push(text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn the_manual_lists_every_status_that_we_can_send() {
        let here = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let mut texts = Vec::new();
        sources(&here.join("src"), &mut texts);
        sources(&here.join("../connector/src"), &mut texts);
        let mut sent = BTreeSet::new();
        for text in &texts {
            for maker in ["Refusal::new(", "Page::new(", "text(", "Self::new("] {
                let calls = text
                    .split(maker)
                    .skip(1)
                    .filter_map(|rest| rest.trim_start().strip_prefix("StatusCode::"));
                sent.extend(calls.map(|rest| rest.split(',').next().unwrap().to_owned()));
            }
        }
        let number = |name: &String| {
            (100..600).find(|number| {
                let reason = StatusCode::from_u16(*number).unwrap().canonical_reason().unwrap_or_default();
                reason.to_ascii_uppercase().replace([' ', '-'], "_") == *name
            })
        };
        let sent: BTreeSet<u16> = sent.iter().filter_map(number).collect();
        assert!(sent.len() > 12, "{sent:?}");
        let page = std::fs::read_to_string(here.join("../docs/operations.md")).unwrap();
        let page =
            page.split("## What a visitor sees").nth(1).unwrap().split("What has no status").next().unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let listed: BTreeSet<u16> =
            rows.flat_map(|row| row.split([',', ' '])).filter_map(|word| word.parse().ok()).collect();
        assert_eq!(listed, sent, "left: the manual, right: the code");
    }

    const PAGE: Page =
        Page::new(StatusCode::SERVICE_UNAVAILABLE, Hop::Tunnel, "No connector is there.").retry_after(5);

    async fn text(style: Style, method: Method) -> (Response<()>, String) {
        let (head, body) = PAGE.respond(style, RequestId([0xab; 16]), &method).into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(head, ()), String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_style_names_the_hop_and_the_request() {
        for style in [Style::Html, Style::Text, Style::Json] {
            let (head, body) = text(style, Method::GET).await;
            assert_eq!(head.headers()[RETRY_AFTER], "5");
            assert_eq!(head.headers()["content-length"], body.len().to_string());
            assert!(body.contains("503") && body.contains(&"ab".repeat(16)), "{body}");
        }
        let (_, json) = text(Style::Json, Method::GET).await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json["status"].as_u64(), json["hop"].as_str()), (Some(503), Some("tunnel")));
    }

    #[tokio::test]
    async fn head_gets_the_length_without_the_page() {
        let (head, body) = text(Style::Html, Method::HEAD).await;
        assert!(body.is_empty());
        assert_ne!(head.headers()["content-length"], "0");
    }

    #[test]
    fn the_style_follows_accept() {
        let style = |accept: &'static str| {
            Style::of(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert_eq!(style("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"), Style::Html);
        assert_eq!(style("application/json"), Style::Json);
        assert_eq!(style("application/problem+json, */*"), Style::Json);
        assert_eq!(style("*/*"), Style::Text);
        assert_eq!(Style::of(&HeaderMap::new()), Style::Text);
    }
}
