//! HTTP/2 on the h2 crate: the life of one connection. Its requests are tasks of their own, in [`stream`].
//!
//! h2 itself answers what is malformed as frames or pseudo-fields with stream and connection errors (hazards 40, 66,
//! 68, 72, 74, 76, 77); what it cannot know is here: floods, age, and how a connection ends.

pub mod flood;
mod io;
mod stream;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::entry::{Peer, Service};
use super::limits;
use crate::exchange::Handler;
use flood::ResetBudget;
use io::Watched;

/// How long the visitor may take for its preface and settings.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the last frames of a connection that is being closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection and its streams tell each other.
struct Shared {
    resets: Mutex<ResetBudget>,
    /// Running stream tasks, and when the last of them ended.
    running: Mutex<Running>,
    flooded: Arc<Notify>,
}

struct Running {
    count: usize,
    since: Instant,
}

/// Serves one connection until it ends.
pub(crate) async fn serve<H: Handler>(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    service: Arc<Service<H>>,
) {
    let flooded = Arc::new(Notify::new());
    let io = Watched::new(io, Arc::clone(&flooded), service.limits.write_idle);
    let handshake = builder().handshake::<_, Bytes>(io);
    let Ok(Ok(connection)) = timeout(HANDSHAKE_TIMEOUT, handshake).await else {
        tracing::debug!("HTTP/2 connection ended in its preface");
        return;
    };
    let shared = Arc::new(Shared {
        resets: Mutex::new(ResetBudget::new(std::time::Instant::now())),
        running: Mutex::new(Running { count: 0, since: Instant::now() }),
        flooded,
    });
    run(connection, Arc::new(peer), service, shared).await;
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits::MAX_STREAMS)
        .initial_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits::MAX_HEADER_LIST_BYTES)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits::MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(limits::MAX_PROVOKED_RESETS))
        .enable_connect_protocol();
    builder
}

async fn run<H: Handler, T: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<T, Bytes>,
    peer: Arc<Peer>,
    service: Arc<Service<H>>,
    shared: Arc<Shared>,
) {
    let mut retires = pin!(sleep_until(Instant::now() + limits::spread(service.limits.max_age)));
    let mut idle = pin!(sleep_until(Instant::now() + service.pressure.idle(&service.limits)));
    let mut is_leaving = false;
    loop {
        tokio::select! {
            // A flood ends everything; new requests go before the timers, which are seldom ready.
            biased;
            () = shared.flooded.notified() => {
                tracing::debug!("HTTP/2 connection closed: flood");
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                let _ = timeout(CLOSE_TIMEOUT, poll_fn(|cx| connection.poll_closed(cx))).await;
                return;
            }
            accepted = poll_fn(|cx| connection.poll_accept(cx)) => match accepted {
                None => return,
                Some(Err(error)) => {
                    tracing::debug!(%error, "HTTP/2 connection broken off");
                    return;
                }
                Some(Ok((request, respond))) => {
                    shared.resets.lock().opened();
                    shared.running.lock().count += 1;
                    let guard = stream::Guard::new(Arc::clone(&shared));
                    let answer = stream::serve(Arc::clone(&service), Arc::clone(&peer), guard, request, respond);
                    drop(service.drain.spawn("http/2 request", answer));
                    if shared.resets.lock().streams() >= limits::MAX_REQUESTS && !is_leaving {
                        is_leaving = true;
                        connection.graceful_shutdown();
                    }
                }
            },
            () = service.drain.draining(), if !is_leaving => {
                is_leaving = true;
                connection.graceful_shutdown();
            }
            () = &mut retires, if !is_leaving => {
                is_leaving = true;
                connection.graceful_shutdown();
            }
            () = &mut idle, if !is_leaving => {
                let due = shared.running.lock().idle_since() + service.pressure.idle(&service.limits);
                if due <= Instant::now() {
                    is_leaving = true;
                    connection.graceful_shutdown();
                }
                idle.as_mut().reset(due);
            }
        }
    }
}

impl Running {
    /// Since when there is nothing to do: never while a stream runs.
    fn idle_since(&self) -> Instant {
        if self.count > 0 { Instant::now() } else { self.since }
    }
}

#[cfg(test)]
mod tests;
