//! Whether this speaker is cut off from the others or alone where there should be others, and in which words that is said:
//! on `/ready`, in its ConfigurationState, in an event on its Node.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use causeway_daemon::{
    drain::Drain,
    readiness::{Hold, Readiness},
};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{address::Reach, state::State, wanted::Wanted, written::Written};
use crate::node_name::NodeName;

/// A speaker that is restarted is back within this: who waits for it is not called alone.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Isolation {
    #[default]
    None,
    NoAddress,
    NoCarrier,
    /// The speakers of these nodes run and none of them is heard.
    Alone(BTreeSet<NodeName>),
}

impl Isolation {
    pub(super) fn judge(node: &str, state: &State, wanted: Option<&Wanted>, written: &Written) -> Self {
        match state.reach {
            Reach::NoAddress => return Self::NoAddress,
            Reach::NoCarrier => return Self::NoCarrier,
            Reach::Connected => {}
        }
        if state.boot == 0 || state.fenced || state.members.iter().any(|member| member.up) {
            return Self::None;
        }
        // A node that the control plane gave up, or whose speaker does not run, is no proof of anything.
        let runs = |name: &&NodeName| {
            let lives = |wanted: &Wanted| wanted.nodes.contains_key(*name) && !wanted.unready.contains(*name);
            name.as_str() != node && !state.stopped.contains(*name) && wanted.is_some_and(lives)
        };
        let others: BTreeSet<_> = written.speakers().filter(runs).cloned().collect();
        if others.is_empty() { Self::None } else { Self::Alone(others) }
    }

    /// Whether the API server is most likely out of reach as well.
    pub(super) fn is_cut_off(&self) -> bool {
        matches!(self, Self::NoAddress | Self::NoCarrier)
    }

    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::None => "Heard",
            Self::NoAddress => "NoAddress",
            Self::NoCarrier => "NoCarrier",
            Self::Alone(_) => "Alone",
        }
    }

    /// None when all is well.
    pub(super) fn what(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::NoAddress => Some(
                "no interface has this node's address: nothing is announced from here until one has; look at DHCP and \
                 `ip addr`"
                    .to_owned(),
            ),
            Self::NoCarrier => {
                Some("the interface that has this node's address is down: nothing is announced from here".to_owned())
            }
            Self::Alone(others) => {
                let names: Vec<_> = others.iter().map(NodeName::as_str).collect();
                Some(format!(
                    "none of the speakers on {} is heard from here: look for a firewall in the way of their UDP and TCP port",
                    names.join(", ")
                ))
            }
        }
    }

    /// What `/ready` lists.
    fn hold(&self, readiness: &Readiness) -> Option<Hold> {
        match self {
            Self::None => None,
            Self::NoAddress => Some(readiness.hold("node-address")),
            Self::NoCarrier => Some(readiness.hold("carrier")),
            Self::Alone(_) => Some(readiness.hold("other-speakers")),
        }
    }
}

/// Follows what it depends on; the receiver has the judgement of the moment, and `/ready` says it.
pub(super) fn follow(
    node: String,
    mut state: watch::Receiver<Arc<State>>,
    mut wanted: watch::Receiver<Option<Arc<Wanted>>>,
    written: &watch::Sender<Written>,
    readiness: Readiness,
    drain: &Drain,
) -> watch::Receiver<Isolation> {
    let (sender, receiver) = watch::channel(Isolation::None);
    let mut written = written.subscribe();
    let stop = drain.clone();
    drop(drain.spawn("isolation", async move {
        let (mut hold, mut alone_since) = (None, None);
        loop {
            let mut now = Isolation::judge(
                &node,
                &state.borrow_and_update().clone(),
                wanted.borrow_and_update().clone().as_deref(),
                &written.borrow_and_update(),
            );
            let mut due = None;
            if matches!(now, Isolation::Alone(_)) {
                let since = *alone_since.get_or_insert_with(Instant::now);
                if since.elapsed() < GRACE {
                    (now, due) = (Isolation::None, Some(since + GRACE));
                }
            } else {
                alone_since = None;
            }
            sender.send_if_modified(|known| {
                let changed = *known != now;
                if changed {
                    match now.what() {
                        Some(what) => warn!("{what}"),
                        None => info!("heard by the other speakers again"),
                    }
                    hold = now.hold(&readiness);
                    *known = now;
                }
                changed
            });
            let changed = tokio::select! {
                biased;
                () = stop.draining() => return,
                changed = state.changed() => changed,
                changed = wanted.changed() => changed,
                changed = written.changed() => changed,
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()).await }, if due.is_some() => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }));
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speaker::state::Member;

    fn judge(state: &State, others: &[&str], unready: &[&str]) -> Isolation {
        let wanted = Wanted {
            nodes: ["node1", "node2", "node3"].map(|name| (name.into(), Vec::new())).into(),
            unready: unready.iter().map(|name| (*name).into()).collect(),
            ..Wanted::default()
        };
        Isolation::judge("node1", state, Some(&wanted), &Written::with_speakers(others))
    }

    #[test]
    fn alone_is_who_hears_none_of_those_that_run() {
        let member = |up| Member { node: "node2".into(), address: "10.0.0.2:7946".parse().unwrap(), up };
        let alone = State { boot: 1, members: vec![member(false)], ..State::default() };
        assert_eq!(judge(&alone, &["node1", "node2"], &[]), Isolation::Alone(["node2".into()].into()));
        assert_eq!(judge(&alone, &["node1", "node2"], &["node2"]), Isolation::None, "its host is off");
        assert_eq!(judge(&alone, &["node1"], &[]), Isolation::None, "a cluster of one node");
        assert_eq!(
            judge(&alone, &["node1", "node9"], &[]),
            Isolation::None,
            "what a node left that is no more"
        );
        let left = State { stopped: ["node2".into()].into(), ..alone };
        assert_eq!(judge(&left, &["node1", "node2"], &[]), Isolation::None, "it said that it stops");
        let joined = State { boot: 1, members: vec![member(true)], ..State::default() };
        assert_eq!(judge(&joined, &["node1", "node2", "node3"], &[]), Isolation::None);
        let lost = State { reach: Reach::NoAddress, ..joined };
        assert_eq!(judge(&lost, &["node1"], &[]), Isolation::NoAddress);
    }
}
