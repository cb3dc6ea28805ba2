//! Gives an answer where the authority will look for it, and takes it away again.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::answers::{Answers, Outstanding};
use crate::dns::{DnsSolver, challenge_name};
use crate::settings::{Challenge, Settings};
use crate::storage::{LOOK_INTERVAL, Posted, Shared};

/// How one order proves whose its name is.
#[derive(Clone, Copy)]
pub(crate) struct Prover<'a> {
    pub(crate) challenge: Challenge,
    pub(crate) answers: &'a Answers,
    pub(crate) settings: &'a Settings,
    /// Where the authority may ask other programs, too.
    pub(crate) shared: Option<&'a dyn Shared>,
}

/// What the authority asked for.
pub(crate) struct Question {
    /// Without a `*.` before it.
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) key_authorization: String,
    pub(crate) digest: Vec<u8>,
    pub(crate) dns_value: String,
}

/// An answer that stands until it is withdrawn; those at our own ports also end when it is dropped.
pub(crate) enum Answer<'a> {
    Here(#[expect(dead_code, reason = "held for its drop")] Outstanding),
    Dns {
        solver: &'a dyn DnsSolver,
        record: String,
        value: String,
    },
    /// It stands in DNS for as long as its owner likes.
    Standing,
}

/// Records are seen by all of a zone's servers within seconds to minutes.
const DNS_TIMEOUT: Duration = Duration::from_secs(300);

/// Until every program has looked: the look itself takes time as well.
const SPREAD: Duration = LOOK_INTERVAL.saturating_mul(3);

impl<'a> Prover<'a> {
    /// # Errors
    /// Says why the answer cannot be given.
    pub(crate) async fn give(&self, question: Question) -> Result<Answer<'a>, String> {
        let Question { name, token, key_authorization, digest, dns_value } = question;
        match self.challenge {
            Challenge::Http01 => {
                let here = self.answers.add_http(&name, &token, &key_authorization);
                self.post(Posted::Http { name, token, text: key_authorization }).await?;
                Ok(Answer::Here(here))
            }
            Challenge::TlsAlpn01 => {
                let here = self.answers.add_tls(&name, &digest).map_err(|error| error.to_string())?;
                self.post(Posted::Tls { name, digest }).await?;
                Ok(Answer::Here(here))
            }
            // Looked for before the order was made.
            Challenge::DnsPersist01 => Ok(Answer::Standing),
            Challenge::Dns01 => {
                let solver = self.settings.dns.as_deref().ok_or("no way to set DNS records is configured")?;
                let record = challenge_name(&name);
                let given = timeout(DNS_TIMEOUT, solver.present(&record, &dns_value)).await;
                match given {
                    Ok(Ok(())) => Ok(Answer::Dns { solver, record, value: dns_value }),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("{record} was not set within {} s", DNS_TIMEOUT.as_secs())),
                }
            }
        }
    }

    /// Returns when the others have it: an authority that asks too early asks no second time.
    async fn post(&self, answer: Posted) -> Result<(), String> {
        let Some(shared) = self.shared else { return Ok(()) };
        match shared.post(&answer).await {
            Ok(true) => sleep(SPREAD).await,
            Ok(false) => return Err("another edge took the order over".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }
}

impl Answer<'_> {
    /// A record that stays behind does no harm: that it could not be removed is only said.
    pub(crate) async fn withdraw(self) {
        let Self::Dns { solver, record, value } = self else { return };
        match timeout(DNS_TIMEOUT, solver.remove(&record, &value)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(record, "cannot remove a challenge's record: {error}"),
            Err(_) => tracing::warn!(record, "removing a challenge's record takes too long"),
        }
    }
}
