//! The public listeners: accept visitors within their bounds, and lead each to the door.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use crate::door::Door;
use crate::exchange::Handler;
use crate::room::Room;

/// When file descriptors ran out.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Accepts visitors until the drain starts.
pub async fn serve<H: Handler>(listener: TcpListener, door: Arc<Door<H>>, room: Arc<Room>) {
    let mut is_short_of_files = false;
    loop {
        // The place comes first: a full house does not accept what it cannot serve.
        let accepted = tokio::select! {
            biased;
            () = door.service.drain.draining() => return,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, addr, permit)) => {
                is_short_of_files = false;
                door.accepted.inc();
                let Some(stay) = room.take(addr.ip(), permit, &door.open) else {
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    continue;
                };
                let drain = door.service.drain.clone();
                let door = Arc::clone(&door);
                let connection = async move {
                    let household = Arc::clone(&stay.household);
                    let _stay = stay;
                    door.enter(stream, addr, household).await;
                };
                drop(drain.spawn("visitor's connection", connection));
            }
            Err(error) if is_transient(&error) => {
                tracing::debug!(%error, "visitor left before it was accepted")
            }
            Err(error) => {
                if !std::mem::replace(&mut is_short_of_files, true) {
                    tracing::error!(%error, "cannot accept visitors: raise the limit of open files (LimitNOFILE=, ulimit -n)");
                }
                door.refused("out of file descriptors");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Room,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = room.wait().await.map_err(io::Error::other)?;
    let (stream, addr) = listener.accept().await?;
    Ok((stream, addr, permit))
}

/// Faults of one connection, not of ours.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, PermissionDenied,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | PermissionDenied
    )
}
