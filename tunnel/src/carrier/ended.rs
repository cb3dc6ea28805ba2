//! How a connection, or one direction of a stream, came to its end.

use std::fmt;

use crate::code::{AbortCode, CloseCode};

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// One of the two programs closed it.
    ByPeer(CloseCode, String),
    ByUs,
    /// Nothing was heard for [`crate::limits::IDLE_TIMEOUT`].
    Silent,
    /// The peer does not know this session: it was started anew.
    Forgotten,
    /// The transport broke.
    Broken(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer(code, reason) => write!(f, "closed by the peer ({code:?}): {reason}"),
            Self::ByUs => f.write_str("closed by this side"),
            Self::Silent => f.write_str("the peer fell silent"),
            Self::Forgotten => f.write_str("the peer was started anew and does not know this session"),
            Self::Broken(reason) => write!(f, "transport error: {reason}"),
        }
    }
}

/// One direction of a stream ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The peer gave up: it reset its sending, or stopped its reading.
    #[error("aborted by the peer: {0}")]
    Aborted(AbortCode),
    #[error("the session was lost: {0}")]
    Lost(Closed),
}

/// A datagram was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    #[error("the session's carrier or its peer knows no datagrams")]
    None,
    #[error("the datagram is longer than the path takes")]
    TooLong,
    #[error("the session has ended: {0}")]
    Lost(Closed),
}
