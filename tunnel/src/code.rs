//! Why a stream was aborted and why a session was closed: the numbers on the wire.

/// Why one direction of a stream was reset. Unknown numbers read as [`AbortCode::Internal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum AbortCode {
    /// The other side no longer wants it: the visitor or the origin went away.
    Cancelled = 0x100,
    /// No connection to the origin could be made.
    OriginUnreachable = 0x101,
    /// The origin did not accept the connection or answer in time.
    OriginTimeout = 0x102,
    /// TLS with the origin failed.
    OriginTls = 0x103,
    /// The origin closed or reset before its message was whole.
    OriginReset = 0x104,
    /// The origin sent something that is not HTTP or breaks a limit.
    OriginProtocol = 0x105,
    /// The route id or hostname is not one that the connector announced.
    UnknownRoute = 0x106,
    /// A limit of size was passed.
    TooLarge = 0x107,
    /// The receiver is overloaded and did nothing with it.
    Refused = 0x108,
    /// The receiver is stopping and did nothing with it.
    Draining = 0x109,
    /// The service kind is known but not served yet.
    NotImplemented = 0x10a,
    /// The visitor's body broke HTTP's framing.
    BadBody = 0x10b,
    /// A wait of ours ran out (idle body, visitor too slow).
    Timeout = 0x10c,
    /// The peer broke this protocol on this stream.
    Protocol = 0x10d,
    /// A fault of ours.
    Internal = 0x10e,
    /// The stream's kind is not known here.
    UnknownKind = 0x10f,
}

/// Whether the origin may have seen the request whose stream was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executed {
    /// Nothing reached an origin: any request may be sent again.
    No,
    /// It may have: only an idempotent request may be sent again.
    Maybe,
}

impl AbortCode {
    /// Each of them.
    pub const ALL: [Self; 16] = [
        Self::Cancelled,
        Self::OriginUnreachable,
        Self::OriginTimeout,
        Self::OriginTls,
        Self::OriginReset,
        Self::OriginProtocol,
        Self::UnknownRoute,
        Self::TooLarge,
        Self::Refused,
        Self::Draining,
        Self::NotImplemented,
        Self::BadBody,
        Self::Timeout,
        Self::Protocol,
        Self::Internal,
        Self::UnknownKind,
    ];

    /// The number on the wire.
    pub fn to_u32(self) -> u32 {
        self as u32
    }

    /// From the wire.
    pub fn from_u64(number: u64) -> Self {
        Self::ALL.into_iter().find(|code| u64::from(code.to_u32()) == number).unwrap_or(Self::Internal)
    }

    /// Whether the request may have been executed when its stream was aborted with this code before any answer.
    pub fn executed(self) -> Executed {
        match self {
            Self::OriginUnreachable
            | Self::OriginTls
            | Self::UnknownRoute
            | Self::Refused
            | Self::Draining
            | Self::UnknownKind => Executed::No,
            _ => Executed::Maybe,
        }
    }

    /// A constant word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::OriginUnreachable => "origin_unreachable",
            Self::OriginTimeout => "origin_timeout",
            Self::OriginTls => "origin_tls",
            Self::OriginReset => "origin_reset",
            Self::OriginProtocol => "origin_protocol",
            Self::UnknownRoute => "unknown_route",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Draining => "draining",
            Self::NotImplemented => "not_implemented",
            Self::BadBody => "bad_body",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Internal => "internal",
            Self::UnknownKind => "unknown_kind",
        }
    }
}

impl std::fmt::Display for AbortCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a session was closed by its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// Nothing left to do.
    Done = 0x0,
    /// The handshake was refused; the control stream says why.
    Refused = 0x1,
    /// The tunnel or its key was revoked.
    Revoked = 0x2,
    /// The peer broke the protocol on the control stream.
    Protocol = 0x3,
    /// The grace period of a drain ran out.
    Drained = 0x4,
}

impl CloseCode {
    /// The number on the wire.
    pub fn to_u32(self) -> u32 {
        self as u32
    }

    /// From the wire; unknown numbers read as [`CloseCode::Done`].
    pub fn from_u64(number: u64) -> Self {
        [Self::Refused, Self::Revoked, Self::Protocol, Self::Drained]
            .into_iter()
            .find(|code| u64::from(code.to_u32()) == number)
            .unwrap_or(Self::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire_and_unknown_ones_are_internal() {
        for code in AbortCode::ALL {
            assert_eq!(AbortCode::from_u64(u64::from(code.to_u32())), code);
        }
        assert_eq!(AbortCode::from_u64(0), AbortCode::Internal);
        assert_eq!(CloseCode::from_u64(2), CloseCode::Revoked);
        assert_eq!(CloseCode::from_u64(77), CloseCode::Done);
    }

    #[test]
    fn the_manual_lists_every_code() {
        let manual = include_str!("../../docs/protocol.md");
        for code in AbortCode::ALL {
            let row = format!("| 0x{:x} | {code}", code.to_u32());
            let line = manual.lines().find(|line| line.starts_with(&row));
            let line = line.unwrap_or_else(|| panic!("docs/protocol.md has no line `{row}`"));
            assert_eq!(line.trim_end().ends_with("| yes |"), code.executed() == Executed::No, "{line}");
        }
    }
}
