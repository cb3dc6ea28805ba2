//! ARP for IPv4 over Ethernet (RFC 826, RFC 5227): a total codec without I/O, and what a frame says to a speaker.
//!
//! ```text
//! who has VIP?      request  sender = asker        target = VIP    → reply, unicast to the asker
//! probe             request  sender = 0.0.0.0      target = VIP    → reply (defence of an owned VIP)
//! announcement      request  sender = target = VIP                 → a claim
//! gratuitous reply  reply    sender = target = VIP                 → a claim
//! ```
//! Every other shape (short, other hardware or protocol, VLAN tag inside, group source) is dropped.

use std::net::Ipv4Addr;

use crate::mac::Mac;

/// Ethernet header and ARP body; shorter frames are malformed, longer ones carry padding that is ignored.
pub const FRAME_BYTES: usize = 42;

const ETHERTYPE_ARP: u16 = 0x0806;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Request,
    Reply,
}

/// One ARP packet with the Ethernet addresses around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub destination: Mac,
    pub source: Mac,
    pub operation: Operation,
    pub sender_mac: Mac,
    pub sender_ip: Ipv4Addr,
    pub target_mac: Mac,
    pub target_ip: Ipv4Addr,
}

/// Why a frame is dropped; a reason for counters and tests, never for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("frame of {0} bytes is too short for ARP")]
    Short(usize),
    #[error("not an ARP frame")]
    OtherProtocol,
    #[error("hardware or protocol type is not Ethernet and IPv4")]
    OtherKind,
    #[error("operation is neither request nor reply")]
    Operation,
    #[error("a group or zero address as the sender")]
    Sender,
}

/// What a well-formed frame means to a speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Somebody says "this address is mine".
    pub claim: Option<(Ipv4Addr, Mac)>,
    /// Somebody asks who has this address.
    pub question: Option<Ipv4Addr>,
    /// The question is a probe (RFC 5227): whoever sends it wants the address for itself.
    pub probe: bool,
}

