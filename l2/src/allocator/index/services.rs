//! Services in the index: what was seen, what was decided, what is to be written.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;

use super::rivals::Rival;
use super::{Forgotten, Index, Note};
use crate::allocate::{Change, Decision, Holding, Request, ServiceKey, Trouble};
use crate::allocator::observe::Observed;
use crate::allocator::patch::{Desired, ServicePatch};
use crate::version::is_older;

/// The wait after a failed write, doubled each time.
const RETRY_BASE: Duration = Duration::from_millis(250);
const RETRY_CAP: Duration = Duration::from_secs(60);
/// A conflict means that an update is on its way; should it not come, the write is tried again after this.
const CONFLICT_WAIT: Duration = Duration::from_secs(2);

/// One Service.
#[derive(Debug)]
pub(in crate::allocator) struct Entry {
    pub(in crate::allocator) observed: Observed,
    /// The last warning sent, so that the same one is not sent again.
    said: Option<String>,
    /// Why it has not what it asks for, for its condition.
    trouble: Option<String>,
    writing: Option<Desired>,
    /// The version that our last write made: what is older was seen before that write.
    written: Option<String>,
    failures: u32,
    pub(super) not_before: Option<Instant>,
    warned_deprecated: bool,
    /// Somebody else who writes what is ours.
    pub(super) rival: Option<Box<Rival>>,
    /// Whether the condition that a former leader left about a rival was taken over.
    pub(super) rival_inherited: bool,
    /// When the update came that led to the write that is due, for the histogram.
    since: Instant,
}

/// How a write ended.
#[derive(Debug)]
pub(in crate::allocator) enum Outcome {
    /// The object's version now.
    Written(String),
    /// Somebody else has written since we looked.
    Conflict,
    Gone,
    Failed,
}

impl Entry {
    pub(super) fn forget_writes(&mut self) {
        (self.said, self.trouble, self.writing, self.not_before) = (None, None, None, None);
        (self.failures, self.rival, self.rival_inherited) = (0, None, false);
        let addresses = self.observed.ingress.iter().filter_map(|ip| ip.parse().ok());
        self.observed.request.held = addresses.map(|ip: IpAddr| ip.to_canonical()).collect();
    }

    fn desired(&self, holding: Option<&Holding>) -> Desired {
        let rival = self.rival.as_ref().and_then(|rival| rival.message());
        Desired::new(holding, self.trouble.as_deref(), rival, &self.observed)
    }

    pub(super) fn is_contested(&self) -> bool {
        self.rival.as_ref().is_some_and(|rival| rival.message().is_some())
    }

