//! The control stream: its messages, their framing, and the two halves that send and receive them.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_HELLO_BYTES, MAX_MESSAGE_BYTES};
use crate::session::Role;
use crate::token::{ConnectorId, KeyId, TunnelId};

/// Everything that is said on the control stream. Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    Hello(Hello),
    Welcome(Welcome),
    Refused(Refused),
    /// Connector: the hostnames that its rules serve now. Replaces what it announced before.
    Announce {
        generation: u64,
        routes: Vec<Route>,
    },
    /// Edge: its answer to one Announce.
    Announced {
        generation: u64,
        accepted: Vec<u32>,
        refused: Vec<RefusedRoute>,
    },
    /// Either: open no new stream; what is in flight may finish.
    Drain {
        reason: String,
    },
    /// Connector, every [`crate::limits::STATS_INTERVAL`].
    Stats(Stats),
    /// A message of a later version: to be ignored.
    #[serde(other)]
    Unknown,
}

/// The connector's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub lowest_version: u32,
    pub highest_version: u32,
    pub tunnel: TunnelId,
    pub key: KeyId,
    pub connector: ConnectorId,
    /// [`crate::proof::sign`].
    pub proof: String,
    pub role: Role,
    /// Name and version of the program.
    pub software: String,
    /// The machine's name, for people.
    #[serde(default)]
    pub host: String,
}

/// The edge's answer when it takes the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub version: u32,
    /// Sixteen hexadecimal digits.
    pub session: String,
    /// Which of the edge's shards has this session, from 0.
    pub shard: u32,
    /// How many shards the edge has: the connector keeps a session to each.
    pub shards: u32,
    /// The tunnel's name, for the connector's log.
    pub tunnel_name: String,
    pub software: String,
}

/// The edge's answer when it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub code: RefusalCode,
    /// For the connector's log: what is wrong and what mends it.
    pub reason: String,
    pub retry: Retry,
}

/// Whether trying again with the same token can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Not until somebody changes something.
    Permanent,
    Temporary,
}

/// Why a session was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// No such tunnel, or the key is not its: one answer for both, so that ids cannot be guessed (hazard 119).
    Unauthorized,
    Revoked,
    Expired,
    Version,
    Overloaded,
    Draining,
    Protocol,
    #[serde(other)]
    Other,
}

/// One hostname that a connector serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Chosen by the connector; comes back with each request.
    pub id: u32,
    /// A name in A-label form, `*.` and a name, or `*` alone: every name that the tunnel is granted.
    pub hostname: String,
}

/// A route that the edge does not serve for this tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRoute {
    pub id: u32,
    pub hostname: String,
    pub reason: String,
}

/// A connector's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    pub requests: u64,
    pub in_flight: u64,
    pub origin_errors: u64,
    pub generation: u64,
    /// Why the last change of its file was not taken, if so.
    pub config_error: Option<String>,
    pub uptime_seconds: u64,
}

/// The control stream broke.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the control stream ended: {0}")]
    Lost(String),
    #[error("a control message of {0} bytes is longer than allowed")]
    TooLong(usize),
    #[error("a control message cannot be read")]
    Malformed(#[source] serde_json::Error),
}

/// Cuts the control stream into messages; sans-I/O.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
}

impl Decoder {
    /// For a peer that has proved nothing yet: small messages only.
    pub fn for_stranger() -> Self {
        Self { buffer: BytesMut::new(), limit: MAX_HELLO_BYTES }
    }

    /// The peer is known from here on.
    pub fn trust(&mut self) {
        self.limit = MAX_MESSAGE_BYTES;
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// When a message is too long or not JSON of a known shape: the session is lost.
    pub fn next_message(&mut self) -> Result<Option<Message>, ControlError> {
        let Some(length) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(ControlError::TooLong(length));
        }
        if self.buffer.len() - 4 < length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let json = self.buffer.split_to(length);
        serde_json::from_slice(&json).map(Some).map_err(ControlError::Malformed)
    }
}

/// One message as it goes over the wire.
pub(crate) fn encode(message: &Message) -> Result<Bytes, ControlError> {
    let json = serde_json::to_vec(message).map_err(ControlError::Malformed)?;
    if json.len() > MAX_MESSAGE_BYTES {
        return Err(ControlError::TooLong(json.len()));
    }
    let length = u32::try_from(json.len()).map_err(|_| ControlError::TooLong(json.len()))?;
    Ok([length.to_be_bytes().as_slice(), &json].concat().into())
}

