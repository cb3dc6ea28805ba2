//! What the index does about Services that somebody else writes as well: see [`super::rivals`].

use std::time::Instant;

use super::rivals::{self, Answer, Rival};
use super::{Index, Note};
use crate::allocate::ServiceKey;
use crate::allocator::observe::Observed;
use crate::api::conditions;
use crate::pool::Pool;

impl Index {
    /// Somebody has written over what is ours.
    pub(super) fn replaced(&mut self, key: &ServiceKey, now: Instant) {
        let Some(entry) = self.services.get_mut(key) else { return };
        let before = entry.rival.as_ref().map(|rival| (rival.peace_at(), key.clone()));
        let (answer, begins) = Rival::replaced(&mut entry.rival, now, &mut self.chance);
        let Some(rival) = &mut entry.rival else { return };
        if begins {
            let holding = self.table.holding(key);
            let ours: Vec<String> =
                holding.iter().flat_map(|one| &one.addresses).map(ToString::to_string).collect();
            let text =
                rivals::describe(entry.observed.other_writer.as_deref(), &entry.observed.ingress, &ours);
            rival.tell(text.clone());
            let object = entry.object(key);
            self.notes.push(Note { object, warning: true, reason: "StatusContested", message: text });
        }
        if entry.is_contested() {
            if let Some(before) = before {
                self.contested.remove(&before);
            }
            self.contested.extend(entry.rival.as_ref().map(|rival| (rival.peace_at(), key.clone())));
        }
        if let Answer::After(wait) = answer {
            let at = now + wait;
            if let Some(old) = entry.not_before.replace(at) {
                self.retries.remove(&(old, key.clone()));
            }
            self.retries.insert((at, key.clone()));
        }
    }

    /// Ends the wars in which nothing has happened for long.
    pub(super) fn make_peace(&mut self, now: Instant) {
        while let Some((_, key)) = self.contested.first().filter(|(at, _)| *at <= now).cloned() {
            self.contested.pop_first();
            if let Some(entry) = self.services.get_mut(&key) {
                entry.rival = None;
                self.mark(&key);
            }
        }
    }

    /// Whether the Service has an address from somebody else while there is no pool that could judge it: until there
    /// is one, it is nobody's business here.
    pub(super) fn is_left_alone(&self, key: &ServiceKey, observed: &Observed) -> bool {
        !observed.ingress.is_empty()
            && observed.request.held_from.is_none()
            && self.table.holding(key).is_none()
            && !self.table.pools().iter().any(Pool::gives)
    }

    /// Takes over the war that a former leader told of in a condition, once.
    pub(super) fn inherit(&mut self, key: &ServiceKey, now: Instant) {
        let Some(entry) = self.services.get_mut(key) else { return };
        if std::mem::replace(&mut entry.rival_inherited, true) {
            return;
        }
        let mut conditions = entry.observed.conditions.iter();
        let Some(told) = conditions.find(|one| one.type_ == conditions::STATUS_CONTESTED) else { return };
        let rival = Rival::inherited(&told.message, now);
        self.contested.insert((rival.peace_at(), key.clone()));
        entry.rival = Some(Box::new(rival));
    }
}
