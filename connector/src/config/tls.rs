//! `tls`: where TLS of a rule's visitors ends, and what that asks of the rule and of those above it.
//!
//! The first rule whose hostname takes a name decides, as for everything else; below a rule that passes TLS through, others of
//! the same name serve what comes without TLS.

use causeway_tunnel::{Pattern, TlsEnd};
use serde_saphyr::Spanned;

use super::{Problem, Rule};
use crate::service::Service;

/// Reads the key's value.
pub(super) fn end(text: &Spanned<String>) -> Result<TlsEnd, Problem> {
    match text.value.as_str() {
        "edge" => Ok(TlsEnd::Edge),
        "passthrough" => Ok(TlsEnd::Passthrough),
        other => {
            let near = causeway_daemon::config::nearest(other, &["edge", "passthrough"]);
            Err(Problem::at(text.referenced, format!("`{other}` is no place where TLS can end"))
                .help(Some(format!("write `{}`", near.unwrap_or("edge")))))
        }
    }
}

/// Reads the service of a rule that passes TLS through.
pub(super) fn service(text: &Spanned<String>) -> Result<Service, Problem> {
    Service::parse_raw(&text.value)
        .map_err(|error| Problem::at(text.referenced, error.reason).help(error.help))
}

/// A rule that passes TLS through sees no path, and must be the first to take its names: or whoever reads the file from the top
/// would take them for read, or for unread, when they are not.
pub(super) fn check(rules: &[Rule], at: impl Fn(usize) -> (u64, u64)) -> Result<(), Problem> {
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.tls.is_edge()) {
        let problem = |reason: String, help: &str| {
            let (line, column) = at(index);
            Err(Problem { line, column, reason, help: Some(help.to_owned()) })
        };
        if rule.path.is_some() {
            let reason = "a rule with `tls: passthrough` sees no path".to_owned();
            return problem(reason, "take `path` out, or have TLS end at the edge");
        }
        let earlier = rules[..index]
            .iter()
            .position(|earlier| earlier.tls.is_edge() && earlier.hostname.covers(&rule.hostname));
        if let Some(earlier) = earlier {
            let reason = format!(
                "rule {} ({}, line {}) takes these names with TLS that ends at the edge, so none is left to pass through",
                earlier + 1,
                rules[earlier].hostname,
                rules[earlier].line
            );
            return problem(reason, "put this rule above it");
        }
    }
    Ok(())
}

/// Where TLS of a pattern's names ends, as far as one rule takes them all.
pub(crate) fn end_of(rules: &[Rule], pattern: &Pattern) -> TlsEnd {
    let first = rules.iter().find(|rule| rule.hostname.covers(pattern));
    first.map_or(TlsEnd::Edge, |rule| rule.tls)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn refused(rules: &str) -> String {
        parse("c.yml", &format!("ingress:\n{rules}  - service: http_status:404\n")).unwrap_err().to_string()
    }

    #[test]
    fn the_first_rule_that_takes_a_name_says_where_its_tls_ends() {
        let text = "ingress:\n  - { hostname: b.a.dev, service: 'http://h' }\n  - { hostname: '*.a.dev', service: 'https://10.0.0.1', tls: passthrough }\n  - { hostname: c.a.dev, service: 'http://10.0.0.1' }\n  - { hostname: d.dev, service: 'tcp://h:1', tls: passthrough }\n  - { hostname: e.dev, service: 'http://h', tls: edge }\n  - service: http_status:404\n";
        let config = parse("c.yml", text).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let ends = |name: &str| end_of(&config.rules, &Pattern::parse(name).unwrap());
        assert_eq!(ends("b.a.dev"), TlsEnd::Edge);
        assert_eq!(ends("*.a.dev"), TlsEnd::Passthrough);
        assert_eq!(ends("c.a.dev"), TlsEnd::Passthrough, "the rule below is for what comes in the clear");
        assert_eq!(ends("d.dev"), TlsEnd::Passthrough);
        assert_eq!([ends("e.dev"), ends("*")], [TlsEnd::Edge; 2]);
        let (requests, passing) = (config.table(), config.passing());
        use crate::ingress::Choice::{Nothing, Rule};
        assert_eq!([requests.find("c.a.dev", "/"), requests.find("d.dev", "/")], [Rule(2), Rule(5)]);
        assert_eq!([passing.find("c.a.dev", "/"), passing.find("b.a.dev", "/")], [Rule(1); 2]);
        assert_eq!(passing.find("e.dev", "/"), Nothing);
        let services: Vec<_> = config.rules.iter().map(|rule| rule.service.to_string()).collect();
        assert_eq!(services[3], "tcp://h:1");
    }

    #[test]
    fn what_cannot_pass_through_is_refused_at_its_place_with_the_mend() {
        for (rules, told) in [
            (
                "  - { hostname: a.dev, service: 'https://h', tls: passthru }\n",
                "2:51: `passthru` is no place where TLS can end; write `passthrough`",
            ),
            (
                "  - { hostname: a.dev, service: 'http://h', tls: passthrough }\n",
                "2:33: `http://h` does not end TLS",
            ),
            (
                "  - { hostname: a.dev, service: hello_world, tls: passthrough }\n",
                "2:33: `hello_world` does not end TLS",
            ),
            ("  - { hostname: a.dev, service: 'tcp://h', tls: passthrough }\n", "2:33: "),
            ("  - { hostname: a.dev, path: ^/x, service: 'https://h', tls: passthrough }\n", "sees no path"),
            (
                "  - { hostname: '*.dev', service: 'http://h' }\n  - { hostname: a.dev, service: 'https://h', tls: passthrough }\n",
                "3:33: rule 1 (*.dev, line 2) takes these names",
            ),
            (
                "  - { hostname: a.dev, service: 'http://h', originRequest: { proxyProtocol: v2 } }\n",
                "`proxyProtocol` is for rules with `tls: passthrough`",
            ),
            (
                "  - { hostname: a.dev, service: 'tcp://h:1', tls: passthrough, originRequest: { proxyProtocol: v1 } }\n",
                "`v1` is not spoken",
            ),
        ] {
            let error = refused(rules);
            assert!(error.contains(told), "{told:?} in {error}");
        }
        let last = parse("c.yml", "ingress:\n  - { service: 'https://h', tls: passthrough }\n").unwrap_err();
        assert!(last.to_string().contains("the last rule must take every request"), "{last}");
    }
}
