use proptest::prelude::*;

use super::*;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ASKER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const VIP: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);
const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

fn question(unicast: bool, option: Option<Mac>) -> Frame {
    let group = solicited_node(VIP);
    Frame {
        destination: if unicast { OWN } else { multicast_mac(group) },
        source: ASKER,
        source_ip: CLIENT,
        destination_ip: if unicast { VIP } else { group },
        kind: Kind::Solicitation,
        target: VIP,
        link_address: option,
    }
}

#[test]
fn solicitations_are_answered_from_either_side_with_and_without_the_option() {
    for frame in [question(false, Some(ASKER)), question(true, Some(ASKER)), question(true, None)] {
        let parsed = Frame::parse(&frame.encode()).unwrap();
        assert_eq!(parsed.heard().question, Some(VIP));
        let reply = parsed.reply(OWN);
        assert_eq!((reply.destination, reply.destination_ip), (ASKER, CLIENT));
        assert_eq!(reply.kind, Kind::Advertisement { router: false, solicited: true, overrides: true });
        assert_eq!(reply.link_address, Some(OWN));
        assert_eq!(Frame::parse(&reply.encode()), Ok(reply));
    }
}

#[test]
fn duplicate_detection_is_answered_to_all_nodes() {
    let probe = Frame::parse(&Frame::probe(VIP, ASKER).encode()).unwrap();
    assert!(probe.heard().probe);
    let reply = probe.reply(OWN);
    assert_eq!((reply.destination, reply.destination_ip), (Mac([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES));
    assert_eq!(reply.kind, Kind::Advertisement { router: false, solicited: false, overrides: true });
}

#[test]
fn an_advertisement_is_a_claim() {
    let heard = Frame::parse(&Frame::announcement(VIP, ASKER).encode()).unwrap().heard();
    assert_eq!(heard, Heard { claim: Some((VIP, ASKER)), question: None, probe: false });
}

#[test]
fn a_known_packet_has_the_known_checksum() {
    // fe80::1 → ff02::1:ff00:2, solicitation for fe80::2 with source option 02:00:00:00:00:01, summed by hand.
    let frame = Frame {
        destination: Mac([0x33, 0x33, 0xff, 0, 0, 2]),
        source: OWN,
        source_ip: "fe80::1".parse().unwrap(),
        destination_ip: "ff02::1:ff00:2".parse().unwrap(),
        kind: Kind::Solicitation,
        target: "fe80::2".parse().unwrap(),
        link_address: Some(OWN),
    };
    let bytes = frame.encode();
    // fe80+0001 + ff02+0001+ff00+0002 + 0020+003a + 8700 + fe80+0002 + 0101+0200+0001 = 0x582ab-style fold
    let sum: u32 = [0xfe80u32, 1, 0xff02, 1, 0xff00, 2, 0x20, 0x3a, 0x8700, 0xfe80, 2, 0x0101, 0x0200, 0, 1]
        .iter()
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let expected = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    assert_eq!(u16::from_be_bytes([bytes[56], bytes[57]]), expected);
}

#[test]
fn hazard_181_malformed_neighbour_frames_are_dropped() {
    let good = question(false, Some(ASKER)).encode();
    for length in 0..good.len() {
        assert!(Frame::parse(&good[..length]).is_err(), "cut at {length}");
    }
    let broken = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        // keep the checksum right, so that the field itself is what is refused
        if at >= 54 {
            frame[56..58].fill(0);
            let (source, destination) = (ip_at(&frame[14..], 8), ip_at(&frame[14..], 24));
            let sum = checksum(source, destination, &frame[54..]);
            frame[56..58].copy_from_slice(&sum.to_be_bytes());
        }
        Frame::parse(&frame)
    };
    assert_eq!(broken(12, 0x81), Err(Malformed::OtherProtocol), "a VLAN tag inside the frame");
    assert_eq!(broken(14, 0x40), Err(Malformed::OtherProtocol), "version 4");
    assert_eq!(broken(20, 0), Err(Malformed::OtherProtocol), "an extension header");
    assert_eq!(broken(21, 254), Err(Malformed::HopLimit), "routed");
    assert_eq!(broken(54, 133), Err(Malformed::OtherProtocol), "a router solicitation");
    assert_eq!(broken(55, 1), Err(Malformed::Code));
    assert_eq!(broken(62, 0xff), Err(Malformed::Target), "a group as target");
    assert_eq!(broken(79, 0), Err(Malformed::Option), "an option of length 0");
    assert_eq!(broken(79, 2), Err(Malformed::Option), "an option beyond the packet");
    assert_eq!(broken(80, 1), Err(Malformed::Sender), "a group as link address");
    assert_eq!(broken(6, 1), Err(Malformed::Sender), "a group as frame source");
    let mut flipped = good.clone();
    flipped[70] ^= 1;
    assert_eq!(Frame::parse(&flipped), Err(Malformed::Checksum));

    let mut probe = Frame::probe(VIP, ASKER);
    probe.link_address = Some(ASKER);
    assert_eq!(Frame::parse(&probe.encode()), Err(Malformed::Contradiction), "DAD with an option");
    let mut flood = Frame::announcement(VIP, ASKER);
    flood.kind = Kind::Advertisement { router: false, solicited: true, overrides: true };
    assert_eq!(Frame::parse(&flood.encode()), Err(Malformed::Contradiction), "solicited, to a group");
}

proptest! {
    #[test]
    fn ndp_survives_a_round_trip(
        mut source: [u8; 6], destination: [u8; 6], mut source_ip: [u8; 16], mut target: [u8; 16],
        flags: [bool; 3], solicitation: bool, option: Option<[u8; 6]>,
    ) {
        source[0] = source[0] & 0xfe | 2;
        source_ip[0] = 0xfd;
        target[0] = 0xfd;
        let frame = Frame {
            source: Mac(source), destination: Mac(destination),
            source_ip: source_ip.into(), destination_ip: VIP, target: target.into(),
            kind: if solicitation { Kind::Solicitation } else {
                Kind::Advertisement { router: flags[0], solicited: flags[1], overrides: flags[2] }
            },
            link_address: option.map(|mut mac| { mac[0] = mac[0] & 0xfe | 2; Mac(mac) }),
        };
        prop_assert_eq!(Frame::parse(&frame.encode()), Ok(frame));
    }

    #[test]
    fn ndp_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), shaped: bool) {
        if shaped && bytes.len() > 21 {
            bytes[12..14].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
            bytes[14] = 0x60;
            bytes[18..22].copy_from_slice(&[0, 32, ICMPV6, HOP_LIMIT]);
        }
        let _ = Frame::parse(&bytes);
    }
}