impl Frame {
    /// Reads one Ethernet frame.
    ///
    /// # Errors
    /// Anything that is not exactly an ARP request or reply for IPv4 over Ethernet from a station.
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        let Some(bytes) = frame.first_chunk::<FRAME_BYTES>() else {
            return Err(Malformed::Short(frame.len()));
        };
        if be16(bytes, 12) != ETHERTYPE_ARP {
            return Err(Malformed::OtherProtocol);
        }
        // htype 1 (Ethernet), ptype 0x0800 (IPv4), hlen 6, plen 4
        if bytes[14..20] != [0, 1, 8, 0, 6, 4] {
            return Err(Malformed::OtherKind);
        }
        let operation = match be16(bytes, 20) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(Malformed::Operation),
        };
        let parsed = Self {
            destination: mac_at(bytes, 0),
            source: mac_at(bytes, 6),
            operation,
            sender_mac: mac_at(bytes, 22),
            sender_ip: ip_at(bytes, 28),
            target_mac: mac_at(bytes, 32),
            target_ip: ip_at(bytes, 38),
        };
        if !parsed.source.is_station() || !parsed.sender_mac.is_station() {
            return Err(Malformed::Sender);
        }
        Ok(parsed)
    }

    pub fn encode(&self) -> [u8; FRAME_BYTES] {
        let mut out = [0; FRAME_BYTES];
        out[0..6].copy_from_slice(&self.destination.0);
        out[6..12].copy_from_slice(&self.source.0);
        out[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
        out[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        out[21] = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        out[22..28].copy_from_slice(&self.sender_mac.0);
        out[28..32].copy_from_slice(&self.sender_ip.octets());
        out[32..38].copy_from_slice(&self.target_mac.0);
        out[38..42].copy_from_slice(&self.target_ip.octets());
        out
    }

    /// What this frame says. Gratuitous frames ask nothing: they only claim.
    pub fn heard(&self) -> Heard {
        let claims = !self.sender_ip.is_unspecified() && !self.sender_ip.is_broadcast();
        let gratuitous = self.sender_ip == self.target_ip;
        let asks = self.operation == Operation::Request && !gratuitous;
        Heard {
            claim: claims.then_some((self.sender_ip, self.sender_mac)),
            question: asks.then_some(self.target_ip),
            probe: asks && self.sender_ip.is_unspecified(),
        }
    }

    /// The answer to `self`, from the interface with the address `own`.
    pub fn reply(&self, own: Mac) -> Self {
        Self {
            destination: self.source,
            source: own,
            operation: Operation::Reply,
            sender_mac: own,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// A gratuitous frame. Some stacks learn from the request form, some only from the reply form: send both.
    pub fn announcement(operation: Operation, vip: Ipv4Addr, own: Mac) -> Self {
        Self {
            destination: Mac::BROADCAST,
            source: own,
            operation,
            sender_mac: own,
            sender_ip: vip,
            target_mac: Mac::BROADCAST,
            target_ip: vip,
        }
    }

    /// RFC 5227 2.1.1: asks whether anybody uses `vip` without claiming it.
    pub fn probe(vip: Ipv4Addr, own: Mac) -> Self {
        Self {
            destination: Mac::BROADCAST,
            source: own,
            operation: Operation::Request,
            sender_mac: own,
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::ZERO,
            target_ip: vip,
        }
    }
}

fn be16(bytes: &[u8; FRAME_BYTES], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn mac_at(bytes: &[u8; FRAME_BYTES], at: usize) -> Mac {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at..at + 6]);
    Mac(mac)
}

fn ip_at(bytes: &[u8; FRAME_BYTES], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const ASKER: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    fn question() -> Frame {
        Frame {
            destination: Mac::BROADCAST,
            source: ASKER,
            operation: Operation::Request,
            sender_mac: ASKER,
            sender_ip: Ipv4Addr::new(10, 0, 0, 9),
            target_mac: Mac::ZERO,
            target_ip: VIP,
        }
    }

    #[test]
    fn a_question_is_answered_to_the_asker_with_the_interface_address() {
        let reply = question().reply(OWN);
        assert_eq!(reply.destination, ASKER);
        assert_eq!((reply.sender_ip, reply.sender_mac), (VIP, OWN));
        assert_eq!((reply.target_ip, reply.target_mac), (Ipv4Addr::new(10, 0, 0, 9), ASKER));
    }

    #[test]
    fn a_probe_asks_and_claims_nothing() {
        let heard = Frame::probe(VIP, ASKER).heard();
        assert_eq!(heard, Heard { claim: None, question: Some(VIP), probe: true });
    }

    #[test]
    fn an_announcement_claims_and_asks_nothing() {
        for operation in [Operation::Request, Operation::Reply] {
            let heard = Frame::announcement(operation, VIP, ASKER).heard();
            assert_eq!(heard, Heard { claim: Some((VIP, ASKER)), question: None, probe: false });
        }
    }

    #[test]
    fn hazard_181_malformed_arp_frames_are_dropped() {
        let good = question().encode();
        for length in 0..FRAME_BYTES {
            assert_eq!(Frame::parse(&good[..length]), Err(Malformed::Short(length)));
        }
        let broken = |at: usize, value: u8| {
            let mut frame = good;
            frame[at] = value;
            Frame::parse(&frame)
        };
        assert_eq!(broken(12, 0x81), Err(Malformed::OtherProtocol), "a VLAN tag inside the frame");
        assert_eq!(broken(15, 6), Err(Malformed::OtherKind), "token ring");
        assert_eq!(broken(16, 0x86), Err(Malformed::OtherKind), "another protocol");
        assert_eq!(broken(18, 8), Err(Malformed::OtherKind), "hardware length");
        assert_eq!(broken(19, 16), Err(Malformed::OtherKind), "protocol length");
        assert_eq!(broken(21, 3), Err(Malformed::Operation), "RARP");
        assert_eq!(broken(6, 0x01), Err(Malformed::Sender), "a group source");
        assert_eq!(broken(22, 0xff), Err(Malformed::Sender), "a group sender");
    }

    proptest! {
        #[test]
        fn arp_survives_a_round_trip(
            destination: [u8; 6], mut source: [u8; 6], mut sender: [u8; 6], target_mac: [u8; 6],
            sender_ip: [u8; 4], target_ip: [u8; 4], request: bool, padding in 0usize..30,
        ) {
            source[0] = source[0] & 0xfe | 2;
            sender[0] = sender[0] & 0xfe | 2;
            let frame = Frame {
                destination: Mac(destination), source: Mac(source),
                operation: if request { Operation::Request } else { Operation::Reply },
                sender_mac: Mac(sender), sender_ip: sender_ip.into(),
                target_mac: Mac(target_mac), target_ip: target_ip.into(),
            };
            let mut bytes = frame.encode().to_vec();
            bytes.resize(FRAME_BYTES + padding, 0);
            prop_assert_eq!(Frame::parse(&bytes), Ok(frame));
        }

        #[test]
        fn arp_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(frame) = Frame::parse(&bytes) {
                prop_assert_eq!(&frame.encode()[..], &bytes[..FRAME_BYTES]);
            }
        }
    }
}
