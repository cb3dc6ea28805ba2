//! Whether a QUIC server answers at an address, asked without a handshake: a packet of a version that nobody speaks is answered
//! with those that the server does (RFC 9000 section 6). It costs the server no state, and leaves no line in its log.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Smaller ones are dropped (RFC 9000 section 14.1).
const PACKET_BYTES: usize = 1200;
/// Reserved so that servers are made to negotiate (RFC 9000 section 15).
const NO_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];
const CONNECTION_ID_BYTES: usize = 8;
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_millis(700);

/// Asks a few times: one packet may be lost.
pub async fn answers(address: SocketAddr) -> bool {
    let any = if address.is_ipv6() {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    } else {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    };
    let Ok(socket) = UdpSocket::bind(any).await else { return false };
    if socket.connect(address).await.is_err() {
        return false;
    }
    for _ in 0..TRIES {
        let mut answer = [0; PACKET_BYTES];
        let asked = async {
            socket.send(&question(rand::random())).await?;
            socket.recv(&mut answer).await
        };
        if let Ok(Ok(length)) = timeout(PATIENCE, asked).await
            && is_negotiation(&answer[..length])
        {
            return true;
        }
    }
    false
}

fn question(id: [u8; CONNECTION_ID_BYTES]) -> [u8; PACKET_BYTES] {
    let length = [u8::try_from(CONNECTION_ID_BYTES).expect("a small constant")];
    let head = [&[0xc0][..], &NO_VERSION, &length, &id, &length, &id].concat();
    let mut packet = [0; PACKET_BYTES];
    packet[..head.len()].copy_from_slice(&head);
    packet
}

fn is_negotiation(packet: &[u8]) -> bool {
    matches!(packet, [first, 0, 0, 0, 0, ..] if first & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_negotiation_is_an_answer() {
        assert!(is_negotiation(&[0x80, 0, 0, 0, 0, 8]));
        for other in [&[0x40, 0, 0, 0, 0][..], &[0x80, 0, 0, 0, 1], &[0x80], &[]] {
            assert!(!is_negotiation(other), "{other:?}");
        }
        assert_eq!(question([7; 8])[..7], [0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 7]);
    }
}
