//! The granted names: where they lead from here, and what a visitor of them is shown.

use std::net::{IpAddr, SocketAddr};

use causeway_daemon::doctor::{Finding, Severity};
use causeway_front::doctor::{names, visit};
use causeway_tunnel::TlsEnd;
use futures_util::{StreamExt, stream};

use super::listeners::reachable;
use crate::config::Config;
use crate::route::Pattern;
use crate::status::{HostnameState, Status};
use crate::store::TunnelRecord;

/// Names that are looked at together.
const AT_ONCE: usize = 8;
/// An edge of thousands of names is looked at by a sample.
const MAX_NAMES: usize = 200;

/// A name that a tunnel may serve.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) pattern: Pattern,
    /// Whether visitors are shown a certificate of the edge's own.
    pub(super) is_shown: bool,
}

/// From the running edge, else from the store and the file.
pub(super) fn granted(running: Option<&Status>, records: &[TunnelRecord]) -> Vec<Granted> {
    let mut all: Vec<Granted> = match running {
        Some(status) => {
            let names = status.tunnels.iter().flat_map(|tunnel| &tunnel.hostnames);
            let granted = names.filter_map(|name| {
                let pattern = Pattern::parse(&name.hostname).ok()?;
                // Nothing is ordered before a name is announced.
                let is_wanted = matches!(name.state, HostnameState::Served | HostnameState::NoCertificate);
                Some(Granted { pattern, is_shown: is_wanted && name.tls == TlsEnd::Edge })
            });
            granted.collect()
        }
        None => {
            let patterns = records.iter().flat_map(|record| record.hostnames.iter().cloned());
            patterns.map(|pattern| Granted { pattern, is_shown: false }).collect()
        }
    };
    all.retain(|name| name.pattern != Pattern::Any);
    all
}

pub(super) async fn examine(config: &Config, running: Option<&Status>, granted: &[Granted]) -> Vec<Finding> {
    let mut found = Vec::new();
    if granted.len() > MAX_NAMES {
        let cause = format!("{} names: the first {MAX_NAMES} are looked at", granted.len());
        found.push(Finding::note("dns", "names", cause));
    }
    let edge = addresses(config).await;
    let https = running.and_then(|status| status.listening.https.first().copied()).map(reachable);
    let looks = granted.iter().take(MAX_NAMES).map(|name| look(config, &edge, https, name));
    let each: Vec<Vec<Finding>> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    found.extend(each.into_iter().flatten());
    found
}

/// Where the edge is for the world: as tokens say it, else by its own way out.
async fn addresses(config: &Config) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for address in &config.address {
        let looked_up = tokio::net::lookup_host(address.as_str()).await;
        found.extend(looked_up.into_iter().flatten().map(|address| address.ip().to_canonical()));
    }
    if found.is_empty() {
        found = names::outward();
    }
    found.sort_unstable();
    found.dedup();
    found
}

async fn look(
    config: &Config,
    edge: &[IpAddr],
    https: Option<SocketAddr>,
    granted: &Granted,
) -> Vec<Finding> {
    let shown_as = granted.pattern.to_string();
    let name = match &granted.pattern {
        Pattern::Wildcard(suffix) => format!("causeway-doctor.{suffix}"),
        _ => shown_as.clone(),
    };
    let is_edge = |address: IpAddr| edge.contains(&address) || names::is_own(address);
    let dns = names::compare(&shown_as, names::addresses(&name).await, edge, is_edge);
    // Visitors come by somebody who is trusted to say who they are: names lead there.
    let is_proxied = !config.trusted_proxies.is_empty();
    // A granted wildcard says what may be served; who has a rule for one of its names alone needs no record for all.
    let is_wide = matches!(granted.pattern, Pattern::Wildcard(_));
    let mut found = vec![if is_proxied || is_wide { dns.at_most(Severity::Note) } else { dns }];
    if let Some(https) = https.filter(|_| granted.is_shown && !is_wide) {
        let renew = format!(
            "`causeway-edge cert show {shown_as}` has the reason, `cert renew` tries now; one from a file: write a new one, it is read at once"
        );
        found.push(visit::judge(&shown_as, &visit::tls(https, &name).await, &renew));
    }
    found
}
