//! What one Service asks for, as far as addresses are concerned.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::pool::Applicant;
use crate::range::Family;

/// `namespace/name`; cheap to copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey(Arc<str>);

impl ServiceKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A Service's wishes and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub key: ServiceKey,
    /// Seconds since the epoch: who asked first is served first.
    pub created: i64,
    pub labels: BTreeMap<String, String>,
    pub namespace_labels: Arc<BTreeMap<String, String>>,
    pub families: Families,
    /// Addresses asked for by name, in the order of the annotation; empty for any.
    pub addresses: Vec<IpAddr>,
    /// The pool asked for by name.
    pub pool: Option<String>,
    pub sharing: Option<Sharing>,
    pub ports: Vec<Port>,
    /// What the Service's status says that it holds, in that order.
    pub held: Vec<IpAddr>,
    /// The pool that the allocator noted when it gave the held addresses.
    pub held_from: Option<String>,
    /// A held address that a foreign host answers for, as the speakers report.
    pub contested: Option<IpAddr>,
}

impl Request {
    pub fn applicant(&self) -> Applicant<'_> {
        Applicant {
            namespace: self.key.namespace(),
            namespace_labels: &self.namespace_labels,
            labels: &self.labels,
        }
    }

    /// Services that hold an address come first, then the older ones.
    pub fn turn(&self) -> (bool, i64, &ServiceKey) {
        (self.held.is_empty(), self.created, &self.key)
    }
}

/// The families that a Service needs; they follow from its cluster addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    Single(Family),
    /// One of each.
    Both,
    /// One of each where a pool has both, else one, of the primary family first.
    PreferBoth {
        primary: Family,
    },
}

impl Families {
    pub fn wants(self, family: Family) -> bool {
        match self {
            Self::Single(only) => only == family,
            Self::Both | Self::PreferBoth { .. } => true,
        }
    }

    /// Whether addresses asked for by name have exactly the families of the Service.
    pub fn are(self, addresses: &[IpAddr]) -> bool {
        match (self, addresses) {
            (Self::Single(family), [one]) => Family::of(*one) == family,
            (Self::Both | Self::PreferBoth { .. }, [a, b]) => Family::of(*a) != Family::of(*b),
            _ => false,
        }
    }

    /// Whether what is held will do: as [`Families::are`], but one address does for a Service that prefers two.
    pub fn accept(self, held: &[IpAddr]) -> bool {
        self.are(held) || matches!((self, held), (Self::PreferBoth { .. }, [_]))
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(family) => write!(f, "{family}"),
            Self::Both | Self::PreferBoth { .. } => f.write_str("dual-stack"),
        }
    }
}

/// Services with equal sharing may be on one address, if their ports differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sharing {
    /// The value of the annotation, never empty.
    pub key: String,
    /// With externalTrafficPolicy Local, the Service's selector: then both must have the same pods. Else empty.
    pub backend: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    pub protocol: Protocol,
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{protocol}/{}", self.number)
    }
}
