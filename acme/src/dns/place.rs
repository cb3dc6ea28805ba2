//! Where a record is to be written: aliases followed, and the zone that it stands in.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};

use super::lookup::{self, LookupError, MAX_ALIASES, Recursion, Resolvers};

/// A record and the zone that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) record: Name,
    pub(crate) zone: Name,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error(
        "{server} has no zone with {record}; set `server` to the primary of its zone, or make the name an alias (CNAME) of one there"
    )]
    NoZone { server: SocketAddr, record: String },
    #[error(
        "{record} is not in the zone {zone} that the configuration names; leave `zone` out, and it is found"
    )]
    OtherZone { record: String, zone: String },
    #[error("{0} is an alias of an alias, more than {MAX_ALIASES} times")]
    Aliases(String),
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

/// Where the primary `server` holds `name`, or what `name` is an alias of. With an alias one zone, made for that alone, takes
/// the challenges of names whose own zones nobody may write to.
pub(crate) async fn find(
    server: SocketAddr,
    resolvers: &Resolvers,
    name: &Name,
    told: Option<&Name>,
) -> Result<Place, PlaceError> {
    let mut record = name.clone();
    for _ in 0..MAX_ALIASES {
        let fits = told.filter(|zone| zone.zone_of(&record));
        let answer = match lookup::question(server, &record, RecordType::SOA, Recursion::Unwanted).await {
            // It has the zone, and cannot read it.
            Ok(answer) if answer.response_code == ResponseCode::ServFail => {
                let (name, kind, code) = (record.to_string(), RecordType::SOA, answer.response_code);
                return Err(LookupError::Refused { server, name, kind, code }.into());
            }
            Ok(answer) => Some(answer).filter(|answer| answer.authoritative),
            // Some primaries take updates and no questions.
            Err(_) if fits.is_some() => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(target) = answer.as_ref().and_then(|answer| lookup::alias(answer, &record)) {
            record = target;
            continue;
        }
        let found = answer.and_then(|answer| lookup::zone(&answer, &record));
        match (found, told) {
            (_, Some(zone)) if fits.is_some() => return Ok(Place { record, zone: zone.clone() }),
            (Some(_), Some(zone)) => {
                return Err(PlaceError::OtherZone { record: record.to_string(), zone: zone.to_string() });
            }
            (Some(zone), None) => return Ok(Place { record, zone }),
            // Not this server's: an alias may lead to it.
            (None, _) => match resolvers.alias(&record).await {
                Ok(Some(target)) => record = target,
                Ok(None) | Err(_) => return Err(PlaceError::NoZone { server, record: record.to_string() }),
            },
        }
    }
    Err(PlaceError::Aliases(name.to_string()))
}
