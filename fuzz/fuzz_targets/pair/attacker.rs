//! The hostile visitor: HTTP/2 frames as the input says, well-formed enough to get far and wrong in every field.

use std::time::Duration;

use arbitrary::Arbitrary;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::List;
use crate::entrance::Entrance;
use crate::tags::{SMUGGLED, Tag};

/// A request's frames, one frame, or a pause.
#[derive(Arbitrary, Debug)]
pub enum Step {
    Request {
        stream: u8,
        method: Method,
        fields: List<Field>,
        body: List<Data>,
        end: bool,
    },
    Data {
        stream: u8,
        data: Data,
        end: bool,
    },
    Trailers {
        stream: u8,
        fields: List<Field>,
    },
    Reset {
        stream: u8,
        code: u8,
    },
    Window {
        stream: u8,
        add: u32,
    },
    Setting {
        id: u8,
        value: u32,
    },
    Ping,
    GoAway,
    /// Any frame at all.
    Raw {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: Vec<u8>,
    },
    /// Waits until the edge has read everything so far.
    Settle,
}

/// One DATA frame.
#[derive(Arbitrary, Debug)]
pub struct Data {
    content: Content,
    length: u16,
    padding: Option<u8>,
}

#[derive(Arbitrary, Debug)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Options,
    /// Extended CONNECT (RFC 8441) for a WebSocket.
    WebSocket,
    Connect,
}

/// A field of a head. The first kinds are let through by themselves; those of [`Wrong`] are each refused somewhere.
#[derive(Arbitrary, Debug)]
pub enum Field {
    Length(u16),
    Expect,
    Te,
    Key,
    Trailer,
    Cookie,
    Wrong(Wrong),
}

#[derive(Arbitrary, Debug)]
pub enum Wrong {
    Length(Vec<u8>),
    Chunked,
    Connection,
    Upgrade,
    Host,
    Any(Vec<u8>, Vec<u8>),
}

/// What a body holds.
#[derive(Arbitrary, Debug)]
pub enum Content {
    Tag,
    /// Looks like a request to who reads the connection as HTTP/1.1.
    Request,
    Chunks,
    Zeros,
}

pub struct Attacker(TlsStream<TcpStream>);

/// The edge answers a PING once it has read what came before.
const PATIENCE: Duration = Duration::from_millis(30);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PING: u8 = 6;
const ACK: u8 = 1;

impl Attacker {
    pub async fn connect(edge: &Entrance, host: &'static str) -> Self {
        Self(edge.visit(host).await)
    }

    /// Plays all steps. That the edge ends the connection meanwhile is its right.
    pub async fn play(&mut self, steps: &[Step], host: &str) {
        let mut out = PREFACE.to_vec();
        frame(&mut out, 4, 0, 0, &[]);
        // Its own SETTINGS are acknowledged unseen.
        frame(&mut out, 4, ACK, 0, &[]);
        for step in steps {
            if let Step::Settle = step {
                if self.0.write_all(&std::mem::take(&mut out)).await.is_err() || !self.settle().await {
                    return;
                }
                continue;
            }
            step.encode(&mut out, host);
        }
        if self.0.write_all(&out).await.is_ok() {
            self.settle().await;
        }
    }

    /// Sends a PING and reads until its answer. False when the connection is over.
    async fn settle(&mut self) -> bool {
        let mut ping = Vec::new();
        frame(&mut ping, PING, 0, 0, b"settled?");
        if self.0.write_all(&ping).await.is_err() {
            return false;
        }
        let mut read = Vec::new();
        let answered = async {
            while !read.windows(8).any(|window| window == b"settled?") {
                match self.0.read_buf(&mut read).await {
                    Ok(1..) => {}
                    _ => return false,
                }
            }
            true
        };
        tokio::time::timeout(PATIENCE, answered).await.unwrap_or(true)
    }
}

