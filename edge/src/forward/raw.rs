//! After an accepted upgrade: bytes both ways between visitor and tunnel until both directions have ended.

use causeway_tunnel::{AbortCode, RawRecv, RawSend, StreamError};

use crate::access::Record;
use crate::exchange::{Abort, RawIn, RawOut, Upgrade};

/// Copies until both sides half-closed or one of them broke: then both are broken off, never ended.
pub(super) async fn copy(upgrade: Upgrade, to_connector: RawSend, from_connector: RawRecv, record: Record) {
    let Ok((from_visitor, to_visitor)) = upgrade.accept().await else {
        // Dropping the stream's halves tells the connector.
        return record.set_failure("visitor_gone");
    };
    let result = tokio::try_join!(up(from_visitor, to_connector), down(from_connector, to_visitor));
    if let Err(word) = result {
        record.set_failure(word);
    }
}

async fn up(mut from: RawIn, mut to: RawSend) -> Result<(), &'static str> {
    loop {
        match from.chunk().await {
            Ok(Some(bytes)) => to.write(bytes).await.map_err(|error| word(&error))?,
            Ok(None) => {
                to.finish();
                return Ok(());
            }
            Err(Abort { .. }) => {
                to.abort(AbortCode::Cancelled);
                return Err("visitor_gone");
            }
        }
    }
}

async fn down(mut from: RawRecv, mut to: RawOut) -> Result<(), &'static str> {
    loop {
        match from.chunk().await {
            Ok(Some(bytes)) => to.write(bytes).await.map_err(|_| "visitor_gone")?,
            Ok(None) => return to.finish().await.map_err(|_| "visitor_gone"),
            Err(error) => {
                to.abort();
                return Err(word(&error));
            }
        }
    }
}

fn word(error: &StreamError) -> &'static str {
    match error {
        StreamError::Aborted(code) => code.as_str(),
        StreamError::Lost(_) => "session_lost",
        StreamError::Malformed(_) => "tunnel_protocol",
    }
}
