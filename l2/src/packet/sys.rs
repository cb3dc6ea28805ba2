//! The calls that have no safe face: the only unsafe code that is shipped.
#![expect(
    unsafe_code,
    reason = "sockaddr_ll, packet_mreq and AsyncFd::register have no safe form in socket2, tokio or std"
)]

use std::{io, os::fd::AsRawFd};

use socket2::{SockAddr, SockAddrStorage, Socket};

use tokio::io::unix::AsyncFd;

use super::Listen;

/// Hands the socket to the runtime's poller.
pub(super) fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a socket2 socket owns its descriptor, returns the same one from every `as_raw_fd`, and closes it only
    // when it is dropped, which AsyncFd does after deregistering.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// Binds to one interface for all protocols; the filter chooses.
pub(super) fn bind(socket: &Socket, index: u32) -> io::Result<()> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is plain data without padding requirements beyond sockaddr_storage, which is at least as
    // large and as aligned; all its bit patterns are valid, and the storage is zeroed.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = family();
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("ETH_P_ALL is 3").to_be();
    address.sll_ifindex = signed(index)?;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("20 bytes");
    // SAFETY: the storage holds a sockaddr_ll of exactly this length with its family set.
    let address = unsafe { SockAddr::new(storage, length) };
    socket.bind(&address)
}

/// Widens what the interface delivers, for as long as the socket lives.
pub(super) fn join(socket: &Socket, index: u32, listen: Listen) -> io::Result<()> {
    let kind = match listen {
        Listen::AllMulticast => libc::PACKET_MR_ALLMULTI,
        Listen::Promiscuous => libc::PACKET_MR_PROMISC,
    };
    let request = libc::packet_mreq {
        mr_ifindex: signed(index)?,
        mr_type: u16::try_from(kind).expect("a small constant"),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // SAFETY: the descriptor is open for the call's duration (borrowed from `socket`); the pointer and the length
    // describe `request`, which outlives the call, and the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            libc::socklen_t::try_from(size_of::<libc::packet_mreq>()).expect("16 bytes"),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn family() -> u16 {
    u16::try_from(libc::AF_PACKET).expect("AF_PACKET is 17")
}

fn signed(index: u32) -> io::Result<i32> {
    i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}
