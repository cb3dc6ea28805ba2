//! What two processes of an edge say to each other, and the descriptors that go with it.
//!
//! A message is its length (4 bytes, big endian), which carries the descriptors, and JSON.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use causeway_tunnel::TunnelId;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// In the order in which they are said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    /// Successor: it wants to take over.
    Hello { version: u32, software: String },
    /// Predecessor, instead of all that follows.
    Refused { reason: String },
    /// Predecessor: the lock of the data folder (one descriptor).
    Lock,
    /// Predecessor: the admin port's listener (one descriptor).
    Admin,
    /// Predecessor: a listener (one descriptor).
    Tcp { kind: Kind, shard: u16 },
    /// Predecessor: a socket of QUIC, and the ways to those who have connections on it (a descriptor for each).
    Udp { shard: u16, marks: Vec<[u8; 4]> },
    /// Predecessor: that was all. These tunnels have sessions that can come over before the visitors.
    All { shards: u16, tunnels: Vec<TunnelId> },
    /// Successor: it is ready to read the UDP sockets.
    TakeSessions,
    /// Predecessor: it reads them no more, and has told its connectors.
    Given,
    /// Successor: it accepts visitors.
    TakeVisitors,
    /// Predecessor: it accepts none any more.
    Gone,
}

/// What a TCP listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Https,
    Http,
    Tunnel,
}

/// Of this conversation. Another one cannot be held, and the upgrade is then a restart.
pub(super) const VERSION: u32 = 1;

/// Each step is a matter of milliseconds but for the start of the successor, which opens the store and reads certificates.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_BYTES: usize = 1024 * 1024;
/// A socket and the ways of a hundred processes that still have connections on it.
const MAX_DESCRIPTORS: usize = 128;

#[derive(Debug)]
pub(super) struct Wire(UnixStream);

impl Wire {
    /// # Errors
    /// When the stream cannot be set up.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// # Errors
    /// When the other end is gone or does not listen.
    pub(super) fn say(&mut self, said: &Said, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(said)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_be_bytes();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many processes of this edge are alive"));
        }
        // Four bytes are sent whole.
        sendmsg(&self.0, &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)?;
        self.0.write_all(&text)
    }

    /// # Errors
    /// When the other end is gone ([`io::ErrorKind::UnexpectedEof`]), says nothing in time, or what is no message.
    pub(super) fn hear(&mut self) -> io::Result<(Said, Vec<OwnedFd>)> {
        let mut length = [0; 4];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut room);
        let came = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut length)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
        )?;
        if came.bytes < length.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                descriptors.extend(files);
            }
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message too long"));
        }
        let mut text = vec![0; length];
        self.0.read_exact(&mut text)?;
        Ok((serde_json::from_slice(&text)?, descriptors))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_come_with_their_message() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut here, mut there) = (Wire::new(here).unwrap(), Wire::new(there).unwrap());
        let (mut pipe, other) = UnixStream::pair().unwrap();
        here.say(&Said::Hello { version: VERSION, software: "x".repeat(300) }, &[]).unwrap();
        here.say(&Said::Udp { shard: 3, marks: vec![[1; 4]] }, &[other.as_fd(), other.as_fd()]).unwrap();
        here.say(&Said::All { shards: 4, tunnels: Vec::new() }, &[]).unwrap();
        let (said, descriptors) = there.hear().unwrap();
        assert!(matches!(said, Said::Hello { .. }) && descriptors.is_empty());
        let (said, descriptors) = there.hear().unwrap();
        assert!(matches!(said, Said::Udp { shard: 3, .. }), "{said:?}");
        assert_eq!(descriptors.len(), 2);
        assert!(matches!(there.hear().unwrap().0, Said::All { shards: 4, .. }));
        drop(other);
        UnixStream::from(descriptors.into_iter().next().unwrap()).write_all(b"whole").unwrap();
        let mut came = String::new();
        pipe.read_to_string(&mut came).unwrap();
        assert_eq!(came, "whole");
        drop(here);
        assert_eq!(there.hear().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
