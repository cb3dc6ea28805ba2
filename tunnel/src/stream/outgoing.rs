//! What a stream is to send, as bytes that wait to be written in order. No I/O.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use super::fields;
use super::frame::{FrameType, put_header};
use super::head::{RequestHead, ResponseHead, encode_interim};
use super::wire::{Malformed, put_varint, varint_len};
use crate::limits::{MAX_HEAD_BYTES, MAX_TRAILER_BYTES};
use crate::opening::Opening;

/// What goes out together with a head, in the same write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// The head alone: body, trailers and end follow (or an upgrade's answer does).
    More,
    /// The whole body (it may be empty) and the end.
    Only(Bytes),
}

/// Memory that most heads fit into.
const USUAL_HEAD_BYTES: usize = 512;

/// Whatever is put in is sent, in this order, whether or not who put it in waits for that.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Memory for heads and frame headers, reused over frames.
    scratch: BytesMut,
    chunks: Vec<Bytes>,
    /// END is among the chunks, or was: nothing may follow.
    is_ended: bool,
}

impl Outgoing {
    /// # Errors
    /// When the head is longer than the protocol allows: nothing is sent of it. So too below.
    pub(super) fn opening(
        &mut self,
        opening: &Opening,
        answer_window: u64,
        first: First,
    ) -> Result<(), Malformed> {
        let mut payload = BytesMut::with_capacity(USUAL_HEAD_BYTES);
        put_varint(&mut payload, answer_window);
        let frame = opening.encode(&mut payload);
        self.head(frame, &payload, first)
    }

    pub(super) fn request(
        &mut self,
        head: &RequestHead,
        answer_window: u64,
        first: First,
    ) -> Result<(), Malformed> {
        let mut payload = BytesMut::with_capacity(USUAL_HEAD_BYTES);
        put_varint(&mut payload, answer_window);
        head.encode(&mut payload);
        self.head(FrameType::Request, &payload, first)
    }

    pub(super) fn response(&mut self, head: &ResponseHead, first: First) -> Result<(), Malformed> {
        let mut payload = BytesMut::with_capacity(USUAL_HEAD_BYTES);
        head.encode(&mut payload);
        self.head(FrameType::Response, &payload, first)
    }

    pub(super) fn interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Malformed> {
        let mut payload = BytesMut::new();
        encode_interim(&mut payload, status, headers);
        self.head(FrameType::Interim, &payload, First::More)
    }

    pub(super) fn data(&mut self, bytes: Bytes) {
        debug_assert!(!self.is_ended, "nothing may follow END");
        if !bytes.is_empty() {
            put_header(&mut self.scratch, FrameType::Data, bytes.len() as u64);
            self.chunks.extend([self.scratch.split().freeze(), bytes]);
        }
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), Malformed> {
        debug_assert!(!self.is_ended, "nothing may follow END");
        let mut payload = BytesMut::new();
        fields::encode(&mut payload, trailers);
        if payload.len() > MAX_TRAILER_BYTES {
            return Err(Malformed("trailers are longer than the tunnel allows"));
        }
        put_header(&mut self.scratch, FrameType::Trailers, payload.len() as u64);
        self.chunks.extend([self.scratch.split().freeze(), payload.freeze()]);
        Ok(())
    }

    pub(super) fn end(&mut self) {
        if !self.is_ended {
            put_header(&mut self.scratch, FrameType::End, 0);
            self.chunks.push(self.scratch.split().freeze());
            self.is_ended = true;
        }
    }

    /// What is to be written; the writer takes from the fronts what it has written.
    pub(super) fn chunks(&mut self) -> &mut [Bytes] {
        &mut self.chunks
    }

    /// Everything has been written. Says whether END was the last of it.
    pub(super) fn written(&mut self) -> bool {
        self.chunks.clear();
        self.is_ended
    }

    pub(super) fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    fn head(&mut self, frame: FrameType, payload: &BytesMut, first: First) -> Result<(), Malformed> {
        if payload.len() > MAX_HEAD_BYTES {
            return Err(Malformed("a head is longer than the tunnel allows"));
        }
        self.scratch.reserve(1 + varint_len(payload.len() as u64) + payload.len() + 16);
        put_header(&mut self.scratch, frame, payload.len() as u64);
        self.scratch.extend_from_slice(payload);
        let First::Only(body) = first else {
            self.chunks.push(self.scratch.split().freeze());
            return Ok(());
        };
        if !body.is_empty() {
            put_header(&mut self.scratch, FrameType::Data, body.len() as u64);
        }
        self.chunks.extend([self.scratch.split().freeze(), body]);
        self.end();
        Ok(())
    }
}
