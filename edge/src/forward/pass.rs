//! The life of a connection that passes through: route, balance, stream, and bytes both ways that nobody here understands.
//!
//! It may go to another session as long as nothing came back and the visitor has said nothing but his ClientHello: to have a
//! service see that twice does no harm.

use std::sync::Arc;

use bytes::Bytes;
use causeway_tunnel::{Passage, RequestId};
use http::HeaderMap;
use tokio::time::{Instant, sleep_until, timeout};

use super::{MAX_ATTEMPTS, Tried, Way, find, has_better};
use crate::registry::{Live, Tunnel};
use crate::shard::Shard;
use causeway_front::exchange::{InError, Passing, RawIn, Refused};
use causeway_front::forward::Failure;
use causeway_front::forward::attempt::{OPEN_TIMEOUT, overtaken};
use causeway_front::forward::raw::{Ahead, relay};
use causeway_front::record::Record;
use causeway_front::session::{RawRecvHalf, RawSendHalf};

/// A connection on its way through a session that has taken it.
struct Begun {
    live: Arc<Live>,
    stream: (RawSendHalf, RawRecvHalf),
    ahead: Ahead,
}

/// What each attempt says first.
struct Words {
    id: RequestId,
    passage: Passage,
    hello: Bytes,
}

/// Carries one connection to its end.
///
/// # Errors
/// When nothing went back to the visitor.
pub(super) async fn pass(shard: &Shard, passing: Passing) -> Result<(), Refused> {
    let Passing { id, visitor, name, end, hello, mut from_visitor, to_visitor, record } = passing;
    let found = shard.registry.table().find(&name).map(Arc::clone);
    let Some(route) = found else {
        shard.registry.metrics().unrouted("unknown_host");
        record.set_failure(Failure::UnknownHost.word());
        return Err(Refused { to_visitor });
    };
    record.set_route(&route.tunnel.name, route.passing_observers(end), &HeaderMap::new());
    record.add_in(&hello);
    let passage = Passage { request_id: id, route: 0, visitor, name: name.as_str().to_owned() };
    let words = Words { id, passage, hello };
    match begin(shard, &route.tunnel, words, &mut from_visitor, &record).await {
        Ok(Begun { live, stream, ahead }) => {
            let reader = record.with_ticket(|ticket| ticket.reader(&live.stalled));
            relay((from_visitor, to_visitor), stream, ahead, &record, reader).await;
            Ok(())
        }
        Err(failure) => {
            shard.registry.metrics().failure(&route.tunnel.name, failure.word());
            record.set_failure(failure.word());
            Err(Refused { to_visitor })
        }
    }
}

/// Finds a session whose connector takes it.
async fn begin(
    shard: &Shard,
    tunnel: &Tunnel,
    mut words: Words,
    from_visitor: &mut RawIn,
    record: &Record,
) -> Result<Begun, Failure> {
    let free = tunnel.free_streams();
    if free.is_some_and(|free| record.with_ticket(|ticket| ticket.take_share(tunnel.id, free)) == Some(false))
    {
        return Err(Failure::Share);
    }
    let mut tried = Tried::default();
    let mut last = None;
    while tried.sessions.len() < MAX_ATTEMPTS {
        let name = words.passage.name.as_str();
        let live = match find(shard, tunnel, Way::Pass, name, &tried).await {
            Ok(live) => live,
            Err(nobody) => return Err(last.unwrap_or(nobody)),
        };
        if last.is_some() {
            shard.registry.metrics().retry(&tunnel.name);
        }
        record.set_session(&live.label);
        let Some(route) = live.passing_id(name) else { continue };
        words.passage.route = route;
        let elsewhere = || {
            tried.may_leave(&live) && has_better(shard, tunnel, Way::Pass, &words.passage.name, &tried, &live)
        };
        match attempt(shard, &live, &words, from_visitor, elsewhere).await {
            Ok((stream, ahead)) => return Ok(Begun { live, stream, ahead }),
            Err(failure) if failure.may_retry(true) => {
                tracing::debug!(request = %words.id, session = %live.label, failure = failure.word(), "trying another session");
                tried.note(&live, &failure);
                last = Some(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(last.unwrap_or(Failure::NoConnector))
}

/// One try on one session, until the first byte from either side.
async fn attempt(
    shard: &Shard,
    live: &Live,
    words: &Words,
    from_visitor: &mut RawIn,
    elsewhere: impl Fn() -> bool,
) -> Result<((RawSendHalf, RawRecvHalf), Ahead), Failure> {
    let limit = shard.patience.response_header;
    let began = async {
        let opened = timeout(OPEN_TIMEOUT, live.session.open()).await.map_err(|_| Failure::Crowded)?;
        let (mut send, recv) = opened.map_err(|_| Failure::NotOpened)?;
        send.connect(words.passage.clone()).await.map_err(|error| Failure::from_stream(&error))?;
        let mut to_connector = send.into_raw();
        to_connector.write(words.hello.clone()).await.map_err(|error| Failure::from_stream(&error))?;
        Ok::<_, Failure>((to_connector, recv.into_raw()))
    };
    let (to_connector, mut from_connector) = tokio::select! {
        biased;
        began = began => began?,
        () = overtaken(&live.session, &elsewhere) => return Err(Failure::Silent),
    };
    let mut ahead = Ahead::default();
    let mut due = Instant::now() + limit;
    loop {
        tokio::select! {
            biased;
            first = from_connector.chunk() => {
                ahead.from_connector = first.map_err(|error| Failure::from_stream(&error))?;
                break;
            }
            more = from_visitor.chunk() => {
                // From here on another session would have to be told more than a ClientHello.
                ahead.from_visitor = more.map_err(|_| Failure::Visitor(InError::Gone))?;
                break;
            }
            () = overtaken(&live.session, &elsewhere) => return Err(Failure::Silent),
            () = sleep_until(due) => {
                if !live.session.is_suspected() {
                    return Err(Failure::HeaderTimeout);
                }
                // The line's silence is not the service's.
                due = Instant::now() + limit;
            }
        }
    }
    Ok(((to_connector, from_connector), ahead))
}
