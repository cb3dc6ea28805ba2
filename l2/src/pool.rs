//! Pools as the allocator uses them: compiled from all IPAddressPools at once, with what is wrong about each. Pure.
//!
//! MetalLB stops taking any configuration when one pool is wrong. Here a fault stays with its pool: a refused pool
//! gives no new address, what Services already hold of it stays theirs, and the other pools go on.

mod finding;
mod reserved;

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;

pub use finding::Finding;
pub use reserved::{Reserved, Use};

use crate::api::{IPAddressPool, LabelSelector, ServiceAllocation};
use crate::range::{self, Family, IpRange};
use crate::selector::Selector;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Every pool, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    list: Vec<Pool>,
    /// Where the usable pools' addresses are: disjoint, ascending.
    index: Vec<(IpRange, usize)>,
    /// Pools with a serviceAllocation in the order in which they are tried; then those without.
    pinned: Vec<usize>,
    open: Vec<usize>,
}

/// One pool.
#[derive(Clone, Debug)]
pub struct Pool {
    pub name: Arc<str>,
    /// In the order of the spec; what did not parse is missing.
    pub ranges: Vec<IpRange>,
    pub auto_assign: bool,
    pub avoid_buggy: bool,
    pub allocation: Option<Allocation>,
    pub findings: Vec<Finding>,
    pub capacity: Capacity,
}

/// To whom a pool may give.
#[derive(Clone, Debug, Default)]
pub struct Allocation {
    priority: i64,
    /// Whether the pool names namespaces at all: a selector that matches none still restricts.
    by_namespace: bool,
    namespaces: BTreeSet<String>,
    namespace_selectors: Vec<Selector>,
    service_selectors: Vec<Selector>,
}

/// How many addresses a pool can give; an IPv6 prefix that never runs out counts as `i64::MAX`, as in MetalLB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    pub v4: i64,
    pub v6: i64,
}

/// What a pool looks at before it gives to a Service.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    pub namespace: &'a str,
    pub namespace_labels: &'a BTreeMap<String, String>,
    pub labels: &'a BTreeMap<String, String>,
}

