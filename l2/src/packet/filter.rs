//! The classic BPF program that lets ARP and neighbour discovery through.

use socket2::SockFilter;

/// Bytes handed on of an accepted frame.
const SNAP: u32 = 512;
const _: () = assert!(SNAP as usize == super::MAX_FRAME_BYTES, "a frame fits the buffer it is read into");

// Opcodes of linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;
// Ancillary data of linux/filter.h: offsets from SKF_AD_OFF (-0x1000).
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;

/// Accepts: for us, broadcast or multicast; untagged; ARP, or ICMPv6 solicitation or advertisement.
///
/// Outgoing frames (type 4) and frames for other stations (type 3) end here. A tagged frame must not be seen on the
/// parent interface: the tag is out of the bytes by then, and an answer would reach another network.
pub(super) fn neighbour_frames() -> [SockFilter; 14] {
    let op = SockFilter::new;
    [
        op(LOAD_WORD, 0, 0, PACKET_TYPE),
        op(JUMP_GREATER, 11, 0, 2), // → drop
        op(LOAD_WORD, 0, 0, VLAN_TAG_PRESENT),
        op(JUMP_EQUAL, 0, 9, 0), // tagged → drop
        op(LOAD_HALF, 0, 0, 12),
        op(JUMP_EQUAL, 6, 0, 0x0806), // ARP → accept
        op(JUMP_EQUAL, 0, 6, 0x86dd), // not IPv6 → drop
        op(LOAD_BYTE, 0, 0, 20),      // next header
        op(JUMP_EQUAL, 0, 4, 58),     // not ICMPv6 → drop
        op(LOAD_BYTE, 0, 0, 54),      // ICMP type
        op(JUMP_EQUAL, 1, 0, 135),    // → accept
        op(JUMP_EQUAL, 0, 1, 136),    // → accept, else drop
        op(RETURN, 0, 0, SNAP),
        op(RETURN, 0, 0, 0),
    ]
}
