//! One AF_PACKET socket per interface: frames of ARP and neighbour discovery in, any frame out. NET_RAW suffices.
//!
//! The kernel filters ([`filter`]), so the process wakes only for frames that may concern it.
//! The socket asks for all multicast, since the group of a VIP is not one that the kernel itself has joined,
//! and on demand for promiscuous mode (some wireless drivers drop broadcasts of sleeping stations otherwise).

mod filter;
mod sys;

use std::{
    io::{self, Read, Write},
    task::{Context, Poll},
};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::io::unix::AsyncFd;

/// Longer frames are cut: what we read has at most 14 + 40 + 24 bytes and options.
pub(crate) const MAX_FRAME_BYTES: usize = 512;

/// Bytes of backlog per interface: about 150 frames, so that a flood is dropped by the kernel and not stored here.
const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// Frames for this station, broadcasts and all multicast.
    AllMulticast,
    /// Whatever passes the wire.
    Promiscuous,
}

/// A raw socket bound to one interface.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: AsyncFd<RawSocket>,
}

impl Socket {
    /// Opens a socket on the interface with this index.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_RAW; `NotFound`-like errors (ENXIO, ENODEV) when the interface is gone.
    pub(crate) fn open(index: u32, listen: Listen) -> io::Result<Self> {
        // Protocol 0 receives nothing: the filter is in place before bind names the protocol.
        let socket =
            RawSocket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(0)))?;
        socket.attach_filter(&filter::neighbour_frames())?;
        // Not every kernel grants the wish; the default is larger anyway.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        sys::join(&socket, index, listen)?;
        sys::bind(&socket, index)?;
        Ok(Self { inner: sys::watch(socket)? })
    }

    /// Waits for a frame.
    ///
    /// # Errors
    /// `NetworkDown` when the link goes down (the socket lives on), others when the interface is removed.
    pub(crate) fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = std::task::ready!(self.inner.poll_read_ready(cx))?;
            if let Ok(result) = ready.try_io(|socket| socket.get_ref().read(buffer)) {
                return Poll::Ready(result);
            }
        }
    }

    /// Sends one frame at once, or fails: nothing is queued here.
    ///
    /// # Errors
    /// `NetworkDown` on a link without carrier; `WouldBlock` when the device queue is full.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.inner.get_ref().write(frame).map(drop)
    }
}
