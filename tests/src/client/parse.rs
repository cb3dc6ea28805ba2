//! Strict parsing of HTTP/1.1 answers, apart from the code under test: a visitor must not be more forgiving than a browser.

use bytes::{Buf, Bytes, BytesMut};

/// Status and headers of one answer; names in lower case.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub version: String,
    pub headers: Vec<(String, String)>,
}

/// How the end of a body shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

/// One step through a chunked body.
pub(super) enum Chunk {
    Data(Bytes),
    End(Vec<(String, String)>),
    More,
}

/// Takes one whole head from the buffer.
pub(super) fn head(buffer: &mut BytesMut) -> Result<Option<Head>, String> {
    let Some(end) = find(buffer, b"\r\n\r\n") else { return Ok(None) };
    let text = take(buffer, end + 4);
    let text = std::str::from_utf8(&text[..end]).map_err(|error| error.to_string())?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let mut parts = line.splitn(3, ' ');
    let version = parts.next().unwrap_or_default().to_owned();
    let status = parts.next().and_then(|text| text.parse().ok()).filter(|_| version.starts_with("HTTP/1."));
    let status = status.ok_or_else(|| format!("no status line: {line:?}"))?;
    Ok(Some(Head { status, version, headers: fields(lines)? }))
}

/// RFC 9112 6.3, refusing what is ambiguous.
pub(super) fn framing(head: &Head, method: &str) -> Result<Framing, String> {
    let values = |name: &str| {
        head.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect::<Vec<_>>()
    };
    let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
    if method == "HEAD" || matches!(head.status, 101 | 204 | 304) {
        return Ok(Framing::None);
    }
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(Framing::UntilClose),
        ([length], []) => {
            length.parse().map(Framing::Length).map_err(|_| format!("bad Content-Length {length:?}"))
        }
        ([], [encoding]) if encoding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        _ => Err(format!("ambiguous framing: Content-Length {lengths:?}, Transfer-Encoding {encodings:?}")),
    }
}

/// Takes one chunk, or the end with its trailers.
pub(super) fn chunk(buffer: &mut BytesMut) -> Result<Chunk, String> {
    let Some(line_end) = find(buffer, b"\r\n") else { return Ok(Chunk::More) };
    let line = String::from_utf8_lossy(&buffer[..line_end]).into_owned();
    let size = line.split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(size, 16).map_err(|_| format!("bad chunk size {line:?}"))?;
    if size == 0 {
        let rest = &buffer[line_end..];
        let Some(end) = find(rest, b"\r\n\r\n") else { return Ok(Chunk::More) };
        let text = take(buffer, line_end + end + 4);
        let text = String::from_utf8_lossy(&text[line_end..line_end + end]).into_owned();
        return Ok(Chunk::End(fields(text.split("\r\n").filter(|line| !line.is_empty()))?));
    }
    let whole = line_end + 2 + size + 2;
    if buffer.len() < whole {
        return Ok(Chunk::More);
    }
    let chunk = take(buffer, whole);
    if !chunk.ends_with(b"\r\n") {
        return Err("a chunk without its line end".to_owned());
    }
    Ok(Chunk::Data(chunk.slice(line_end + 2..line_end + 2 + size)))
}

/// Splits a finished answer off: what is left in the buffer belongs to the next one.
fn take(buffer: &mut BytesMut, bytes: usize) -> Bytes {
    buffer.copy_to_bytes(bytes)
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<(String, String)>, String> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("a field without colon: {line:?}"))?;
        Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    lines.map(field).collect()
}

fn find(buffer: &[u8], needle: &[u8]) -> Option<usize> {
    buffer.windows(needle.len()).position(|window| window == needle)
}
