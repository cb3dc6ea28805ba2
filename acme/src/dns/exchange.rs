//! One DNS message to one server and its answer, over UDP or TCP; what the bytes say is no matter here.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("cannot reach it: {0}")]
    Unreachable(#[source] io::Error),
    #[error("it does not answer")]
    Silent,
    #[error("the connection broke off: {0}")]
    Broken(#[source] io::Error),
    #[error("the message has {0} bytes, and DNS takes {MAX_MESSAGE}")]
    TooLarge(usize),
}

/// Asks over UDP, and over TCP when the answer does not fit or none comes.
pub(crate) async fn ask(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, ExchangeError> {
    if message.len() > MAX_UDP {
        return over_tcp(server, message).await;
    }
    match over_udp(server, message).await {
        Ok(answer) if !is_truncated(&answer) => Ok(answer),
        // Where UDP is filtered TCP often is not.
        Ok(_) | Err(_) => over_tcp(server, message).await,
    }
}

/// Hands over what changes something: over TCP, where nobody beside the path can answer in the server's place; over UDP
/// where the server takes no connections.
pub(crate) async fn deliver(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, ExchangeError> {
    match over_tcp(server, message).await {
        Err(ExchangeError::Unreachable(_)) if message.len() <= MAX_UDP => over_udp(server, message).await,
        other => other,
    }
}

async fn over_udp(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, ExchangeError> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(ExchangeError::Unreachable)?;
    // Connected: the kernel drops what comes from elsewhere.
    socket.connect(server).await.map_err(ExchangeError::Unreachable)?;
    let mut buffer = vec![0; MAX_MESSAGE];
    for _ in 0..UDP_ATTEMPTS {
        socket.send(message).await.map_err(ExchangeError::Unreachable)?;
        let answered = async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                // A late or a foreign answer has another number.
                if length > 2 && message.get(..2) == buffer.get(..2) {
                    return Ok(length);
                }
            }
        };
        match timeout(UDP_PATIENCE, answered).await {
            Ok(Ok(length)) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Ok(Err(error)) => return Err(ExchangeError::Unreachable(error)),
            Err(_) => {}
        }
    }
    Err(ExchangeError::Silent)
}

async fn over_tcp(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, ExchangeError> {
    let length = u16::try_from(message.len()).map_err(|_| ExchangeError::TooLarge(message.len()))?;
    let mut stream = match timeout(CONNECT_PATIENCE, TcpStream::connect(server)).await {
        Ok(connected) => connected.map_err(ExchangeError::Unreachable)?,
        Err(_) => return Err(ExchangeError::Unreachable(io::ErrorKind::TimedOut.into())),
    };
    let exchanged = async {
        let mut framed = Vec::with_capacity(message.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(message);
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    match timeout(TCP_PATIENCE, exchanged).await {
        Ok(exchanged) => exchanged.map_err(ExchangeError::Broken),
        Err(_) => Err(ExchangeError::Silent),
    }
}

/// The TC bit of the header.
fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// What every server and every path takes in a datagram (RFC 1035 §2.3.4).
const MAX_UDP: usize = 512;
/// What the two bytes of length before a message over TCP can say.
const MAX_MESSAGE: usize = 65_535;
/// A lost datagram is sent once more; after that TCP is tried.
const UDP_ATTEMPTS: usize = 2;
/// Resolvers that must ask others first need a second or so.
const UDP_PATIENCE: Duration = Duration::from_secs(2);
const CONNECT_PATIENCE: Duration = Duration::from_secs(4);
/// A primary writes its journal before it answers an update.
const TCP_PATIENCE: Duration = Duration::from_secs(10);
