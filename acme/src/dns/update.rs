//! RFC 2136: one TXT value added to a zone, or taken out, by a message that a shared key signs (TSIG, RFC 8945).

use std::net::SocketAddr;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hickory_proto::op::{Message, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, RecordSet, RecordType};

use super::answer::{self, AnswerError};
use super::exchange::{self, ExchangeError};
use super::key::Key;
use super::place::{self, Place, PlaceError};
use super::refusal::Refusal;
use super::server::Server;
use super::shown::Watch;
use super::{DnsError, DnsSolver, record_name};

/// A zone's primary that takes updates, and the key that it takes them by.
#[derive(Debug)]
pub struct Update {
    server: Server,
    zone: Option<Name>,
    key: Key,
    watch: Watch,
    clock: Clock,
}

/// Seconds since 1970: what a signature says, and what the server compares with its own.
pub type Clock = fn() -> u64;

/// Why a zone was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("cannot find the nameserver {server}: {reason}; look at `server`")]
    NoServer { server: Server, reason: String },
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("cannot send an update to {server}: {source}")]
    Exchange { server: SocketAddr, source: ExchangeError },
    #[error("cannot believe {server}, which was sent an update: {source}")]
    Answer { server: SocketAddr, source: AnswerError },
    #[error("{server} refused the update of {zone}: {}; {}", refusal.code, refusal.mend)]
    Refused { server: SocketAddr, zone: String, refusal: Refusal },
    #[error("the value for {record} is too long: {length} bytes, and a TXT string takes {MAX_TEXT}")]
    TooLong { record: String, length: usize },
}

/// What is done with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Add,
    Delete,
}

impl Update {
    pub(crate) fn new(server: Server, zone: Option<Name>, key: Key, watch: Watch, clock: Clock) -> Self {
        Self { server, zone, key, watch, clock }
    }

    async fn change(
        &self,
        name: &Name,
        value: &str,
        change: Change,
    ) -> Result<(SocketAddr, Place), UpdateError> {
        if value.len() > MAX_TEXT {
            return Err(UpdateError::TooLong { record: name.to_string(), length: value.len() });
        }
        let no_server = |reason: String| UpdateError::NoServer { server: self.server.clone(), reason };
        let found = self.server.addresses().await.map_err(|error| no_server(error.to_string()))?;
        let mut failed = no_server("it has no address".to_owned());
        for server in found {
            match self.change_at(server, name, value, change).await {
                Ok(place) => return Ok((server, place)),
                // A name with addresses of both kinds, of which one is not in use.
                Err(error @ (UpdateError::Exchange { .. } | UpdateError::Place(PlaceError::Lookup(_)))) => {
                    failed = error
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed)
    }

    async fn change_at(
        &self,
        server: SocketAddr,
        name: &Name,
        value: &str,
        change: Change,
    ) -> Result<Place, UpdateError> {
        let place = place::find(server, &self.watch.resolvers, name, self.zone.as_ref()).await?;
        let mut message = message(&place, value, change);
        let now = (self.clock)();
        let mut verifier = self.key.sign(&mut message, now);
        let bytes = message.to_vec().expect("a message with two names and one text fits");
        let answered = exchange::deliver(server, &bytes).await;
        let bytes = answered.map_err(|source| UpdateError::Exchange { server, source })?;
        let refused = |refusal| UpdateError::Refused { server, zone: place.zone.to_string(), refusal };
        let answer = match answer::read_signed(&message, &mut verifier, &bytes) {
            Ok(answer) => answer,
            Err(AnswerError::Unsigned { code, error }) if code != ResponseCode::NoError => {
                return Err(refused(Refusal::new(code, error, &place, &self.key).unsigned()));
            }
            Err(source) => return Err(UpdateError::Answer { server, source }),
        };
        let error = answer.signature().and_then(|signature| signature.data.error);
        match answer.response_code {
            ResponseCode::NoError => Ok(place),
            code => {
                let refusal = Refusal::new(code, error, &place, &self.key);
                Err(refused(refusal.with_clocks(answer::server_time(&answer), now)))
            }
        }
    }
}

impl DnsSolver for Update {
    fn present<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>> {
        async move {
            let (server, place) = self.change(&record_name(name)?, value, Change::Add).await?;
            self.watch.shown_in(&place, server, value).await?;
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>> {
        async move {
            self.change(&record_name(name)?, value, Change::Delete).await?;
            Ok(())
        }
        .boxed()
    }
}

/// Adds to the values that are there, or deletes this one alone (RFC 2136 §2.5.1 and §2.5.4).
fn message(place: &Place, value: &str, change: Change) -> Message {
    let mut records = RecordSet::with_ttl(place.record.clone(), RecordType::TXT, TTL_SECONDS);
    records.add_rdata(RData::TXT(TXT::new(vec![value.to_owned()])));
    let zone = place.zone.clone();
    match change {
        Change::Add => update_message::append(records, zone, false, false),
        Change::Delete => update_message::delete_by_rdata(records, zone, false),
    }
}

/// Short: the next challenge of the same name has another value.
const TTL_SECONDS: u32 = 60;
/// The answer to a challenge has 43.
const MAX_TEXT: usize = 255;
