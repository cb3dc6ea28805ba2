//! The socket under TLS: its options, what came over it and when, and how much of it one turn of the connection reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::carrier::{Congestion, Traffic};

/// Read at once before the connection's streams and what it has to send have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// What the kernel may hold that is not under way yet: what is small goes before bulk only until it is there.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 32 * 1024;

/// What is given to the kernel at once, and may wait there: so much as the line takes in this time.
const AHEAD: Duration = Duration::from_millis(4);
/// Less would cost more in calls than it saves in time.
const LEAST_BURST_BYTES: usize = 8 * 1024;
/// From here on what waits is over soon, and a larger piece is cheaper.
const MOST_BURST_BYTES: usize = 64 * 1024;
/// So much has to have gone for a look at how fast that was.
const WATCHED_BYTES: usize = 64 * 1024;
/// Who had nothing to write for so long was not held up by the line.
const LULL: Duration = Duration::from_millis(50);

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

/// How much is worth to be written at once, by how fast the line takes it.
#[derive(Debug)]
struct Pace {
    burst: usize,
    /// Written since the last look.
    bytes: usize,
    since: Instant,
    last: Instant,
    is_full: bool,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { burst: MOST_BURST_BYTES, bytes: 0, since: now, last: now, is_full: false }
    }

    fn wrote(&mut self, now: Instant, bytes: usize) {
        if !self.is_full && now.saturating_duration_since(self.last) > LULL {
            (self.bytes, self.since) = (0, now);
        }
        self.bytes += bytes;
        self.last = now;
        self.is_full = false;
    }

    /// The socket takes no more. Says the burst when it is another one now.
    fn full(&mut self, now: Instant) -> Option<usize> {
        self.is_full = true;
        if self.bytes < WATCHED_BYTES {
            return None;
        }
        let took = now.saturating_duration_since(self.since).max(Duration::from_micros(1));
        let burst = self.bytes as u128 * AHEAD.as_micros() / took.as_micros();
        let burst = usize::try_from(burst).unwrap_or(usize::MAX).clamp(LEAST_BURST_BYTES, MOST_BURST_BYTES);
        (self.bytes, self.since) = (0, now);
        (std::mem::replace(&mut self.burst, burst) != burst).then_some(burst)
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
    pace: Pace,
}

impl Socket {
    pub(super) fn new(before: Bytes, stream: TcpStream, meter: Arc<Meter>) -> Self {
        Self { before, stream, meter, turn: 0, pace: Pace::new(Instant::now()) }
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
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = if this.pace.burst < MOST_BURST_BYTES {
            poll_write_apart(&this.stream, cx, slices)
        } else {
            Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
        };
        match &written {
            Poll::Ready(Ok(count @ 1..)) => {
                this.pace.wrote(Instant::now(), *count);
                this.meter.writes.fetch_add(1, Ordering::Relaxed);
            }
            Poll::Ready(_) => {}
            Poll::Pending => this.is_full(),
        }
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
    /// What is worth to be written at once.
    pub(super) fn burst(&self) -> usize {
        self.pace.burst
    }

    fn is_full(&mut self) {
        let Some(burst) = self.pace.full(Instant::now()) else { return };
        #[cfg(target_os = "linux")]
        {
            let unsent = u32::try_from(burst).unwrap_or(UNSENT_BYTES).min(UNSENT_BYTES);
            // It is a hint.
            let _ = SockRef::from(&self.stream).set_tcp_notsent_lowat(unsent);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = burst;
    }
}

/// Writes what the kernel does not join with what waits already. Else it fills segments of 64 KiB before it looks at how much waits,
/// whatever it was told of that.
fn poll_write_apart(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    slices: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let written = stream.try_io(Interest::WRITABLE, || {
            let flags = SendFlags::EOR | SendFlags::NOSIGNAL;
            Ok(sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags)?)
        });
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_is_written_at_once_as_the_line_takes_in_four_milliseconds() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut goes = |kib: usize, ms: u64| {
            pace.wrote(now, kib * 1024);
            now += Duration::from_millis(ms);
            pace.full(now);
            pace.burst
        };
        assert_eq!(goes(32, 13), MOST_BURST_BYTES, "nothing is known yet");
        assert_eq!(goes(32, 13), 64 * 1024 * 4 / 26, "20 Mbit/s");
        assert_eq!(goes(64, 500), LEAST_BURST_BYTES, "1 Mbit/s");
        assert_eq!(goes(1024, 10), MOST_BURST_BYTES, "800 Mbit/s");
    }

    #[test]
    fn a_lull_is_not_the_lines() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        pace.wrote(now, 60 * 1024);
        now += Duration::from_secs(10);
        pace.wrote(now, 128 * 1024);
        now += Duration::from_millis(1);
        assert_eq!(pace.full(now), None);
        assert_eq!(pace.burst, MOST_BURST_BYTES);
        // Who waited for the line is not idle.
        pace.wrote(now + Duration::from_millis(100), 32 * 1024);
        assert_eq!(pace.bytes, 32 * 1024);
        pace.full(now + Duration::from_millis(100));
        pace.wrote(now + Duration::from_millis(600), 32 * 1024);
        assert_eq!(pace.full(now + Duration::from_millis(600)), Some(LEAST_BURST_BYTES));
    }
}
