//! The byte stream to an origin: TCP or a Unix socket, with or without TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

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
}

impl Io {
    pub(crate) fn plain(socket: Socket) -> Self {
        Self { layer: Layer::Plain(socket), watch: Arc::default() }
    }

    pub(crate) fn tls(stream: TlsStream<Socket>) -> Self {
        Self { layer: Layer::Tls(Box::new(stream)), watch: Arc::default() }
    }

    pub(crate) fn watch(&self) -> Arc<IoWatch> {
        Arc::clone(&self.watch)
    }

    /// Whether TLS agreed on HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        matches!(&self.layer, Layer::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// Whether closing the connection is a reset, where an end in good order would make look whole what is not.
    pub(crate) fn set_reset_on_close(&self, reset: bool) {
        if let Socket::Tcp(tcp) = self.socket() {
            // An error means that the connection is gone.
            let _ = socket2::SockRef::from(tcp).set_linger(reset.then_some(Duration::ZERO));
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

    /// The next read that would wait looks at the socket itself first.
    pub(crate) fn verify(&self) {
        self.verify.store(true, Ordering::Relaxed);
    }
}

impl Socket {
    /// Whether the peer has closed its side, as the kernel knows it now.
    fn is_closed(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        let peeked = match self {
            Self::Tcp(tcp) => socket2::SockRef::from(tcp).peek(&mut byte),
            Self::Unix(unix) => socket2::SockRef::from(unix).peek(&mut byte),
        };
        match peeked {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
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
        let polled = match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Layer::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        if polled.is_pending() {
            if self.watch.verify.swap(false, Ordering::Relaxed) && self.socket().is_closed() {
                return Poll::Ready(Ok(()));
            }
            return Poll::Pending;
        }
        let count = (buf.filled().len() - before) as u64;
        self.watch.read.store(self.watch.bytes_read() + count, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Layer::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Layer::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            // Sockets have nothing to flush.
            Layer::Plain(_) => Poll::Ready(Ok(())),
            Layer::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Layer::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
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

/// As much as one read takes from a socket at once.
const SCRATCH_BYTES: usize = 32 * 1024;
