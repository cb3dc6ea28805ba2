//! The task that carries grants both ways, over one stream of its own: the *credit stream*. The edge opens it right behind Welcome,
//! before any other; no [`crate::Session::accept`] ever sees it.
//!
//! ```text
//! edge → connector:  OPEN credit, records …
//! connector → edge:  records …
//! ```

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::post::Post;
use super::records::Decoder;
use super::session::Flow;
use crate::carrier::{Closed, Connection, Ended, RecvHalf, SendHalf};
use crate::stream::frame::{self, Event, FrameType, put_header};
use crate::stream::wire::Malformed;

#[derive(Debug)]
pub(crate) struct Courier {
    send: SendHalf,
    recv: RecvHalf,
    decoder: Decoder,
    post: Arc<Post>,
    /// Whoever could be granted something holds it. When nobody does, the courier goes, and with it its hold on the connection.
    flow: Weak<Flow>,
    /// Taken from the post, not written yet.
    chunks: [Bytes; 1],
}

/// There is no credit stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCredit {
    #[error("the session ended before its credit stream began: {0}")]
    Closed(Closed),
    #[error("the credit stream broke: {0}")]
    Ended(#[from] Ended),
    #[error("the first stream that the edge opened is not the credit stream: {0}")]
    Malformed(#[from] Malformed),
}

/// The name of the credit stream's kind.
const KIND: &[u8] = b"credit";

impl Courier {
    /// At the edge.
    pub(crate) async fn open(connection: &Connection, flow: &Arc<Flow>) -> Result<Self, Closed> {
        let (send, recv) = connection.open().await?;
        let mut opening = BytesMut::new();
        put_header(&mut opening, FrameType::Open, KIND.len() as u64 + 1);
        crate::stream::wire::put_bytes(&mut opening, KIND);
        Ok(Self::new(send, recv, flow, opening.freeze()))
    }

    /// At the connector: the edge's first stream.
    pub(crate) async fn accept(connection: &Connection, flow: &Arc<Flow>) -> Result<Self, NoCredit> {
        let (send, recv) = connection.accept().await.map_err(NoCredit::Closed)?;
        let mut courier = Self::new(send, recv, flow, Bytes::new());
        let mut frames = frame::Decoder::new();
        let opening = loop {
            if let Some(event) = frames.next_event()? {
                break event;
            }
            if !poll_fn(|cx| courier.recv.poll_read(cx, |bytes| frames.feed(bytes))).await? {
                return Err(Malformed("it ended at once").into());
            }
        };
        match opening {
            Event::Block(FrameType::Open, kind) if kind.get(1..) == Some(KIND) => {}
            _ => return Err(Malformed("it is opened as another kind").into()),
        }
        for bytes in frames.into_rest() {
            courier.decoder.feed(&bytes, |record| flow.granted(record.stream, record.limit));
        }
        Ok(courier)
    }

    /// Over a credit stream that both ends know as such.
    pub(crate) fn over((send, recv): (SendHalf, RecvHalf), flow: &Arc<Flow>) -> Self {
        Self::new(send, recv, flow, Bytes::new())
    }

    fn new(send: SendHalf, recv: RecvHalf, flow: &Arc<Flow>, first: Bytes) -> Self {
        // Whoever waits for credit has bytes that others' bytes must not hold up.
        send.set_urgent();
        Self {
            send,
            recv,
            decoder: Decoder::default(),
            post: Arc::clone(&flow.post),
            flow: Arc::downgrade(flow),
            chunks: [first],
        }
    }

    /// Lets it run for as long as anybody holds the session or a stream of it.
    pub(crate) fn spawn(self) {
        #[expect(clippy::disallowed_methods, reason = "it belongs to its Flow, and ends with that")]
        drop(tokio::spawn(self.run()));
    }

    /// Until the session ends, or until nobody holds anything of it.
    pub(crate) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (decoder, flow) = (&mut self.decoder, self.flow.upgrade());
            let Some(flow) = flow else { return Poll::Ready(()) };
            let take = |bytes: Bytes| {
                decoder.feed(&bytes, |record| flow.granted(record.stream, record.limit));
            };
            match self.recv.poll_read(cx, take) {
                Poll::Ready(Ok(true)) => {}
                // It lives as long as its session.
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        loop {
            match self.send.poll_write(cx, &mut self.chunks) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
            let mut out = BytesMut::new();
            match self.post.poll_take(cx, &mut out) {
                Poll::Ready(true) => self.chunks = [out.freeze()],
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
