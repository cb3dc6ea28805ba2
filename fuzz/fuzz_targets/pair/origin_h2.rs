//! The origin over HTTP/2 without TLS: the h2 crate's server, on a transport that slips in frames as the input says.
//!
//! What it slips in never says that a request was not taken which was: an origin that lies about that has its requests
//! sent twice by right.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use arbitrary::Arbitrary;
use bytes::{Buf, Bytes};
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::account::Account;

/// What the origin does with its next request. Without one it answers with what it was asked.
#[derive(Arbitrary, Clone, Debug)]
pub enum Act {
    Answer {
        length: u16,
        early: bool,
        trailers: bool,
    },
    /// Never looked at: it may be sent again.
    Refuse,
    /// After the whole request.
    Reset {
        code: u8,
    },
    /// In good order: this request is answered, later ones are not taken.
    GoAway,
    /// At once; this request was executed.
    Abrupt {
        code: u8,
    },
    /// What an HTTP/2 library refuses.
    Slip(Slip),
    Hang,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Slip {
    DataOnStreamZero,
    BadHeaderBlock,
    TooLong,
    Empty { count: u8 },
    Tiny { count: u8 },
    WindowOfZero,
    BadSettings,
    PingStorm { count: u8 },
    Unknown { kind: u8 },
}

pub async fn serve(stream: TcpStream, account: Account<Act>) {
    let slips = Slips::default();
    let io = Slipping { stream, slips: slips.clone(), out: VecDeque::new() };
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    let mut tasks = tokio::task::JoinSet::new();
    let (commands, mut commanded) = tokio::sync::mpsc::unbounded_channel();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                tasks.spawn(answer(request, respond, account.clone(), slips.clone(), commands.clone()));
            }
            Some(command) = commanded.recv() => match command {
                Command::GoAway => connection.graceful_shutdown(),
                Command::Abrupt(reason) => connection.abrupt_shutdown(reason),
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

enum Command {
    GoAway,
    Abrupt(Reason),
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    account: Account<Act>,
    slips: Slips,
    commands: tokio::sync::mpsc::UnboundedSender<Command>,
) {
    let act = account.next();
    let (head, mut body) = request.into_parts();
    if let Some(Act::Refuse) = act {
        respond.send_reset(Reason::REFUSED_STREAM);
        return;
    }
    let head = format!("{} {} {:?}", head.method, head.uri.path(), head.headers);
    let at = account.note(&head);
    let echo =
        crate::tags::find(head.as_bytes()).next().map_or_else(|| "nobody".to_owned(), crate::tags::Tag::text);
    if let Some(Act::Answer { early: true, length, .. }) = act {
        reply(&mut respond, &echo, length.into(), false);
    }
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        let _ = body.flow_control().release_capacity(data.len());
        account.add(at, &data);
    }
    account.executed(at);
    match act {
        None => reply(&mut respond, &echo, echo.len(), false),
        Some(Act::Answer { early: false, length, trailers }) => {
            reply(&mut respond, &echo, length.into(), trailers)
        }
        Some(Act::Answer { .. } | Act::Refuse) => {}
        // A refusal of what was executed would be a lie.
        Some(Act::Reset { code }) => {
            respond.send_reset(if code == 7 { Reason::CANCEL } else { u32::from(code).into() })
        }
        Some(Act::GoAway) => {
            let _ = commands.send(Command::GoAway);
            reply(&mut respond, &echo, echo.len(), false);
        }
        Some(Act::Abrupt { code }) => {
            let _ = commands.send(Command::Abrupt(u32::from(code).into()));
        }
        Some(Act::Slip(slip)) => {
            slips.push(slip.bytes(respond.stream_id().as_u32()));
            if matches!(slip, Slip::Empty { .. } | Slip::Tiny { .. }) {
                return std::future::pending().await;
            }
            reply(&mut respond, &echo, echo.len(), false);
        }
        Some(Act::Hang) => std::future::pending().await,
    }
}

fn reply(respond: &mut SendResponse<Bytes>, echo: &str, length: usize, trailers: bool) {
    let body: String = echo.chars().cycle().take(length).collect();
    let head = Response::builder().header("x-echo", echo).body(()).expect("a response");
    let Ok(mut send) = respond.send_response(head, body.is_empty() && !trailers) else { return };
    if !body.is_empty() {
        let _ = send.send_data(body.into(), !trailers);
    }
    if trailers {
        let mut fields = http::HeaderMap::new();
        fields.insert("x-end", echo.parse().expect("a value"));
        fields.insert("content-length", http::HeaderValue::from_static("3"));
        let _ = send.send_trailers(fields);
    }
}

impl Slip {
    fn bytes(self, stream: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let mut frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
            let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
            out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
            out.extend_from_slice(&stream.to_be_bytes());
            out.extend_from_slice(payload);
        };
        match self {
            Self::DataOnStreamZero => frame(0, 0, 0, b"x"),
            Self::BadHeaderBlock => frame(1, 4, stream, &[0xff, 0xff, 0xff, 0xff]),
            Self::TooLong => frame(0, 0, stream, &vec![0; 20_000]),
            Self::Empty { count } => (0..count).for_each(|_| frame(0, 0, stream, b"")),
            Self::Tiny { count } => {
                frame(1, 4, stream, &[0x88]);
                (0..count).for_each(|_| frame(0, 0, stream, b"x"));
            }
            Self::WindowOfZero => frame(8, 0, 0, &[0; 4]),
            Self::BadSettings => frame(4, 0, 0, &[0; 5]),
            Self::PingStorm { count } => (0..count).for_each(|_| frame(6, 0, 0, b"pingping")),
            // RST_STREAM and GOAWAY would speak of what was taken.
            Self::Unknown { kind } => frame(kind.max(10), 0, stream, b"whatever"),
        }
        out
    }
}

/// Frames that wait for a boundary between h2's own.
#[derive(Clone, Default)]
struct Slips(Arc<Mutex<(Vec<u8>, Option<Waker>)>>);

impl Slips {
    fn push(&self, bytes: Vec<u8>) {
        let mut inner = self.0.lock().expect("nobody panicked");
        inner.0.extend_from_slice(&bytes);
        if let Some(waker) = inner.1.take() {
            waker.wake();
        }
    }
}

/// h2 flushes at the boundaries of frames: what it wrote is collected until then, and the slips go behind it.
struct Slipping {
    stream: TcpStream,
    slips: Slips,
    out: VecDeque<u8>,
}

impl Slipping {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.slips.0.lock().expect("nobody panicked");
        self.out.extend(std::mem::take(&mut inner.0));
        inner.1 = Some(cx.waker().clone());
        drop(inner);
        while !self.out.is_empty() {
            let (front, _) = self.out.as_slices();
            match Pin::new(&mut self.stream).poll_write(cx, front) {
                Poll::Ready(Ok(count)) => self.out.advance(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Slipping {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Slipping {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.out.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_out(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_out(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
