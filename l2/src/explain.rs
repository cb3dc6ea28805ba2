//! Why a Service has, or has not, its address: the allocator's own decision, told pool by pool.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use crate::allocate::{Families, ServiceKey, Trouble};
use crate::allocator::{Index, Observed};
use crate::api::{ServiceL2Status, conditions};
use crate::pool::Pool;

/// The whole story of one Service.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Explanation {
    pub(crate) service: String,
    pub(crate) wants: Vec<String>,
    /// What its status says.
    pub(crate) has: Vec<IpAddr>,
    pub(crate) pools: Vec<PoolView>,
    /// What the allocator decides from what is seen now.
    pub(crate) verdict: String,
    pub(crate) announced: Vec<String>,
    /// Why nobody announces it, or what else is wrong with that.
    pub(crate) reasons: Vec<String>,
}

/// One pool from the point of view of the Service.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PoolView {
    pub(crate) name: String,
    /// Whether the Service may have an address of it without asking by name.
    pub(crate) serves: bool,
    pub(crate) why: String,
    pub(crate) free: String,
}

/// Explains from an index that has settled with this Service in it. `silence` is why the speakers may not announce it.
/// `None` when there is no such Service of our class.
pub(crate) fn explain(
    index: &mut Index,
    key: &ServiceKey,
    statuses: &[ServiceL2Status],
    silence: Vec<String>,
    now: Instant,
) -> Option<Explanation> {
    let before = index.observed(key)?.ingress.iter().filter_map(|ip| ip.parse().ok()).collect();
    let observed = index.observed(key)?.clone();
    let decision = index.table_mut().decide(&observed.request, now);
    let verdict = match (&observed.unclear, &decision.holding, &decision.trouble) {
        (Some(unclear), _, _) => unclear.to_string(),
        (None, Some(holding), None) => {
            let addresses: Vec<String> = holding.addresses.iter().map(ToString::to_string).collect();
            format!("{} of pool {}", addresses.join(" and "), holding.pool)
        }
        (None, Some(holding), Some(Trouble::Allocation(failure))) => {
            format!("keeps {:?} until there is what it asks for: {failure}", holding.addresses)
        }
        (None, Some(holding), Some(Trouble::Additional(failure))) => {
            format!("{:?}; no address of the second family: {failure}", holding.addresses)
        }
        (None, None, Some(Trouble::Allocation(failure) | Trouble::Additional(failure))) => {
            format!("none: {failure}")
        }
        (None, None, None) => "none".to_owned(),
    };
    let pools = index.table().pools().iter().map(|pool| view(index, pool, &observed)).collect();
    let announced: Vec<String> = statuses.iter().filter_map(|status| announcement(status, key)).collect();
    // Whatever speaks against it, it is announced.
    let mut reasons = if announced.is_empty() { silence } else { Vec::new() };
    reasons.extend(observed.conditions.iter().filter(|one| one.status == "True").filter_map(trouble));
    Some(Explanation {
        service: key.to_string(),
        wants: wants(&observed),
        has: before,
        pools,
        verdict,
        announced,
        reasons,
    })
}

fn wants(observed: &Observed) -> Vec<String> {
    let request = &observed.request;
    let mut wants = vec![match request.families {
        Families::Single(family) => format!("one {family} address"),
        Families::Both => "an IPv4 and an IPv6 address of one pool".to_owned(),
        Families::PreferBoth { primary } => format!("an IPv4 and an IPv6 address, else one, {primary} first"),
    }];
    if !request.addresses.is_empty() {
        wants.push(format!("exactly {:?}", request.addresses));
    }
    wants.extend(request.pool.iter().map(|pool| format!("from pool {pool}")));
    if let Some(sharing) = &request.sharing {
        let ports: Vec<String> = request.ports.iter().map(ToString::to_string).collect();
        let backend = if sharing.backend.is_empty() { "" } else { " and the same selector" };
        wants.push(format!("may share with key {:?}{backend}, ports {}", sharing.key, ports.join(", ")));
    }
    if let Some(address) = request.contested {
        wants.push(format!("not {address}: a foreign host answers for it"));
    }
    wants
}

fn view(index: &Index, pool: &Pool, observed: &Observed) -> PoolView {
    let usage = index.table().usage(&pool.name);
    let free = |capacity: i64, used: i64| {
        if capacity == i64::MAX {
            "plenty".to_owned()
        } else {
            format!("{} of {capacity}", (capacity - used).max(0))
        }
    };
    let free =
        format!("IPv4 {}, IPv6 {}", free(pool.capacity.v4, usage.v4), free(pool.capacity.v6, usage.v6));
    let applicant = observed.request.applicant();
    let (serves, why) = if let Some(fault) = pool.findings.iter().find(|finding| finding.is_fault()) {
        (false, format!("refused: {fault}"))
    } else if !pool.allows(applicant) {
        (false, "its serviceAllocation does not select this Service".to_owned())
    } else if !pool.auto_assign {
        (false, format!("autoAssign is false: ask for it with metallb.io/address-pool: {}", pool.name))
    } else {
        match &pool.allocation {
            Some(allocation) if allocation.priority() > 0 => (
                true,
                format!("its serviceAllocation selects this Service, priority {}", allocation.priority()),
            ),
            Some(_) => (true, "its serviceAllocation selects this Service, no priority".to_owned()),
            None => (true, "open to every Service".to_owned()),
        }
    };
    PoolView { name: pool.name.to_string(), serves, why, free }
}

/// Conditions that say why an address that was given is of no use.
fn trouble(condition: &Condition) -> Option<String> {
    match condition.type_.as_str() {
        conditions::ADDRESS_CONFLICT => Some(format!("another host has the address: {}", condition.message)),
        conditions::STATUS_CONTESTED => Some(condition.message.clone()),
        _ => None,
    }
}

fn announcement(status: &ServiceL2Status, key: &ServiceKey) -> Option<String> {
    let status = status.status.as_ref()?;
    let ours = status.service_name.as_deref() == Some(key.name())
        && status.service_namespace.as_deref() == Some(key.namespace());
    let node = status.node.as_deref().filter(|_| ours)?;
    let interfaces: Vec<&str> = status.interfaces.iter().filter_map(|one| one.name.as_deref()).collect();
    let interfaces = if interfaces.is_empty() { "all interfaces".to_owned() } else { interfaces.join(", ") };
    let reason = status.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    Some(format!("node {node} on {interfaces}{reason}"))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Service {}", self.service)?;
        writeln!(f, "  wants      {}", self.wants.join("; "))?;
        let has: Vec<String> = self.has.iter().map(ToString::to_string).collect();
        writeln!(
            f,
            "  has        {}",
            if has.is_empty() { "nothing yet".to_owned() } else { has.join(", ") }
        )?;
        writeln!(f, "  decision   {}", self.verdict)?;
        let announced =
            if self.announced.is_empty() { "by nobody".to_owned() } else { self.announced.join("; ") };
        writeln!(f, "  announced  {announced}")?;
        for (i, reason) in self.reasons.iter().enumerate() {
            writeln!(f, "  {:<10} {reason}", if i == 0 { "because" } else { "and" })?;
        }
        writeln!(f, "  pools")?;
        for pool in &self.pools {
            let mark = if pool.serves { "yes" } else { "no " };
            writeln!(f, "    {mark} {:<16} free: {}; {}", pool.name, pool.free, pool.why)?;
        }
        if self.pools.is_empty() {
            writeln!(f, "    there is none: make an IPAddressPool")?;
        }
        Ok(())
    }
}
