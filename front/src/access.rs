//! The access log: one line for each request, when all of it is over.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::observe::{Finished, Observer};

/// Writes each request as one event of target `access`.
#[derive(Clone, Copy, Debug)]
pub struct AccessLog {
    /// Whether the query is shown with the path. Queries hold secrets: off by default.
    pub query: bool,
}

impl Observer for AccessLog {
    /// The time is added by the subscriber.
    fn end(&self, request: &Finished<'_>) {
        let start = request.start;
        if !start.tls.is_edge() {
            return passed(request);
        }
        let path = match start.uri.path_and_query() {
            Some(whole) if self.query => whole.as_str(),
            _ => start.uri.path(),
        };
        tracing::info!(
            target: "access",
            request = %start.id,
            visitor = %start.visitor.ip(),
            scheme = start.scheme.as_str(),
            version = ?start.version,
            host = %Escaped(&start.host),
            method = %Escaped(start.method.as_str()),
            path = %Escaped(path),
            status = request.status.map_or(0, |status| status.as_u16()),
            bytes_in = request.bytes_in,
            bytes_out = request.bytes_out,
            duration_ms = millis(request.duration),
            first_byte_ms = request.first_byte.map(millis),
            tunnel = request.tunnel,
            session = request.session,
            failure = request.failure.map(|failure| tracing::field::display(Escaped(failure))),
        );
    }
}

/// A connection whose TLS ended elsewhere: what it carried is not known.
fn passed(connection: &Finished<'_>) {
    let start = connection.start;
    tracing::info!(
        target: "access",
        request = %start.id,
        visitor = %start.visitor.ip(),
        scheme = "tls",
        host = %Escaped(&start.host),
        tls = start.tls.as_str(),
        bytes_in = connection.bytes_in,
        bytes_out = connection.bytes_out,
        duration_ms = millis(connection.duration),
        tunnel = connection.tunnel,
        session = connection.session,
        failure = connection.failure.map(|failure| tracing::field::display(Escaped(failure))),
    );
}

fn millis(duration: Duration) -> f64 {
    // Whole microseconds: enough, and short in the log.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Shows text with everything but printable ASCII escaped, so that a visitor cannot forge lines or send terminal
/// codes (hazard 114).
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'\\' && byte != b'"';
        if self.0.bytes().all(is_plain) {
            return f.write_str(self.0);
        }
        for char in self.0.chars() {
            if u8::try_from(char).is_ok_and(is_plain) {
                f.write_char(char)?;
            } else {
                write!(f, "{}", char.escape_default())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_114_nothing_unprintable_reaches_the_log() {
        let forged = "/a\r\n2026 GET /forged \u{1b}[31m\u{9b}\"\\\u{202e}";
        let shown = Escaped(forged).to_string();
        assert!(shown.bytes().all(|byte| (0x20..=0x7e).contains(&byte)), "{shown}");
        assert_eq!(Escaped("/plain?x=1").to_string(), "/plain?x=1");
    }
}
