//! The one handle with which a stream is answered, shared by its request, its body and its informational responses.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;

use crate::exchange::InterimSink;

pub(super) struct Responder(Mutex<SendResponse<Bytes>>);

impl Responder {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Self {
        Self(Mutex::new(respond))
    }

    /// Ready when the visitor reset the stream, or is gone.
    pub(super) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        self.0.lock().poll_reset(cx)
    }

    /// Sends the final head.
    pub(super) fn respond(
        &self,
        response: Response<()>,
        is_end: bool,
    ) -> Result<SendStream<Bytes>, h2::Error> {
        self.0.lock().send_response(response, is_end)
    }

    pub(super) fn reset(&self, reason: Reason) {
        self.0.lock().send_reset(reason);
    }
}

impl InterimSink for Responder {
    fn interim(&self, status: StatusCode, headers: HeaderMap) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        // Refused after the final head, and on a stream that is gone: then there is nobody to inform.
        let _ = self.0.lock().send_informational(response);
    }
}
