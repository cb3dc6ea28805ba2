//! One account at one authority, in the words of instant-acme, which nothing else here knows.
//!
//! ```text
//!   new-order ─→ authorization ─→ (answer given) ─→ challenge ready ─→ order ready ─→ CSR ─→ chain
//! ```

use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use causeway_daemon::config::Secret;
use http::Request;
use http::header::USER_AGENT;
use http_body_util::{BodyExt, Full};
use instant_acme::{
    AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, CertificateIdentifier,
    ChallengeType, Error, ExternalAccountKey, HttpClient, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::CertificateDer;

use crate::dns::persist::{self, Persist};
use crate::failure::Failure;
use crate::http::Http;
use crate::proof::{Answer, Prover, Question};
use crate::settings::Challenge;

pub(crate) struct Account {
    account: instant_acme::Account,
    directory: String,
    http: Arc<Http>,
}

/// What is ordered.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// A host name, or `*.` and one.
    pub(crate) name: &'a str,
    pub(crate) profile: Option<&'a str>,
    /// The certificate that this one takes over from.
    pub(crate) replaces: Option<&'a CertificateDer<'static>>,
}

/// Why an account or an order came to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The authority does not know the account any more.
    NoAccount,
    Failure(Failure),
}

/// A CSR is signed within seconds; validation from several places takes up to a minute.
const POLLS: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));
/// Who asks, where the protocol's crate does not (RFC 8555 §6.1).
pub(crate) const OURSELVES: &str = concat!("causeway-acme/", env!("CARGO_PKG_VERSION"));
/// Where a rate limit does not say how long it lasts.
const LIMITED: Duration = Duration::from_secs(3600);
/// Where the authority does not say when to ask again for its advice.
const ADVICE_EVERY: Duration = Duration::from_secs(6 * 3600);

impl Account {
    /// Makes a new account. The secret is what [`Account::restore`] takes.
    pub(crate) async fn create(
        directory: &str,
        http: Arc<Http>,
        contact: &[String],
        eab: Option<(String, Vec<u8>)>,
    ) -> Result<(Self, Secret), Trouble> {
        let contact: Vec<String> = contact.iter().map(|address| format!("mailto:{address}")).collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let eab = eab.map(|(id, key)| ExternalAccountKey::new(id, &key));
        let builder = instant_acme::Account::builder_with_http(Box::new(Line(Arc::clone(&http))));
        let made = builder.create(&new, directory.to_owned(), eab.as_ref()).await;
        let (account, credentials) = made.map_err(|error| trouble(directory, &http, error))?;
        let secret = serde_json::to_string(&credentials).map_err(|error| refused(directory, &error))?;
        Ok((Self { account, directory: directory.to_owned(), http }, Secret::new(secret)))
    }

    pub(crate) async fn restore(directory: &str, http: Arc<Http>, secret: &Secret) -> Result<Self, Trouble> {
        let credentials: AccountCredentials =
            serde_json::from_str(secret.expose()).map_err(|error| refused(directory, &error))?;
        let builder = instant_acme::Account::builder_with_http(Box::new(Line(Arc::clone(&http))));
        let account = builder.from_credentials(credentials).await;
        let account = account.map_err(|error| trouble(directory, &http, error))?;
        Ok(Self { account, directory: directory.to_owned(), http })
    }

