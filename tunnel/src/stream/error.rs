//! One direction of a stream ended before its END.

use super::wire::Malformed;
use crate::carrier::{Closed, Ended};
use crate::code::AbortCode;
use crate::flow::Broken;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer gave up.
    #[error("aborted by the peer: {0}")]
    Aborted(AbortCode),
    #[error("the session was lost: {0}")]
    Lost(Closed),
    #[error("the peer broke the protocol: {}", .0.0)]
    Malformed(Malformed),
}

impl StreamError {
    /// The code for the other leg of this request.
    pub fn code(&self) -> AbortCode {
        match self {
            Self::Aborted(code) => *code,
            Self::Lost(_) => AbortCode::Cancelled,
            Self::Malformed(_) => AbortCode::Protocol,
        }
    }
}

impl From<Malformed> for StreamError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Broken> for StreamError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Ended(ended) => ended.into(),
            Broken::Exceeded => Self::Malformed(Malformed("more was sent than was granted")),
        }
    }
}

impl From<Ended> for StreamError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Aborted(code) => Self::Aborted(code),
            Ended::Lost(closed) => Self::Lost(closed),
        }
    }
}
