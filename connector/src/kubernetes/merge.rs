//! The rules of a file with those of the cluster's Services: the file's word counts first, and last. Pure.
//!
//! ```text
//! the file's rules, but for the last      win over
//! those of Services                       stand before
//! the file's last rule                    takes what is left
//! ```

use std::collections::HashMap;

use causeway_tunnel::limits::MAX_ROUTES;
use causeway_tunnel::{Pattern, TlsEnd};

use super::annotations::Reading;
use super::claims::{Claim, decide};
use super::object::Service;
use crate::config::{Config, Rule, Source, Visitors};
use crate::ingress::{Matcher, Table};

/// What is in force: the file's configuration with the rules of Services in it, and what there is to say of those that are not.
/// `services` is none while nobody knows which there are.
pub(super) fn over(base: &Config, services: Option<&[Service]>, reading: Reading) -> Config {
    let mut config = base.clone();
    let Some(services) = services else {
        // Without a file there is nothing to serve yet, and what is not announced others may serve.
        if config.source == Source::Cluster {
            config.rules.clear();
        }
        return config;
    };
    // A name takes two routes at most: see `rules::offers`.
    let room = MAX_ROUTES.saturating_sub(2 * base.rules.len()) / 2;
    let (claims, mut remarks) = decide(services, reading, room);
    let last = config.rules.pop();
    let of_file = Standing::of(&config.rules);
    let mut admitted = Vec::with_capacity(claims.len());
    for claim in claims {
        match of_file.admit(base, &claim) {
            Ok(visitors) => admitted.push(rule(base, claim, visitors)),
            Err(why) => remarks.push(format!("Service {}: `{}` {why}", claim.from, claim.hostname)),
        }
    }
    config.rules.extend(admitted);
    config.rules.extend(last);
    config.remarks = remarks;
    config
}

/// The file's rules, but for the last.
struct Standing<'a> {
    rules: &'a [Rule],
    table: Table,
    visitors: HashMap<&'a Pattern, Visitors>,
}

impl<'a> Standing<'a> {
    fn of(rules: &'a [Rule]) -> Self {
        let matcher = |rule: &Rule| Matcher { hostname: rule.hostname.clone(), path: rule.path.clone() };
        let visitors = rules.iter().map(|rule| (&rule.hostname, rule.visitors)).collect();
        Self { rules, table: Table::new(rules.iter().map(matcher).collect()), visitors }
    }

    /// What visitors of the name are told, or why the rule cannot stand.
    fn admit(&self, base: &Config, claim: &Claim) -> Result<Visitors, String> {
        let covering = self.table.covering(&claim.hostname).map(|index| &self.rules[index]);
        let mut covering = covering.filter(|rule| rule.hostname.covers(&claim.hostname)).peekable();
        // The first rule that takes a name says where its TLS ends: see `config::tls`.
        if let Some(first) = covering.peek().filter(|first| first.tls != claim.tls) {
            return Err(format!(
                "has `tls: {}` by the rule in line {} of {}: write `causeway.dev/tls: {0}`, or change the file",
                first.tls.as_str(),
                first.line,
                base.file
            ));
        }
        if let Some(taken) = covering.find(|rule| rule.path.is_none()) {
            return Err(format!(
                "is the file's: the rule in line {} of {} takes all its requests; take it out of one of the two",
                taken.line, base.file
            ));
        }
        let home = &base.home;
        let has_certificates =
            !home.certificate_folders.is_empty() || (home.data.is_some() && home.acme.enabled);
        if claim.tls == TlsEnd::Connector && !has_certificates {
            return Err("asks for TLS that ends in the connector, which has nowhere to have certificates from: start it with \
                        `--data FOLDER`, or have `causeway.dev/tls` say `edge`"
                .to_owned());
        }
        Ok(self.visitors.get(&claim.hostname).copied().unwrap_or_default())
    }
}

fn rule(base: &Config, claim: Claim, visitors: Visitors) -> Rule {
    let Claim { hostname, path, target, host_header, tls, from } = claim;
    let mut origin = base.defaults.origin.clone();
    origin.http_host_header = host_header.or(origin.http_host_header);
    // A VIP is an address, which certificates seldom have: the name that visitors ask for is the one to expect.
    origin.match_sni_to_host |= origin.origin_server_name.is_none();
    let ca_pool_at = base.defaults.ca_pool_at;
    Rule { hostname, path, service: target, origin, tls, visitors, line: 0, ca_pool_at, found: Some(from) }
}

#[cfg(test)]
mod tests;
