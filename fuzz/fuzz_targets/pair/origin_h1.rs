//! The origin over HTTP/1.1: reads as plain servers do (a declared length is a body whatever the method), and answers as
//! the input says.

use arbitrary::Arbitrary;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::account::Account;

/// What the origin does with its next request.
#[derive(Arbitrary, Clone, Debug)]
pub enum Act {
    /// As nginx and Node do: GET is answered before a body that nobody expects, what is not known with 404.
    Usual,
    Answer {
        status: Status,
        framing: Framing,
        length: u16,
        early: bool,
    },
    /// A second answer behind the first, in one write.
    Twice {
        early: bool,
    },
    Interim {
        count: u8,
    },
    /// Any bytes, then more requests or the end.
    Raw {
        bytes: Vec<u8>,
        close: bool,
    },
    /// The head promises more than comes.
    Short,
    CloseUnanswered,
    CloseUnread,
    /// Says that it switches, with a wrong key.
    Switch,
    Hang,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Status {
    Ok,
    NoContent,
    Partial,
    Found,
    NotModified,
    NotFound,
    Upgrade,
    Error,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Framing {
    Length,
    Chunked,
    ChunkedTrailers,
    Close,
    Both,
}

pub async fn serve(mut stream: TcpStream, account: Account<Act>) {
    let mut ahead = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut ahead).await {
        let act = account.next().unwrap_or(Act::Usual);
        let at = account.note(&head);
        let add = |bytes: &[u8], whole: bool| {
            account.add(at, bytes);
            if whole {
                account.executed(at);
            }
        };
        let (answer, close) = match &act {
            Act::CloseUnread => return,
            act => answer(act, &head),
        };
        let is_early = match act {
            Act::Usual => head.starts_with("GET"),
            Act::Answer { early, .. } | Act::Twice { early } => early,
            _ => false,
        };
        if is_early && stream.write_all(&answer).await.is_err() {
            return;
        }
        if !read_body(&mut stream, &mut ahead, &head, add).await {
            return;
        }
        if matches!(act, Act::Hang) {
            std::future::pending::<()>().await;
        }
        if !is_early && stream.write_all(&answer).await.is_err() {
            return;
        }
        if close {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

fn answer(act: &Act, head: &str) -> (Vec<u8>, bool) {
    let echo = head.lines().find_map(|line| line.strip_prefix("x-tag: ")).unwrap_or("nobody");
    let plain =
        || format!("HTTP/1.1 200 OK\r\nx-echo: {echo}\r\ncontent-length: {}\r\n\r\n{echo}", echo.len());
    match act {
        Act::Usual if head.contains(" /attack ") => {
            framed(Status::NotFound, Framing::Length, echo, echo.len())
        }
        Act::Usual => (plain().into_bytes(), false),
        Act::Answer { status, framing, length, .. } => framed(*status, *framing, echo, usize::from(*length)),
        Act::Twice { .. } => (plain().repeat(2).into_bytes(), false),
        Act::Interim { count } => {
            let mut out = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(usize::from(count % 20));
            out.push_str(&plain());
            (out.into_bytes(), false)
        }
        Act::Raw { bytes, close } => (bytes.clone(), *close),
        Act::Short => (format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{echo}").into_bytes(), true),
        Act::CloseUnanswered | Act::CloseUnread => (Vec::new(), true),
        Act::Switch => {
            let text = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: no\r\n\r\n";
            (text.as_bytes().to_vec(), false)
        }
        Act::Hang => (Vec::new(), true),
    }
}

fn framed(status: Status, framing: Framing, echo: &str, length: usize) -> (Vec<u8>, bool) {
    let status = match status {
        Status::Ok => "200 OK",
        Status::NoContent => "204 No Content",
        Status::Partial => "206 Partial Content",
        Status::Found => "302 Found",
        Status::NotModified => "304 Not Modified",
        Status::NotFound => "404 Not Found",
        Status::Upgrade => "426 Upgrade Required",
        Status::Error => "500 Oops",
    };
    let body: String = echo.chars().cycle().take(length).collect();
    let head = format!("HTTP/1.1 {status}\r\nx-echo: {echo}\r\n");
    let text = match framing {
        Framing::Length => format!("{head}content-length: {length}\r\n\r\n{body}"),
        Framing::Chunked => format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk(&body)),
        Framing::ChunkedTrailers => format!(
            "{head}transfer-encoding: chunked\r\n\r\n{}0\r\ncontent-length: 5\r\nconnection: close\r\nx-end: {echo}\r\n\r\n",
            chunk(&body)
        ),
        Framing::Close => format!("{head}connection: close\r\n\r\n{body}"),
        Framing::Both => {
            format!(
                "{head}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                chunk(&body)
            )
        }
    };
    (text.into_bytes(), matches!(framing, Framing::Close))
}

fn chunk(body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) }
}

async fn more(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(ahead).await, Ok(1..))
}

async fn read_head(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = ahead.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = ahead.drain(..end + 4).collect();
            return Some(String::from_utf8_lossy(&head).into_owned());
        }
        if !more(stream, ahead).await {
            return None;
        }
    }
}

/// Reads the body that the head declares; false when the connection ended in it.
async fn read_body(
    stream: &mut TcpStream,
    ahead: &mut Vec<u8>,
    head: &str,
    add: impl Fn(&[u8], bool),
) -> bool {
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if field("transfer-encoding").is_some() {
        loop {
            let Some(line) = read_line(stream, ahead).await else { return false };
            add(&line, false);
            let size = String::from_utf8_lossy(&line);
            let Ok(size) = usize::from_str_radix(size.trim(), 16) else { return false };
            if size == 0 {
                break;
            }
            let Some(data) = read_exact(stream, ahead, size + 2).await else { return false };
            add(&data, false);
        }
        loop {
            let Some(line) = read_line(stream, ahead).await else { return false };
            add(&line, line == b"\r\n");
            if line == b"\r\n" {
                return true;
            }
        }
    }
    let mut left = field("content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    while left > 0 {
        if ahead.is_empty() && !more(stream, ahead).await {
            return false;
        }
        let part: Vec<u8> = ahead.drain(..left.min(ahead.len())).collect();
        left -= part.len();
        add(&part, false);
    }
    add(&[], true);
    true
}

async fn read_line(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(end) = ahead.windows(2).position(|window| window == b"\r\n") {
            return Some(ahead.drain(..end + 2).collect());
        }
        if !more(stream, ahead).await {
            return None;
        }
    }
}

async fn read_exact(stream: &mut TcpStream, ahead: &mut Vec<u8>, count: usize) -> Option<Vec<u8>> {
    while ahead.len() < count {
        if !more(stream, ahead).await {
            return None;
        }
    }
    Some(ahead.drain(..count).collect())
}
