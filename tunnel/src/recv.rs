//! The receiving half of a request stream: heads, body frames and the explicit end.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use quinn::{ReadError, VarInt};

use crate::code::AbortCode;
use crate::frame::{Decoder, Event, Frame, Kind, Malformed};
use crate::head::{RequestHead, ResponseHead, decode_interim, decode_trailers};
use crate::limits::MAX_INTERIM;
use crate::raw::RawRecv;
use crate::session::{InFlight, StreamError, closed};

/// One step of an answer's heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Interim(StatusCode, HeaderMap),
    Final(ResponseHead),
}

/// Receives one message. Dropped before its end it tells the peer to stop ([`AbortCode::Cancelled`]).
pub struct RecvStream {
    /// `None` once it was turned into raw bytes.
    stream: Option<quinn::RecvStream>,
    decoder: Decoder,
    stage: Stage,
    in_flight: Option<Arc<InFlight>>,
}

/// Which frames may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A head; so many interim answers were seen.
    Head(usize),
    Body,
    /// Trailers were seen: only END may follow.
    Trailers,
    /// END was seen, or an error.
    Over,
}

impl RecvStream {
    pub(crate) fn new(stream: quinn::RecvStream, in_flight: Arc<InFlight>) -> Self {
        Self {
            stream: Some(stream),
            decoder: Decoder::new(),
            stage: Stage::Head(0),
            in_flight: Some(in_flight),
        }
    }

    /// The request's head: the first thing a connector reads. Cancel safe.
    ///
    /// # Errors
    /// When the peer gave up, broke the protocol, or the session is lost.
    pub async fn request(&mut self) -> Result<RequestHead, StreamError> {
        match poll_fn(|cx| self.poll_event(cx)).await? {
            Event::Block(Kind::Request, payload) => {
                self.stage = Stage::Body;
                Ok(RequestHead::decode(payload)?)
            }
            _ => Err(Malformed("a request stream does not begin with REQUEST").into()),
        }
    }

    /// The next interim answer or the final head. Cancel safe.
    ///
    /// # Errors
    /// As [`RecvStream::request`].
    pub async fn response(&mut self) -> Result<Answer, StreamError> {
        let event = poll_fn(|cx| self.poll_event(cx)).await?;
        match (self.stage, event) {
            (Stage::Head(seen), Event::Block(Kind::Interim, payload)) if seen < MAX_INTERIM => {
                self.stage = Stage::Head(seen + 1);
                let (status, headers) = decode_interim(payload)?;
                Ok(Answer::Interim(status, headers))
            }
            (Stage::Head(_), Event::Block(Kind::Response, payload)) => {
                self.stage = Stage::Body;
                Ok(Answer::Final(ResponseHead::decode(payload)?))
            }
            _ => Err(Malformed("not an answer's head, or too many interim ones").into()),
        }
    }

    /// The next body frame; after [`Frame::End`] nothing more may be asked for. Cancel safe.
    ///
    /// # Errors
    /// As [`RecvStream::request`]. A stream that ends without END is an error.
    pub async fn frame(&mut self) -> Result<Frame, StreamError> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// [`RecvStream::frame`] for those who poll.
    ///
    /// # Errors
    /// As [`RecvStream::frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, StreamError>> {
        let event = ready!(self.poll_event(cx))?;
        Poll::Ready(match (self.stage, event) {
            (Stage::Body, Event::Data(bytes)) => Ok(Frame::Data(bytes)),
            (Stage::Body, Event::Block(Kind::Trailers, payload)) => {
                self.stage = Stage::Trailers;
                decode_trailers(payload).map(Frame::Trailers).map_err(StreamError::from)
            }
            (Stage::Body | Stage::Trailers, Event::End) => {
                self.read_fin(cx);
                self.stage = Stage::Over;
                Ok(Frame::End)
            }
            _ => Err(Malformed("frames out of order").into()),
        })
    }

    /// Whether the message has come to its clean end.
    pub fn is_ended(&self) -> bool {
        self.decoder.is_ended()
    }

    /// Gives up reading: the peer's writes fail with `code`. Does nothing after the end.
    pub fn stop(&mut self, code: AbortCode) {
        if let Some(stream) = self.stream.as_mut().filter(|_| self.stage != Stage::Over) {
            // An error means that the stream is over already.
            let _ = stream.stop(VarInt::from_u32(code.to_u32()));
            self.stage = Stage::Over;
        }
    }

    /// Switches to raw bytes, after an upgrade was accepted; what was read ahead comes first.
    pub fn into_raw(mut self) -> RawRecv {
        self.stage = Stage::Over;
        let stream = self.stream.take().expect("a stream is turned raw once");
        let rest = std::mem::take(&mut self.decoder).into_rest();
        RawRecv::new(stream, rest, self.in_flight.take().expect("held as long as the stream"))
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, StreamError>> {
        loop {
            if let Some(event) = self.decoder.next_event()? {
                return Poll::Ready(Ok(event));
            }
            let stream = self.stream.as_mut().expect("a raw stream has no frames");
            match ready!(poll_chunks(stream, cx, |bytes| self.decoder.feed(bytes))) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Err(Malformed("a stream ended without END").into())),
                Err(error) => {
                    self.stage = Stage::Over;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// END and FIN travel together: taking the FIN now saves a needless STOP_SENDING when the stream is dropped.
    fn read_fin(&mut self, cx: &mut Context<'_>) {
        if let Some(stream) = &mut self.stream {
            let _ = poll_chunks(stream, cx, |_| {});
        }
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.stop(AbortCode::Cancelled);
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// Takes what has arrived, many chunks at a time: one call a chunk doubles the cost of a bulk transfer.
/// `Ok(false)` is FIN.
pub(crate) fn poll_chunks(
    stream: &mut quinn::RecvStream,
    cx: &mut Context<'_>,
    mut take: impl FnMut(Bytes),
) -> Poll<Result<bool, StreamError>> {
    let mut chunks: [Bytes; CHUNKS_A_READ] = [const { Bytes::new() }; CHUNKS_A_READ];
    // The future holds nothing but the borrow, so that it may be made anew for each poll.
    let read = ready!(pin!(stream.read_chunks(&mut chunks)).poll(cx));
    Poll::Ready(match read {
        Ok(Some(count)) => {
            chunks.into_iter().take(count).for_each(&mut take);
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(ReadError::Reset(code)) => Err(StreamError::Aborted(AbortCode::from_u64(code.into_inner()))),
        Err(ReadError::ConnectionLost(error)) => Err(StreamError::Lost(closed(&error))),
        Err(_) => Err(StreamError::Aborted(AbortCode::Cancelled)),
    })
}

const CHUNKS_A_READ: usize = 32;
