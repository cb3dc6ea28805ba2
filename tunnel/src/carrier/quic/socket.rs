//! UDP sockets with the buffers that QUIC needs, and a report of what the kernel granted.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::UDP_BUFFER_BYTES;

/// Whether other sockets may share the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// One of several shards: the kernel spreads peers over them (SO_REUSEPORT).
    Port,
    Alone,
}

/// What the kernel gave; shown once at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpReport {
    pub recv_buffer_bytes: usize,
    pub send_buffer_bytes: usize,
    /// Datagrams that one system call can send; at 1 every byte costs two to three times as much.
    pub gso_segments: usize,
}

impl UdpReport {
    /// What an operator should change, if anything.
    pub fn advice(&self) -> Option<String> {
        if self.gso_segments <= 1 {
            return Some(
                "the kernel offers no UDP segmentation offload (GSO): throughput will cost two to three times the CPU"
                    .to_owned(),
            );
        }
        let smallest = self.recv_buffer_bytes.min(self.send_buffer_bytes);
        (smallest < UDP_BUFFER_BYTES).then(|| {
            format!(
                "UDP buffers are {} KiB, packets may be lost under load: sysctl -w net.core.rmem_max={UDP_BUFFER_BYTES} net.core.wmem_max={UDP_BUFFER_BYTES}",
                smallest / 1024
            )
        })
    }
}

/// Binds a UDP socket. An IPv6 wildcard takes IPv4 too.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr, reuse: Reuse) -> io::Result<(UdpSocket, UdpReport)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if reuse == Reuse::Port {
        socket.set_reuse_port(true)?;
    }
    // Larger buffers than the kernel's limit are a wish: what it grants is in the report.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from(socket);
    let report = report(&socket)?;
    Ok((socket, report))
}

fn report(socket: &UdpSocket) -> io::Result<UdpReport> {
    let options = socket2::SockRef::from(socket);
    let state = quinn::udp::UdpSocketState::new(socket.into())?;
    Ok(UdpReport {
        recv_buffer_bytes: options.recv_buffer_size()?,
        send_buffer_bytes: options.send_buffer_size()?,
        gso_segments: state.max_gso_segments(),
    })
}
