//! Logs: text or JSON lines on standard error, whose level can be changed while the process runs.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One line for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Why the log could not be set up or its level not be changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "{directive:?} is not a log level: {reason}; write error, warn, info, debug, trace or off, or name parts of the program as in `info,causeway_edge=debug`"
    )]
    Level { directive: String, reason: String },
    #[error("this process has a log subscriber already")]
    AlreadySet,
    #[error("the log subscriber of this level is gone")]
    Gone,
}

/// Sets up the log of this process: subscriber and panic hook.
///
/// # Errors
/// When `level` is not understood, or the process has a subscriber.
pub fn init(format: Format, level: &str) -> Result<Levels, TelemetryError> {
    let (subscriber, levels) = build(format, level, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadySet)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = crate::drain::panic_text(panic.payload());
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            tracing::error!(place, panic = text, backtrace = %backtrace, "panic");
        } else {
            tracing::error!(place, panic = text, "panic");
        }
    }));
    Ok(levels)
}

/// A cloneable handle on the level in force.
#[derive(Clone, Debug)]
pub struct Levels {
    filter: reload::Handle<EnvFilter, Registry>,
    /// The directive that `filter` was made of; written under this lock together with it.
    current: Arc<Mutex<String>>,
}

impl Levels {
    /// Puts another level in force: `debug`, or `info,causeway_edge=trace`.
    ///
    /// # Errors
    /// When the directive is not understood; the old level remains.
    pub fn set(&self, directive: &str) -> Result<(), TelemetryError> {
        let directive = directive.trim();
        let filter = parse(directive)?;
        let mut current = self.current.lock();
        self.filter.reload(filter).map_err(|_| TelemetryError::Gone)?;
        directive.clone_into(&mut current);
        Ok(())
    }

    /// The directive in force, as it was written.
    pub fn current(&self) -> String {
        self.current.lock().clone()
    }
}

fn build<W>(
    format: Format,
    level: &str,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + 'static + use<W>, Levels), TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = level.trim();
    let (filter, handle) = reload::Layer::new(parse(level)?);
    // No colours: the same bytes on a terminal, in a file and in a container's log.
    let lines = fmt::layer().with_ansi(false).with_writer(Escaped(writer));
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let levels = Levels { filter: handle, current: Arc::new(Mutex::new(level.to_owned())) };
    Ok((tracing_subscriber::registry().with(filter).with(lines), levels))
}

fn parse(directive: &str) -> Result<EnvFilter, TelemetryError> {
    let refuse = |reason: String| TelemetryError::Level { directive: directive.to_owned(), reason };
    if directive.is_empty() {
        return Err(refuse("it is empty".to_owned()));
    }
    if directive.len() > MAX_DIRECTIVE_BYTES {
        return Err(refuse(format!("it is longer than {MAX_DIRECTIVE_BYTES} bytes")));
    }
    // A lone word that is no level would be taken for the name of a module and silence everything else.
    let lone = |part: &&str| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err();
    if let Some(word) = directive.split(',').map(str::trim).find(lone) {
        return Err(refuse(format!("{word:?} is neither a level nor of the form `part=level`")));
    }
    let quieted = format!("{directive},{QUIET}");
    let directive = if matches!(directive, "info" | "warn") { &quieted } else { directive };
    // Without regular expressions: the level may come over the admin port, and a field's pattern is not worth that.
    EnvFilter::builder().with_regex(false).parse(directive).map_err(|error| refuse(error.to_string()))
}

/// Libraries that warn of what any visitor can cause, or of what our own lines say better. Naming parts undoes it.
const QUIET: &str = "h2=error,kube_client=error";

/// Ample for a level for each crate of the program.
const MAX_DIRECTIVE_BYTES: usize = 1024;

/// A writer that lets no control character of a visitor's making reach the log: a line stays one line.
struct Escaped<W>(W);

