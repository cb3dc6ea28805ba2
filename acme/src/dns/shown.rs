//! Waits until the nameservers of a zone show a record: a certificate authority asks those, and a failed try counts.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::rr::Name;
use tokio::time::{Instant, sleep};

use super::lookup::Resolvers;
use super::nameservers::{self, Nameserver};
use super::place::Place;
use super::server::Server;

/// The record is not there, as far as one can see.
#[derive(Debug, thiserror::Error)]
pub enum NotShown {
    #[error("{record} is still missing at {servers} after {} s; raise `wait`, or name in `seenBy` the nameservers that count", waited.as_secs())]
    Missing { record: String, servers: String, waited: Duration },
    #[error(
        "no nameserver of {record} answers here ({servers}); name in `seenBy` those that do, or set `wait: 0s`"
    )]
    Silent { record: String, servers: String },
}

/// How long to wait, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// Instead of the zone's nameservers.
    pub(crate) seen_by: Vec<Server>,
    /// Zero: do not look at all.
    pub(crate) wait: Duration,
    pub(crate) resolvers: Resolvers,
}

/// What a nameserver says of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Shown,
    Missing,
    Silent,
}

impl Watch {
    /// Returns when each nameserver of the zone that answers at all shows `value`. `primary` is where it was just changed.
    pub(crate) async fn shown_in(
        &self,
        place: &Place,
        primary: SocketAddr,
        value: &str,
    ) -> Result<(), NotShown> {
        let servers = nameservers::of_zone(&self.resolvers, &place.zone, Some(primary));
        self.shown_by(servers, &place.record, value).await
    }

    /// The same where nothing is known but the name, which may be an alias.
    pub(crate) async fn shown(&self, name: &Name, value: &str) -> Result<(), NotShown> {
        if self.wait.is_zero() {
            return Ok(());
        }
        let record = self.resolvers.canonical(name).await;
        self.shown_by(nameservers::of_record(&self.resolvers, &record), &record, value).await
    }

    async fn shown_by(
        &self,
        servers: impl Future<Output = Vec<Nameserver>>,
        record: &Name,
        value: &str,
    ) -> Result<(), NotShown> {
        if self.wait.is_zero() {
            return Ok(());
        }
        let end = Instant::now() + self.wait;
        let servers = match self.seen_by.as_slice() {
            [] => servers.await,
            told => join_all(told.iter().map(Nameserver::at)).await,
        };
        let mut pause = FIRST_PAUSE;
        loop {
            let sights = join_all(servers.iter().map(|server| look(server, record, value))).await;
            let with = |sight| {
                let found = servers.iter().zip(&sights).filter(move |(_, seen)| **seen == sight);
                found.map(|(server, _)| server.name.as_str()).collect::<Vec<_>>()
            };
            let missing = with(Sight::Missing);
            if missing.is_empty() {
                return self.judge(record, &with(Sight::Silent), servers.len());
            }
            if Instant::now() + pause > end {
                let servers = missing.join(", ");
                return Err(NotShown::Missing { record: record.to_string(), servers, waited: self.wait });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A nameserver that cannot be reached from here may well be reached by others; but one must have been.
    fn judge(&self, record: &Name, silent: &[&str], servers: usize) -> Result<(), NotShown> {
        let names = silent.join(", ");
        if silent.len() == servers {
            return Err(NotShown::Silent { record: record.to_string(), servers: names });
        }
        if !silent.is_empty() {
            tracing::warn!(%record, servers = %names, "some nameservers of the zone do not answer: not waited for");
        }
        Ok(())
    }
}

async fn look(server: &Nameserver, record: &Name, value: &str) -> Sight {
    match server.texts(record).await {
        Some(texts) if texts.iter().any(|text| text == value) => Sight::Shown,
        Some(_) => Sight::Missing,
        None => Sight::Silent,
    }
}

/// A secondary on the same machine has the record within milliseconds; one far away that polls needs minutes.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
