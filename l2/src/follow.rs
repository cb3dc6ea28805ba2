//! Follows one kind of objects at the API server until the drain, and tells each change to whoever asked for it.
//!
//! It never ends by itself: after an error it waits (capped, jittered) and lists anew, and nothing is taken away
//! meanwhile. What a new list does not show is gone only when that list is complete. Of an object nothing is kept here.

use std::fmt::Debug;
use std::pin::pin;

use causeway_daemon::drain::Drain;
use futures_util::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use crate::retry::Retry;

/// What is followed, and what is said when it fails.
pub(crate) struct Following<K> {
    /// As the log names it.
    pub(crate) kind: String,
    pub(crate) api: Api<K>,
    pub(crate) config: watcher::Config,
    /// Objects per page of a list: a page is in memory as a whole, with everything that is not kept.
    pub(crate) page: u32,
    pub(crate) presence: Presence,
    /// What holds while the API server does not answer.
    pub(crate) meanwhile: &'static str,
    /// Said instead when the API server refuses the watch.
    pub(crate) refused: Option<&'static str>,
}

/// Whether the API server may lack the kind for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Certain,
    Optional,
}

/// What has changed.
pub(crate) enum Change<K> {
    /// A list begins: what it will not show is gone.
    Begin,
    /// Shown by a list that is not complete.
    Listed(K),
    /// New, or different.
    Seen(K),
    Gone(K),
    /// The list is complete.
    Complete,
    /// The API server lacks this kind, which is [`Presence::Optional`]; said at each try.
    Absent,
}

/// Follows until the drain, or until `take` says that nobody takes more. Not cancel safe: a change may be lost.
pub(crate) async fn follow<K>(
    following: Following<K>,
    drain: Drain,
    mut take: impl AsyncFnMut(Change<K>) -> bool,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let Following { kind, api, config, page, presence, meanwhile, refused } = following;
    let mut events = pin!(watcher(api, config.page_size(page)).backoff(Retry::default()));
    let mut complained = false;
    loop {
        let event = tokio::select! {
            biased;
            () = drain.draining() => return,
            event = events.next() => event,
        };
        let change = match event {
            None => return,
            Some(Ok(event)) => {
                // A list that begins has not succeeded yet.
                complained &= matches!(event, Event::Init);
                match event {
                    Event::Init => Change::Begin,
                    Event::InitApply(object) => Change::Listed(object),
                    Event::InitDone => Change::Complete,
                    Event::Apply(object) => Change::Seen(object),
                    Event::Delete(object) => Change::Gone(object),
                }
            }
            Some(Err(error)) => {
                let code = status(&error);
                let absent = presence == Presence::Optional && code == Some(404);
                // Once per outage: the API server's absence is known to whoever runs it.
                if absent || std::mem::replace(&mut complained, true) {
                    debug!(%kind, %error, "watch failed, trying again");
                } else if let Some(refused) = refused.filter(|_| code == Some(403)) {
                    warn!(%kind, %error, "watch refused: {refused}; trying again, {meanwhile}");
                } else {
                    warn!(%kind, %error, "watch failed, trying again; {meanwhile}");
                }
                if !absent {
                    continue;
                }
                Change::Absent
            }
        };
        if !take(change).await {
            return;
        }
    }
}

fn status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}
