//! After an accepted upgrade, or of a connection that passes through: bytes both ways between visitor and tunnel until both directions have ended.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use causeway_tunnel::{AbortCode, StreamError};

use crate::exchange::{Abort, RawIn, RawOut, Upgrade};
use crate::household::{EVICTED, Reader};
use crate::record::Record;
use crate::session::{RawRecvHalf, RawSendHalf};

/// Why the two are broken off: for the connector, and for the log.
type Broken = (AbortCode, &'static str);

const VISITOR_GONE: Broken = (AbortCode::Cancelled, "visitor_gone");

/// Copies until both sides half-closed, one of them broke, or nothing moved for too long: then both are broken off,
/// never ended.
pub async fn copy(
    upgrade: Upgrade,
    to_connector: RawSendHalf,
    from_connector: RawRecvHalf,
    record: Record,
    reader: Option<Arc<Reader>>,
) {
    let Ok(visitor) = upgrade.accept().await else {
        // Dropping the stream's halves tells the connector.
        return record.set_failure(VISITOR_GONE.1);
    };
    relay(visitor, (to_connector, from_connector), Ahead::default(), &record, reader).await;
}

/// What was taken from either side already, to be given to the other first.
#[derive(Debug, Default)]
pub struct Ahead {
    pub from_visitor: Option<Bytes>,
    pub from_connector: Option<Bytes>,
}

/// [`copy`] between halves that are there.
pub async fn relay(
    (mut from_visitor, mut to_visitor): (RawIn, RawOut),
    (mut to_connector, mut from_connector): (RawSendHalf, RawRecvHalf),
    ahead: Ahead,
    record: &Record,
    reader: Option<Arc<Reader>>,
) {
    // Beside both directions: one that has ended, or waits for its writer, looks at no clock.
    let idle = from_visitor.idle();
    let both = async {
        let up = up(&mut from_visitor, &mut to_connector, ahead.from_visitor);
        let down = down(&mut from_connector, &mut to_visitor, ahead.from_connector, reader.as_deref());
        tokio::try_join!(up, down).map(|_| ())
    };
    let ended = tokio::select! {
        ended = both => ended,
        () = idle => Err((AbortCode::Timeout, "idle")),
    };
    if let Err((code, word)) = ended {
        to_connector.abort(code);
        to_visitor.abort();
        record.set_failure(word);
    }
}

async fn up(from: &mut RawIn, to: &mut RawSendHalf, mut ahead: Option<Bytes>) -> Result<(), Broken> {
    loop {
        let next = match ahead.take() {
            None => from.chunk().await.map_err(|Abort { .. }| VISITOR_GONE)?,
            ahead => ahead,
        };
        let Some(bytes) = next else { break };
        tokio::select! {
            biased;
            written = to.write(bytes) => written.map_err(|error| broken(&error))?,
            // What comes meanwhile is taken in: small frames must not become the trouble of the connection's others.
            Abort { .. } = from.broken() => return Err(VISITOR_GONE),
        }
    }
    to.finish();
    Ok(())
}

async fn down(
    from: &mut RawRecvHalf,
    to: &mut RawOut,
    mut ahead: Option<Bytes>,
    reader: Option<&Reader>,
) -> Result<(), Broken> {
    loop {
        let next = match ahead.take() {
            None => from.chunk().await.map_err(|error| broken(&error))?,
            ahead => ahead,
        };
        let Some(bytes) = next else { break };
        let waiting = reader.map(|reader| (reader, from.waiting_bytes(), from.held_bytes()));
        write(to, bytes, waiting).await?;
    }
    to.finish().await.map_err(|_| VISITOR_GONE)
}

/// Writes while the visitor takes something, and is not given up for what waits behind it.
async fn write(
    to: &mut RawOut,
    bytes: Bytes,
    waiting: Option<(&Reader, usize, usize)>,
) -> Result<(), Broken> {
    let Some((reader, waiting, counted)) = waiting else {
        return to.write(bytes).await.map_err(|_| VISITOR_GONE);
    };
    reader.blocked(bytes.len(), waiting + bytes.len(), counted.min(waiting));
    tokio::select! {
        biased;
        written = to.write(bytes) => written.map_err(|_| VISITOR_GONE)?,
        () = poll_fn(|cx| reader.poll_evicted(cx)) => {}
    }
    if reader.moving() { Ok(()) } else { Err((AbortCode::Cancelled, EVICTED)) }
}

fn broken(error: &StreamError) -> Broken {
    match error {
        StreamError::Aborted(code) => (*code, code.as_str()),
        StreamError::Lost(_) => (AbortCode::Cancelled, "session_lost"),
        StreamError::Malformed(_) => (AbortCode::Cancelled, "tunnel_protocol"),
    }
}
