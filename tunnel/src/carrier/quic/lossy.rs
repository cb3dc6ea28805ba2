//! Two real connections over sockets that exist only in memory, and delay, lose and reorder: by tokio's clock, which tests pause.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, EndpointConfig, TokioRuntime, TransportConfig, UdpPoller, VarInt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustls::crypto::aws_lc_rs::default_provider;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Connection, transport};
use crate::carrier::memory::Line;
use crate::carrier::{ALPN, Congestion};
use crate::certificates::Certificates;
use crate::identity::{EdgeIdentity, PinVerifier, SERVER_NAME};
use crate::limits::KEEP_ALIVE;

/// Both ends' inboxes: of the dialler, of the listener.
#[derive(Debug)]
pub(crate) struct Air {
    line: Line,
    rng: StdRng,
    inboxes: [Inbox; 2],
    sent: u64,
    pub(crate) is_cut: bool,
    /// Longer datagrams vanish, as they do on a path that is narrower than it says.
    pub(crate) mtu: usize,
}

#[derive(Debug, Default)]
struct Inbox {
    under_way: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    reader: Option<Waker>,
}

#[derive(Debug)]
struct Socket {
    air: Arc<Mutex<Air>>,
    /// Which inbox is its own.
    own: usize,
    timer: Mutex<Pin<Box<Sleep>>>,
}

/// The dialler's end, the listener's, and what is between them. Small windows, so that everything has to wait now and then.
pub(crate) async fn pair(line: Line, streams: u32) -> (Connection, Connection, Arc<Mutex<Air>>) {
    let rng = StdRng::seed_from_u64(line.seed);
    let inboxes = [Inbox::default(), Inbox::default()];
    let air = Arc::new(Mutex::new(Air { line, rng, inboxes, sent: 0, is_cut: false, mtu: usize::MAX }));
    let provider = Arc::new(default_provider());
    let identity = EdgeIdentity::ephemeral();
    let server_tls = Certificates::of(&identity).into_config(Arc::clone(&provider)).unwrap();
    let mut server =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server_tls).unwrap()));
    server.transport_config(windows(line, 1, None));
    let verifier = PinVerifier { pin: identity.pin(), provider: Arc::clone(&provider) };
    let mut client_tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    client_tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client_tls).unwrap()));
    client.transport_config(windows(line, streams, Some(KEEP_ALIVE)));
    let endpoint = |own, server| {
        let timer = Mutex::new(Box::pin(sleep_until(Instant::now())));
        let socket = Arc::new(Socket { air: Arc::clone(&air), own, timer });
        let runtime = Arc::new(TokioRuntime);
        quinn::Endpoint::new_with_abstract_socket(EndpointConfig::default(), server, socket, runtime).unwrap()
    };
    let (dialler, listener) = (endpoint(0, None), endpoint(1, Some(server)));
    let dialled = dialler.connect_with(client, address(1), SERVER_NAME).unwrap();
    let answered = async { listener.accept().await.unwrap().await };
    let (dialled, answered) = tokio::join!(dialled, answered);
    let dialled = Connection::new(dialled.unwrap(), Some(dialler));
    (dialled, Connection::new(answered.unwrap(), Some(listener)), air)
}

fn windows(line: Line, streams: u32, keep_alive: Option<Duration>) -> Arc<TransportConfig> {
    let mut config = transport::common(Congestion::Auto);
    let window = VarInt::try_from(line.stream_window_bytes).unwrap();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .stream_receive_window(window)
        // Less than all streams may want: they wait for both.
        .receive_window(VarInt::try_from(line.stream_window_bytes * 2).unwrap())
        .send_window(line.stream_window_bytes * 3)
        .keep_alive_interval(keep_alive);
    Arc::new(config)
}

fn address(inbox: usize) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, if inbox == 0 { 1 } else { 2 }).into()
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut air = self.air.lock();
        let is_lost = air.rng.random_range(0..1000) < air.line.loss_permille;
        if is_lost || air.is_cut || transmit.contents.len() > air.mtu {
            return Ok(());
        }
        let jitter = u64::try_from(air.line.jitter.as_nanos()).unwrap_or(u64::MAX);
        let due = Instant::now() + air.line.delay + Duration::from_nanos(air.rng.random_range(0..=jitter));
        air.sent += 1;
        let number = air.sent;
        let inbox = &mut air.inboxes[1 - self.own];
        inbox.under_way.push(Reverse((due, number, transmit.contents.to_vec())));
        inbox.reader.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut air = self.air.lock();
            let inbox = &mut air.inboxes[self.own];
            let Some(Reverse((due, ..))) = inbox.under_way.peek() else {
                inbox.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if *due <= Instant::now() {
                let Some(Reverse((_, _, bytes))) = inbox.under_way.pop() else { continue };
                bufs[0][..bytes.len()].copy_from_slice(&bytes);
                meta[0] = RecvMeta {
                    addr: address(1 - self.own),
                    len: bytes.len(),
                    stride: bytes.len(),
                    ..RecvMeta::default()
                };
                return Poll::Ready(Ok(1));
            }
            // One that is sent later may arrive sooner.
            inbox.reader = Some(cx.waker().clone());
            let due = *due;
            drop(air);
            let mut timer = self.timer.lock();
            timer.as_mut().reset(due);
            ready!(timer.as_mut().poll(cx));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address(self.own))
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use tokio::time::timeout;

    use super::*;

    const PIECES: usize = 1000;
    const PIECE_BYTES: usize = 16 * 1024;

    /// A transfer from the listener, in whose middle the path becomes narrower than what it was found to take.
    #[tokio::test(start_paused = true)]
    async fn a_transfer_goes_on_when_its_path_takes_only_shorter_packets() {
        for mtu in [1300, 1200] {
            let line = Line { loss_permille: 0, jitter: Duration::ZERO, ..Line::default() };
            let (dialler, listener, air) = pair(line, 8).await;
            let (mut send, _recv) = listener.open().await.unwrap();
            let found = || usize::from(listener.connection.stats().path.current_mtu);
            let sending = async {
                for _ in 0..PIECES {
                    let mut piece = [Bytes::from(vec![7; PIECE_BYTES])];
                    poll_fn(|cx| send.poll_write(cx, &mut piece)).await.unwrap();
                }
                send.finish();
            };
            let receiving = async {
                let (_send, mut recv) = dialler.accept().await.unwrap();
                let mut bytes = 0;
                while poll_fn(|cx| recv.poll_read(cx, |piece| bytes += piece.len())).await.unwrap() {
                    // Most of it is not sent yet.
                    if bytes > PIECES * PIECE_BYTES / 8 && air.lock().mtu > mtu {
                        assert!(found() > 1400, "the path is found to take more: {}", found());
                        air.lock().mtu = mtu;
                    }
                }
                bytes
            };
            let both = async { tokio::join!(sending, receiving) };
            let (_, bytes) = timeout(Duration::from_secs(20), both).await.expect("it goes on");
            assert_eq!(bytes, PIECES * PIECE_BYTES);
            assert!(found() <= mtu, "{} bytes a packet", found());
        }
    }
}
