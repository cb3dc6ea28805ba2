//! What the allocator says about the configuration: the status of each pool, and its ConfigurationState.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Index;
use crate::api::{
    Condition, ConditionStatus, ConfigurationResult, ConfigurationStateStatus, IPAddressPool,
    IPAddressPoolStatus, L2AdvertisementSpec, LabelSelector,
};
use crate::pool::{Finding, Pool};
use crate::selector::Selector;

/// Condition types on a pool. Not in MetalLB.
pub(crate) mod pool_conditions {
    /// True when the pool gives addresses.
    pub(crate) const VALID: &str = "Valid";
    /// True when addresses of the pool belong to nodes, gateways, pods or Services, and are never given.
    pub(crate) const OVERLAPS_CLUSTER: &str = "OverlapsCluster";
    /// False when no L2Advertisement selects the pool: its addresses are given and never announced.
    pub(crate) const ADVERTISED: &str = "Advertised";
}

/// More findings than this are counted, not listed.
const MAX_LISTED: usize = 8;

impl Index {
    /// The statuses of pools that differ from what the API server has.
    pub(in crate::allocator) fn pool_statuses(&self, now: &Time) -> Vec<(String, IPAddressPoolStatus)> {
        if !self.leading {
            return Vec::new();
        }
        let pools = self.table.pools().iter().filter_map(|pool| {
            let object = self.pools.get(&*pool.name)?;
            let before = object.status.as_ref();
            let status = self.pool_status(pool, before, object.metadata.generation, now);
            let same = before.is_some_and(|before| {
                let conditions = before.conditions.len() == status.conditions.len()
                    && before.conditions.iter().zip(&status.conditions).all(|(a, b)| a.says_same(b));
                let dropped = self.drops_conditions && before.conditions.is_empty();
                (conditions || dropped) && counters(before) == counters(&status)
            });
            (!same).then(|| (pool.name.to_string(), status))
        });
        pools.collect()
    }

    /// Makes the seen status what the API server has made of our write, unless the watch has brought a newer one.
    pub(in crate::allocator) fn wrote_pool(&mut self, written: IPAddressPool) {
        self.drops_conditions = written.status.as_ref().is_none_or(|status| status.conditions.is_empty());
        let name = written.metadata.name.unwrap_or_default();
        let Some(pool) = self.pools.get_mut(&name) else { return };
        let version = |version: &Option<String>| version.as_ref()?.parse::<u64>().ok();
        let seen = version(&pool.metadata.resource_version);
        if seen.is_none_or(|seen| version(&written.metadata.resource_version).is_none_or(|ours| ours > seen))
        {
            pool.status = written.status;
        }
    }

    fn pool_status(
        &self,
        pool: &Pool,
        before: Option<&IPAddressPoolStatus>,
        generation: Option<i64>,
        now: &Time,
    ) -> IPAddressPoolStatus {
        let usage = self.table.usage(&pool.name);
        let (faults, advice): (Vec<&Finding>, Vec<&Finding>) =
            pool.findings.iter().partition(|one| one.is_fault());
        let (overlaps, notices): (Vec<&Finding>, Vec<&Finding>) =
            advice.into_iter().partition(|one| matches!(one, Finding::Reserved(..)));
        let valid = match faults.first() {
            Some(first) => (ConditionStatus::False, first.reason(), list(&faults)),
            None => (ConditionStatus::True, "Reconciled", list(&notices)),
        };
        let overlap = match overlaps.first() {
            Some(first) => (ConditionStatus::True, first.reason(), list(&overlaps)),
            None => (ConditionStatus::False, "NoOverlap", String::new()),
        };
        let advertised = if self.is_advertised(&pool.name) {
            (ConditionStatus::True, "Selected", String::new())
        } else {
            let message =
                "no L2Advertisement selects this pool: its addresses are given but answered by nobody";
            (ConditionStatus::False, "NoL2Advertisement", message.to_owned())
        };
        let said = [
            (pool_conditions::VALID, valid),
            (pool_conditions::OVERLAPS_CLUSTER, overlap),
            (pool_conditions::ADVERTISED, advertised),
        ];
        let known = before.map_or(&[][..], |before| &before.conditions);
        let conditions = said.map(|(type_, what)| condition(type_, what, known, generation, now)).to_vec();
        IPAddressPoolStatus {
            assigned_ipv4: usage.v4,
            assigned_ipv6: usage.v6,
            available_ipv4: pool.capacity.v4.saturating_sub(usage.v4).max(0),
            available_ipv6: pool.capacity.v6.saturating_sub(usage.v6).max(0),
            conditions,
        }
    }

