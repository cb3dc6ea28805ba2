//! The rules' names as visitors see them, from home: where they lead, and what certificate is shown there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use causeway_daemon::doctor::{Finding, Severity};
use causeway_front::doctor::{names, visit};
use causeway_tunnel::{Pattern, TlsEnd};
use futures_util::StreamExt;
use futures_util::stream;

use crate::config::{Config, end_of};

/// Names that are looked up at once.
const AT_ONCE: usize = 8;

pub(super) async fn examine(config: &Config, edges: &[SocketAddr]) -> Vec<Finding> {
    if edges.is_empty() {
        // Why nobody knows where the edge is, is said of the token.
        return Vec::new();
    }
    let patterns: BTreeSet<&Pattern> = config.rules.iter().map(|rule| &rule.hostname).collect();
    let looks = patterns.into_iter().filter_map(|pattern| {
        let visited = one_of(pattern)?;
        Some(async move { look(&pattern.to_string(), &visited, end_of(&config.rules, pattern), edges).await })
    });
    let found: Vec<Vec<Finding>> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    found.into_iter().flatten().collect()
}

/// A name that the pattern stands for.
pub(super) fn one_of(pattern: &Pattern) -> Option<String> {
    match pattern {
        Pattern::Any => None,
        Pattern::Exact(name) => Some(name.to_string()),
        Pattern::Wildcard(suffix) => Some(format!("causeway-doctor.{suffix}")),
    }
}

async fn look(shown_as: &str, name: &str, end: TlsEnd, edges: &[SocketAddr]) -> Vec<Finding> {
    let ips: Vec<IpAddr> = edges.iter().map(|edge| edge.ip().to_canonical()).collect();
    let found = names::addresses(name).await;
    let dns = names::compare(shown_as, found, &ips, |address| ips.contains(&address));
    // At home a name may lead elsewhere than for the world: the edge's doctor knows better.
    let mut findings = vec![dns.at_most(Severity::Warning)];
    // Only where visitors are let in; that they are not is said of the port.
    for edge in edges {
        if visit::tcp(*edge).await.is_err() {
            continue;
        }
        let renew = match end {
            TlsEnd::Edge => format!(
                "on the edge: `causeway-edge cert show {shown_as}`, then `cert renew`, or a new file in `certificates`"
            ),
            TlsEnd::Connector => {
                "at home: `causeway-connector status` has the reason, or a new file in `certificateFolders`"
                    .to_owned()
            }
            TlsEnd::Passthrough => "at the rule's service, whose TLS it is".to_owned(),
        };
        findings.push(visit::judge(shown_as, &visit::tls(*edge, name).await, &renew));
        break;
    }
    findings
}
