//! The grammar of one request head, line by line: RFC 9112 without its leniencies.

use causeway_tunnel::semantics::{is_field_content, is_target, is_token};
use http::StatusCode;
use memchr::memchr;

use super::super::refusal::Refusal;
use super::super::sizes::{MAX_FIELD_BYTES, MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES};

/// The longest registered method has 17 letters.
const MAX_METHOD_BYTES: usize = 32;
/// Method, target, version and the spaces between them.
const MAX_LINE_BYTES: usize = MAX_METHOD_BYTES + MAX_TARGET_BYTES + 12;

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// What must be known of a valid head to follow the stream. Its meaning for routing is judged after parsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub framing: Framing,
    /// The visitor waits for 100.
    pub expects: bool,
    /// It asks to become a WebSocket: what follows it is not HTTP if the answer is 101.
    pub websocket: bool,
    /// HTTP/1.0, or `Connection: close`: no message follows.
    pub closes: bool,
    pub is_http_10: bool,
}

/// Reads a head as it arrives. Every decision is made at a fixed byte of the stream.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Bytes of the empty line that may precede a request (RFC 9112 section 2.2).
    skipped: usize,
    /// Where the line that is not complete yet begins.
    line: usize,
    /// Up to where that line has been searched for its end.
    searched: usize,
    begun: bool,
    fields: Fields,
}

/// What the lines so far have said.
#[derive(Debug, Default)]
struct Fields {
    count: usize,
    method_is_get: bool,
    is_http_10: bool,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    expects: bool,
    close: bool,
    connection_upgrade: bool,
    websocket: bool,
    websocket_keys: usize,
    websocket_versions: usize,
}

impl HeadScan {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Bytes before the head, once it is complete.
    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }

    /// Length of the complete head.
    pub(super) fn len(&self) -> usize {
        self.line - self.skipped
    }

    /// `input` begins at the head's first byte and has grown since the last call.
    pub(super) fn advance(&mut self, input: &[u8]) -> Result<Option<Head>, Refusal> {
        loop {
            let found = memchr(b'\n', &input[self.searched..]);
            let end = found.map(|found| self.searched + found);
            self.check_limits(input, end)?;
            let Some(end) = end else {
                self.searched = input.len();
                return Ok(None);
            };
            let Some(line) = input[self.line..end].strip_suffix(b"\r") else {
                return Err(Refusal::bad("line does not end with CRLF"));
            };
            (self.line, self.searched) = (end + 1, end + 1);
            if self.begun {
                if line.is_empty() {
                    return self.fields.finish().map(Some);
                }
                self.fields.field(line)?;
            } else if !line.is_empty() {
                self.fields.request_line(line)?;
                self.begun = true;
            } else if self.skipped == 0 {
                self.skipped = self.line;
            } else {
                return Err(Refusal::bad("empty lines before the request"));
            }
        }
    }

    /// Judges a line before its content: its first byte, so that another protocol is known at once, and its length.
    /// The limit whose byte comes first decides, so that it does not matter how much has arrived. `end` is where
    /// the line ends, if that is known.
    fn check_limits(&self, input: &[u8], end: Option<usize>) -> Result<(), Refusal> {
        let first = input.get(self.line).copied();
        if !self.begun && first.is_some_and(|first| !is_token(first) && !matches!(first, b'\r' | b'\n')) {
            return Err(Refusal::bad("not HTTP"));
        }
        let (limit, refusal) =
            if self.begun { (MAX_FIELD_BYTES, FIELD_TOO_LONG) } else { (MAX_LINE_BYTES, TARGET_TOO_LONG) };
        let (excess_of_line, excess_of_head) = (self.line + limit, self.skipped + MAX_HEAD_BYTES);
        if excess_of_line <= excess_of_head && excess_of_line < end.unwrap_or(input.len()) {
            return Err(refusal);
        }
        if excess_of_head < end.map_or(input.len(), |end| end + 1) { Err(HEAD_TOO_LONG) } else { Ok(()) }
    }
}

