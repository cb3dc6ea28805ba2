//! One name: its certificate, and when something is to be done about it. Pure.

use std::sync::Arc;

use rand::Rng;

use crate::certificate::Certificate;
use crate::failure::Failure;
use crate::schedule::retry_in;
use crate::storage::NameRecord;
use crate::view::{State, View};

#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) record: NameRecord,
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// Somebody announces the name now.
    pub(crate) is_wanted: bool,
    /// An order is under way.
    pub(crate) is_under_way: bool,
    /// Another program orders it now: it is asked about again then.
    pub(crate) elsewhere_until: i64,
    /// Of the certificate that is there.
    pub(crate) renew_at: i64,
    /// When to ask the authority again what it advises.
    pub(crate) advice_at: i64,
}

/// Of a renewal that waits for nothing more.
pub(crate) const AT_ONCE: i64 = 0;

/// How long after it could have been tried again a failure is forgotten.
const REMEMBERED: i64 = 86_400;

impl Entry {
    pub(crate) fn of(name: &str) -> Self {
        Self { record: NameRecord { name: name.to_owned(), ..NameRecord::default() }, ..Self::default() }
    }

    /// Takes a certificate, as it came or as it was kept.
    pub(crate) fn take(&mut self, certificate: Arc<Certificate>, rng: &mut impl Rng) {
        self.renew_at = certificate.term().renew_at(None, rng);
        // Soon: whoever was away for long may have missed that it is to be replaced.
        self.advice_at = certificate.issued_at;
        self.certificate = Some(certificate);
    }

    /// When to order: None while nothing is to be ordered.
    pub(crate) fn due_at(&self) -> Option<i64> {
        if self.is_under_way {
            return None;
        }
        let at = match &self.certificate {
            Some(_) => self.renew_at,
            None if self.is_wanted || self.record.is_added => 0,
            None => return None,
        };
        Some(at.max(self.record.next_try.unwrap_or(0)).max(self.elsewhere_until))
    }

    /// An attempt was made in vain.
    pub(crate) fn failed(&mut self, failure: &Failure, now: i64, rng: &mut impl Rng) {
        self.record.failures = self.record.failures.saturating_add(1);
        let wait = retry_in(self.record.failures, failure.kind(), rng);
        self.record.next_try = Some(now.saturating_add_unsigned(wait.as_secs().max(1)));
        self.record.last_error = Some(failure.to_string());
    }

    /// All failures are over.
    pub(crate) fn succeeded(&mut self) {
        (self.record.failures, self.record.next_try, self.record.last_error) = (0, None, None);
    }

    /// Orders at once, whatever was before.
    pub(crate) fn hurry(&mut self) {
        (self.record.failures, self.record.next_try) = (0, None);
        (self.renew_at, self.elsewhere_until) = (AT_ONCE, 0);
    }

    /// Whether nobody has use for it any more. What failed is remembered for a while: a name that comes and goes must not be
    /// ordered each time.
    pub(crate) fn is_idle(&self, now: i64) -> bool {
        let is_used =
            self.certificate.is_some() || self.is_wanted || self.record.is_added || self.is_under_way;
        !is_used && self.record.next_try.is_none_or(|at| at + REMEMBERED < now)
    }

    pub(crate) fn view(&self, now: i64) -> View {
        let certificate = self.certificate.as_deref();
        let state = match certificate {
            Some(certificate) if certificate.not_after <= now => State::Expired,
            Some(_) if self.record.failures > 0 => State::Failing,
            Some(_) => State::Valid,
            None if self.record.failures > 0 => State::Failed,
            None => State::Ordering,
        };
        View {
            name: self.record.name.clone(),
            state,
            directory: certificate.map(|certificate| certificate.directory.clone()),
            not_before: certificate.map(|certificate| certificate.not_before),
            not_after: certificate.map(|certificate| certificate.not_after),
            renew_at: certificate.map(|_| self.renew_at),
            failures: self.record.failures,
            next_try: self.record.next_try,
            last_error: self.record.last_error.clone(),
            added: self.record.is_added,
            announced: self.is_wanted,
            under_way: self.is_under_way,
        }
    }
}

#[cfg(test)]
mod tests {
    use causeway_daemon::config::Secret;

    use super::*;

    fn certificate() -> Arc<Certificate> {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let taken = Certificate::new("a.example", "d", made.cert.pem(), Secret::new("k"), 1_700_000_000);
        Arc::new(taken.unwrap())
    }

    #[test]
    fn a_name_is_ordered_when_somebody_wants_it_and_renewed_when_it_is_time() {
        let mut entry = Entry::of("a.example");
        assert_eq!(entry.due_at(), None);
        assert!(entry.is_idle(0));
        entry.record.next_try = Some(1000);
        assert!(!entry.is_idle(2000) && entry.is_idle(100_000), "a failure is remembered for a day");
        entry.record.next_try = None;
        entry.is_wanted = true;
        assert_eq!(entry.due_at(), Some(0));
        entry.is_under_way = true;
        assert_eq!(entry.due_at(), None);
        entry.is_under_way = false;
        entry.take(certificate(), &mut rand::rng());
        assert_eq!(entry.due_at(), Some(entry.renew_at));
        entry.hurry();
        assert_eq!(entry.due_at(), Some(0));
    }

    #[test]
    fn hazard_165_a_failure_delays_the_next_attempt_and_keeps_the_certificate() {
        let mut entry = Entry::of("a.example");
        entry.take(certificate(), &mut rand::rng());
        entry.renew_at = 0;
        let failure = Failure::Unreachable { directory: "d".to_owned(), reason: "gone".to_owned() };
        entry.failed(&failure, 1000, &mut rand::rng());
        assert!(entry.due_at() > Some(1000) && entry.certificate.is_some());
        let view = entry.view(1_700_000_100);
        assert_eq!((view.state, view.failures), (State::Failing, 1));
        assert!(view.last_error.unwrap().contains("gone"));
        entry.succeeded();
        assert_eq!(entry.view(1_700_000_100).state, State::Valid);
        assert_eq!(entry.view(i64::MAX).state, State::Expired);
    }
}
