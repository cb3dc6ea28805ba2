//! What is said of a message that must not go further.

use http::StatusCode;

/// A message that must not go further: the status to answer with, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({status})")]
pub struct Refusal {
    pub status: StatusCode,
    /// One of a fixed set: fit for a metric's label.
    pub reason: &'static str,
}

impl Refusal {
    pub const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }

    pub const fn bad(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }
}