    /// Orders a certificate: gives the chain and the key that was made for it, both in PEM.
    pub(crate) async fn order(
        &self,
        wanted: Wanted<'_>,
        prover: &Prover<'_>,
    ) -> Result<(String, Secret), Trouble> {
        let mut order = self.open(wanted).await?;
        let mut answers = Vec::new();
        let proved = self.prove(&mut order, prover, &mut answers).await;
        for answer in answers {
            answer.withdraw().await;
        }
        proved?;
        let key = KeyPair::generate().map_err(|error| refused(&self.directory, &error))?;
        let mut params = CertificateParams::new(vec![wanted.name.to_owned()])
            .map_err(|error| refused(&self.directory, &error))?;
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key).map_err(|error| refused(&self.directory, &error))?;
        order.finalize_csr(csr.der()).await.map_err(|error| self.trouble(error))?;
        let chain = order.poll_certificate(&POLLS).await.map_err(|error| self.trouble(error))?;
        Ok((chain, Secret::new(key.serialize_pem())))
    }

    /// What the record must say that lets this account have certificates for a name (DNS-PERSIST-01).
    pub(crate) async fn persist(&self, name: &str) -> Result<Persist, Trouble> {
        let request = Request::get(&self.directory).header(USER_AGENT, OURSELVES).body(Bytes::new());
        let request = request.map_err(|error| refused(&self.directory, &error))?;
        let unreachable = |reason: String| {
            Trouble::Failure(Failure::Unreachable { directory: self.directory.clone(), reason })
        };
        let answer = self.http.send(request).await.map_err(|error| unreachable(error.to_string()))?;
        // The protocol's crate keeps neither this nor the `issuer-domain-names` of the challenge, which are the same names.
        let directory: serde_json::Value =
            serde_json::from_slice(answer.body()).map_err(|error| unreachable(error.to_string()))?;
        let issuer = directory["meta"]["caaIdentities"][0].as_str();
        let issuer = issuer.ok_or_else(|| {
            refused(&self.directory, &"its directory does not say how it calls itself (`caaIdentities`)")
        })?;
        Persist::new(name, issuer, self.account.id(), None).map_err(|error| refused(&self.directory, &error))
    }

    /// When the authority would like a certificate to be renewed, in Unix seconds, where it says that; and in how long to
    /// ask again.
    pub(crate) async fn advice(
        &self,
        leaf: &CertificateDer<'static>,
    ) -> (Option<RangeInclusive<i64>>, Duration) {
        let Ok(id) = CertificateIdentifier::try_from(leaf) else { return (None, ADVICE_EVERY) };
        match self.account.renewal_info(&id).await {
            Ok((info, again)) => {
                let window = info.suggested_window;
                (Some(window.start.unix_timestamp()..=window.end.unix_timestamp()), again)
            }
            Err(error) => {
                tracing::debug!(directory = self.directory, %error, "no advice on renewal");
                (None, ADVICE_EVERY)
            }
        }
    }

    async fn open(&self, wanted: Wanted<'_>) -> Result<Order, Trouble> {
        let identifiers = [Identifier::Dns(wanted.name.to_owned())];
        let mut new = NewOrder::new(&identifiers);
        if let Some(profile) = wanted.profile {
            let offered: Vec<&str> = self.account.profiles().map(|profile| profile.name).collect();
            if !offered.contains(&profile) {
                let reason = format!("it has no profile `{profile}`; it offers: {}", offered.join(", "));
                return Err(refused(&self.directory, &reason));
            }
            new = new.profile(profile);
        }
        let replaced = wanted.replaces.and_then(|leaf| CertificateIdentifier::try_from(leaf).ok());
        if let Some(id) = replaced {
            let mut replacing = NewOrder::new(&identifiers).replaces(id);
            if let Some(profile) = wanted.profile {
                replacing = replacing.profile(profile);
            }
            match self.account.new_order(&replacing).await {
                Ok(order) => return Ok(order),
                Err(error) if is_of_account_or_line(&error) => return Err(self.trouble(error)),
                // It cannot take over, or has already: then it is an order as any other.
                Err(error) => tracing::debug!(directory = self.directory, %error, "ordering anew instead"),
            }
        }
        self.account.new_order(&new).await.map_err(|error| self.trouble(error))
    }

    async fn prove<'a>(
        &self,
        order: &mut Order,
        prover: &Prover<'a>,
        answers: &mut Vec<Answer<'a>>,
    ) -> Result<(), Trouble> {
        let unproven = |reason: String| {
            let (directory, challenge) = (self.directory.clone(), prover.challenge);
            Trouble::Failure(Failure::Unproven { directory, challenge, reason })
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.trouble(error))?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                other => {
                    return Err(refused(&self.directory, &format!("its authorization is {other:?}")));
                }
            }
            let Some(mut challenge) = authorization.challenge(of(prover.challenge)) else {
                return Err(unproven("it does not offer that for this name".to_owned()));
            };
            let Identifier::Dns(name) = challenge.identifier().identifier else {
                return Err(refused(&self.directory, &"it asks about something that is no name"));
            };
            let authorization = challenge.key_authorization();
            let question = Question {
                name: name.clone(),
                token: challenge.token.clone(),
                key_authorization: authorization.as_str().to_owned(),
                digest: authorization.digest().as_ref().to_vec(),
                dns_value: authorization.dns_value(),
            };
            answers.push(prover.give(question).await.map_err(unproven)?);
            challenge.set_ready().await.map_err(|error| self.trouble(error))?;
        }
        let outcome = order.poll_ready(&POLLS).await;
        match outcome {
            Ok(OrderStatus::Ready) => Ok(()),
            Ok(_) | Err(Error::Api(_)) => {
                let reason = complaint(order).await;
                let said = || match outcome {
                    Err(error) => error.to_string(),
                    Ok(_) => "it does not say why".to_owned(),
                };
                Err(unproven(reason.unwrap_or_else(said)))
            }
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn trouble(&self, error: Error) -> Trouble {
        trouble(&self.directory, &self.http, error)
    }
}

