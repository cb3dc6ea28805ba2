//! A request body that can be sent once more from its beginning, as long as little of it has flowed.

use std::convert::Infallible;

use bytes::Bytes;
use causeway_tunnel::BodyKind;
use futures_util::FutureExt;
use http::HeaderMap;

use crate::exchange::{InBody, InError};

/// What is kept for a second attempt (hazard 136). The bytes are shared with what was sent, not copied.
const REPLAY_MAX_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct Upload {
    body: InBody,
    kind: BodyKind,
    /// What came from the body so far; `None` once it was too much to keep.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    /// How many of `kept` were handed out in this attempt.
    next: usize,
    /// How the body ended; an error stays one, however often it is asked.
    end: Option<Result<Option<HeaderMap>, InError>>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data(Bytes),
    /// The clean end, with trailers if there were any.
    End(Option<HeaderMap>),
}

impl Upload {
    pub fn new(body: InBody, kind: BodyKind) -> Self {
        Self { body, kind, kept: Some(Vec::new()), kept_bytes: 0, next: 0, end: None }
    }

    /// Whether a new attempt can send the body from its first byte.
    pub fn can_restart(&self) -> bool {
        self.kept.is_some()
    }

    pub fn restart(&mut self) {
        self.next = 0;
    }

    /// Whether the visitor has sent nothing of it yet, as far as we looked.
    pub fn is_untouched(&self) -> bool {
        self.kept.as_ref().is_some_and(Vec::is_empty) && self.end.is_none()
    }

    /// The next piece. Cancel safe.
    pub async fn next(&mut self) -> Result<Piece, InError> {
        if let Some(bytes) = self.kept.as_ref().and_then(|kept| kept.get(self.next)) {
            self.next += 1;
            return Ok(Piece::Data(bytes.clone()));
        }
        loop {
            if let Some(end) = &self.end {
                return end.clone().map(Piece::End);
            }
            match self.body.frame().await {
                None => self.end = Some(Ok(None)),
                Some(Err(error)) => self.end = Some(Err(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => {
                        self.keep(&bytes);
                        return Ok(Piece::Data(bytes));
                    }
                    Err(frame) => self.end = Some(Ok(frame.into_trailers().ok())),
                },
            }
        }
    }

    /// The whole body, if it is here already in one piece: then it travels with the head.
    pub fn whole(&mut self) -> Option<Bytes> {
        use http_body::Body;
        if self.kind == BodyKind::None {
            return Some(Bytes::new());
        }
        let first = self.next().now_or_never();
        let Some(Ok(Piece::Data(bytes))) = first else {
            // Nothing yet, an error or an empty body: the pump meets it again.
            self.restart();
            return None;
        };
        let is_whole = match self.kind {
            BodyKind::Known(length) => length == bytes.len() as u64,
            _ => self.body.is_end_stream(),
        };
        if is_whole && self.kept.as_ref().is_none_or(|kept| kept.len() == 1) {
            return Some(bytes);
        }
        self.unread(bytes);
        None
    }

    /// Never ends: takes in what the visitor sends while the last piece is on its way.
    pub async fn take_in(&mut self) -> Infallible {
        self.body.take_in().await
    }

    /// Reads on and throws away, up to `limit` bytes, so that a visitor who is still sending gets to read the answer.
    pub async fn discard(mut self, limit: usize) {
        let mut seen = 0;
        while seen <= limit {
            match self.body.frame().await {
                Some(Ok(frame)) => seen += frame.data_ref().map_or(0, Bytes::len),
                _ => return,
            }
        }
    }

    fn keep(&mut self, bytes: &Bytes) {
        self.kept_bytes += bytes.len();
        if self.kept_bytes > REPLAY_MAX_BYTES {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(bytes.clone());
            self.next = kept.len();
        }
    }

    /// Puts a piece back that was just taken.
    fn unread(&mut self, bytes: Bytes) {
        // Too long a piece was not kept, but has to be sent: it is kept alone, until the next one comes.
        self.kept.get_or_insert_with(|| vec![bytes]);
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(bytes: &'static [u8], kind: BodyKind) -> Upload {
        Upload::new(InBody::full(Bytes::from_static(bytes)), kind)
    }

    #[tokio::test]
    async fn hazard_136_a_small_body_can_be_sent_again() {
        let mut upload = upload(b"abc", BodyKind::Known(3));
        for _ in 0..3 {
            assert_eq!(upload.next().await, Ok(Piece::Data(Bytes::from_static(b"abc"))));
            assert_eq!(upload.next().await, Ok(Piece::End(None)));
            assert!(upload.can_restart());
            upload.restart();
        }
    }

    #[tokio::test]
    async fn a_large_body_cannot_be_sent_again() {
        let bytes: &'static [u8] = vec![7; REPLAY_MAX_BYTES + 1].leak();
        let mut upload = upload(bytes, BodyKind::Unknown);
        assert_eq!(upload.next().await, Ok(Piece::Data(Bytes::from_static(bytes))));
        assert!(!upload.can_restart());
        assert_eq!(upload.next().await, Ok(Piece::End(None)));
    }

    #[test]
    fn a_body_that_is_here_travels_with_the_head() {
        assert_eq!(upload(b"", BodyKind::None).whole(), Some(Bytes::new()));
        assert_eq!(upload(b"abc", BodyKind::Known(3)).whole(), Some(Bytes::from_static(b"abc")));
        assert_eq!(upload(b"abc", BodyKind::Unknown).whole(), Some(Bytes::from_static(b"abc")));
    }

    #[tokio::test]
    async fn a_body_of_which_a_part_is_here_is_sent_from_its_beginning() {
        let mut upload = upload(b"abc", BodyKind::Known(5));
        assert_eq!(upload.whole(), None);
        assert_eq!(upload.next().await, Ok(Piece::Data(Bytes::from_static(b"abc"))));
    }
}
