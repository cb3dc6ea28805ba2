//! Why a request got no answer from its origin; the one place where that becomes a status and a page.

use causeway_tunnel::{AbortCode, Executed, StreamError};
use http::{Response, StatusCode};

use crate::exchange::{InError, OutBody};
use crate::http::page::{Hop, Page, Pages};
use crate::record::Record;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No tunnel is granted this name.
    UnknownHost,
    /// TLS of this name does not end here, and this visitor's did.
    Elsewhere,
    /// The tunnel is connected, but no rule of its connectors has this name.
    NotAnnounced,
    /// The tunnel has no session that could be tried.
    NoConnector,
    /// No stream could be opened: nothing was sent.
    NotOpened,
    /// The connector takes no more streams for now: nothing was sent.
    Crowded,
    /// The visitor's household has its share of the tunnel's streams.
    Share,
    /// The connector gave the request up.
    Aborted(AbortCode),
    /// The session died under the request.
    Lost,
    /// Nothing is heard of the session, and there is another one that the request may go to.
    Silent,
    /// What the connector sent is not an answer.
    Protocol,
    /// The request's head is longer than the tunnel carries.
    HeadTooLong,
    /// No response head in time.
    HeaderTimeout,
    /// The connector takes no more of the body, and says nothing.
    Stalled,
    /// The visitor's own body broke.
    Visitor(InError),
}

/// A connector that comes back needs about a second; a person who restarts it longer.
const RETRY_AFTER_SECONDS: u32 = 5;

impl Failure {
    /// A failed write or read of the stream, before any response head.
    pub fn from_stream(error: &StreamError) -> Self {
        match error {
            StreamError::Aborted(code) => Self::Aborted(*code),
            StreamError::Lost(_) => Self::Lost,
            StreamError::Malformed(_) => Self::Protocol,
        }
    }

    /// Whether the same request may be sent on another session.
    pub fn may_retry(self, is_idempotent: bool) -> bool {
        match self {
            Self::NotOpened | Self::Crowded => true,
            Self::Lost | Self::Silent => is_idempotent,
            // A reset by the origin is Maybe: the connector, who knows whether a byte came back, has tried again already.
            Self::Aborted(code) => code.executed() == Executed::No,
            _ => false,
        }
    }

    /// Whether all sessions of this connector would answer the same.
    pub fn is_of_connector(self) -> bool {
        matches!(self, Self::Aborted(_))
    }

