//! One HTTP/1.1 connection to an origin, polled by the very task that uses it: no task and no queue of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::io::{Deafness, Io, IoWatch};
use crate::upload::RequestBody;

/// A connection that carries one request at a time.
pub(crate) struct H1 {
    sender: SendRequest<RequestBody>,
    connection: Connection<TokioIo<Io>, RequestBody>,
    watch: Arc<IoWatch>,
    /// Set once the connection has ended, for good or ill.
    over: bool,
    /// What [`IoWatch::bytes_read`] said when the current request was sent.
    read_before: u64,
}

/// The answer to [`H1::send`], to be awaited while the connection is polled.
pub(crate) type PendingAnswer = Pin<
    Box<dyn Future<Output = Result<http::Response<Incoming>, TrySendError<Request<RequestBody>>>> + Send>,
>;

impl H1 {
    pub(crate) async fn new(io: Io) -> Result<Self, hyper::Error> {
        let watch = io.watch();
        let (sender, connection) = Builder::new()
            .max_headers(MAX_RESPONSE_FIELDS)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_BUFFER_BYTES)
            // "Name : value": RFC 9112 section 5.1 has a proxy remove the space of an answer.
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(TokioIo::new(io.when_deaf(Deafness::Waits)))
            .await?;
        Ok(Self { sender, connection, watch, over: false, read_before: 0 })
    }

    pub(crate) fn send(&mut self, request: Request<RequestBody>) -> PendingAnswer {
        self.read_before = self.watch.bytes_read();
        Box::pin(self.sender.try_send_request(request))
    }

    /// Moves bytes both ways. Must be polled for anything to happen.
    pub(crate) fn poll_connection(&mut self, cx: &mut Context<'_>) {
        if !self.over {
            // Its error reaches the answer or the body as well, where it is dealt with.
            self.over = Pin::new(&mut self.connection).poll(cx).is_ready();
        }
    }

    /// Whether the origin has answered nothing at all to the current request.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.watch.bytes_read() == self.read_before
    }

    /// Whether another request may be sent. Bytes behind the answer, a close or an unfinished body say no (hazards
    /// 54, 143). Leaves no waker behind, so that the pool does not keep a finished task's memory.
    pub(crate) fn is_reusable(&mut self) -> bool {
        self.poll_connection(&mut Context::from_waker(Waker::noop()));
        !self.over && self.sender.is_ready() && !self.watch.is_deaf()
    }

    /// [`H1::is_reusable`] that asks the kernel as well whether the origin has closed.
    pub(crate) fn is_surely_reusable(&mut self) -> bool {
        self.watch.verify();
        self.is_reusable()
    }

    /// The byte stream itself and what was read ahead of it, after a 101.
    pub(crate) fn into_io(self) -> (Io, Bytes) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner().when_deaf(Deafness::Fails), parts.read_buf)
    }
}

impl std::fmt::Debug for H1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H1").field("over", &self.over).finish_non_exhaustive()
    }
}

impl super::Companion for H1 {
    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        self.poll_connection(cx);
    }

    fn is_deaf(&self) -> bool {
        self.over || self.watch.is_deaf()
    }
}

/// The pieces of an HTTP/1.1 answer's body.
pub(super) fn poll_incoming(
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<crate::upload::Piece, hyper::Error>>> {
    use http_body::Body;
    Pin::new(body).poll_frame(cx).map_ok(|frame| match frame.into_data() {
        Ok(bytes) => crate::upload::Piece::Data(bytes),
        Err(frame) => crate::upload::Piece::Trailers(frame.into_trailers().unwrap_or_default()),
    })
}

/// Hazard 141.
const MAX_RESPONSE_FIELDS: usize = 200;
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// What hyper may read ahead of us (hazard 150).
const MAX_BUFFER_BYTES: usize = 64 * 1024;