impl Step {
    fn encode(&self, out: &mut Vec<u8>, host: &str) {
        let stream = |number: u8| u32::from(number % 8) * 2 + 1;
        match self {
            Self::Request { stream: id, method, fields, body, end } => {
                let block = head(method, &fields.0, host);
                frame(out, 1, 4 | u8::from(*end && body.0.is_empty()), stream(*id), &block);
                for (number, data) in body.0.iter().enumerate() {
                    data.encode(out, stream(*id), *end && number + 1 == body.0.len());
                }
            }
            Self::Data { stream: id, data, end } => data.encode(out, stream(*id), *end),
            Self::Trailers { stream: id, fields } => {
                let mut block = Vec::new();
                fields.0.iter().for_each(|field| field.encode(&mut block, host));
                frame(out, 1, 5, stream(*id), &block);
            }
            Self::Reset { stream: id, code } => {
                frame(out, 3, 0, stream(*id), &u32::from(*code).to_be_bytes())
            }
            Self::Window { stream: id, add } => frame(out, 8, 0, stream(*id) - 1, &add.to_be_bytes()),
            Self::Setting { id, value } => {
                let mut payload = vec![0, id % 10];
                payload.extend_from_slice(&value.to_be_bytes());
                frame(out, 4, 0, 0, &payload);
            }
            Self::Ping => frame(out, PING, 0, 0, b"whatever"),
            Self::GoAway => frame(out, 7, 0, 0, &[0; 8]),
            Self::Raw { kind, flags, stream: id, payload } => {
                frame(out, *kind, *flags, u32::from(*id), &payload[..payload.len().min(1024)]);
            }
            Self::Settle => {}
        }
    }
}

impl Data {
    fn encode(&self, out: &mut Vec<u8>, stream: u32, end: bool) {
        let mut payload = Vec::new();
        payload.extend(self.padding);
        payload.extend_from_slice(&self.content.bytes(usize::from(self.length)));
        payload.resize(payload.len() + usize::from(self.padding.unwrap_or(0)), 0);
        payload.truncate(16_384);
        frame(out, 0, u8::from(end) | if self.padding.is_some() { 8 } else { 0 }, stream, &payload);
    }
}

fn head(method: &Method, fields: &[Field], host: &str) -> Vec<u8> {
    let mut block = Vec::new();
    let (method, is_websocket) = match method {
        Method::Get => ("GET", false),
        Method::Head => ("HEAD", false),
        Method::Post => ("POST", false),
        Method::Put => ("PUT", false),
        Method::Options => ("OPTIONS", false),
        Method::WebSocket => ("CONNECT", true),
        Method::Connect => ("CONNECT", false),
    };
    put_field(&mut block, b":method", method.as_bytes());
    if method != "CONNECT" || is_websocket {
        put_field(&mut block, b":scheme", b"https");
        put_field(&mut block, b":path", b"/attack");
    }
    put_field(&mut block, b":authority", host.as_bytes());
    if is_websocket {
        put_field(&mut block, b":protocol", b"websocket");
        put_field(&mut block, b"sec-websocket-version", b"13");
    }
    put_field(&mut block, b"x-tag", Tag::attacker().text().as_bytes());
    for field in fields {
        field.encode(&mut block, host);
    }
    block
}

impl Field {
    fn encode(&self, block: &mut Vec<u8>, host: &str) {
        match self {
            Self::Length(length) => put_field(block, b"content-length", length.to_string().as_bytes()),
            Self::Expect => put_field(block, b"expect", b"100-continue"),
            Self::Te => put_field(block, b"te", b"trailers"),
            Self::Key => put_field(block, b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            Self::Trailer => put_field(block, b"trailer", b"content-length"),
            Self::Cookie => put_field(block, b"cookie", b"a=b"),
            Self::Wrong(Wrong::Length(text)) => {
                put_field(block, b"content-length", &text[..text.len().min(32)])
            }
            Self::Wrong(Wrong::Chunked) => put_field(block, b"transfer-encoding", b"chunked"),
            Self::Wrong(Wrong::Connection) => put_field(block, b"connection", b"content-length, host"),
            Self::Wrong(Wrong::Upgrade) => put_field(block, b"upgrade", b"websocket"),
            Self::Wrong(Wrong::Host) => put_field(block, b"host", host.as_bytes()),
            Self::Wrong(Wrong::Any(name, value)) => {
                put_field(block, &name[..name.len().min(64)], &value[..value.len().min(256)]);
            }
        }
    }
}

impl Content {
    fn bytes(&self, length: usize) -> Vec<u8> {
        let tag = Tag::attacker();
        let text = match self {
            Self::Tag => return tag.fill(length),
            Self::Zeros => return vec![0; length],
            Self::Request => format!(
                "POST {SMUGGLED} HTTP/1.1\r\nhost: a\r\nx-tag: {}\r\ncontent-length: 0\r\n\r\n",
                tag.text()
            ),
            Self::Chunks => {
                format!("0\r\n\r\nPOST {SMUGGLED} HTTP/1.1\r\nhost: a\r\nx-tag: {}\r\n\r\n", tag.text())
            }
        };
        text.into_bytes()
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("frames are short").to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// HPACK's literal without indexing, without Huffman (RFC 7541 §6.2.2).
fn put_field(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    put_text(block, name);
    put_text(block, value);
}

fn put_text(block: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        block.push(u8::try_from(text.len()).expect("less than 127"));
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text);
}