    /// A constant word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown_host",
            Self::Elsewhere => "tls_ends_elsewhere",
            Self::NotAnnounced => "name_not_announced",
            Self::NoConnector => "no_connector",
            Self::NotOpened => "stream_not_opened",
            Self::Crowded => "connector_busy",
            Self::Share => "share_of_one_address",
            Self::Aborted(code) => code.as_str(),
            Self::Lost => "session_lost",
            Self::Silent => "session_silent",
            Self::Protocol => "tunnel_protocol",
            Self::HeadTooLong => "head_too_long",
            Self::HeaderTimeout => "response_header_timeout",
            Self::Stalled => "upload_stalled",
            Self::Visitor(InError::Gone) => "visitor_gone",
            Self::Visitor(InError::Malformed(_)) => "visitor_body_malformed",
            Self::Visitor(InError::Slow) => "visitor_slow",
        }
    }

    fn page(self) -> Page {
        let unavailable = |text| {
            Page::new(StatusCode::SERVICE_UNAVAILABLE, Hop::Tunnel, text).retry_after(RETRY_AFTER_SECONDS)
        };
        match self {
            Self::UnknownHost => {
                Page::new(StatusCode::NOT_FOUND, Hop::Edge, "This server knows no site of this name.")
            }
            Self::Elsewhere => Page::new(
                StatusCode::MISDIRECTED_REQUEST,
                Hop::Visitor,
                "This connection is not for that name. Open a new one to it.",
            ),
            Self::NotAnnounced | Self::Aborted(AbortCode::UnknownRoute) => {
                Page::new(StatusCode::NOT_FOUND, Hop::Tunnel, "The site has no rule for this name.")
            }
            Self::NoConnector => unavailable("The site is not connected at the moment."),
            Self::NotOpened | Self::Aborted(AbortCode::Draining) => {
                unavailable("The connection to the site was lost; it is being restored.")
            }
            Self::Crowded | Self::Aborted(AbortCode::Refused) => {
                unavailable("The way to the site is overloaded.")
            }
            Self::Share => {
                unavailable("There are too many requests from your address at once. Try again soon.")
            }
            Self::Lost | Self::Silent => Page::new(
                StatusCode::BAD_GATEWAY,
                Hop::Tunnel,
                "The connection to the site was lost while the request was under way.",
            ),
            Self::Protocol
            | Self::Aborted(AbortCode::Protocol | AbortCode::Internal | AbortCode::Cancelled) => {
                Page::new(StatusCode::BAD_GATEWAY, Hop::Tunnel, "The request failed on the way to the site.")
            }
            Self::HeadTooLong => Page::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Hop::Visitor,
                "The head of the request is too long.",
            ),
            Self::HeaderTimeout | Self::Aborted(AbortCode::OriginTimeout | AbortCode::Timeout) => Page::new(
                StatusCode::GATEWAY_TIMEOUT,
                Hop::Origin,
                "The site's own server did not answer in time.",
            ),
            Self::Stalled => Page::new(
                StatusCode::GATEWAY_TIMEOUT,
                Hop::Origin,
                "The site's own server stopped taking the request.",
            ),
            Self::Aborted(AbortCode::OriginUnreachable) => {
                Page::new(StatusCode::BAD_GATEWAY, Hop::Origin, "The site's own server cannot be reached.")
            }
            Self::Aborted(AbortCode::OriginTls) => Page::new(
                StatusCode::BAD_GATEWAY,
                Hop::Origin,
                "No secure connection to the site's own server could be made.",
            ),
            Self::Aborted(AbortCode::OriginReset) => Page::new(
                StatusCode::BAD_GATEWAY,
                Hop::Origin,
                "The site's own server broke the connection off.",
            ),
            Self::Aborted(AbortCode::OriginProtocol) => Page::new(
                StatusCode::BAD_GATEWAY,
                Hop::Origin,
                "The site's own server gave an answer that is not valid HTTP.",
            ),
            Self::Aborted(AbortCode::TooLarge) => Page::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                Hop::Origin,
                "The request is larger than the site allows.",
            ),
            Self::Aborted(AbortCode::NotImplemented | AbortCode::UnknownKind) => Page::new(
                StatusCode::NOT_IMPLEMENTED,
                Hop::Tunnel,
                "The site's service is of a kind that is not served here.",
            ),
            Self::Aborted(AbortCode::BadBody) => InError::Malformed("").page(),
            Self::Visitor(error) => error.page(),
        }
    }

    pub fn respond(self, record: &Record, pages: &Pages) -> Response<OutBody> {
        record.set_failure(self.word());
        pages.answer(&self.page())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_135_what_was_not_executed_is_retried_whatever_its_method() {
        for failure in [
            Failure::NotOpened,
            Failure::Crowded,
            Failure::Aborted(AbortCode::OriginUnreachable),
            Failure::Aborted(AbortCode::Refused),
            Failure::Aborted(AbortCode::Draining),
        ] {
            assert!(failure.may_retry(false), "{failure:?}");
        }
    }

    #[test]
    fn hazard_136_what_may_have_been_executed_is_retried_only_if_idempotent() {
        assert!(Failure::Lost.may_retry(true) && !Failure::Lost.may_retry(false));
        for failure in [
            Failure::Aborted(AbortCode::OriginReset),
            Failure::HeaderTimeout,
            Failure::Aborted(AbortCode::OriginTimeout),
            Failure::Aborted(AbortCode::TooLarge),
            Failure::Aborted(AbortCode::Internal),
            Failure::Visitor(InError::Gone),
        ] {
            assert!(!failure.may_retry(true), "{failure:?}");
        }
    }

    #[test]
    fn each_failure_names_its_hop_and_status() {
        for (failure, status, hop) in [
            (Failure::UnknownHost, 404, Hop::Edge),
            (Failure::NoConnector, 503, Hop::Tunnel),
            (Failure::Lost, 502, Hop::Tunnel),
            (Failure::Aborted(AbortCode::OriginUnreachable), 502, Hop::Origin),
            (Failure::Aborted(AbortCode::OriginTimeout), 504, Hop::Origin),
            (Failure::HeaderTimeout, 504, Hop::Origin),
            (Failure::Aborted(AbortCode::NotImplemented), 501, Hop::Tunnel),
        ] {
            let page = failure.page();
            assert_eq!((page.status.as_u16(), page.hop), (status, hop), "{failure:?}");
            assert_eq!(page.retry_after.is_some(), status == 503, "{failure:?}");
        }
    }
}