impl Pools {
    /// Compiles all pools. Where two overlap, the older one keeps the addresses and the younger one is refused.
    pub fn compile<'a>(objects: impl IntoIterator<Item = &'a IPAddressPool>, reserved: &Reserved) -> Self {
        let mut objects: Vec<&IPAddressPool> = objects.into_iter().collect();
        let age =
            |pool: &IPAddressPool| pool.creation_timestamp().map_or(i64::MAX, |time| time.0.as_second());
        objects.sort_by_key(|pool| (age(pool), pool.name_any()));
        let mut list: Vec<Pool> = Vec::with_capacity(objects.len());
        for object in objects {
            let mut pool = Pool::compile(object, reserved);
            let clash = list.iter().filter(|elder| elder.gives()).find_map(|elder| elder.overlap(&pool));
            pool.findings.extend(clash);
            list.push(pool);
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let mut pools = Self { list, ..Self::default() };
        pools.order();
        pools
    }

    fn order(&mut self) {
        for (i, pool) in self.list.iter().enumerate().filter(|(_, pool)| pool.gives()) {
            self.index.extend(range::merge(pool.ranges.clone()).into_iter().map(|range| (range, i)));
            if pool.allocation.is_some() { self.pinned.push(i) } else { self.open.push(i) }
        }
        self.index.sort_unstable();
        let list = &self.list;
        // 0 and less come last; among equals the name decides, where MetalLB leaves it to chance.
        self.pinned.sort_by_key(|i| match list[*i].allocation.as_ref().map_or(0, |to| to.priority) {
            priority @ 1.. => priority,
            _ => i64::MAX,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.list.iter()
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.list.binary_search_by(|pool| (*pool.name).cmp(name)).ok()
    }

    pub fn by_name(&self, name: &str) -> Option<&Pool> {
        self.position(name).map(|i| &self.list[i])
    }

    pub(crate) fn at(&self, i: usize) -> &Pool {
        &self.list[i]
    }

    /// Pools that a Service may be given from without asking by name: those made for it first, else the open ones.
    pub(crate) fn automatic<'a>(&'a self, applicant: Applicant<'a>) -> [Vec<usize>; 2] {
        let pinned = self.pinned.iter().copied();
        let pinned =
            pinned.filter(|i| self.list[*i].auto_assign && self.list[*i].allows(applicant)).collect();
        [pinned, self.open.iter().copied().filter(|i| self.list[*i].auto_assign).collect()]
    }

    /// The pool that has the address; usable pools come before refused ones.
    pub fn containing(&self, address: IpAddr) -> Option<&Pool> {
        let after = self.index.partition_point(|(range, _)| range.first() <= address);
        let found = after.checked_sub(1).map(|i| &self.index[i]).filter(|(range, _)| range.contains(address));
        if let Some((_, i)) = found {
            return Some(&self.list[*i]);
        }
        self.list.iter().filter(|pool| !pool.gives()).find(|pool| pool.contains(address))
    }

    /// The one pool that has all of the addresses.
    pub fn containing_all(&self, addresses: &[IpAddr]) -> Option<&Pool> {
        let pool = self.containing(*addresses.first()?)?;
        addresses.iter().all(|address| pool.contains(*address)).then_some(pool)
    }
}

impl Pool {
    fn compile(object: &IPAddressPool, reserved: &Reserved) -> Self {
        let spec = &object.spec;
        let mut findings = Vec::new();
        let mut ranges: Vec<IpRange> = Vec::with_capacity(spec.addresses.len());
        if spec.addresses.is_empty() {
            findings.push(Finding::Empty);
        }
        for (i, text) in spec.addresses.iter().enumerate() {
            match text.parse::<IpRange>() {
                Ok(range) => {
                    if ranges.iter().any(|other| other.overlaps(&range)) {
                        findings.push(Finding::Duplicate(format!("spec.addresses[{i}]"), text.clone()));
                    }
                    findings
                        .extend(reserved.overlaps(&range).map(|(part, what)| Finding::Reserved(part, what)));
                    ranges.push(range);
                }
                Err(error) => findings.push(Finding::Range(i, error)),
            }
        }
        let allocation = spec.service_allocation.as_ref().map(|to| Allocation::compile(to, &mut findings));
        let capacity = Capacity::of(&ranges, spec.avoid_buggy_ips, reserved);
        Self {
            name: object.name_any().into(),
            ranges,
            auto_assign: spec.auto_assign.unwrap_or(true),
            avoid_buggy: spec.avoid_buggy_ips,
            allocation,
            findings,
            capacity,
        }
    }

    /// Whether the pool gives new addresses: it has no fault.
    pub fn gives(&self) -> bool {
        !self.findings.iter().any(Finding::is_fault)
    }

    /// Whether a range is not understood, so that it is not known which addresses are the pool's.
    pub fn is_partly_known(&self) -> bool {
        self.findings.iter().any(|finding| matches!(finding, Finding::Range(..)))
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    pub fn has_family(&self, family: Family) -> bool {
        self.ranges.iter().any(|range| range.family() == family)
    }

    pub fn allows(&self, applicant: Applicant<'_>) -> bool {
        self.allocation.as_ref().is_none_or(|allocation| allocation.allows(applicant))
    }

    fn overlap(&self, younger: &Self) -> Option<Finding> {
        let pairs =
            self.ranges.iter().flat_map(|mine| younger.ranges.iter().map(move |theirs| (mine, theirs)));
        let mut clashes = pairs.filter(|(mine, theirs)| mine.overlaps(theirs));
        clashes.next().map(|(mine, theirs)| Finding::Overlap(*theirs, self.name.clone(), *mine))
    }
}

impl Allocation {
    fn compile(spec: &ServiceAllocation, findings: &mut Vec<Finding>) -> Self {
        let mut namespaces = BTreeSet::new();
        for name in &spec.namespaces {
            if !namespaces.insert(name.clone()) {
                findings
                    .push(Finding::Duplicate("spec.serviceAllocation.namespaces".to_owned(), name.clone()));
            }
        }
        let mut compile = |field: &'static str, selectors: &[LabelSelector]| {
            let field = format!("spec.serviceAllocation.{field}");
            if let Some(i) = (1..selectors.len()).find(|i| selectors[..*i].contains(&selectors[*i])) {
                findings.push(Finding::Duplicate(field.clone(), format!("entry {i}")));
            }
            Selector::compile_all(selectors).unwrap_or_else(|(i, error)| {
                findings.push(Finding::Selector(format!("{field}[{i}]"), error));
                Vec::new()
            })
        };
        let namespace_selectors = compile("namespaceSelectors", &spec.namespace_selectors);
        let service_selectors = compile("serviceSelectors", &spec.service_selectors);
        let by_namespace = !spec.namespaces.is_empty() || !spec.namespace_selectors.is_empty();
        Self { priority: spec.priority, by_namespace, namespaces, namespace_selectors, service_selectors }
    }

    fn allows(&self, applicant: Applicant<'_>) -> bool {
        let namespace = !self.by_namespace
            || self.namespaces.contains(applicant.namespace)
            || Selector::any(&self.namespace_selectors, applicant.namespace_labels);
        namespace
            && (self.service_selectors.is_empty() || Selector::any(&self.service_selectors, applicant.labels))
    }

    pub fn priority(&self) -> i64 {
        self.priority
    }
}

impl Capacity {
    fn of(ranges: &[IpRange], avoid_buggy: bool, reserved: &Reserved) -> Self {
        let mut count = [0u128; 2];
        for range in range::merge(ranges.to_vec()) {
            let lost: u128 = reserved.within(&range).map(|part| usable(&part, avoid_buggy)).sum();
            let family = &mut count[usize::from(range.family() == Family::V6)];
            *family = family.saturating_add(usable(&range, avoid_buggy).saturating_sub(lost));
        }
        let [v4, v6] =
            count.map(|n| if n >= 1 << 62 { i64::MAX } else { i64::try_from(n).unwrap_or(i64::MAX) });
        Self { v4, v6 }
    }
}

fn usable(range: &IpRange, avoid_buggy: bool) -> u128 {
    range.count() - if avoid_buggy { range.buggy_count() } else { 0 }
}

#[cfg(test)]
#[path = "pool/tests.rs"]
mod tests;
