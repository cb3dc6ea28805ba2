//! Why an authority gave no certificate, and what that says about the next attempt.

use std::time::Duration;

use crate::settings::Challenge;

/// The texts go to operators: each says what was attempted and names the likely mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The line or the authority itself.
    #[error("{directory} cannot be reached or does not work: {reason}")]
    Unreachable { directory: String, reason: String },
    #[error("{directory} asks to wait {} (rate limit): {reason}", told(*.wait))]
    Limited { directory: String, wait: Duration, reason: String },
    /// The authority looked, and did not find our answer.
    #[error("{directory} could not prove by {} whose the name is: {reason} ({})", .challenge.as_str(), mend(*.challenge))]
    Unproven { directory: String, challenge: Challenge, reason: String },
    #[error("{directory} refused: {reason}")]
    Refused { directory: String, reason: String },
    /// What only people can put into DNS is not there; the authority was not asked.
    #[error("{reason}; put into DNS: {record}")]
    NoRecord { record: String, reason: String },
    #[error("{0}")]
    Impossible(String),
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Soon again: nothing was used up.
    Passing,
    /// Each attempt counts against the authority's limits.
    Costly,
    /// Not before.
    NotBefore(Duration),
    /// Somebody is about to do something, and waits for us then.
    Awaited,
}

impl Failure {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. } => Kind::Passing,
            Self::Limited { wait, .. } => Kind::NotBefore(*wait),
            Self::NoRecord { .. } => Kind::Awaited,
            Self::Unproven { .. } | Self::Refused { .. } | Self::Impossible(_) => Kind::Costly,
        }
    }

    /// For a metric's label.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Limited { .. } => "rate_limited",
            Self::Unproven { .. } => "unproven",
            Self::Refused { .. } => "refused",
            Self::NoRecord { .. } => "no_record",
            Self::Impossible(_) => "impossible",
        }
    }
}

fn told(wait: Duration) -> String {
    causeway_daemon::config::duration::format(wait)
}

fn mend(challenge: Challenge) -> &'static str {
    match challenge {
        Challenge::TlsAlpn01 => "does the name's DNS record point here, and is port 443 open?",
        Challenge::Http01 => "does the name's DNS record point here, and is port 80 open?",
        Challenge::Dns01 => "do the zone's public servers show the record?",
        Challenge::DnsPersist01 => "does the authority see the same record as this machine?",
    }
}
