//! The wire form of foca's messages.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, State};

use super::Identity;
use super::wire::{self, Cut};

/// The codec of foca's headers and member updates.
#[derive(Clone, Copy, Debug)]
pub(super) struct SwimCodec;

impl Codec<Identity> for SwimCodec {
    type Error = Cut;

    fn encode_header(&mut self, header: &Header<Identity>, mut buf: impl BufMut) -> Result<(), Cut> {
        wire::put_identity(&mut buf, &header.src);
        buf.put_u16(header.src_incarnation);
        wire::put_identity(&mut buf, &header.dst);
        let (kind, number, other) = match &header.message {
            Message::Ping(number) => (0, *number, None),
            Message::Ack(number) => (1, *number, None),
            Message::PingReq { target, probe_number } => (2, *probe_number, Some(target)),
            Message::IndirectPing { origin, probe_number } => (3, *probe_number, Some(origin)),
            Message::IndirectAck { target, probe_number } => (4, *probe_number, Some(target)),
            Message::ForwardedAck { origin, probe_number } => (5, *probe_number, Some(origin)),
            Message::Announce => (6, 0, None),
            Message::Feed => (7, 0, None),
            Message::Gossip => (8, 0, None),
            Message::Broadcast => (9, 0, None),
            Message::TurnUndead => (10, 0, None),
        };
        buf.put_u8(kind);
        buf.put_u8(number);
        if let Some(other) = other {
            wire::put_identity(&mut buf, other);
        }
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, Cut> {
        let src = wire::identity(&mut buf)?;
        let src_incarnation = wire::u16(&mut buf)?;
        let dst = wire::identity(&mut buf)?;
        let kind = wire::u8(&mut buf)?;
        let probe_number = wire::u8(&mut buf)?;
        let message = match kind {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq { target: wire::identity(&mut buf)?, probe_number },
            3 => Message::IndirectPing { origin: wire::identity(&mut buf)?, probe_number },
            4 => Message::IndirectAck { target: wire::identity(&mut buf)?, probe_number },
            5 => Message::ForwardedAck { origin: wire::identity(&mut buf)?, probe_number },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            10 => Message::TurnUndead,
            _ => return Err(Cut),
        };
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<Identity>, mut buf: impl BufMut) -> Result<(), Cut> {
        // foca stops adding members when one does not fit, so the room is asked for first.
        if buf.remaining_mut() < wire::identity_bytes(member.id()) + 3 {
            return Err(Cut);
        }
        wire::put_identity(&mut buf, member.id());
        buf.put_u16(member.incarnation());
        buf.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, Cut> {
        let id = wire::identity(&mut buf)?;
        let incarnation = wire::u16(&mut buf)?;
        let state = match wire::u8(&mut buf)? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(Cut),
        };
        Ok(Member::new(id, incarnation, state))
    }
}
