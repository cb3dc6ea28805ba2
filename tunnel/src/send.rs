//! The sending half of a request stream: heads, body and a clean end, or an abort.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use quinn::{StoppedError, VarInt, WriteError};

use crate::code::AbortCode;
use crate::fields;
use crate::frame::{Kind, put_header};
use crate::head::{RequestHead, ResponseHead, encode_interim};
use crate::limits::{MAX_HEAD_BYTES, MAX_TRAILER_BYTES};
use crate::raw::RawSend;
use crate::session::{InFlight, StreamError, closed};
use crate::wire::{Malformed, varint_len};

/// What goes out together with a head, in the same write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// The head alone: body, trailers and end follow (or an upgrade's answer does).
    More,
    /// The whole body (it may be empty) and the end.
    Only(Bytes),
}

/// Sends one message. Dropped before its end it aborts with [`AbortCode::Cancelled`].
///
/// The `async` methods are not cancel safe: a cancelled write may have sent a part of a frame, so give the stream up.
pub struct SendStream {
    /// `None` once it was turned into raw bytes.
    stream: Option<quinn::SendStream>,
    /// Memory for heads and frame headers, reused over frames.
    scratch: BytesMut,
    in_flight: Option<Arc<InFlight>>,
    /// END or an abort was sent.
    ended: bool,
}

impl SendStream {
    pub(crate) fn new(stream: quinn::SendStream, in_flight: Arc<InFlight>) -> Self {
        Self { stream: Some(stream), scratch: BytesMut::new(), in_flight: Some(in_flight), ended: false }
    }

    /// # Errors
    /// When the head is longer than the protocol allows (nothing is sent), the peer gave up or the session is lost.
    pub async fn request(&mut self, head: &RequestHead, first: First) -> Result<(), StreamError> {
        let mut payload = BytesMut::with_capacity(512);
        head.encode(&mut payload);
        self.head(Kind::Request, &payload, first).await
    }

    /// # Errors
    /// As [`SendStream::request`].
    pub async fn response(&mut self, head: &ResponseHead, first: First) -> Result<(), StreamError> {
        let mut payload = BytesMut::with_capacity(512);
        head.encode(&mut payload);
        self.head(Kind::Response, &payload, first).await
    }