impl Fields {
    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::bad("malformed request line"));
        };
        self.method_is_get = method == b"GET";
        check_method(method)?;
        self.is_http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            b"HTTP/2.0" if method == b"PRI" => {
                return Err(Refusal::bad("HTTP/2 is not spoken on this port without TLS"));
            }
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "unsupported HTTP version"));
            }
            _ => return Err(Refusal::bad("malformed HTTP version")),
        };
        check_target(target, method)
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.count += 1;
        if self.count > MAX_FIELDS {
            return Err(TOO_MANY_FIELDS);
        }
        let (name, raw) = split_field(line)?;
        let value = trim(raw);
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => Ok(()),
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 { Err(Refusal::bad("more than one Host")) } else { Ok(()) }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => self.expect(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.websocket |= has_element(value, b"websocket");
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.close |= has_element(value, b"close");
                self.connection_upgrade |= has_element(value, b"upgrade");
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(raw),
            17 if name.eq_ignore_ascii_case(b"sec-websocket-key") => {
                self.websocket_keys += 1;
                Ok(())
            }
            21 if name.eq_ignore_ascii_case(b"sec-websocket-version") => {
                self.websocket_versions += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::new(StatusCode::EXPECTATION_FAILED, "unknown expectation"));
        }
        self.expects = true;
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(Refusal::bad("more than one Content-Length"));
        }
        // 18 digits: below 2^63 whatever they are.
        if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::bad("malformed Content-Length"));
        }
        if value.len() > 1 && value[0] == b'0' {
            return Err(Refusal::bad("Content-Length with leading zeros"));
        }
        self.length = Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')));
        Ok(())
    }

    /// Exactly one field, exactly `chunked`, nothing behind it.
    fn transfer_encoding(&mut self, raw: &[u8]) -> Result<(), Refusal> {
        let value = raw.trim_ascii_start();
        if self.chunked {
            return Err(Refusal::bad("more than one Transfer-Encoding"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let mut codings = value.split(|&byte| byte == b',').map(trim);
        let is_list = codings.all(|coding| !coding.is_empty() && coding.iter().all(|&byte| is_token(byte)));
        let chunked =
            value.split(|&byte| byte == b',').filter(|c| trim(c).eq_ignore_ascii_case(b"chunked")).count();
        if is_list && chunked <= 1 && trim(value).len() == value.len() {
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "unknown transfer coding"));
        }
        Err(Refusal::bad("malformed Transfer-Encoding"))
    }

    fn finish(&self) -> Result<Head, Refusal> {
        if self.chunked && self.length.is_some() {
            return Err(Refusal::bad("both Content-Length and Transfer-Encoding"));
        }
        if self.chunked && self.is_http_10 {
            return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
        }
        if self.hosts == 0 {
            return Err(Refusal::bad("no Host"));
        }
        let framing = match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        };
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        let websocket = self.websocket && self.connection_upgrade && !self.is_http_10;
        if websocket && (!self.method_is_get || has_body) {
            return Err(Refusal::bad("WebSocket handshake with a method other than GET, or a body"));
        }
        // What they say is the origin's to judge (hazard 58). Without them the connector would make up its own, as it
        // does for HTTP/2, whose visitors have none.
        if websocket && (self.websocket_keys, self.websocket_versions) != (1, 1) {
            return Err(Refusal::bad("WebSocket handshake without one key and one version"));
        }
        Ok(Head {
            framing,
            expects: self.expects && has_body && !self.is_http_10,
            websocket,
            closes: self.close || self.is_http_10,
            is_http_10: self.is_http_10,
        })
    }
}

/// Refuses methods that no origin should see from us (hazards 26 and 62).
pub fn check_method(method: &[u8]) -> Result<(), Refusal> {
    if method.is_empty() || !method.iter().all(|&byte| is_token(byte) && !byte.is_ascii_lowercase()) {
        return Err(Refusal::bad("malformed method"));
    }
    match method {
        b"CONNECT" | b"TRACE" | b"TRACK" => Err(METHOD_NOT_ALLOWED),
        _ if method.len() > MAX_METHOD_BYTES => {
            Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "method is too long"))
        }
        _ => Ok(()),
    }
}

/// Origin form, absolute form with http(s), or `*` for OPTIONS.
fn check_target(target: &[u8], method: &[u8]) -> Result<(), Refusal> {
    if target.len() > MAX_TARGET_BYTES {
        return Err(TARGET_TOO_LONG);
    }
    if target == b"*" && method == b"OPTIONS" {
        return Ok(());
    }
    if target.first() == Some(&b'/') {
        return check_path(target);
    }
    let rest = strip_prefix_ignore_case(target, b"http://")
        .or_else(|| strip_prefix_ignore_case(target, b"https://"));
    let Some(rest) = rest else { return Err(Refusal::bad("malformed request target")) };
    let path = memchr(b'/', rest).unwrap_or(rest.len());
    let is_authority = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(byte);
    if path == 0 || !rest[..path].iter().all(is_authority) {
        return Err(Refusal::bad("malformed request target"));
    }
    check_path(&rest[path..])
}

pub fn check_path(path: &[u8]) -> Result<(), Refusal> {
    if is_target(path) {
        return Ok(());
    }
    Err(Refusal::bad("request target has a character that does not belong there"))
}

/// Name and raw value of a field line. No folding, no space around the name, no controls in the value.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::bad("folded field line"));
    }
    let Some(colon) = memchr(b':', line) else { return Err(Refusal::bad("field line without a colon")) };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(Refusal::bad("malformed field name"));
    }
    if !value.iter().all(|&byte| is_field_content(byte)) {
        return Err(Refusal::bad("control character in a field value"));
    }
    Ok((name, value))
}

/// Without the optional white space of RFC 9110 section 5.6.3.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn has_element(list: &[u8], token: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|element| trim(element).eq_ignore_ascii_case(token))
}

fn strip_prefix_ignore_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

const METHOD_NOT_ALLOWED: Refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method is not allowed");
const TARGET_TOO_LONG: Refusal = Refusal::new(StatusCode::URI_TOO_LONG, "request target is too long");
const FIELD_TOO_LONG: Refusal =
    Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "field is too long");
const HEAD_TOO_LONG: Refusal = Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head is too long");
const TOO_MANY_FIELDS: Refusal = Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many fields");