    fn is_advertised(&self, pool: &str) -> bool {
        let labels = self.pools.get(pool).and_then(|pool| pool.metadata.labels.clone()).unwrap_or_default();
        self.advertisements.values().any(|advertisement| {
            let spec = &advertisement.spec;
            let all = spec.ip_address_pools.is_empty() && spec.ip_address_pool_selectors.is_empty();
            all || spec.ip_address_pools.iter().any(|name| name == pool)
                || spec
                    .ip_address_pool_selectors
                    .iter()
                    .any(|one| Selector::compile(one).is_ok_and(|one| one.matches(&labels)))
        })
    }

    /// Our ConfigurationState, if it differs from what the API server has.
    pub(in crate::allocator) fn state_to_write(&self, now: &Time) -> Option<ConfigurationStateStatus> {
        if !self.leading {
            return None;
        }
        let known = self.state.as_ref().map_or(&[][..], |state| &state.conditions);
        let wrong_pools: Vec<String> = self
            .table
            .pools()
            .iter()
            .flat_map(|pool| pool.findings.iter().filter(|one| one.is_fault()).map(move |one| (pool, one)))
            .map(|(pool, finding)| format!("pool \"{}\": {finding}", pool.name))
            .collect();
        let wrong_advertisements: Vec<String> = self
            .advertisements
            .iter()
            .flat_map(|(name, one)| {
                let errors = advertisement_errors(&one.spec);
                errors.into_iter().map(move |error| format!("L2Advertisement \"{name}\": {error}"))
            })
            .collect();
        let of = |errors: &[String]| match errors {
            [] => (ConditionStatus::True, "Reconciled", String::new()),
            _ => (ConditionStatus::False, "ConfigurationError", errors.join("; ")),
        };
        let mut conditions = vec![
            condition("configReconcilerValid", of(&wrong_advertisements), known, None, now),
            condition("poolReconcilerValid", of(&wrong_pools), known, None, now),
        ];
        if !self.bgp.is_empty() {
            let message = format!("BGP is not served, these are ignored: {}", self.bgp.join(", "));
            conditions.push(condition(
                "bgpServed",
                (ConditionStatus::False, "NotServed", message),
                known,
                None,
                now,
            ));
        }
        let errors: Vec<String> = wrong_advertisements.into_iter().chain(wrong_pools).collect();
        let result =
            if errors.is_empty() { ConfigurationResult::Valid } else { ConfigurationResult::Invalid };
        let status =
            ConfigurationStateStatus { result: Some(result), error_summary: errors.join("; "), conditions };
        let same = self.state.as_ref().is_some_and(|before| {
            before.result == status.result
                && before.error_summary == status.error_summary
                && before.conditions.len() == status.conditions.len()
                && before.conditions.iter().zip(&status.conditions).all(|(a, b)| a.says_same(b))
        });
        (!same).then_some(status)
    }

    pub(in crate::allocator) fn wrote_state(&mut self, status: ConfigurationStateStatus) {
        self.state = Some(status);
    }
}

/// What is wrong with an advertisement by itself; the rest of it still counts.
pub(crate) fn advertisement_errors(spec: &L2AdvertisementSpec) -> Vec<String> {
    let lists: [(&str, &[LabelSelector]); 3] = [
        ("ipAddressPoolSelectors", &spec.ip_address_pool_selectors),
        ("nodeSelectors", &spec.node_selectors),
        ("serviceSelectors", &spec.service_selectors),
    ];
    let mut errors: Vec<String> = lists
        .into_iter()
        .filter_map(|(field, selectors)| {
            let (i, error) = Selector::compile_all(selectors).err()?;
            Some(format!("spec.{field}[{i}]: {error}"))
        })
        .collect();
    for (i, preferred) in spec.preferred_node_selectors.iter().enumerate() {
        let field = format!("spec.preferredNodeSelectors[{i}]");
        if !(1..=100).contains(&preferred.weight) {
            errors.push(format!("{field}.weight: {} is not from 1 to 100", preferred.weight));
        }
        errors
            .extend(Selector::compile(&preferred.preference).err().map(|error| format!("{field}: {error}")));
    }
    errors
}

fn condition(
    type_: &str,
    (status, reason, message): (ConditionStatus, &str, String),
    known: &[Condition],
    observed_generation: Option<i64>,
    now: &Time,
) -> Condition {
    let before = known.iter().find(|condition| condition.type_ == type_ && condition.status == status);
    let last_transition_time =
        before.map_or_else(|| now.clone(), |before| before.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        last_transition_time,
        observed_generation,
    }
}

fn counters(status: &IPAddressPoolStatus) -> [i64; 4] {
    [status.assigned_ipv4, status.assigned_ipv6, status.available_ipv4, status.available_ipv6]
}

fn list(findings: &[&Finding]) -> String {
    let mut texts: Vec<String> = findings.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    if findings.len() > MAX_LISTED {
        texts.push(format!("and {} more", findings.len() - MAX_LISTED));
    }
    texts.join("; ")
}
