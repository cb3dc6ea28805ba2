//! `route`: which rule a URL hits, and why. Pure.

use causeway_tunnel::semantics::is_target;
use causeway_tunnel::{Authority, HostError, Pattern};
use serde::Serialize;

use crate::config::{Config, Rule};
use crate::ingress::Choice;

/// The answer to "where does this URL go?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explanation {
    pub(crate) host: String,
    pub(crate) path: String,
    /// Counted from 1; `None` when the path is refused.
    pub(crate) rule: Option<usize>,
    pub(crate) line: u64,
    pub(crate) hostname: String,
    pub(crate) rule_path: Option<String>,
    pub(crate) service: String,
    pub(crate) because: String,
    /// The rules before it, with the reason why they were not taken.
    pub(crate) passed_over: Vec<PassedOver>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PassedOver {
    pub(crate) rule: usize,
    pub(crate) reason: String,
}

/// A URL that no visitor can ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a hostname: {1}")]
pub(crate) struct NoHost(String, HostError);

/// # Errors
/// When the URL has no usable hostname.
pub(crate) fn explain(config: &Config, url: &str) -> Result<Explanation, NoHost> {
    let (host, path) = split(url)?;
    if let Some(passed) = passed(config, url, &host, &path) {
        return Ok(passed);
    }
    let (rule, because) = match config.table().find(&host, &path) {
        _ if !is_target(path.as_bytes()) => {
            (None, Some("the path has a character that does not belong there: the edge answers 400"))
        }
        Choice::Rule(index) => (Some(index), None),
        Choice::Ambiguous => (
            None,
            Some(
                "the path can be read in two ways (`%2f`, `..`, `//`) that hit different rules: it is answered 400",
            ),
        ),
        Choice::Nothing => (None, Some("no rule takes it")),
    };
    let passed_over = config.rules[..rule.unwrap_or(0)].iter().enumerate().map(|(index, rule)| PassedOver {
        rule: index + 1,
        reason: match &rule.path {
            _ if !rule.tls.is_edge() => "it passes TLS through, and this comes in the clear".to_owned(),
            _ if !rule.hostname.matches(&host) => format!("its hostname is `{}`", rule.hostname),
            Some(regex) => format!("the path does not match `{regex}`"),
            None => "it comes later".to_owned(),
        },
    });
    let passed_over = passed_over.collect();
    let Some(index) = rule else {
        return Ok(Explanation {
            host,
            path,
            rule: None,
            line: 0,
            hostname: String::new(),
            rule_path: None,
            service: String::new(),
            because: because.unwrap_or_default().to_owned(),
            passed_over,
        });
    };
    let rule = &config.rules[index];
    Ok(Explanation {
        because: why(rule, index + 1 == config.rules.len()),
        host,
        path,
        rule: Some(index + 1),
        line: rule.line,
        hostname: rule.hostname.to_string(),
        rule_path: rule.path.as_ref().map(ToString::to_string),
        service: rule.service.to_string(),
        passed_over,
    })
}

/// Unless it says that it comes in the clear, a URL of a name that passes through is its service's to understand.
fn passed(config: &Config, url: &str, host: &str, path: &str) -> Option<Explanation> {
    let first = config.rules.iter().position(|rule| rule.hostname.matches(host))?;
    let rule = config.rules.get(first).filter(|rule| !rule.tls.is_edge())?;
    if url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")) {
        return None;
    }
    let passed_over = config.rules[..first].iter().enumerate().map(|(index, rule)| PassedOver {
        rule: index + 1,
        reason: format!("its hostname is `{}`", rule.hostname),
    });
    Some(Explanation {
        host: host.to_owned(),
        path: path.to_owned(),
        rule: Some(first + 1),
        line: rule.line,
        hostname: rule.hostname.to_string(),
        rule_path: None,
        service: rule.service.to_string(),
        because: "TLS of this name passes through unread; the path is the service's affair".to_owned(),
        passed_over: passed_over.collect(),
    })
}

impl Explanation {
    /// For people.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        match self.rule {
            Some(number) => {
                let path = self.rule_path.as_ref().map(|path| format!(" {path}")).unwrap_or_default();
                out += &format!(
                    "rule {number} (line {}): {}{path} -> {}\n",
                    self.line, self.hostname, self.service
                );
                out += &format!("because {}\n", self.because);
            }
            None => out += &format!("no rule: {}\n", self.because),
        }
        for passed in &self.passed_over {
            out += &format!("not rule {}: {}\n", passed.rule, passed.reason);
        }
        out
    }
}

