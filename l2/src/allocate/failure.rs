//! Why a Service gets no address, and why it may not keep the one it has; worded for the people who read events.

use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use super::{Families, Port, ServiceKey};
use crate::pool::Use;

/// Why no address could be given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    #[error("{0:?} is not allowed in config: no pool has it")]
    NotInConfig(Vec<IpAddr>),
    #[error("pool {0} not compatible for ip assignment: its serviceAllocation does not select this service")]
    Incompatible(Arc<str>),
    #[error("pool {0} avoids {1}, which ends in .0 or .255 (avoidBuggyIPs)")]
    Buggy(Arc<str>, IpAddr),
    #[error("unknown pool {0:?}")]
    UnknownPool(String),
    #[error("pool {0} is not usable: its condition Valid says what is wrong")]
    PoolRefused(Arc<str>),
    #[error("requested loadBalancer IP(s) {0:?} does not match the ipFamily of the service ({1})")]
    FamilyMismatch(Vec<IpAddr>, Families),
    #[error("requested loadBalancer IP(s) {0:?} is not compatible with requested address pool {1}")]
    PoolMismatch(Vec<IpAddr>, String),
    #[error("{0} is {1} and is never given to a service")]
    Reserved(IpAddr, Use),
    #[error("{0} is already in use by {1}, and the two do not share addresses ({SHARING})")]
    InUse(IpAddr, ServiceKey),
    #[error("port {0} is already in use on {1} by {2}")]
    PortInUse(Port, IpAddr, ServiceKey),
    #[error("no available IPs in pool {0} for {1} IPFamily")]
    PoolExhausted(Arc<str>, Families),
    #[error(
        "no available IPs: no pool serves this service; pools need autoAssign and a matching serviceAllocation"
    )]
    NoPool,
    #[error("no available IPs for {0} IPFamily in {1}")]
    Exhausted(Families, String),
}

const SHARING: &str = "metallb.io/allow-shared-ip must be equal, and so must the selectors with \
    externalTrafficPolicy Local";

/// Why a Service may not keep what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    #[error("{0:?} is not allowed in config: no pool has it")]
    NotInConfig(Vec<IpAddr>),
    #[error("{0}")]
    Shared(Failure),
    #[error("pool {0} not compatible for ip assignment: its serviceAllocation does not select this service")]
    Incompatible(Arc<str>),
    #[error("pool {0} now avoids {1}, which ends in .0 or .255 (avoidBuggyIPs)")]
    Buggy(Arc<str>, IpAddr),
    #[error("the families of {0:?} are not those of the service ({1})")]
    Families(Vec<IpAddr>, Families),
    #[error("the service asks for pool {0}")]
    OtherPool(String),
    #[error("the service asks for {0:?}")]
    OtherAddresses(Vec<IpAddr>),
    #[error("{0} is {1}")]
    Reserved(IpAddr, Use),
    #[error("a foreign host answers for {0}")]
    Contested(IpAddr),
}

impl Reason {
    /// Whether the address has to go even when there is no other: it is nobody's to give, or somebody else's.
    /// For every other reason the Service keeps it until a replacement is granted.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NotInConfig(_) | Self::Shared(_) => true,
            Self::Reserved(_, what) => what.is_taken(),
            _ => false,
        }
    }
}