    pub(super) fn object(&self, key: &ServiceKey) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(key.namespace().to_owned()),
            name: Some(key.name().to_owned()),
            uid: Some(self.observed.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

impl Index {
    pub(super) fn service(&mut self, mut observed: Observed, now: Instant) {
        let key = observed.key().clone();
        observed.request.namespace_labels = self.namespaces.get(key.namespace()).cloned().unwrap_or_default();
        let Some(entry) = self.services.get_mut(&key) else {
            self.dirty.insert(key.clone());
            let entry = Entry {
                observed,
                said: None,
                trouble: None,
                writing: None,
                written: None,
                failures: 0,
                not_before: None,
                warned_deprecated: false,
                rival: None,
                rival_inherited: false,
                since: now,
            };
            self.services.insert(key, entry);
            return;
        };
        if entry.observed.uid != observed.uid {
            // Deleted and made again between two looks.
            self.service_gone(&key.to_string(), None, now);
            return self.service(observed, now);
        }
        if entry.written.as_ref().is_some_and(|written| is_older(&observed.resource_version, written)) {
            return;
        }
        let alone = self.is_left_alone(&key, &observed);
        let Some(entry) = self.services.get_mut(&key) else { return };
        let mut replaced = false;
        if self.leading && !alone {
            // What was decided counts, not how far its write has come.
            observed.request.held = std::mem::take(&mut entry.observed.request.held);
            let holding = self.table.holding(&key);
            replaced = Desired::stands(holding, &entry.observed) && !Desired::stands(holding, &observed);
        }
        entry.observed = observed;
        entry.since = now;
        if !entry.is_contested()
            && let Some(at) = entry.not_before.take()
        {
            self.retries.remove(&(at, key.clone()));
        }
        if replaced {
            self.replaced(&key, now);
        }
        self.dirty.insert(key);
    }

    /// A Service went out of sight; `version` is that of the object in which it did, where that is known.
    pub(super) fn service_gone(&mut self, key: &str, version: Option<String>, now: Instant) {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let key = ServiceKey::new(namespace, name);
        let Some(entry) = self.services.remove(&key) else { return };
        self.freed |= self.table.release(&key, now);
        self.dirty.remove(&key);
        self.waiting.remove(&key);
        self.to_write.remove(&key);
        if let Some(at) = entry.not_before {
            self.retries.remove(&(at, key.clone()));
        }
        if let Some(rival) = &entry.rival {
            self.contested.remove(&(rival.peace_at(), key.clone()));
        }
        if self.leading && entry.observed.noted_pool.is_some() {
            self.forgotten.push(Forgotten { key, uid: entry.observed.uid, version });
        }
    }

    /// Decides the Services in turn: who holds an address first, then the older ones.
    pub(super) fn decide_all(&mut self, keys: BTreeSet<ServiceKey>, now: Instant) {
        let mut turns: Vec<(bool, i64, ServiceKey)> = keys
            .into_iter()
            .filter_map(|key| {
                let request = &self.services.get(&key)?.observed.request;
                Some((request.held.is_empty() && self.table.holding(&key).is_none(), request.created, key))
            })
            .collect();
        turns.sort_unstable();
        for (_, _, key) in turns {
            self.decide(&key, now);
        }
    }

    fn decide(&mut self, key: &ServiceKey, now: Instant) {
        self.inherit(key, now);
        let Some(entry) = self.services.get(key) else { return };
        if self.is_left_alone(key, &entry.observed) {
            self.waiting.remove(key);
            self.to_write.remove(key);
            return;
        }
        let request = &entry.observed.request;
        let holds = self.table.holding(key).is_some() || !request.held.is_empty();
        let before = self.table.holding(key).cloned();
        let mut problem = None;
        let decision = match &entry.observed.unclear {
            None => self.table.decide(request, now),
            Some(unclear) => {
                problem = Some((unclear.event(holds), unclear.to_string()));
                if unclear.clears() || !holds {
                    self.freed |= self.table.lose(key, now);
                    Decision { holding: None, change: Change::None, trouble: None }
                } else {
                    // It asks for something that cannot be read: what it has stays.
                    let content = Request { pool: None, addresses: Vec::new(), ..request.clone() };
                    self.table.decide(&content, now)
                }
            }
        };
        // One who waits may fit now: an address was left, or its holder's terms of sharing are others.
        let same = before.is_none_or(|before| decision.holding.as_ref() == Some(&before));
        self.freed |= !same || matches!(decision.change, Change::Replaced(_) | Change::Cleared(_));
        if let Some(entry) = self.services.get_mut(key) {
            // A war is about the old decision: a new one does not wait for its end.
            if decision.change != Change::None
                && entry.is_contested()
                && let Some(at) = entry.not_before.take()
            {
                self.retries.remove(&(at, key.clone()));
            }
            let held = decision.holding.as_ref().map(|holding| holding.addresses.clone());
            entry.observed.request.held = held.unwrap_or_default();
        }
        if let Some(Trouble::Allocation(failure)) = &decision.trouble {
            problem.get_or_insert_with(|| {
                ("AllocationFailed", format!("Failed to allocate IP for \"{key}\": {failure}"))
            });
        }
        let wants_more = problem.is_some() || decision.trouble.is_some();
        if wants_more {
            self.waiting.insert(key.clone())
        } else {
            self.waiting.remove(key)
        };
        self.tell(key, &decision, problem);
        self.mark(key);
    }

    /// Events, under MetalLB's names; each once.
    fn tell(&mut self, key: &ServiceKey, decision: &Decision, problem: Option<(&'static str, String)>) {
        let Some(entry) = self.services.get_mut(key) else { return };
        let object = entry.object(key);
        let mut note = |warning, reason, message| {
            self.notes.push(Note { object: object.clone(), warning, reason, message });
        };
        if entry.observed.deprecated && !std::mem::replace(&mut entry.warned_deprecated, true) {
            let message = "annotations under metallb.universe.tf/ are deprecated: use metallb.io/";
            note(true, "deprecatedAnnotation", message.to_owned());
        }
        if let Change::Replaced(reason) | Change::Cleared(reason) = &decision.change {
            let message = format!(
                "current IP for \"{key}\" not allowed by config, will attempt for new IP assignment: {reason}"
            );
            note(false, "ClearAssignment", message);
        }
        match (&decision.change, &decision.holding) {
            (Change::Granted | Change::Replaced(_), Some(holding)) => {
                let quoted: Vec<String> =
                    holding.addresses.iter().map(|address| format!("\"{address}\"")).collect();
                note(false, "IPAllocated", format!("Assigned IP [{}]", quoted.join(" ")));
            }
            (Change::Extended(address), _) => {
                note(false, "IPAllocated", format!("Assigned additional IP \"{address}\""));
            }
            _ => {}
        }
        entry.trouble = problem.as_ref().map(|(_, message)| message.clone());
        let said = match (problem, &decision.trouble) {
            (Some((reason, message)), _) => Some((true, reason, message)),
            (None, Some(Trouble::Additional(failure))) => {
                let message = format!("cannot assign additional IP in PreferDualStack: {failure}");
                Some((false, "AdditionalAssignFailed", message))
            }
            _ => None,
        };
        let text = said.as_ref().map(|(_, _, message)| message.clone());
        if let Some((warning, reason, message)) = said.filter(|_| entry.said != text) {
            note(warning, reason, message);
        }
        entry.said = text;
    }

    /// Queues a write if what is seen is not what was decided.
    pub(super) fn mark(&mut self, key: &ServiceKey) {
        let Some(entry) = self.services.get(key) else { return };
        let desired = entry.desired(self.table.holding(key));
        if desired.is_in(&entry.observed) {
            self.to_write.remove(key);
        } else {
            self.to_write.insert(key.clone());
        }
    }

    /// The next writes, at most `limit`; each Service has one under way at a time.
    pub(in crate::allocator) fn next_writes(&mut self, limit: usize, now: Instant) -> Vec<ServicePatch> {
        while let Some((at, key)) = self.retries.first().filter(|(at, _)| *at <= now).cloned() {
            self.retries.remove(&(at, key.clone()));
            if let Some(entry) = self.services.get_mut(&key) {
                entry.not_before = None;
            }
        }
        let mut writes = Vec::new();
        let due: Vec<ServiceKey> = self
            .to_write
            .iter()
            .filter(|key| {
                self.services
                    .get(*key)
                    .is_some_and(|entry| entry.writing.is_none() && entry.not_before.is_none())
            })
            .take(limit)
            .cloned()
            .collect();
        for key in due {
            self.to_write.remove(&key);
            let Some(entry) = self.services.get_mut(&key) else { continue };
            let desired = entry.desired(self.table.holding(&key));
            writes.push(desired.patch(key, &entry.observed, entry.since));
            entry.writing = Some(desired);
        }
        writes
    }

    /// Takes in how a write ended.
    pub(in crate::allocator) fn wrote(&mut self, key: &ServiceKey, outcome: Outcome, now: Instant) {
        let Some(entry) = self.services.get_mut(key) else { return };
        let Some(desired) = entry.writing.take() else { return };
        let wait = match outcome {
            Outcome::Written(version) => {
                // A newer version may have come by the watch before the answer to the write: that one counts.
                if !is_older(&version, &entry.observed.resource_version) {
                    desired.apply_to(&mut entry.observed);
                    entry.observed.resource_version.clone_from(&version);
                }
                entry.written = Some(version);
                entry.failures = 0;
                None
            }
            Outcome::Gone => return,
            Outcome::Conflict => Some(CONFLICT_WAIT),
            Outcome::Failed => {
                entry.failures = entry.failures.saturating_add(1);
                let factor = 1u32 << entry.failures.min(10);
                Some(RETRY_BASE.saturating_mul(factor).min(RETRY_CAP))
            }
        };
        if let Some(wait) = wait {
            // A longer wait, for a rival that writes as well, stands.
            let known = entry.not_before.take();
            let at = known.map_or(now + wait, |known| known.max(now + wait));
            if let Some(known) = known {
                self.retries.remove(&(known, key.clone()));
            }
            entry.not_before = Some(at);
            self.retries.insert((at, key.clone()));
        }
        self.mark(key);
    }
}
