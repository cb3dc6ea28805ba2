//! An answer's body, whichever protocol brings it.

use std::task::{Context, Poll};

use hyper::body::Incoming;

use super::h1::poll_incoming;
use super::h2::Download;
use crate::upload::Piece;

pub(crate) enum AnswerBody {
    H1(Incoming),
    H2(Download),
}

/// It broke off.
pub(crate) enum BodyError {
    H1(hyper::Error),
    H2(h2::Error),
}

impl AnswerBody {
    /// The next piece; `None` is the clean end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        match self {
            Self::H1(body) => poll_incoming(body, cx).map_err(BodyError::H1),
            Self::H2(body) => body.poll_piece(cx).map_err(BodyError::H2),
        }
    }

    /// Whether trailers may still follow a body of known length: over HTTP/2 they may.
    pub(crate) fn is_cut_short(&self) -> bool {
        matches!(self, Self::H2(body) if !body.is_over())
    }

    /// Whether it is read from the origin also while nobody asks for it.
    pub(crate) fn comes_unasked(&self) -> bool {
        matches!(self, Self::H2(_))
    }

    /// Nobody takes it now: see [`Download::absorb`]. hyper reads no further by itself.
    pub(crate) fn absorb(&mut self, cx: &mut Context<'_>) {
        if let Self::H2(body) = self {
            body.absorb(cx);
        }
    }
}
