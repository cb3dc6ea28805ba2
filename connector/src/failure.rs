//! Why a request ended without a whole answer: whose fault, and how the edge learns of it.

use std::error::Error;

use causeway_tunnel::{AbortCode, StreamError};

use crate::headers::FramingError;
use crate::origin::{BodyError, ConnectError};
use crate::patience::Interrupt;
use crate::upgrade::HandshakeError;

/// A request that could not be carried to its end.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: AbortCode,
    pub(crate) blame: Blame,
    /// For the log.
    pub(crate) cause: String,
}

/// Who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The origin, or the rule that leads to it: worth a warning.
    Origin,
    /// The visitor or the edge: usual.
    Visitor,
}

impl Failure {
    pub(crate) fn origin(code: AbortCode, cause: impl Into<String>) -> Self {
        Self { code, blame: Blame::Origin, cause: cause.into() }
    }

    pub(crate) fn visitor(code: AbortCode, cause: impl Into<String>) -> Self {
        Self { code, blame: Blame::Visitor, cause: cause.into() }
    }

    /// A wait that was cut short while the origin was to do `what`.
    pub(crate) fn interrupted(interrupt: Interrupt, what: &str) -> Self {
        match interrupt {
            Interrupt::Gone(_) => Self::visitor(AbortCode::Cancelled, "the visitor went away"),
            Interrupt::Silent => {
                Self::origin(AbortCode::OriginTimeout, format!("the origin did not {what} in time"))
            }
        }
    }

    /// hyper's error on a request or on its answer's body.
    pub(crate) fn h1(error: &hyper::Error, cut_off: Option<AbortCode>) -> Self {
        match cut_off {
            Some(code) => Self::visitor(code, "the visitor's body was cut off"),
            None if error.is_parse() || error.is_parse_too_large() => Self::origin(
                AbortCode::OriginProtocol,
                format!("the origin's answer is not HTTP: {}", chain(error)),
            ),
            None => Self::origin(AbortCode::OriginReset, format!("the origin broke off: {}", chain(error))),
        }
    }

    /// An answer's body that broke off.
    pub(crate) fn body(error: &BodyError, cut_off: Option<AbortCode>) -> Self {
        match error {
            BodyError::H1(error) => Self::h1(error, cut_off),
            BodyError::H2(error) => Self::h2(error, cut_off),
        }
    }

    /// h2's.
    pub(crate) fn h2(error: &h2::Error, cut_off: Option<AbortCode>) -> Self {
        match cut_off {
            Some(code) => Self::visitor(code, "the visitor's body was cut off"),
            None if error.is_library() => {
                Self::origin(AbortCode::OriginProtocol, format!("the origin broke HTTP/2: {}", chain(error)))
            }
            None => Self::origin(AbortCode::OriginReset, format!("the origin broke off: {}", chain(error))),
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Malformed(malformed) => Self::origin(
                AbortCode::TooLarge,
                format!("the answer does not fit the tunnel: {}", malformed.0),
            ),
            other => Self::visitor(AbortCode::Cancelled, other.to_string()),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::origin(error.code(), chain(&error))
    }
}

impl From<FramingError> for Failure {
    fn from(error: FramingError) -> Self {
        Self::origin(AbortCode::OriginProtocol, error.to_string())
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        Self::origin(AbortCode::OriginProtocol, error.to_string())
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
