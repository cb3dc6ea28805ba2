//! The byte stream to an origin: TCP or a Unix socket, with or without TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::room::Permit;

/// What bytes go through.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection to an origin.
#[derive(Debug)]
pub(crate) struct Io {
    layer: Layer,
    watch: Arc<IoWatch>,
    deafness: Deafness,
    /// Its share of the origin's limit.
    permit: Option<Permit>,
}

/// What becomes of writes to an origin that takes nothing any more. Its answer may lie in the socket already (413, then a
/// close): whoever drives the connection must read that to its end before he hears of the failed write. The end is an
/// error then, so that an answer that was cut off never looks whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deafness {
    /// They fail.
    Fails,
    /// They wait: hyper reads beside them.
    Waits,
    /// They are swallowed: h2 does not read while it cannot write.
    Swallows,
}

#[derive(Debug)]
enum Layer {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// What the pool wants to know of a connection that hyper holds. Written and read by one task; atomic only because
/// that task may be any.
#[derive(Debug, Default)]
pub(crate) struct IoWatch {
    /// Bytes read from the origin so far.
    read: AtomicU64,
    /// Ask the kernel at the next read that finds nothing: the reactor may not have heard of a FIN yet.
    verify: AtomicBool,
    /// A write failed: the origin takes nothing any more.
    deaf: AtomicBool,
}

impl Io {
    pub(crate) fn plain(socket: Socket) -> Self {
        Self::new(Layer::Plain(socket))
    }

    pub(crate) fn tls(stream: TlsStream<Socket>) -> Self {
        Self::new(Layer::Tls(Box::new(stream)))
    }

    fn new(layer: Layer) -> Self {
        Self { layer, watch: Arc::default(), deafness: Deafness::Fails, permit: None }
    }

    /// Counts the connection for as long as it is open.
    pub(crate) fn holding(self, permit: Permit) -> Self {
        Self { permit: Some(permit), ..self }
    }

    pub(crate) fn when_deaf(self, deafness: Deafness) -> Self {
        Self { deafness, ..self }
    }

    pub(crate) fn watch(&self) -> Arc<IoWatch> {
        Arc::clone(&self.watch)
    }

    /// Whether TLS agreed on HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        matches!(&self.layer, Layer::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// Whom it leads to, where that is an address.
    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        match self.socket() {
            Socket::Tcp(tcp) => tcp.peer_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// Whether closing the connection is a reset, where an end in good order would make look whole what is not.
    pub(crate) fn set_reset_on_close(&self, reset: bool) {
        if let Socket::Tcp(tcp) = self.socket() {
            // An error means that the connection is gone.
            let _ = socket2::SockRef::from(tcp).set_linger(reset.then_some(Duration::ZERO));
        }
    }

    /// The outcome of a write as the driver of the connection is to see it.
    fn written(&self, outcome: Poll<io::Result<usize>>, whole: usize) -> Poll<io::Result<usize>> {
        let is_lost = match &outcome {
            Poll::Ready(Err(error)) => is_loss(error),
            // Whatever a dead socket says next.
            _ => self.watch.is_deaf(),
        };
        if !is_lost || self.deafness == Deafness::Fails {
            return outcome;
        }
        self.watch.deaf.store(true, Ordering::Relaxed);
        match self.deafness {
            Deafness::Swallows => Poll::Ready(Ok(whole)),
            // The socket is dead in both directions: its reader is woken, and ends all this.
            _ => Poll::Pending,
        }
    }

    fn socket(&self) -> &Socket {
        match &self.layer {
            Layer::Plain(socket) => socket,
            Layer::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl IoWatch {
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether a write failed: nothing more of an upload is worth sending.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// The next read that would wait looks at the socket itself first.
    pub(crate) fn verify(&self) {
        self.verify.store(true, Ordering::Relaxed);
    }
}

impl Socket {
    /// What the peer's side has come to, as the kernel knows it now.
    fn poll_closed(&self) -> Poll<io::Result<()>> {
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        let peeked = match self {
            Self::Tcp(tcp) => socket2::SockRef::from(tcp).peek(&mut byte),
            Self::Unix(unix) => socket2::SockRef::from(unix).peek(&mut byte),
        };
        match peeked {
            Ok(0) => Poll::Ready(Ok(())),
            Ok(_) => Poll::Pending,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Layer {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = if self.permit.as_ref().is_some_and(Permit::is_one_of_many) {
            let part = buf.remaining().min(LITTLE_BYTES);
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(part));
            let polled = self.layer.poll_read(cx, &mut part);
            let count = part.filled().len();
            buf.advance(count);
            polled
        } else {
            self.layer.poll_read(cx, buf)
        };
        if polled.is_pending() {
            if self.watch.verify.swap(false, Ordering::Relaxed) {
                return self.socket().poll_closed();
            }
            return Poll::Pending;
        }
        let count = (buf.filled().len() - before) as u64;
        // The error that a reset leaves behind is told once, and the failed write has heard it. TLS has an end of its own.
        let is_end = count == 0 && buf.remaining() > 0 && matches!(polled, Poll::Ready(Ok(())));
        if is_end && self.watch.is_deaf() && matches!(self.layer, Layer::Plain(_)) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.watch.read.store(self.watch.bytes_read() + count, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Layer::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        };
        self.written(outcome, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Layer::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        self.written(outcome, bufs.iter().map(|buf| buf.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            // Sockets have nothing to flush.
            Layer::Plain(_) => Poll::Ready(Ok(())),
            Layer::Tls(tls) => {
                let outcome = Pin::new(tls).poll_flush(cx).map_ok(|()| 0);
                self.written(outcome, 0).map_ok(|_| ())
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Layer::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// The peer is gone, or closed its side and answered our bytes with a reset.
fn is_loss(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}

/// Reads what is there into memory of its right size. Nothing is held while there is nothing to read, so an idle
/// WebSocket costs no buffer. `None` is the end.
pub(crate) fn poll_read_bytes<R: AsyncRead + Unpin>(
    io: &mut R,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Option<bytes::Bytes>>> {
    thread_local! {
        static SCRATCH: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; SCRATCH_BYTES]);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(io).poll_read(cx, &mut buf))?;
        let filled = buf.filled();
        Poll::Ready(Ok((!filled.is_empty()).then(|| bytes::Bytes::copy_from_slice(filled))))
    })
}

/// What one of many connections takes at once: hyper's buffer grows when a read fills it, and stays at 32 KiB by this.
const LITTLE_BYTES: usize = 32 * 1024 - 1;
/// As much as one read takes from a socket at once.
const SCRATCH_BYTES: usize = 32 * 1024;
