//! Neighbour discovery (RFC 4861, RFC 4862): a total codec of solicitations and advertisements, without I/O.
//!
//! ```text
//! solicitation, multicast or unicast, source = asker  → advertisement S=1 O=1, unicast to the asker
//! solicitation, source = :: (duplicate detection)     → advertisement S=0 O=1, to all nodes: the address is taken
//! advertisement for VIP from another station          → a claim
//! take-over                                           → unsolicited advertisement S=0 O=1, to all nodes
//! ```
//! Whatever RFC 4861 7.1 calls invalid is dropped: hop limit other than 255, bad checksum, code, lengths, options.

use std::net::Ipv6Addr;

use crate::mac::Mac;

/// Ethernet, IPv6 and ICMPv6 headers with the target, no option.
const MIN_FRAME_BYTES: usize = ETHERNET_BYTES + IPV6_BYTES + BODY_BYTES;
/// The longest frame that we send: with one link-layer address option.
pub const MAX_FRAME_BYTES: usize = MIN_FRAME_BYTES + OPTION_BYTES;

const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
const BODY_BYTES: usize = 24;
const OPTION_BYTES: usize = 8;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Solicitation,
    Advertisement { router: bool, solicited: bool, overrides: bool },
}

/// One neighbour solicitation or advertisement with the headers around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub destination: Mac,
    pub source: Mac,
    pub source_ip: Ipv6Addr,
    pub destination_ip: Ipv6Addr,
    pub kind: Kind,
    pub target: Ipv6Addr,
    /// The source (solicitation) or target (advertisement) link-layer address option.
    pub link_address: Option<Mac>,
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("frame is shorter than its headers say")]
    Short,
    #[error("not a neighbour solicitation or advertisement")]
    OtherProtocol,
    #[error("hop limit is not 255, so the frame may come from another network")]
    HopLimit,
    #[error("wrong checksum")]
    Checksum,
    #[error("non-zero ICMP code")]
    Code,
    #[error("the target is a group or no address")]
    Target,
    #[error("an option without length or beyond the packet")]
    Option,
    #[error("a group or zero address as the sender")]
    Sender,
    #[error("addresses that contradict each other (RFC 4861 7.1)")]
    Contradiction,
}

/// What a well-formed frame means to a speaker; the same shape as ARP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub claim: Option<(Ipv6Addr, Mac)>,
    pub question: Option<Ipv6Addr>,
    pub probe: bool,
}