struct EscapedLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaped<W> {
    type Writer = EscapedLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapedLine(self.0.make_writer())
    }
}

impl<W: Write> Write for EscapedLine<W> {
    /// The formatter hands over one whole event a call, its last byte being the line's end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (line, end) = event.strip_suffix(b"\n").map_or((event, &b""[..]), |line| (line, &b"\n"[..]));
        if !line.iter().any(u8::is_ascii_control) {
            self.0.write_all(event)?;
            return Ok(event.len());
        }
        let mut escaped = Vec::with_capacity(event.len() + 16);
        for &byte in line {
            match byte {
                b'\t' => escaped.push(byte),
                byte if byte.is_ascii_control() => escaped.extend(byte.escape_ascii()),
                byte => escaped.push(byte),
            }
        }
        escaped.extend(end);
        self.0.write_all(&escaped)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A handle whose filter belongs to a subscriber that the caller keeps; for the admin server's tests.
#[cfg(test)]
pub(crate) fn detached(level: &'static str) -> (Levels, impl Subscriber + Send + Sync + 'static) {
    let (subscriber, levels) = build(Format::Text, level, io::sink).expect("a valid level");
    (levels, subscriber)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::subscriber::with_default;

    use super::{Format, build};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_visitor_cannot_fill_the_log_through_a_librarys_warnings() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (subscriber, levels) = build(Format::Text, "info", move || writer.clone()).unwrap();
        with_default(subscriber, || {
            let log = || tracing::warn!(target: "h2::codec", "a bad frame");
            log();
            assert_eq!(buffer.take(), "");
            levels.set("info,h2=warn").unwrap();
            log();
            assert!(buffer.take().contains("a bad frame"));
        });
    }

    #[test]
    fn the_level_changes_while_the_process_runs() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (subscriber, levels) = build(Format::Text, "info", move || writer.clone()).unwrap();
        with_default(subscriber, || {
            let log = || tracing::debug!(answer = 42, "asked");
            log();
            assert_eq!(buffer.take(), "");
            levels.set("debug").unwrap();
            log();
            assert!(buffer.take().contains("asked answer=42"));
            assert_eq!(levels.current(), "debug");
            levels.set("debug,causeway_daemon=warn").unwrap();
            log();
            assert_eq!(buffer.take(), "");
        });
        assert!(levels.set("info").is_err(), "its subscriber is gone");
    }

    #[test]
    fn a_level_that_is_none_is_refused_with_the_choices_and_changes_nothing() {
        let (_subscriber, levels) = build(Format::Text, "info", io::sink).unwrap();
        for wrong in ["verbose", "", "info,debgu", "causeway=loud", &"x=info,".repeat(500)] {
            let error = levels.set(wrong).unwrap_err().to_string();
            assert!(error.contains("is not a log level") && error.contains("debug, trace"), "{error}");
        }
        assert_eq!(levels.current(), "info");
    }

    #[test]
    fn hazard_114_a_line_stays_one_line() {
        let buffer = Buffer::default();
        for format in [Format::Text, Format::Json] {
            let writer = buffer.clone();
            let (subscriber, _levels) = build(format, "info", move || writer.clone()).unwrap();
            with_default(subscriber, || {
                tracing::info!(path = %"/a\r\n\u{1b}[31mERROR", "request");
            });
            let line = buffer.take();
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(line.ends_with('\n') && !line.contains(['\r', '\u{1b}']), "{line:?}");
        }
    }

    #[test]
    fn json_lines_are_json() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (subscriber, _levels) = build(Format::Json, "info", move || writer.clone()).unwrap();
        with_default(subscriber, || tracing::info!(port = 443, "listening"));
        let line: serde_json::Value = serde_json::from_str(&buffer.take()).unwrap();
        assert_eq!(
            (&line["message"], &line["port"], &line["level"]),
            (&"listening".into(), &443.into(), &"INFO".into())
        );
    }
}
