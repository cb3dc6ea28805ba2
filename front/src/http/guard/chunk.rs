//! The grammar of a chunked body, byte by byte: sizes, extensions, data and trailers (RFC 9112 section 7.1), without
//! its leniencies (hazards 11-14, 17).

use causeway_tunnel::semantics::{is_field_content, is_token};
use http::StatusCode;

use super::super::refusal::Refusal;
use super::super::sizes::MAX_FIELDS;

/// All extensions of one body together: no known sender uses any.
const MAX_EXTENSION_BYTES: usize = 16 * 1024;
/// The trailer section.
const MAX_TRAILER_BYTES: usize = 16 * 1024;
/// 15 digits: no overflow, and more than any disk holds.
const MAX_SIZE_DIGITS: u8 = 15;

/// How far a chunked body has been read.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    /// Of the current chunk: its declared size, then what is left of it.
    remaining: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailers: usize,
}

/// How much of the input belongs to the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    pub len: usize,
    /// The body is complete: byte `len` begins the next message.
    pub end: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many digits were read.
    Size(u8),
    ExtensionName(Filled),
    ExtensionValue(Filled),
    Quoted,
    QuotedPair,
    /// After a closing quote.
    AfterQuoted,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Ended,
}

/// What a byte counts for.
enum Section {
    Extension,
    Trailer,
    Other,
}

impl State {
    fn section(self) -> Section {
        match self {
            Self::ExtensionName(_)
            | Self::ExtensionValue(_)
            | Self::Quoted
            | Self::QuotedPair
            | Self::AfterQuoted => Section::Extension,
            Self::TrailerStart | Self::TrailerName | Self::TrailerValue | Self::TrailerLf => Section::Trailer,
            _ => Section::Other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    No,
    Yes,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunks {
    pub fn new() -> Self {
        Self { state: State::Size(0), remaining: 0, extension_bytes: 0, trailer_bytes: 0, trailers: 0 }
    }

    /// Reads on. All of `input` is consumed unless the body ends inside it, or breaks: what is right before the place
    /// is consumed first, so that it does not matter how the bytes were split.
    ///
    /// # Errors
    /// When the first byte makes the body malformed. Nothing of it may be taken for complete.
    pub fn feed(&mut self, input: &[u8]) -> Result<Fed, Refusal> {
        let mut at = 0;
        while at < input.len() {
            if let State::Data = self.state {
                let available = input.len() - at;
                let step =
                    usize::try_from(self.remaining).map_or(available, |remaining| remaining.min(available));
                self.remaining -= step as u64;
                at += step;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            match self.byte(input[at]) {
                Ok(end) => {
                    at += 1;
                    if end {
                        return Ok(Fed { len: at, end: true });
                    }
                }
                Err(refusal) if at == 0 => return Err(refusal),
                // The state has not moved: the same byte fails again when it comes first.
                Err(_) => break,
            }
        }
        Ok(Fed { len: at, end: false })
    }

    /// One byte outside of chunk data; true when it was the last one of the body. On error nothing has changed.
    fn byte(&mut self, byte: u8) -> Result<bool, Refusal> {
        self.check_limits()?;
        let next = match (self.state, byte) {
            // Size → Size: another digit.
            (State::Size(digits), _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Refusal::bad("chunk size is too large"));
                }
                State::Size(digits + 1)
            }
            // Size → extension or end of line, once there is a digit.
            (State::Size(1..), b'\r') => State::SizeLf,
            (State::Size(1..), b';') => State::ExtensionName(Filled::No),
            (State::Size(_), _) => return Err(Refusal::bad("malformed chunk size")),
            // Extension: ";" name [ "=" ( token / quoted-string ) ]
            (State::ExtensionName(_), _) if is_token(byte) => State::ExtensionName(Filled::Yes),
            (State::ExtensionName(Filled::Yes), b'=') => State::ExtensionValue(Filled::No),
            (
                State::ExtensionName(Filled::Yes) | State::ExtensionValue(Filled::Yes) | State::AfterQuoted,
                b';',
            ) => State::ExtensionName(Filled::No),
            (
                State::ExtensionName(Filled::Yes) | State::ExtensionValue(Filled::Yes) | State::AfterQuoted,
                b'\r',
            ) => State::SizeLf,
            (State::ExtensionValue(_), _) if is_token(byte) => State::ExtensionValue(Filled::Yes),
            (State::ExtensionValue(Filled::No), b'"') => State::Quoted,
            (State::Quoted, b'"') => State::AfterQuoted,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted | State::QuotedPair, _) if is_field_content(byte) => State::Quoted,
            (
                State::ExtensionName(_)
                | State::ExtensionValue(_)
                | State::Quoted
                | State::QuotedPair
                | State::AfterQuoted,
                _,
            ) => return Err(Refusal::bad("malformed chunk extension")),
            // The line's end → data, or trailers after the last chunk.
            (State::SizeLf, b'\n') if self.remaining == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0),
            (State::DataCr | State::DataLf, _) => {
                return Err(Refusal::bad("chunk data is longer than its size"));
            }
            // Trailers: field lines, then an empty line.
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, _) if is_token(byte) => {
                if self.trailers == MAX_FIELDS {
                    return Err(Refusal::new(
                        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                        "too many trailers",
                    ));
                }
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerName, _) if is_token(byte) => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_field_content(byte) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => {
                return Err(Refusal::bad("malformed trailer"));
            }
            (State::EndLf, b'\n') => State::Ended,
            (State::SizeLf | State::TrailerLf | State::EndLf, _) => {
                return Err(Refusal::bad("line does not end with CRLF"));
            }
            // `feed` handles data itself, and nobody feeds what follows the end.
            (State::Data | State::Ended, _) => self.state,
        };
        match self.state.section() {
            Section::Extension => self.extension_bytes += 1,
            Section::Trailer => self.trailer_bytes += 1,
            Section::Other => {}
        }
        match (self.state, next) {
            (State::Size(_), State::Size(_)) => self.remaining = self.remaining * 16 + u64::from(hex(byte)),
            (State::TrailerStart, State::TrailerName) => self.trailers += 1,
            _ => {}
        }
        self.state = next;
        Ok(matches!(next, State::Ended))
    }

    fn check_limits(&self) -> Result<(), Refusal> {
        let too_large = |reason| Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason));
        match self.state.section() {
            Section::Extension if self.extension_bytes == MAX_EXTENSION_BYTES => {
                Err(Refusal::bad("chunk extensions are too long"))
            }
            Section::Trailer if self.trailer_bytes == MAX_TRAILER_BYTES => too_large("trailers are too long"),
            _ => Ok(()),
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}
