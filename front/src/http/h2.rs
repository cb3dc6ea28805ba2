//! HTTP/2 on the h2 crate: the life of one connection. Its requests are tasks of their own, in [`stream`].
//!
//! h2 itself answers what is malformed as frames or pseudo-fields with stream and connection errors (hazards 40, 66,
//! 68, 72, 74, 76, 77); what it cannot know is here: floods, age, and how a connection ends.

mod backlog;
pub(super) mod body;
pub mod flood;
mod intake;
mod io;
mod leaving;
mod limits;
mod responder;
mod sending;
mod shared;
pub(super) mod stream;
mod tuner;
mod upgraded;
mod uploads;
mod windows;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::entry::{Peer, Service};
use super::sizes::{MAX_REQUESTS, SEND_BUFFER_BYTES};
use crate::exchange::Handler;
use io::Watched;
use leaving::Leaving;
use shared::{Running, Shared};
use tuner::{Tuner, window};

/// How long the visitor may take for its preface and settings.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// So many new streams, then those have their turn.
const TURN_STREAMS: u64 = 8;
/// For the last frames of a connection that is being closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one connection until it ends.
pub(crate) async fn serve<H: Handler>(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    service: Arc<Service<H>>,
) {
    let flooded = Arc::new(Notify::new());
    let io = Watched::new(io, Arc::clone(&flooded), service.limits.write_idle);
    let handshake = builder().handshake::<_, Bytes>(io);
    let Ok(Ok(mut connection)) = timeout(HANDSHAKE_TIMEOUT, handshake).await else {
        tracing::debug!("HTTP/2 connection ended in its preface");
        return;
    };
    run(&mut connection, Arc::new(peer), service, Arc::new(Shared::new(flooded))).await;
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits::MAX_STREAMS)
        .initial_window_size(window(limits::STREAM_WINDOW_BYTES))
        .initial_connection_window_size(window(limits::CONNECTION_WINDOW_BYTES))
        .max_header_list_size(limits::MAX_HEADER_LIST_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits::MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(limits::MAX_PROVOKED_RESETS))
        .data_frame_budget(limits::SMALL_FRAMES_BUDGET)
        .enable_connect_protocol();
    builder
}

async fn run<H: Handler, T: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<T, Bytes>,
    peer: Arc<Peer>,
    service: Arc<Service<H>>,
    shared: Arc<Shared>,
) {
    let mut retires = pin!(sleep_until(Instant::now() + service.limits.lifetime()));
    // Looks at idleness, and once the connection leaves at whether it has gone.
    let mut timer = pin!(sleep_until(service.pressure.look(Instant::now() + service.limits.idle)));
    let mut leaving: Option<Leaving> = None;
    let mut tuner = Tuner::new(&shared.uploads, &service.budget);
    loop {
        let mut leave = false;
        tokio::select! {
            // A flood ends everything; new requests go before windows and timers, which are seldom ready.
            biased;
            () = shared.flooded.notified() => {
                tracing::debug!("HTTP/2 connection closed: flood");
                return end(connection, Reason::ENHANCE_YOUR_CALM).await;
            }
            accepted = poll_fn(|cx| connection.poll_accept(cx)) => match accepted {
                None => return,
                Some(Err(error)) => {
                    tracing::debug!(%error, "HTTP/2 connection broken off");
                    return;
                }
                Some(Ok((_, mut respond)))
                    if leaving.as_mut().is_some_and(|leaving| !leaving.admits(Instant::now())) =>
                {
                    respond.send_reset(Reason::REFUSED_STREAM);
                    shared.refused();
                }
                Some(Ok((request, respond))) => {
                    let running = Running::begin(&shared);
                    let answer = stream::serve(Arc::clone(&service), Arc::clone(&peer), running, request, respond);
                    drop(service.drain.spawn("http/2 request", answer));
                    leave = shared.streams() >= MAX_REQUESTS;
                    // A refused request gives its memory back as soon as it runs: not a hundred of each connection first.
                    if shared.streams().is_multiple_of(TURN_STREAMS) {
                        tokio::task::yield_now().await;
                    }
                }
            },
            step = tuner.step() => leave = tuner.take(step, connection),
            () = service.drain.draining(), if leaving.is_none() => leave = true,
            () = &mut retires, if leaving.is_none() => leave = true,
            () = &mut timer => {
                let now = Instant::now();
                let idle_since = shared.idle_since();
                let due = match &leaving {
                    Some(leaving) if leaving.is_over(now, idle_since, connection.has_streams(), service.limits.write_idle) => {
                        tracing::debug!("HTTP/2 connection closed: the visitor does not leave");
                        return end(connection, Reason::NO_ERROR).await;
                    }
                    Some(_) => now + leaving::LOOK_EVERY,
                    None => idle_since.unwrap_or(now) + service.pressure.idle(service.limits.idle),
                };
                leave = due <= now;
                timer.as_mut().reset(service.pressure.look(due));
            }
        }
        if leave && leaving.is_none() {
            connection.graceful_shutdown();
            leaving = Some(Leaving::new(Instant::now()));
            timer.as_mut().reset(Instant::now() + leaving::LEAVING_TIMEOUT);
        }
    }
}

/// Ends a connection now, whatever its visitor has to say.
async fn end<T: AsyncRead + AsyncWrite + Unpin>(connection: &mut Connection<T, Bytes>, reason: Reason) {
    connection.abrupt_shutdown(reason);
    let _ = timeout(CLOSE_TIMEOUT, poll_fn(|cx| connection.poll_closed(cx))).await;
}

#[cfg(test)]
mod tests;
