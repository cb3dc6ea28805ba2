//! A certificate from whichever authority and by whichever proof works: in the order of the settings, but what worked last
//! comes first.

use causeway_daemon::config::Secret;
use parking_lot::Mutex;

use crate::answers::Answers;
use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::dns::persist::{Persist, Standing};
use crate::failure::{Failure, Kind};
use crate::proof::Prover;
use crate::settings::{Challenge, Settings, is_reserved};
use crate::storage::Shared;

#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) settings: Settings,
    pub(crate) authorities: Vec<Authority>,
    pub(crate) answers: Answers,
    /// The proof that worked last: a closed port 80 costs one failure, not one a name.
    proven: Mutex<Option<Challenge>>,
}

impl Issuer {
    pub(crate) fn new(settings: Settings, authorities: Vec<Authority>, answers: Answers) -> Self {
        Self { settings, authorities, answers, proven: Mutex::new(None) }
    }

    /// # Errors
    /// When no authority gave one: of their reasons the one that lets us try again the soonest.
    pub(crate) async fn issue(
        &self,
        name: &str,
        old: Option<&Certificate>,
        shared: Option<&dyn Shared>,
    ) -> Result<Certificate, Failure> {
        let mut failures = Vec::new();
        for authority in &self.authorities {
            if is_reserved(name) && authority.directory().is_public() {
                let reason = format!("no public authority signs `{name}`: it is no name of the Internet");
                failures.push(Failure::Impossible(reason));
                continue;
            }
            match self.issue_at(authority, name, old, shared).await {
                Ok(certificate) => return Ok(certificate),
                Err(failure) => failures.push(failure),
            }
        }
        let soonest = failures.into_iter().min_by_key(|failure| match failure.kind() {
            Kind::Passing | Kind::Awaited => (0, std::time::Duration::ZERO),
            Kind::Costly => (1, std::time::Duration::ZERO),
            Kind::NotBefore(wait) => (2, wait),
        });
        Err(soonest.unwrap_or_else(|| Failure::Impossible("no authority is configured".to_owned())))
    }

    /// Another proof is tried only where the authority looked and found no answer.
    async fn issue_at(
        &self,
        authority: &Authority,
        name: &str,
        old: Option<&Certificate>,
        shared: Option<&dyn Shared>,
    ) -> Result<Certificate, Failure> {
        let mut last = None;
        for challenge in self.challenges(name) {
            if challenge == Challenge::DnsPersist01
                && let Err(failure) = self.find_record(authority, name).await
            {
                last.get_or_insert(failure);
                continue;
            }
            let prover = Prover { challenge, answers: &self.answers, settings: &self.settings, shared };
            match authority.issue(name, old, &prover).await {
                Ok(certificate) => {
                    *self.proven.lock() = Some(challenge);
                    return Ok(certificate);
                }
                Err(failure @ Failure::Unproven { .. }) => {
                    tracing::info!(name, "{failure}");
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::Impossible(no_way(name))))
    }

    /// Takes the accounts that others made, where there is none of our own.
    pub(crate) async fn adopt(&self, accounts: &[(String, Secret)]) {
        for authority in &self.authorities {
            let kept = accounts.iter().find(|(directory, _)| *directory == authority.directory().url);
            if let Some((_, credentials)) = kept {
                authority.adopt(credentials).await;
            }
        }
    }

    /// Whether the first authority, which is asked for all, knows us.
    pub(crate) async fn has_account(&self) -> bool {
        match self.authorities.first() {
            Some(authority) => authority.has_account().await,
            None => true,
        }
    }

    /// What is to be put into DNS for DNS-PERSIST-01, at the first authority.
    pub(crate) async fn persist(&self, name: &str) -> Result<Persist, Failure> {
        match self.authorities.first() {
            Some(authority) => authority.persist(name).await,
            None => Err(Failure::Impossible("no authority is configured".to_owned())),
        }
    }

    /// Whether that is there. Nobody but us is asked: an order in vain would count.
    async fn find_record(&self, authority: &Authority, name: &str) -> Result<(), Failure> {
        let wanted = authority.persist(name).await?;
        let now = crate::unix_now().try_into().unwrap_or_default();
        let reason = match wanted.look_up(&self.settings.resolvers, now).await {
            Ok(Standing::Ready { .. }) => return Ok(()),
            Ok(Standing::Missing) => format!("there is no record {}", wanted.name()),
            Ok(Standing::Useless(reason)) => format!("the record {} does not serve: {reason}", wanted.name()),
            Err(error) => error.to_string(),
        };
        Err(Failure::NoRecord { record: wanted.zone_line(), reason })
    }

    fn challenges(&self, name: &str) -> Vec<Challenge> {
        let mut all = self.settings.challenges_for(name);
        if let Some(proven) = *self.proven.lock() {
            all.sort_by_key(|challenge| *challenge != proven);
        }
        all
    }
}

/// Why nothing can be ordered for a name.
pub(crate) fn no_way(name: &str) -> String {
    if name.starts_with("*.") {
        format!(
            "`{name}` is a wildcard, which is proved by DNS alone: set up `acme.dns`, or order single names"
        )
    } else {
        format!(
            "there is no way to prove whose `{name}` is: ports 80 and 443 are off, and no DNS method is set up"
        )
    }
}
