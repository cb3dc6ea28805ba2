//! The socket under TLS: its options, what came over it and when, and how much of it one turn of the connection reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::carrier::{Congestion, Traffic};

/// Read at once before the connection's streams and what it has to send have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// What the kernel may hold that is not under way yet: what is small goes before bulk only until it is there.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 32 * 1024;

/// What has passed over a socket.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    /// Milliseconds from then to when something last came.
    heard: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Meter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            heard: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        })
    }

    pub(super) fn arrivals(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(super) fn heard(&self) -> Instant {
        self.since + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    pub(super) fn traffic(&self) -> Traffic {
        let sends = self.writes.load(Ordering::Relaxed);
        Traffic { datagrams_sent: sends, sends, datagrams_received: self.arrivals(), packets_lost: 0 }
    }

    fn read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let since = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(since, Ordering::Relaxed);
    }
}

/// A socket, in front of which stands what was read of it before.
#[derive(Debug)]
pub(super) struct Socket {
    before: Bytes,
    stream: TcpStream,
    meter: Arc<Meter>,
    /// Read since it last had nothing to read.
    turn: usize,
}

impl Socket {
    pub(super) fn new(before: Bytes, stream: TcpStream, meter: Arc<Meter>) -> Self {
        Self { before, stream, meter, turn: 0 }
    }
}

/// What a socket is to be like that carries a tunnel.
pub(super) fn set_options(stream: &TcpStream, congestion: Congestion) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // A connection has its own signs of life.
    socket.set_keepalive(false)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(crate::limits::IDLE_TIMEOUT))?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
        // With little under way, a line that comes back is tried again soon.
        socket.set_tcp_thin_linear_timeouts(true)?;
        let name: &[u8] = match congestion {
            Congestion::Auto | Congestion::Bbr => b"bbr",
            Congestion::Cubic => b"cubic",
        };
        // A kernel without it takes its own.
        let _ = socket.set_tcp_congestion(name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = congestion;
    Ok(())
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.before.is_empty() {
            let count = this.before.len().min(buf.remaining());
            buf.put_slice(&this.before[..count]);
            this.before.advance(count);
            return Poll::Ready(Ok(()));
        }
        if this.turn >= TURN_BYTES {
            this.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) else {
            this.turn = 0;
            return Poll::Pending;
        };
        let count = buf.filled().len() - before;
        if count > 0 {
            this.turn += count;
            this.meter.read();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Socket {
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(1..)) = written {
            self.meter.writes.fetch_add(1, Ordering::Relaxed);
        }
    }
}