fn why(rule: &Rule, is_last: bool) -> String {
    let hostname = match &rule.hostname {
        Pattern::Any if rule.path.is_none() && is_last => {
            return "it is the last rule, which takes everything".to_owned();
        }
        Pattern::Any => "the rule is for every hostname".to_owned(),
        Pattern::Exact(_) => "the hostname is the rule's".to_owned(),
        Pattern::Wildcard(_) => format!("the hostname is below `{}`", rule.hostname),
    };
    match &rule.path {
        Some(path) => format!("{hostname} and the path matches `{path}`"),
        None => hostname,
    }
}

/// Hostname in normal form, path and query. The scheme may be left out.
fn split(url: &str) -> Result<(String, String), NoHost> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // The edge's and the rules' parser: where they refuse a visitor, this refuses as well.
    let host = Authority::written(authority).map_err(|error| NoHost(authority.to_owned(), error))?.host;
    let path = path.split('#').next().unwrap_or(path);
    let path = if path.starts_with('/') { encoded(path) } else { encoded(&format!("/{path}")) };
    Ok((host.to_string(), path))
}

/// As every client sends it: what is not ASCII, and spaces, in percent-encoding. All else is as it was typed.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b' ' | 0x80.. => out += &format!("%{byte:02X}"),
            byte => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn config() -> Config {
        parse(
            "c.yml",
            "ingress:\n  - hostname: a.dev\n    path: ^/api\n    service: http://10.0.0.1\n  - hostname: '*.dev'\n    service: http://10.0.0.2\n  - service: http_status:404\n",
        )
        .unwrap()
    }

    #[test]
    fn says_which_rule_and_why_and_why_not_the_others() {
        let answer = explain(&config(), "https://A.dev:443/other?x=1").unwrap();
        assert_eq!((answer.rule, answer.service.as_str()), (Some(2), "http://10.0.0.2:80"));
        assert_eq!(
            answer.passed_over,
            [PassedOver { rule: 1, reason: "the path does not match `^/api`".to_owned() }]
        );
        let text = answer.render();
        assert!(
            text.contains("rule 2 (line 5): *.dev -> http://10.0.0.2:80") && text.contains("below `*.dev`"),
            "{text}"
        );
        assert_eq!(explain(&config(), "a.dev/api/x").unwrap().rule, Some(1));
        let last = explain(&config(), "https://other.org").unwrap();
        assert_eq!(last.rule, Some(3));
        assert!(last.because.contains("last rule"));
    }

    #[test]
    fn unicode_names_are_compared_in_a_labels_and_nonsense_is_refused() {
        assert_eq!(explain(&config(), "https://bücher.dev/").unwrap().host, "xn--bcher-kva.dev");
        assert!(explain(&config(), "https:///x").is_err());
        assert!(explain(&config(), "https://a..dev/").is_err());
        assert!(explain(&config(), "https://a.dev:99999/").is_err());
        assert_eq!(explain(&config(), "a.dev/x/../api").unwrap().rule, None);
    }

    #[test]
    fn a_url_is_explained_as_its_visitor_is_served() {
        for (url, rule) in [
            ("A.DEV./api", Some(1)),
            ("https://user@a.dev:8443/api#x", Some(1)),
            ("a.dev/%61pi", Some(1)),
            ("a.dev/x?/api", Some(2)),
            ("a.dev?/api", Some(2)),
            ("my_app.dev/", Some(2)),
            ("[::1]:443/api", Some(3)),
            ("127.0.0.1", Some(3)),
            ("a.dev/%2fapi", None),
            ("a.dev//api", None),
            ("a.dev/\\api", None),
            ("a.dev/<api>", None),
        ] {
            let answer = explain(&config(), url).unwrap();
            assert_eq!(answer.rule, rule, "{url}: {}", answer.because);
        }
        assert_eq!(explain(&config(), "a.dev/caf\u{e9} x").unwrap().path, "/caf%C3%A9%20x");
        assert!(explain(&config(), "a.dev/\\api").unwrap().because.contains("400"));
    }
}
