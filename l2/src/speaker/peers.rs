//! The sockets between speakers: sealed datagrams over UDP, and the second look at a suspect over TCP.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use crate::membership::{Verdict, seal::Seal};

/// Larger than any datagram of ours.
pub(super) const MAX_DATAGRAM_BYTES: usize = 1500;
/// How long a suspect has to answer; shorter than the shortest suspicion.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(150);
/// Strangers at the TCP port hold a place so long at most.
const SERVE: Duration = Duration::from_millis(500);
/// Looks served at a time.
const SERVED: usize = 64;
const PING: &[u8; 8] = b"alive?\r\n";
const PONG: &[u8; 8] = b"alive!\r\n";
/// A sealed ping or pong.
const FRAME_BYTES: usize = PING.len() + crate::membership::seal::OVERHEAD_BYTES;

/// One process's sealed sockets.
#[derive(Debug)]
pub(super) struct Peers {
    udp: UdpSocket,
    seal: Arc<Mutex<Seal>>,
}

impl Peers {
    /// Binds UDP and TCP and starts to serve second looks in `tasks`. Port 0 takes one that is free for both.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(super) async fn bind(addr: SocketAddr, secret: &[u8], tasks: &mut JoinSet<()>) -> io::Result<Self> {
        let tcp = TcpListener::bind(addr).await?;
        let udp = UdpSocket::bind(tcp.local_addr()?).await?;
        let seal = Arc::new(Mutex::new(Seal::new(secret)));
        tasks.spawn(serve(tcp, seal.clone()));
        Ok(Self { udp, seal })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Sends, or drops: a datagram may be lost anyway.
    pub(super) fn send(&self, to: SocketAddr, data: &[u8]) {
        let sealed = self.seal.lock().seal(data);
        let _ = self.udp.try_send_to(&sealed, to);
    }

    /// Waits for a datagram. Cancel safe.
    ///
    /// # Errors
    /// What the socket says, such as an ICMP answer to something sent before.
    pub(super) async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.udp.recv_from(buffer).await
    }

    /// Takes a datagram that is already here.
    pub(super) fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.udp.try_recv_from(buffer)
    }

    /// The content of a datagram, if a speaker with our secret sealed it.
    pub(super) fn open<'a>(&self, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        self.seal.lock().open(datagram).ok()
    }

    /// Asks a suspect over TCP whether it lives.
    pub(super) fn look(&self, at: SocketAddr) -> impl Future<Output = Verdict> + Send + 'static {
        let seal = self.seal.clone();
        async move {
            match timeout(SECOND_LOOK, ask(at, &seal)).await {
                Ok(Ok(())) => Verdict::Alive,
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Verdict::Refused,
                Ok(Err(_)) | Err(_) => Verdict::Silent,
            }
        }
    }
}

async fn ask(at: SocketAddr, seal: &Mutex<Seal>) -> io::Result<()> {
    let mut stream = TcpStream::connect(at).await?;
    let ping = seal.lock().seal(PING);
    stream.write_all(&ping).await?;
    expect(&mut stream, seal, PONG).await
}

async fn expect(stream: &mut TcpStream, seal: &Mutex<Seal>, wanted: &[u8]) -> io::Result<()> {
    let mut frame = [0; FRAME_BYTES];
    stream.read_exact(&mut frame).await?;
    let sound = seal.lock().open(&mut frame).is_ok_and(|plain| plain == wanted);
    if sound { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

async fn serve(listener: TcpListener, seal: Arc<Mutex<Seal>>) {
    let places = Arc::new(Semaphore::new(SERVED));
    let mut served = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await; // out of descriptors
            continue;
        };
        let seal = seal.clone();
        served.spawn(async move {
            let _place = place;
            let _ = timeout(SERVE, async {
                expect(&mut stream, &seal, PING).await?;
                let pong = seal.lock().seal(PONG);
                stream.write_all(&pong).await
            })
            .await;
        });
        while served.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_look_tells_the_living_from_the_gone_and_the_silent() {
        let mut tasks = JoinSet::new();
        let peer = Peers::bind("127.0.0.1:0".parse().unwrap(), b"secret", &mut tasks).await.unwrap();
        let asker = Peers::bind("127.0.0.1:0".parse().unwrap(), b"secret", &mut tasks).await.unwrap();
        let addr = peer.local_addr().unwrap();
        assert_eq!(asker.look(addr).await, Verdict::Alive);
        let stranger = Peers::bind("127.0.0.1:0".parse().unwrap(), b"other", &mut tasks).await.unwrap();
        assert_eq!(stranger.look(addr).await, Verdict::Silent, "without the secret there is no answer");

        // Accepted by the kernel, answered by nobody: a stopped process.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(asker.look(silent.local_addr().unwrap()).await, Verdict::Silent);
        let gone = silent.local_addr().unwrap();
        drop(silent);
        assert_eq!(asker.look(gone).await, Verdict::Refused);
    }
}