impl Frame {
    /// Reads one Ethernet frame.
    ///
    /// # Errors
    /// Anything that RFC 4861 7.1 says to discard, and every other protocol.
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        let ethernet = frame.get(..ETHERNET_BYTES).ok_or(Malformed::Short)?;
        if ethernet[12..14] != ETHERTYPE_IPV6.to_be_bytes() {
            return Err(Malformed::OtherProtocol);
        }
        let ip = frame.get(ETHERNET_BYTES..ETHERNET_BYTES + IPV6_BYTES).ok_or(Malformed::Short)?;
        if ip[0] >> 4 != 6 || ip[6] != ICMPV6 {
            return Err(Malformed::OtherProtocol);
        }
        let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        let start = ETHERNET_BYTES + IPV6_BYTES;
        let message = frame.get(start..start + length).ok_or(Malformed::Short)?;
        if message.len() < BODY_BYTES {
            return Err(Malformed::Short);
        }
        if ip[7] != HOP_LIMIT {
            return Err(Malformed::HopLimit);
        }
        let (source_ip, destination_ip) = (ip_at(ip, 8), ip_at(ip, 24));
        let kind = match message[0] {
            SOLICITATION => Kind::Solicitation,
            ADVERTISEMENT => Kind::Advertisement {
                router: message[4] & FLAG_ROUTER != 0,
                solicited: message[4] & FLAG_SOLICITED != 0,
                overrides: message[4] & FLAG_OVERRIDE != 0,
            },
            _ => return Err(Malformed::OtherProtocol),
        };
        if message[1] != 0 {
            return Err(Malformed::Code);
        }
        if checksum(source_ip, destination_ip, message) != 0 {
            return Err(Malformed::Checksum);
        }
        let target = ip_at(message, 8);
        if target.is_multicast() || target.is_unspecified() {
            return Err(Malformed::Target);
        }
        let wanted = if kind == Kind::Solicitation { OPTION_SOURCE } else { OPTION_TARGET };
        let parsed = Self {
            destination: mac_at(ethernet, 0),
            source: mac_at(ethernet, 6),
            source_ip,
            destination_ip,
            kind,
            target,
            link_address: link_address(&message[BODY_BYTES..], wanted)?,
        };
        parsed.check()
    }

    /// The rules that tie several fields together.
    fn check(self) -> Result<Self, Malformed> {
        if !self.source.is_station() || self.source_ip.is_multicast() {
            return Err(Malformed::Sender);
        }
        if self.link_address.is_some_and(|mac| !mac.is_station()) {
            return Err(Malformed::Sender);
        }
        let sound = match self.kind {
            Kind::Solicitation if self.source_ip.is_unspecified() => {
                self.link_address.is_none() && self.destination_ip == solicited_node(self.target)
            }
            Kind::Solicitation => true,
            Kind::Advertisement { solicited, .. } => {
                !(self.source_ip.is_unspecified() || solicited && self.destination_ip.is_multicast())
            }
        };
        if sound { Ok(self) } else { Err(Malformed::Contradiction) }
    }

    pub fn encode(&self) -> Vec<u8> {
        let option = if self.link_address.is_some() { OPTION_BYTES } else { 0 };
        let mut out = Vec::with_capacity(MIN_FRAME_BYTES + option);
        out.extend_from_slice(&self.destination.0);
        out.extend_from_slice(&self.source.0);
        out.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
        out.extend_from_slice(&[0x60, 0, 0, 0, 0, if option == 0 { 24 } else { 32 }, ICMPV6, HOP_LIMIT]);
        out.extend_from_slice(&self.source_ip.octets());
        out.extend_from_slice(&self.destination_ip.octets());
        let start = out.len();
        let (kind, flags, option_kind) = match self.kind {
            Kind::Solicitation => (SOLICITATION, 0, OPTION_SOURCE),
            Kind::Advertisement { router, solicited, overrides } => {
                let flag = |set: bool, bit: u8| if set { bit } else { 0 };
                let flags = flag(router, FLAG_ROUTER)
                    | flag(solicited, FLAG_SOLICITED)
                    | flag(overrides, FLAG_OVERRIDE);
                (ADVERTISEMENT, flags, OPTION_TARGET)
            }
        };
        out.extend_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
        out.extend_from_slice(&self.target.octets());
        if let Some(mac) = self.link_address {
            out.extend_from_slice(&[option_kind, 1]);
            out.extend_from_slice(&mac.0);
        }
        let sum = checksum(self.source_ip, self.destination_ip, &out[start..]);
        out[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
        out
    }

    pub fn heard(&self) -> Heard {
        match self.kind {
            Kind::Solicitation => {
                Heard { claim: None, question: Some(self.target), probe: self.source_ip.is_unspecified() }
            }
            Kind::Advertisement { .. } => {
                let mac = self.link_address.unwrap_or(self.source);
                Heard { claim: Some((self.target, mac)), question: None, probe: false }
            }
        }
    }

    /// The answer to a solicitation, from the interface with the address `own`.
    ///
    /// The reply goes to the frame's source: that station is reachable by it, with or without the option.
    pub fn reply(&self, own: Mac) -> Self {
        if self.source_ip.is_unspecified() {
            return Self::announcement(self.target, own);
        }
        Self {
            destination: self.source,
            source: own,
            source_ip: self.target,
            destination_ip: self.source_ip,
            kind: Kind::Advertisement { router: false, solicited: true, overrides: true },
            target: self.target,
            link_address: Some(own),
        }
    }

    /// RFC 4861 7.2.6: the unsolicited advertisement of a new owner.
    pub fn announcement(vip: Ipv6Addr, own: Mac) -> Self {
        Self {
            destination: multicast_mac(ALL_NODES),
            source: own,
            source_ip: vip,
            destination_ip: ALL_NODES,
            kind: Kind::Advertisement { router: false, solicited: false, overrides: true },
            target: vip,
            link_address: Some(own),
        }
    }

    /// RFC 4862 5.4.2: asks whether anybody uses `vip`.
    pub fn probe(vip: Ipv6Addr, own: Mac) -> Self {
        let group = solicited_node(vip);
        Self {
            destination: multicast_mac(group),
            source: own,
            source_ip: Ipv6Addr::UNSPECIFIED,
            destination_ip: group,
            kind: Kind::Solicitation,
            target: vip,
            link_address: None,
        }
    }
}

/// The group that solicitations for `ip` are sent to.
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let o = ip.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15]])
}

fn multicast_mac(group: Ipv6Addr) -> Mac {
    let o = group.octets();
    Mac([0x33, 0x33, o[12], o[13], o[14], o[15]])
}

/// The first link-layer address option of the wanted kind; every option must have a length and fit.
fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Malformed> {
    let mut found = None;
    while !options.is_empty() {
        let [kind, units, ..] = options else { return Err(Malformed::Option) };
        let length = usize::from(*units) * OPTION_BYTES;
        if length == 0 {
            return Err(Malformed::Option);
        }
        let (option, rest) = options.split_at_checked(length).ok_or(Malformed::Option)?;
        if *kind == wanted && length == OPTION_BYTES && found.is_none() {
            found = Some(mac_at(option, 2));
        }
        options = rest;
    }
    Ok(found)
}

/// Zero over a packet whose checksum field is right; the field's value over one where it is zero.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).expect("a frame is shorter than 4 GiB");
    let mut sum = length + u32::from(ICMPV6);
    let (source, destination) = (source.octets(), destination.octets());
    for part in [&source[..], &destination[..], message] {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded into 16 bits")
}

fn mac_at(bytes: &[u8], at: usize) -> Mac {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at..at + 6]);
    Mac(mac)
}

fn ip_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut ip = [0; 16];
    ip.copy_from_slice(&bytes[at..at + 16]);
    Ipv6Addr::from(ip)
}

#[cfg(test)]
mod tests;
