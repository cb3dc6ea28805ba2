//! What an origin's answer to a visitor's request means. Pure.

use causeway_daemon::doctor::Finding;
use http::StatusCode;

/// An answer, as much as is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    /// The beginning of the body.
    pub(super) body: Vec<u8>,
}

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) rule: &'a str,
    /// The name that visitors use.
    pub(super) public: &'a str,
    /// The Host that the origin was sent.
    pub(super) host: &'a str,
    pub(super) path: &'a str,
}

/// Whether one more question is of use: what the origin says to a name that it cannot know.
pub(super) fn is_doubtful(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN)
}

/// `stranger`: the answer to a Host that nobody has, where that was asked. `took`: what the hops took.
pub(super) fn judge(asked: Asked<'_>, answer: &Answer, stranger: Option<&Answer>, took: &str) -> Finding {
    let Asked { rule, host, path, .. } = asked;
    let status = answer.status;
    let says = format!("{status} for {path} with Host {host}; {took}");
    if is_plain_to_tls(answer) {
        let cause = format!("the origin wants TLS on this port ({status})");
        return Finding::fault("origin", rule, cause, "write https:// in `service`");
    }
    if status == StatusCode::MISDIRECTED_REQUEST {
        let cause =
            format!("the origin does not serve {host} on this connection (421): Host and TLS name differ");
        return Finding::warning(
            "host",
            rule,
            cause,
            "set `originServerName` to the name of Host, or `matchSNItoHost: true`",
        );
    }
    if is_doubtful(status)
        && stranger.is_some_and(|stranger| stranger.status == status && stranger.body == answer.body)
    {
        let cause = format!(
            "the origin does not seem to know Host {host}: it answers {status}, as to a name that nobody has"
        );
        let mend = format!(
            "set `httpHostHeader` to the name that its ingress has, or add {host} there (`kubectl get ingress -A`); nothing is wrong if \
             it answers so to everybody"
        );
        return Finding::warning("host", rule, cause, mend);
    }
    if status.is_redirection()
        && let Some(location) = &answer.location
    {
        return redirected(asked, location, &says);
    }
    if status.is_server_error() {
        let mend =
            "look at the origin's log; an ingress says 503 when the Service behind it has no ready pod";
        return Finding::warning("origin", rule, format!("the origin answers {says}"), mend);
    }
    Finding::ok("origin", rule, says)
}

fn redirected(asked: Asked<'_>, location: &str, says: &str) -> Finding {
    let Asked { rule, public, path, .. } = asked;
    let Some((scheme, rest)) = location.split_once("://") else { return Finding::ok("origin", rule, says) };
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(at);
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
    if name.eq_ignore_ascii_case(public) {
        let target = if target.is_empty() { "/" } else { target };
        if scheme.eq_ignore_ascii_case("https") && target == path {
            let cause = format!(
                "the origin redirects to the very page that was asked for ({location}): visitors go round in circles"
            );
            let mend = "have it trust X-Forwarded-Proto, switch its own redirect to https off, or write https:// in `service`";
            return Finding::fault("host", rule, cause, mend);
        }
        return Finding::ok("origin", rule, says);
    }
    let cause = format!("the origin redirects visitors of {public} to {authority}");
    match is_internal(name) {
        true => {
            let mend = "visitors cannot go there: have the origin use X-Forwarded-Host, or set `httpHostHeader` to the public name";
            Finding::warning("host", rule, cause, mend)
        }
        false => Finding::note("host", rule, format!("{cause}: fine where that is a public name of yours")),
    }
}

/// A name or an address that nobody outside has.
fn is_internal(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok()
        || !name.contains('.')
        || [".local", ".lan", ".home", ".internal", ".home.arpa", ".svc"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// What common servers say to plain HTTP on a port for TLS.
fn is_plain_to_tls(answer: &Answer) -> bool {
    let body = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
    answer.status == StatusCode::BAD_REQUEST && body.contains("http request") && body.contains("https")
}

#[cfg(test)]
mod tests {
    use causeway_daemon::doctor::Severity;

    use super::*;

    fn answer(status: u16, location: Option<&str>, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            location: location.map(str::to_owned),
            body: body.into(),
        }
    }

    fn of(answer: &Answer, stranger: Option<&Answer>) -> (Severity, &'static str, String) {
        let asked = Asked { rule: "r", public: "a.example", host: "a.example", path: "/" };
        let finding = judge(asked, answer, stranger, "1 ms");
        (finding.severity, finding.check, finding.mend.unwrap_or_default())
    }

    #[test]
    fn an_origin_that_does_not_know_the_name_is_told_from_one_that_has_no_such_page() {
        let missing = answer(404, None, "default backend");
        let (severity, check, mend) = of(&missing, Some(&missing));
        assert_eq!((severity, check), (Severity::Warning, "host"));
        assert!(mend.contains("httpHostHeader"));
        assert_eq!(of(&missing, Some(&answer(404, None, "other"))).0, Severity::Ok);
        assert_eq!(of(&answer(421, None, ""), None).1, "host");
        assert_eq!(of(&answer(200, None, ""), None).0, Severity::Ok);
        assert_eq!(of(&answer(503, None, ""), None).0, Severity::Warning);
    }

    #[test]
    fn redirects_lead_on_in_circles_or_away() {
        let to = |location| of(&answer(302, Some(location), ""), None);
        assert_eq!(to("/login").0, Severity::Ok);
        assert_eq!(to("https://a.example/login").0, Severity::Ok);
        assert_eq!(to("https://A.example/").0, Severity::Fault);
        assert_eq!(to("https://a.example").0, Severity::Fault);
        assert_eq!(
            (to("http://nas.lan:8080/x").0, to("http://nas.lan:8080/x").1),
            (Severity::Warning, "host")
        );
        assert_eq!(to("http://10.0.0.4/").0, Severity::Warning);
        assert_eq!(to("https://auth.example/").0, Severity::Note);
    }

    #[test]
    fn a_port_for_tls_is_known_by_its_complaint() {
        let (severity, _, mend) =
            of(&answer(400, None, "The plain HTTP request was sent to HTTPS port"), None);
        assert!(severity == Severity::Fault && mend.contains("https://"));
    }
}
