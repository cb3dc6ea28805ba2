//! Who gets a name when several Services ask for it, and in which order the rules stand. Pure.
//!
//! - A name belongs to the namespace of the oldest Service that asks for it: who may write Services of another one cannot take
//!   requests of it away, not even those of one path.
//! - Within the namespace the same name and path are the older Service's.
//! - A name before the wildcards that take it, a longer wildcard before a shorter, a longer path before a shorter and before none.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use causeway_tunnel::{Pattern, TlsEnd};

use super::annotations::{Reading, Wish, read, remark};
use super::object::Service;
use crate::path::PathPattern;
use crate::service::Service as Target;

/// A rule that a Service asks for.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) hostname: Pattern,
    pub(super) path: Option<PathPattern>,
    pub(super) target: Target,
    pub(super) host_header: Option<String>,
    pub(super) tls: TlsEnd,
    /// The Service, as `namespace/name`.
    pub(super) from: Arc<str>,
}

/// Who has a name.
struct Owner<'a> {
    service: &'a Service,
    tls: TlsEnd,
    /// By path.
    paths: HashMap<String, &'a Service>,
}

/// The claims that stand, in the order of rules, at most `room` of them; and what there is to say of the others.
pub(super) fn decide(services: &[Service], reading: Reading, room: usize) -> (Vec<Claim>, Vec<String>) {
    let mut by_age: Vec<&Service> = services.iter().collect();
    // One that does not say its age is the youngest.
    by_age.sort_by_key(|service| {
        let since = &service.metadata.creation_timestamp;
        (since.is_none(), since, &service.metadata.namespace, &service.metadata.name)
    });
    let mut owners: HashMap<Pattern, Owner<'_>> = HashMap::new();
    let (mut claims, mut remarks, mut left_out) = (Vec::new(), Vec::new(), 0_usize);
    for service in by_age {
        let (wish, said) = read(service, reading);
        remarks.extend(said);
        let Some(Wish { names, path, target, host_header, tls }) = wish else { continue };
        for hostname in names {
            if claims.len() == room {
                left_out += 1;
                continue;
            }
            let owner = owners.entry(hostname.clone()).or_insert_with(|| Owner {
                service,
                tls,
                paths: HashMap::new(),
            });
            if let Err(why) = admit(owner, service, path.as_ref(), tls) {
                remarks.push(remark(service, &format!("`{hostname}` {why}")));
                continue;
            }
            claims.push(Claim {
                hostname,
                path: path.clone(),
                target: target.clone(),
                host_header: host_header.clone(),
                tls,
                from: service.shown(),
            });
        }
    }
    if left_out > 0 {
        remarks.push(format!(
            "{left_out} names of Services are left out, the youngest's: there are {room} beside the file's; use wildcards"
        ));
    }
    // Stable: what is alike stays in the order of age.
    claims.sort_by_key(|claim| {
        let below = match &claim.hostname {
            Pattern::Exact(_) => (0, Reverse(0)),
            Pattern::Wildcard(below) => (1, Reverse(below.len())),
            Pattern::Any => (2, Reverse(0)),
        };
        (below, claim.hostname.clone(), Reverse(claim.path.as_ref().map_or(0, |path| path.as_str().len())))
    });
    (claims, remarks)
}

fn admit<'a>(
    owner: &mut Owner<'a>,
    service: &'a Service,
    path: Option<&PathPattern>,
    tls: TlsEnd,
) -> Result<(), String> {
    let older = owner.service.shown();
    if owner.service.metadata.namespace != service.metadata.namespace {
        return Err(format!(
            "belongs to Service {older}, which is older and of another namespace: take the name away from one of the two"
        ));
    }
    if owner.tls != tls {
        return Err(format!(
            "has `causeway.dev/tls: {}` at Service {older}, which is older: TLS ends before there is a path to look at, so \
             write the same in both",
            owner.tls.as_str()
        ));
    }
    let path = path.map_or("", PathPattern::as_str).to_owned();
    match owner.paths.get(&path) {
        Some(older) => Err(format!(
            "is served by Service {}, which is older: take the name away from one of the two, or give one a `causeway.dev/path`",
            older.shown()
        )),
        None => {
            owner.paths.insert(path, service);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
