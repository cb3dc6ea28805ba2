//! Answers that need no origin: `hello_world` and short texts.

use bytes::Bytes;
use causeway_tunnel::{Authority, BodyKind, First, RequestHead, ResponseHead};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

/// Why somebody sees the hello page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// A rule says so.
    Asked,
    /// There are no rules yet.
    NoRules,
}

/// The page of `hello_world`: everything it needs is in it, and it shows how the request arrived.
pub(crate) fn hello_world(head: &RequestHead, why: Hello) -> (ResponseHead, First) {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let (mut answer, first) =
            text(StatusCode::METHOD_NOT_ALLOWED, "this page can only be read", &head.method);
        answer.headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return (answer, first);
    }
    let rows = [
        ("Host", head.authority.clone()),
        ("Path", head.path.clone()),
        ("Scheme", head.scheme.as_str().to_owned()),
        ("Request id", head.request_id.to_string()),
    ];
    let rows: String =
        rows.iter().map(|(name, value)| format!("<tr><th>{name}<td>{}</tr>\n", escape(value))).collect();
    let next = match why {
        Hello::Asked => String::new(),
        Hello::NoRules => {
            let host = Authority::parse(head.authority.as_bytes());
            let host =
                host.map_or_else(|_| "blog.example.dev".to_owned(), |authority| authority.host.to_string());
            NEXT.replace("{host}", &escape(&host))
        }
    };
    // The rows last: what they hold is a visitor's.
    let text = PAGE.replace("{next}", &next).replace("{rows}", &rows);
    page(StatusCode::OK, "text/html; charset=utf-8", text, &head.method)
}

/// A short plain text.
pub(crate) fn text(status: StatusCode, text: &str, method: &Method) -> (ResponseHead, First) {
    page(status, "text/plain; charset=utf-8", format!("{text}\n"), method)
}

/// A status without a body, as `http_status` answers.
pub(crate) fn status(status: StatusCode, method: &Method) -> (ResponseHead, First) {
    let mut headers = HeaderMap::new();
    let bodyless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !bodyless {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let body = if bodyless || *method == Method::HEAD { BodyKind::None } else { BodyKind::Known(0) };
    (ResponseHead { status, headers, body }, First::Only(Bytes::new()))
}

pub(crate) fn page(
    status: StatusCode,
    kind: &'static str,
    body: String,
    method: &Method,
) -> (ResponseHead, First) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if *method == Method::HEAD {
        return (ResponseHead { status, headers, body: BodyKind::None }, First::Only(Bytes::new()));
    }
    let length = body.len() as u64;
    (ResponseHead { status, headers, body: BodyKind::Known(length) }, First::Only(body.into()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Hello from Causeway</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;color:#123}
table{border-collapse:collapse}th{text-align:left;padding:.2rem 1.5rem .2rem 0;font-weight:600}td{word-break:break-all}
pre{background:#8882;padding:1rem;overflow:auto}
@media(prefers-color-scheme:dark){body{background:#111;color:#dde}}
</style>
<h1>Hello!</h1>
<p>This page came from a causeway-connector, through its tunnel. The road is open.</p>
{next}<table>
{rows}</table>
"#;

/// What to do next. For everybody to read: it names nothing of this connector's.
const NEXT: &str = "<h2>What next?</h2>
<p>Nobody has told the connector yet where its names lead. Write it into a file <code>config.yml</code> in the connector's
folder (<code>/etc/causeway</code>, or what is mounted there); it is read within a second, and this page is gone. A name that
a rule writes out has its certificate seconds later, also one that answers by <code>http://</code> alone until then.</p>
<pre>ingress:
  - hostname: {host}
    service: http://10.0.0.104
  - service: http_status:404
</pre>
";

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_tunnel::{RequestId, Scheme};

    fn head(method: Method, path: &str) -> RequestHead {
        RequestHead {
            method,
            scheme: Scheme::Https,
            authority: "h.example".to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            visitor: ([127, 0, 0, 1], 1).into(),
            route: 1,
            request_id: RequestId([7; 16]),
            upgrade: None,
            body: BodyKind::None,
            expect_continue: false,
        }
    }

    #[test]
    fn the_hello_page_cannot_be_made_to_carry_markup() {
        let (answer, First::Only(body)) =
            hello_world(&head(Method::GET, "/<script>alert(1)</script>{rows}{host}"), Hello::NoRules)
        else {
            panic!("a whole page");
        };
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(!body.contains("<script>") && body.contains("&lt;script&gt;"));
        assert!(body.contains("  - hostname: h.example\n"), "{body}");
        assert!(
            body.contains("alert(1)&lt;/script&gt;{rows}{host}<"),
            "a visitor's words are no template: {body}"
        );
        assert_eq!(answer.body, BodyKind::Known(body.len() as u64));
    }

    #[test]
    fn head_gets_the_length_and_no_body() {
        let (answer, first) = hello_world(&head(Method::HEAD, "/"), Hello::Asked);
        assert_eq!((answer.body, first), (BodyKind::None, First::Only(Bytes::new())));
        assert!(answer.headers[CONTENT_LENGTH] != "0");
        assert_eq!(
            hello_world(&head(Method::POST, "/"), Hello::Asked).0.status,
            StatusCode::METHOD_NOT_ALLOWED
        );
    }

    #[test]
    fn http_status_has_an_empty_body_and_204_no_length() {
        assert_eq!(status(StatusCode::NOT_FOUND, &Method::GET).0.body, BodyKind::Known(0));
        assert!(status(StatusCode::NO_CONTENT, &Method::GET).0.headers.is_empty());
    }
}
