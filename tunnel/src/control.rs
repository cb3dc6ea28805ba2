//! The control stream: the framing of its messages, and the two halves that send and receive them.

use std::future::poll_fn;

use bytes::{Buf, Bytes, BytesMut};

use crate::carrier::{RecvHalf, SendHalf};
use crate::limits::{MAX_HELLO_BYTES, MAX_MESSAGE_BYTES};
use crate::message::Message;

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

    /// Whether nothing of a further message has come.
    fn is_between_messages(&self) -> bool {
        self.buffer.is_empty()
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
pub struct ControlSend(SendHalf);

/// Its receiving half.
#[derive(Debug)]
pub struct ControlRecv {
    half: RecvHalf,
    decoder: Decoder,
}

impl Control {
    pub(crate) fn new(send: SendHalf, recv: RecvHalf) -> Self {
        send.set_urgent();
        Self { send: ControlSend(send), recv: ControlRecv { half: recv, decoder: Decoder::for_stranger() } }
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
        let mut chunks = [encode(message)?];
        poll_fn(|cx| self.0.poll_write(cx, &mut chunks))
            .await
            .map_err(|ended| ControlError::Lost(ended.to_string()))
    }

    pub(crate) async fn flush_and_finish(&mut self) {
        self.0.finish();
        self.0.stopped().await;
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
            let decoder = &mut self.decoder;
            match poll_fn(|cx| self.half.poll_read(cx, |bytes| decoder.feed(&bytes))).await {
                Ok(true) => {}
                Ok(false) if self.decoder.is_between_messages() => return Ok(None),
                Ok(false) => return Err(ControlError::Lost("it ended within a message".to_owned())),
                Err(ended) => return Err(ControlError::Lost(ended.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Route;
    use crate::opening::Kind;

    #[test]
    fn messages_survive_the_wire_cut_anywhere() {
        let message = Message::Announce {
            generation: 7,
            routes: vec![Route { kind: Kind::Connect, ..Route::of_requests(1, "*.example.dev") }],
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
