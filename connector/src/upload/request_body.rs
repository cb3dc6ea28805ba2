//! The visitor's body as hyper reads it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use causeway_tunnel::BodyKind;
use http_body::SizeHint;

use super::{CutOff, Piece, Upload};

/// What hyper reads the body from: the upload, or nothing when there is no body.
#[derive(Debug)]
pub(crate) struct RequestBody(pub(super) Option<Upload>);

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, CutOff>>> {
        let Some(upload) = &self.0 else { return Poll::Ready(None) };
        upload.poll_piece(cx).map_ok(|piece| match piece {
            Piece::Data(bytes) => http_body::Frame::data(bytes),
            Piece::Trailers(trailers) => http_body::Frame::trailers(trailers),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_ref().map(Upload::kind) {
            None | Some(BodyKind::None) => SizeHint::with_exact(0),
            Some(BodyKind::Known(length)) => SizeHint::with_exact(length),
            Some(BodyKind::Unknown) => SizeHint::default(),
        }
    }
}