/// The control stream of one session.
#[derive(Debug)]
pub struct Control {
    send: ControlSend,
    recv: ControlRecv,
}

/// Its sending half.
#[derive(Debug)]
pub struct ControlSend(quinn::SendStream);

/// Its receiving half.
#[derive(Debug)]
pub struct ControlRecv {
    stream: quinn::RecvStream,
    decoder: Decoder,
}

impl Control {
    pub(crate) fn new(send: quinn::SendStream, recv: quinn::RecvStream) -> Self {
        Self { send: ControlSend(send), recv: ControlRecv { stream: recv, decoder: Decoder::for_stranger() } }
    }

    pub(crate) fn trust(&mut self) {
        self.recv.decoder.trust();
    }

    /// # Errors
    /// When the session is gone or the message is too long. Not cancel safe.
    pub async fn send(&mut self, message: &Message) -> Result<(), ControlError> {
        self.send.send(message).await
    }

    /// See [`ControlRecv::recv`].
    ///
    /// # Errors
    /// As [`ControlRecv::recv`].
    pub async fn recv(&mut self) -> Result<Option<Message>, ControlError> {
        self.recv.recv().await
    }

    /// For two tasks.
    pub fn split(self) -> (ControlSend, ControlRecv) {
        (self.send, self.recv)
    }
}

impl ControlSend {
    /// # Errors
    /// When the session is gone or the message is too long. Not cancel safe.
    pub async fn send(&mut self, message: &Message) -> Result<(), ControlError> {
        self.0.write_chunk(encode(message)?).await.map_err(|e| ControlError::Lost(e.to_string()))
    }

    pub(crate) async fn flush_and_finish(&mut self) {
        let _ = self.0.finish();
        let _ = self.0.stopped().await;
    }
}

impl Control {
    /// Ends the stream and waits until the peer has all of it.
    pub(crate) async fn finish(&mut self) {
        self.send.flush_and_finish().await;
    }
}

impl ControlRecv {
    /// The next message; `None` when the peer ended the stream. Cancel safe. Messages of unknown types are skipped.
    ///
    /// # Errors
    /// When the session is gone or a message breaks the protocol.
    pub async fn recv(&mut self) -> Result<Option<Message>, ControlError> {
        loop {
            match self.decoder.next_message()? {
                Some(Message::Unknown) => continue,
                Some(message) => return Ok(Some(message)),
                None => {}
            }
            match self.stream.read_chunk(MAX_HELLO_BYTES, true).await {
                Ok(Some(chunk)) => self.decoder.feed(&chunk.bytes),
                Ok(None) => return Ok(None),
                Err(e) => return Err(ControlError::Lost(e.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_survive_the_wire_cut_anywhere() {
        let message = Message::Announce {
            generation: 7,
            routes: vec![Route { id: 1, hostname: "*.example.dev".to_owned() }],
        };
        let bytes = encode(&message).unwrap();
        let mut decoder = Decoder::for_stranger();
        for byte in &bytes[..bytes.len() - 1] {
            decoder.feed(&[*byte]);
            assert!(decoder.next_message().unwrap().is_none());
        }
        decoder.feed(&bytes[bytes.len() - 1..]);
        assert_eq!(decoder.next_message().unwrap(), Some(message));
    }

    #[test]
    fn hazard_172_unknown_fields_messages_and_codes_are_ignored() {
        let read = |json: &str| serde_json::from_str::<Message>(json).unwrap();
        assert_eq!(read(r#"{"type":"sing","song":"la"}"#), Message::Unknown);
        assert_eq!(
            read(r#"{"type":"drain","reason":"stop","colour":"red"}"#),
            Message::Drain { reason: "stop".to_owned() }
        );
        let Message::Refused(refused) =
            read(r#"{"type":"refused","code":"moon","reason":"r","retry":"temporary"}"#)
        else {
            panic!("a refusal");
        };
        assert_eq!(refused.code, RefusalCode::Other);
    }

    #[test]
    fn a_stranger_may_not_send_long_messages() {
        let mut decoder = Decoder::for_stranger();
        decoder.feed(&100_000_u32.to_be_bytes());
        assert!(matches!(decoder.next_message(), Err(ControlError::TooLong(100_000))));
        decoder = Decoder::for_stranger();
        decoder.trust();
        decoder.feed(&100_000_u32.to_be_bytes());
        assert!(decoder.next_message().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::for_stranger();
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next_message() {}
        }
    }
}