/// What the authority found instead of our answer.
async fn complaint(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(said(problem));
        }
    }
    None
}

fn of(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Dns01 => ChallengeType::Dns01,
        Challenge::DnsPersist01 => ChallengeType::Unknown(persist::CHALLENGE.to_owned()),
    }
}

/// The type of a problem without its common beginning.
fn word(problem: &Problem) -> &str {
    problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default()
}

fn said(problem: &Problem) -> String {
    let parts: Vec<String> = problem.subproblems.iter().map(ToString::to_string).collect();
    let detail = problem.detail.as_deref().unwrap_or("no reason given");
    let text = format!(
        "{detail} ({}){}{}",
        word(problem),
        if parts.is_empty() { "" } else { ": " },
        parts.join("; ")
    );
    // It is the authority's text: one line of bounded length is enough for a log.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}

const MAX_REASON: usize = 500;

/// Whether another order would meet the same.
fn is_of_account_or_line(error: &Error) -> bool {
    match error {
        Error::Api(problem) => {
            problem.status.is_some_and(|status| status >= 500)
                || matches!(word(problem), "accountDoesNotExist" | "rateLimited" | "unauthorized")
        }
        Error::Unsupported(_) => false,
        Error::Other(cause) => cause.is::<crate::http::HttpError>(),
        _ => true,
    }
}

fn trouble(directory: &str, http: &Http, error: Error) -> Trouble {
    let directory = directory.to_owned();
    let failure = match error {
        Error::Api(problem) => match word(&problem) {
            "accountDoesNotExist" => return Trouble::NoAccount,
            "rateLimited" => Failure::Limited {
                directory,
                wait: http.limited().unwrap_or(LIMITED),
                reason: said(&problem),
            },
            _ if problem.status.is_some_and(|status| status >= 500) => {
                Failure::Unreachable { directory, reason: said(&problem) }
            }
            _ => Failure::Refused { directory, reason: said(&problem) },
        },
        Error::Unsupported(what) => {
            Failure::Refused { directory, reason: format!("it does not know {what}") }
        }
        error => match http.closed() {
            Some(wait) => Failure::Limited { directory, wait, reason: error.to_string() },
            None => Failure::Unreachable { directory, reason: error.to_string() },
        },
    };
    Trouble::Failure(failure)
}

fn refused(directory: &str, reason: &dyn std::fmt::Display) -> Trouble {
    Trouble::Failure(Failure::Refused { directory: directory.to_owned(), reason: reason.to_string() })
}

/// Our requests as instant-acme wants them made.
struct Line(Arc<Http>);

impl HttpClient for Line {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let http = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let response = http.send(Request::from_parts(head, body)).await;
            let response = response.map_err(|error| Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(response.map(Full::new)))
        })
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("directory", &self.directory).finish_non_exhaustive()
    }
}
