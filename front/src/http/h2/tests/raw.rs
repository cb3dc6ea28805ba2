//! A visitor that writes its frames by hand, and so does what no library does.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Front, tls};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
pub(super) const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
const PATIENCE: Duration = Duration::from_secs(15);

/// Answers SETTINGS, and nothing else by itself: no PING.
pub(super) struct Raw {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Raw {
    pub(super) async fn connect(front: &Front) -> Self {
        let mut raw = Self { stream: tls(front).await, received: BytesMut::new() };
        raw.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        raw.send(SETTINGS, 0, 0, b"").await;
        raw
    }

    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.stream.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
    }

    pub(super) async fn send_all(&mut self, frames: &[u8]) {
        self.stream.write_all(frames).await.unwrap();
    }

    pub(super) async fn try_send(&mut self, frames: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(frames).await
    }

    /// Asks for `/` of a.example.
    pub(super) async fn get(&mut self, stream: u32) {
        let fields = [&[0x82, 0x87, 0x84, 0x41, 9][..], b"a.example"].concat();
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &fields).await;
    }

    /// Begins a POST to `/` of a.example.
    pub(super) async fn post(&mut self, stream: u32) {
        let fields = [&[0x83, 0x87, 0x84, 0x41, 9][..], b"a.example"].concat();
        self.send(HEADERS, END_HEADERS, stream, &fields).await;
    }

    /// Asks for a WebSocket at `/` of a.example.
    pub(super) async fn websocket(&mut self, stream: u32) {
        let fields = [
            &[0x02, 7][..],
            b"CONNECT",
            &[0x87, 0x84, 0x41, 9],
            b"a.example",
            &[0, 9],
            b":protocol",
            &[9],
            b"websocket",
        ];
        self.send(HEADERS, END_HEADERS, stream, &fields.concat()).await;
    }

    /// The next frame but for acknowledgements and windows; None at the end.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.read()).await.expect("no frame and no end")?;
            match (frame.kind, frame.flags) {
                // A connection that is ending takes it no more.
                (SETTINGS, 0) => drop(self.try_send(&self::frame(SETTINGS, ACK, 0, b"")).await),
                (SETTINGS, _) | (8, _) => {}
                _ => return Some(frame),
            }
        }
    }

    /// The next frame of this kind; those before it are passed over.
    pub(super) async fn next_of(&mut self, kind: u8) -> Frame {
        self.next_of_any(&[kind]).await
    }

    pub(super) async fn next_of_any(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection ended");
            if kinds.contains(&frame.kind) {
                return frame;
            }
        }
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(&[a, b, c, kind, flags, d, e, f, g]) = self.received.first_chunk() {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if self.received.len() >= 9 + length {
                    self.received.advance(9);
                    let payload = self.received.split_to(length).to_vec();
                    return Some(Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]), payload });
                }
            }
            // A reset is an end too.
            if !self.stream.read_buf(&mut self.received).await.is_ok_and(|count| count > 0) {
                return None;
            }
        }
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
