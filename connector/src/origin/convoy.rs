//! Requests that wait for the same shared connection: one of them dials, and all share how that ended, for better or
//! worse. At a dead origin each waits one timeout, not one for everybody before it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::connect::ConnectError;

/// How a dial ended. A connection that was made stands on the shelf.
type Outcome = Result<(), Arc<ConnectError>>;

/// The dials of one shard that are under way.
#[derive(Debug, Default)]
pub(super) struct Convoy(Mutex<Vec<(Option<Box<str>>, Follow)>>);

/// Shows the outcome of a dial once it is known.
type Follow = watch::Receiver<Option<Outcome>>;

/// What a request that needs a connection has to do.
pub(super) enum Turn<'a> {
    Lead(Lead<'a>),
    Follow(Follow),
}

/// The duty to dial. Dropped without [`Lead::end`] (its visitor went away) somebody else takes it over.
pub(super) struct Lead<'a> {
    convoy: &'a Convoy,
    tell: watch::Sender<Option<Outcome>>,
    /// Stands for the dial in the list.
    mine: Follow,
}

impl Convoy {
    /// `name` is what TLS is made for: a connection of another name is no help.
    pub(super) fn join(&self, name: Option<&str>) -> Turn<'_> {
        let mut dials = self.0.lock();
        if let Some((_, outcome)) = dials.iter().find(|(dialled, _)| dialled.as_deref() == name) {
            return Turn::Follow(outcome.clone());
        }
        let (tell, outcome) = watch::channel(None);
        dials.push((name.map(Into::into), outcome.clone()));
        Turn::Lead(Lead { convoy: self, tell, mine: outcome })
    }
}

impl Lead<'_> {
    pub(super) fn end(self, outcome: Outcome) {
        self.tell.send_replace(Some(outcome));
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.convoy.0.lock().retain(|(_, outcome)| !self.mine.same_channel(outcome));
    }
}

/// Waits for the leader. `None` when it went away without an outcome.
pub(super) async fn outcome(mut follow: Follow) -> Option<Outcome> {
    follow.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(convoy: &Convoy, name: Option<&str>) -> Follow {
        match convoy.join(name) {
            Turn::Follow(follow) => follow,
            Turn::Lead(_) => panic!("there is a leader"),
        }
    }

    fn lead<'a>(convoy: &'a Convoy, name: Option<&str>) -> Lead<'a> {
        match convoy.join(name) {
            Turn::Lead(lead) => lead,
            Turn::Follow(_) => panic!("there is no leader"),
        }
    }

    #[tokio::test]
    async fn all_share_the_outcome_of_one_dial() {
        let convoy = Convoy::default();
        let leader = lead(&convoy, Some("a"));
        let followers = [follow(&convoy, Some("a")), follow(&convoy, Some("a"))];
        let other = lead(&convoy, Some("b"));
        leader.end(Err(Arc::new(ConnectError::NoAddress("a".to_owned()))));
        for follower in followers {
            assert!(matches!(outcome(follower).await, Some(Err(_))));
        }
        drop(lead(&convoy, Some("a")));
        other.end(Ok(()));
    }

    #[tokio::test]
    async fn a_leader_that_goes_away_is_succeeded() {
        let convoy = Convoy::default();
        let leader = lead(&convoy, None);
        let follower = follow(&convoy, None);
        drop(leader);
        assert!(outcome(follower).await.is_none());
        lead(&convoy, None).end(Ok(()));
    }
}
