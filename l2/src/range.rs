//! Ranges of IP addresses as pools write them: `192.0.2.0/24` or `192.0.2.10-192.0.2.20`, IPv4 and IPv6. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use thiserror::Error;

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// All addresses from `first` to `last`, both included; both of one family and in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    #[error("`{0}` is a single address: write it with its prefix length, `{0}/{1}`, or as `{0}-{0}`")]
    Single(IpAddr, u8),
    #[error("`{0}` is neither a CIDR prefix (192.0.2.0/24) nor a range (192.0.2.10-192.0.2.20)")]
    Neither(String),
    #[error("`{0}` in `{1}` is not an IP address")]
    Address(String, String),
    #[error("prefix length `{0}` in `{1}` is not a number from 0 to {2}")]
    Prefix(String, String, u8),
    #[error("the range `{0}` has ends of different families")]
    Families(String),
    #[error("the start of the range `{0}` is above its end: write the lower address first")]
    Order(String),
}

impl IpRange {
    /// The range from `first` to `last`.
    ///
    /// # Errors
    /// When the families differ, or the ends are in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        let text = || format!("{first}-{last}");
        if first.is_ipv4() != last.is_ipv4() {
            return Err(RangeError::Families(text()));
        }
        if first > last {
            return Err(RangeError::Order(text()));
        }
        Ok(Self { first, last })
    }

    /// The range of one address.
    pub fn single(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }

    pub fn first(&self) -> IpAddr {
        self.first
    }

    pub fn last(&self) -> IpAddr {
        self.last
    }

    pub fn family(&self) -> Family {
        Family::of(self.first)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        // IpAddr orders every V4 below every V6, so that a stranger's family is never between the ends.
        self.first <= address && address <= self.last
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.family() == other.family() && self.first <= other.last && other.first <= self.last
    }

    /// The addresses that both have.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        self.overlaps(other)
            .then(|| Self { first: self.first.max(other.first), last: self.last.min(other.last) })
    }

    /// How many addresses; saturates for `::/0`.
    pub fn count(&self) -> u128 {
        to_bits(self.last).saturating_sub(to_bits(self.first)).saturating_add(1)
    }

    /// How many IPv4 addresses of the range end in .0 or .255.
    pub fn buggy_count(&self) -> u128 {
        let (IpAddr::V4(first), IpAddr::V4(last)) = (self.first, self.last) else { return 0 };
        // The number of addresses up to and including `n` that end in `octet`.
        let upto = |n: i64, octet: i64| if n < octet { 0 } else { (n - octet) / 256 + 1 };
        let (first, last) = (i64::from(first.to_bits()), i64::from(last.to_bits()));
        let count = |octet| upto(last, octet) - upto(first - 1, octet);
        u128::from((count(0) + count(255)).unsigned_abs())
    }

    /// The prefixes that cover exactly this range.
    pub fn prefixes(&self) -> Vec<IpNet> {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Ipv4Subnets::new(first, last, 0).map(IpNet::from).collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Ipv6Subnets::new(first, last, 0).map(IpNet::from).collect()
            }
            _ => unreachable!("both ends are of one family"),
        }
    }
}

/// The address after this one, if there is any in its family.
pub fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// Whether crude smurf protection may drop packets to the address: IPv4 that ends in .0 or .255.
pub fn is_buggy(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if matches!(v4.octets()[3], 0 | 255))
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl From<IpNet> for IpRange {
    fn from(net: IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }
}

impl FromStr for IpRange {
    type Err = RangeError;

    /// Spaces round the entry and round the dash are allowed; host bits of a prefix are masked off; a single
    /// address without a prefix length is refused, as by MetalLB.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let address = |part: &str| -> Result<IpAddr, RangeError> {
            let parsed: IpAddr = part
                .trim()
                .parse()
                .map_err(|_| RangeError::Address(part.trim().to_owned(), text.to_owned()))?;
            Ok(parsed.to_canonical())
        };
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (address(first)?, address(last)?);
            return Self::new(first, last).map_err(|error| match error {
                RangeError::Families(_) => RangeError::Families(text.to_owned()),
                _ => RangeError::Order(text.to_owned()),
            });
        }
        let Some((network, length)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(single) => RangeError::Single(single, if single.is_ipv4() { 32 } else { 128 }),
                Err(_) => RangeError::Neither(text.to_owned()),
            });
        };
        let network: IpAddr =
            network.parse().map_err(|_| RangeError::Address(network.to_owned(), text.to_owned()))?;
        let max = if network.is_ipv4() { 32 } else { 128 };
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let net =
            length.parse::<u8>().ok().filter(|_| digits).and_then(|length| IpNet::new(network, length).ok());
        net.map(Self::from).ok_or_else(|| RangeError::Prefix(length.to_owned(), text.to_owned(), max))
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefixes().as_slice() {
            [one] => write!(f, "{one}"),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Debug for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Sorts ranges and joins those that touch or overlap.
pub fn merge(mut ranges: Vec<IpRange>) -> Vec<IpRange> {
    ranges.sort_unstable();
    let mut merged: Vec<IpRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(top) if top.overlaps(&range) || next(top.last) == Some(range.first) => {
                top.last = top.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
#[path = "range/tests.rs"]
mod tests;