    /// Sends an interim (1xx) answer.
    ///
    /// # Errors
    /// As [`SendStream::request`].
    pub async fn interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), StreamError> {
        let mut payload = BytesMut::new();
        encode_interim(&mut payload, status, headers);
        self.head(Kind::Interim, &payload, First::More).await
    }

    /// Sends body bytes without copying them.
    ///
    /// # Errors
    /// When the peer gave up or the session is lost.
    pub async fn data(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if bytes.is_empty() {
            return Ok(());
        }
        put_header(&mut self.scratch, Kind::Data, bytes.len() as u64);
        let header = self.scratch.split().freeze();
        self.write(&mut [header, bytes]).await
    }

    /// # Errors
    /// As [`SendStream::request`].
    pub async fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), StreamError> {
        let mut payload = BytesMut::new();
        fields::encode(&mut payload, trailers);
        if payload.len() > MAX_TRAILER_BYTES {
            return Err(StreamError::Malformed(Malformed("trailers are longer than the tunnel allows")));
        }
        put_header(&mut self.scratch, Kind::Trailers, payload.len() as u64);
        let header = self.scratch.split().freeze();
        self.write(&mut [header, payload.freeze()]).await
    }

    /// The message is whole.
    ///
    /// # Errors
    /// When the peer gave up or the session is lost.
    pub async fn end(&mut self) -> Result<(), StreamError> {
        put_header(&mut self.scratch, Kind::End, 0);
        let end = self.scratch.split().freeze();
        self.write(&mut [end]).await?;
        self.finish();
        Ok(())
    }

    /// Gives up: the peer sees a reset, never a short body. Does nothing after the end.
    pub fn abort(&mut self, code: AbortCode) {
        if let Some(stream) = self.stream.as_mut().filter(|_| !self.ended) {
            // An error means that the stream is over already.
            let _ = stream.reset(VarInt::from_u32(code.to_u32()));
            self.ended = true;
        }
    }

    /// Resolves when the peer stops reading, with its code, or when the session is lost ([`AbortCode::Cancelled`]);
    /// with `None` when the peer has received everything. Independent of the stream's borrow and cancel safe.
    pub fn stopped(&self) -> impl Future<Output = Option<AbortCode>> + Send + 'static {
        let stopped = self.stream.as_ref().map(quinn::SendStream::stopped);
        async move {
            match stopped?.await {
                Ok(Some(code)) => Some(AbortCode::from_u64(code.into_inner())),
                Ok(None) => None,
                Err(StoppedError::ConnectionLost(_) | StoppedError::ZeroRttRejected) => {
                    Some(AbortCode::Cancelled)
                }
            }
        }
    }

    /// Switches to raw bytes, after an upgrade was accepted.
    pub fn into_raw(mut self) -> RawSend {
        self.ended = true;
        let stream = self.stream.take().expect("a stream is turned raw once");
        RawSend::new(stream, self.in_flight.take().expect("held as long as the stream"))
    }

    async fn head(&mut self, kind: Kind, payload: &BytesMut, first: First) -> Result<(), StreamError> {
        if payload.len() > MAX_HEAD_BYTES {
            return Err(StreamError::Malformed(Malformed("a head is longer than the tunnel allows")));
        }
        self.scratch.reserve(1 + varint_len(payload.len() as u64) + payload.len() + 16);
        put_header(&mut self.scratch, kind, payload.len() as u64);
        self.scratch.extend_from_slice(payload);
        let First::Only(body) = first else {
            let head = self.scratch.split().freeze();
            return self.write(&mut [head]).await;
        };
        if !body.is_empty() {
            put_header(&mut self.scratch, Kind::Data, body.len() as u64);
        }
        let head = self.scratch.split().freeze();
        put_header(&mut self.scratch, Kind::End, 0);
        let end = self.scratch.split().freeze();
        self.write(&mut [head, body, end]).await?;
        self.finish();
        Ok(())
    }

    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamError> {
        let stream = self.stream.as_mut().expect("a raw stream has no frames");
        write_chunks(stream, chunks).await
    }

    fn finish(&mut self) {
        if let Some(stream) = &mut self.stream {
            // An error means that the peer stopped reading: it does not need the end.
            let _ = stream.finish();
        }
        self.ended = true;
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        // quinn would finish the stream: that is a clean end, which only END may be.
        self.abort(AbortCode::Cancelled);
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Writes all of `chunks`, until the peer stops reading.
///
/// quinn alone does not see to the latter: a writer that waits for its stream's window and the session's at once is woken by
/// STOP_SENDING, finds the session's still closed, waits for that, and is never woken again, since a stream whose own window
/// is closed is not told of the session's opening.
pub(crate) async fn write_chunks(
    stream: &mut quinn::SendStream,
    chunks: &mut [Bytes],
) -> Result<(), StreamError> {
    let stopped = stream.stopped();
    tokio::select! {
        biased;
        written = stream.write_all_chunks(chunks) => written.map_err(|error| write_error(&error)),
        stopped = stopped => Err(match stopped {
            Ok(Some(code)) => StreamError::Aborted(AbortCode::from_u64(code.into_inner())),
            Err(StoppedError::ConnectionLost(error)) => StreamError::Lost(closed(&error)),
            Ok(None) | Err(StoppedError::ZeroRttRejected) => StreamError::Aborted(AbortCode::Cancelled),
        }),
    }
}

pub(crate) fn write_error(error: &WriteError) -> StreamError {
    match error {
        WriteError::Stopped(code) => StreamError::Aborted(AbortCode::from_u64(code.into_inner())),
        WriteError::ConnectionLost(error) => StreamError::Lost(closed(error)),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamError::Aborted(AbortCode::Cancelled),
    }
}
