//! The nameservers of a zone, asked themselves: they know of a change before any resolver forgets what was there before.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use hickory_proto::rr::{Name, RData, RecordType};

use super::lookup::{self, Recursion, Resolvers};
use super::server::{DEFAULT_PORT, Server};

/// A nameserver and where it listens.
#[derive(Clone, Debug)]
pub(crate) struct Nameserver {
    pub(crate) name: String,
    addresses: Vec<SocketAddr>,
}

impl Nameserver {
    pub(crate) async fn at(server: &Server) -> Self {
        Self { name: server.to_string(), addresses: server.addresses().await.unwrap_or_default() }
    }

    /// The values of a record, by the first of its addresses that answers; none when none does.
    pub(crate) async fn texts(&self, record: &Name) -> Option<Vec<String>> {
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            if let Ok(answer) = lookup::question(*address, record, RecordType::TXT, Recursion::Unwanted).await
            {
                return Some(lookup::texts(&answer));
            }
        }
        None
    }
}

/// Those of the zone that holds a record; none when that cannot be found out.
pub(crate) async fn of_record(resolvers: &Resolvers, record: &Name) -> Vec<Nameserver> {
    let Ok(answer) = resolvers.ask(record, RecordType::SOA).await else { return Vec::new() };
    match lookup::zone(&answer, record) {
        Some(zone) => of_zone(resolvers, &zone, None).await,
        None => Vec::new(),
    }
}

/// Those of a zone. `primary` is where it was just changed, if that is known: its list is newer than that of any resolver.
pub(crate) async fn of_zone(
    resolvers: &Resolvers,
    zone: &Name,
    primary: Option<SocketAddr>,
) -> Vec<Nameserver> {
    let answer = match primary {
        Some(primary) => lookup::question(primary, zone, RecordType::NS, Recursion::Unwanted).await,
        None => resolvers.ask(zone, RecordType::NS).await,
    };
    let Ok(answer) = answer else { return Vec::new() };
    let hosts = answer.answers.iter().filter_map(|record| match &record.data {
        RData::NS(host) => Some(host.0.clone()),
        _ => None,
    });
    let answer = &answer;
    join_all(hosts.take(MAX_NAMESERVERS).map(|host| async move {
        let mut ips: Vec<_> = lookup::addresses(answer, Some(&host)).collect();
        if ips.is_empty() {
            ips = resolvers.addresses(&host).await;
        }
        Nameserver {
            name: host.to_string(),
            addresses: ips.into_iter().map(|ip| place(ip, primary)).collect(),
        }
    }))
    .await
}

/// The primary is asked where it takes updates, whatever its port.
fn place(ip: IpAddr, primary: Option<SocketAddr>) -> SocketAddr {
    primary.filter(|primary| primary.ip() == ip).unwrap_or_else(|| SocketAddr::new(ip, DEFAULT_PORT))
}

/// Zones have two to six; a list without end is somebody's mischief.
const MAX_NAMESERVERS: usize = 16;
const MAX_ADDRESSES: usize = 4;
