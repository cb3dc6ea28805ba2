//! Logs: text or JSON lines on standard error, whose level can be changed while the process runs. Whoever logs never
//! waits for a reader of it: see [`queue`].

mod queue;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry as MetricsRegistry;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use queue::Queue;

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
    #[error("the system gave no thread for the log: raise the limit of processes (ulimit -u, pids.max)")]
    Thread(#[source] io::Error),
}

/// Sets up the log of this process: subscriber, writing thread and panic hook. The [`Flush`] belongs to whoever runs
/// the program: what was logged last is written when it is dropped.
///
/// # Errors
/// When `level` is not understood, the process has a subscriber, or there is no thread to be had.
pub fn init(format: Format, level: &str) -> Result<(Levels, Flush), TelemetryError> {
    let queue =
        Queue::start(io::stderr(), move |dropped| note(format, dropped)).map_err(TelemetryError::Thread)?;
    let (subscriber, mut levels) = build(format, level, queue.clone())?;
    levels.queue = Some(queue.clone());
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
    Ok((levels, Flush(queue)))
}

/// Writes what is left of the log when it is dropped, as long as somebody reads it.
#[derive(Debug)]
#[must_use = "the last lines are lost unless it is held until the end"]
pub struct Flush(Queue);

/// A reader that is merely slow has the last lines by then, and a stop is not held up by one that reads nothing.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

/// A cloneable handle on the process's log: the level in force, and what nobody read.
#[derive(Clone, Debug)]
pub struct Levels {
    /// None where a subscriber writes by itself, as in tests.
    queue: Option<Queue>,
    filter: reload::Handle<Targets, Registry>,
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

    /// Registers `PREFIX_log_lines_dropped`.
    pub fn register(&self, registry: &mut MetricsRegistry, prefix: &str) {
        if let Some(queue) = self.queue.clone() {
            registry.sub_registry_with_prefix(prefix).register_collector(Box::new(Dropped(queue)));
        }
    }
}

#[derive(Debug)]
struct Dropped(Queue);

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let dropped = ConstCounter::new(self.0.dropped());
        let help = "Lines of the log that were dropped because nobody read standard error";
        dropped.encode(encoder.encode_descriptor("log_lines_dropped", help, None, dropped.metric_type())?)
    }
}

/// The line that says what is missing before it, in the form of the others.
fn note(format: Format, dropped: u64) -> String {
    let mut time = String::new();
    // Writing into a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let (level, target) = ("WARN", module_path!());
    let message = format!("{dropped} log lines were dropped: nobody read standard error");
    match format {
        Format::Text => format!("{time}  {level} {target}: {message}\n"),
        Format::Json => {
            let line = serde_json::json!({
                "timestamp": time, "level": level, "message": message, "dropped": dropped, "target": target,
            });
            format!("{line}\n")
        }
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
    let levels = Levels { queue: None, filter: handle, current: Arc::new(Mutex::new(level.to_owned())) };
    Ok((tracing_subscriber::registry().with(filter).with(lines), levels))
}

fn parse(directive: &str) -> Result<Targets, TelemetryError> {
    let refuse = |reason: String| TelemetryError::Level { directive: directive.to_owned(), reason };
    if directive.len() > MAX_DIRECTIVE_BYTES {
        return Err(refuse(format!("it is longer than {MAX_DIRECTIVE_BYTES} bytes")));
    }
    let parts: Vec<&str> = directive.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err(refuse("it is empty".to_owned()));
    }
    // A lone word that is no level would be taken for the name of a module and silence everything else.
    let strange =
        |part: &&&str| part.contains('[') || (!part.contains('=') && part.parse::<LevelFilter>().is_err());
    if let Some(word) = parts.iter().find(strange) {
        return Err(refuse(format!("{word:?} is neither a level nor of the form `part=level`")));
    }
    let mut filter = parts.join(",");
    if matches!(directive, "info" | "warn") {
        filter = format!("{directive},{QUIET}");
    }
    // By parts of the program alone: a filter by what a span holds costs every program an engine for regular expressions,
    // and the level may come over the admin port.
    filter.parse::<Targets>().map_err(|error| refuse(error.to_string()))
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
        for wrong in [
            "verbose",
            "",
            ",",
            "info,debgu",
            "info,[request]=debug",
            "causeway=loud",
            &"x=info,".repeat(500),
        ] {
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
    fn the_note_on_dropped_lines_is_a_line_like_the_others() {
        let buffer = Buffer::default();
        for format in [Format::Text, Format::Json] {
            let writer = buffer.clone();
            let (subscriber, _levels) = build(format, "info", move || writer.clone()).unwrap();
            with_default(subscriber, || {
                tracing::warn!(target: "causeway_daemon::telemetry", dropped = 7, "7 log lines were dropped: nobody read standard error");
            });
            let (line, note) = (buffer.take(), super::note(format, 7));
            assert_eq!(note.matches('\n').count(), 1);
            if format == Format::Text {
                let tail = |line: &str| line.split_once("  ").map(|(_, tail)| tail.to_owned());
                assert_eq!(tail(note.trim_end()), tail(line.trim_end().trim_end_matches(" dropped=7")));
            } else {
                let parsed = |line: &str| {
                    let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert!(value["timestamp"].take().is_string());
                    value
                };
                assert_eq!(parsed(&note), parsed(&line));
            }
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
