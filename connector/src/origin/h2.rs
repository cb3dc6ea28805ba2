//! HTTP/2 to an origin: one connection for many requests, and the upload side of one of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use causeway_daemon::drain::Drain;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};

use super::frames::WithoutEmptyFrames;
use super::io::{Deafness, Io};
use crate::upload::{Piece, Upload};

/// A handle on a live HTTP/2 connection; clones share it.
#[derive(Clone)]
pub(crate) struct H2 {
    requests: SendRequest<Bytes>,
    /// Requests that hold a clone of this, the pool's own not counted.
    in_flight: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

/// Counts one request on its connection.
#[derive(Debug)]
pub(crate) struct InUse(Arc<AtomicUsize>);

impl H2 {
    /// Shakes hands and leaves the connection to a task of the shard.
    pub(crate) async fn new(io: Io, drain: &Drain) -> Result<Self, h2::Error> {
        let (requests, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            // Guards of a server against strangers. Here one visitor who reads slowly, or goes away often, would end the
            // requests of all others on the connection: his own window bounds what he can hold.
            .data_frame_budget(usize::MAX)
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(MAX_RESET_STREAMS)
            .handshake::<_, Bytes>(WithoutEmptyFrames::new(io.when_deaf(Deafness::Swallows)))
            .await?;
        let closed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&closed);
        // A service: a stop waits for the requests on it, not for the idle connection.
        drain.spawn_service("origin h2 connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection to an origin ended");
            }
            flag.store(true, Ordering::Relaxed);
        });
        Ok(Self { requests, in_flight: Arc::default(), closed })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// Whether the origin lets one more request begin.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) < self.requests.current_max_send_streams().max(1)
    }

    pub(crate) fn enter(&self) -> InUse {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(&self.in_flight))
    }

    /// Whether requests may begin on it: no longer once the origin said GOAWAY, long before it closes.
    pub(crate) fn is_open(&mut self) -> bool {
        let ready = self.requests.poll_ready(&mut Context::from_waker(Waker::noop()));
        if matches!(ready, Poll::Ready(Err(_))) {
            self.retire();
        }
        !self.is_closed()
    }

    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until a request may be sent.
    pub(crate) async fn ready(&mut self) -> Result<(), h2::Error> {
        std::future::poll_fn(|cx| self.requests.poll_ready(cx)).await
    }

    pub(crate) fn requests(&mut self) -> &mut SendRequest<Bytes> {
        &mut self.requests
    }

    /// No further request is to use it.
    pub(crate) fn retire(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for H2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H2")
            .field("in_flight", &self.in_flight)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Moves the visitor's body into one HTTP/2 stream. Dropped before its end it resets the stream.
pub(crate) struct Uploading {
    send: SendStream<Bytes>,
    upload: Upload,
    done: bool,
}

impl Uploading {
    /// `done` when the request had no body.
    pub(crate) fn new(send: SendStream<Bytes>, upload: Upload, done: bool) -> Self {
        Self { send, upload, done }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    pub(crate) fn reset(&mut self, reason: Reason) {
        self.send.send_reset(reason);
        self.done = true;
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while !self.done {
            // Only what the origin's window lets go is taken from the upload: the rest can always be sent elsewhere.
            let waiting = ready!(self.upload.poll_waiting(cx));
            let mut room = 0;
            if waiting > 0 {
                self.send.reserve_capacity(waiting);
                room = self.send.capacity();
                if room == 0 {
                    // `None`: the stream is over; its answer says why.
                    self.done = ready!(self.send.poll_capacity(cx)).transpose()?.is_none();
                    continue;
                }
            }
            match ready!(self.upload.poll_piece_of(cx, room)) {
                Some(Ok(Piece::Data(bytes))) => self.send.send_data(bytes, false)?,
                Some(Ok(Piece::Trailers(trailers))) => {
                    self.send.send_trailers(trailers)?;
                    self.done = true;
                }
                // Never a clean end for a body that was cut off (hazard 15).
                Some(Err(_)) => self.reset(Reason::CANCEL),
                None => {
                    self.send.send_data(Bytes::new(), true)?;
                    self.done = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl super::Companion for Uploading {
    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        if !self.done && matches!(self.poll_step(cx), Poll::Ready(Err(_))) {
            // The stream is over; its answer says why.
            self.done = true;
        }
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        if !self.done {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}

impl std::fmt::Debug for Uploading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uploading").field("done", &self.done).finish_non_exhaustive()
    }
}

/// An HTTP/2 answer's body. The origin's window opens again only when a piece has been handed on.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) recv: RecvStream,
    /// Handed out and not given back to the window.
    held: usize,
    data_over: bool,
    /// Read while nobody took it, still in the window's account.
    stash: Stash,
}

impl Download {
    pub(crate) fn new(recv: RecvStream) -> Self {
        Self { recv, held: 0, data_over: false, stash: Stash::default() }
    }

    /// Whether nothing but what was said can follow.
    pub(crate) fn is_over(&self) -> bool {
        self.stash.is_empty() && self.recv.is_end_stream()
    }

    /// Takes what has come, also while nobody can take it further, and joins what is small. h2 keeps a frame of one byte
    /// in hundreds, and frames that small fit into a window in great numbers; the window stays closed for what is held
    /// here.
    pub(crate) fn absorb(&mut self, cx: &mut Context<'_>) {
        while !self.data_over && !self.stash.is_broken() {
            match self.recv.poll_data(cx) {
                Poll::Ready(Some(Ok(bytes))) => self.stash.push(bytes),
                Poll::Ready(Some(Err(error))) => self.stash.broken = Some(error),
                Poll::Ready(None) => self.data_over = true,
                Poll::Pending => return,
            }
        }
    }

    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, h2::Error>>> {
        let held = std::mem::take(&mut self.held);
        if held > 0 {
            // An error means that the stream is over, which the next read says better.
            let _ = self.recv.flow_control().release_capacity(held);
        }
        if self.stash.is_empty() {
            // A burst of small frames goes on as one piece: each alone would cost the tunnel a frame and us a turn.
            self.absorb(cx);
        }
        if let Some(bytes) = self.stash.pop() {
            self.held = bytes.len();
            return Poll::Ready(Some(Ok(Piece::Data(bytes))));
        }
        if let Some(error) = self.stash.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if !self.data_over {
            return Poll::Pending;
        }
        match ready!(self.recv.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Piece::Trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

/// Pieces of a body in order, the small ones joined.
#[derive(Debug, Default)]
struct Stash {
    pieces: VecDeque<Bytes>,
    /// What comes last.
    small: BytesMut,
    /// What came behind all of it.
    broken: Option<h2::Error>,
}

impl Stash {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty() && self.broken.is_none()
    }

    fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    fn push(&mut self, bytes: Bytes) {
        if bytes.len() < JOIN_BELOW_BYTES {
            return self.small.extend_from_slice(&bytes);
        }
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
        self.pieces.push_back(bytes);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let small = |small: &mut BytesMut| (!small.is_empty()).then(|| small.split().freeze());
        self.pieces.pop_front().or_else(|| small(&mut self.small))
    }
}

/// What one answer may hold unread here (hazard 150).
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// As wide as the protocol allows: what slow visitors hold of it would be missing for everybody else, and each of them is
/// bounded by his stream's window.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// Frames from this size on are kept as they are: h2's own memory for one is small beside them.
const JOIN_BELOW_BYTES: usize = 1024;
/// Streams that were reset here and are remembered, so that what was under way for them is dropped without a word.
const MAX_RESET_STREAMS: usize = 1024;
/// What one request may hold unsent here.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Hazard 141.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// An HTTP/2 handshake is a matter of one round trip; it counts into `connectTimeout`'s order of time.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
