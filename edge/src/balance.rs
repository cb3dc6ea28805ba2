//! Which session carries a request: a pure choice among the connectors of one tunnel.
//!
//! 1. Of two connectors drawn at random, the one with fewer streams in flight (so that replicas share the load without
//!    anybody keeping an order that all shards would have to agree on).
//! 2. Within it, the session of the asking shard (many requests on one session share packets), else another shard's,
//!    else the standby.
//!
//! A session that drains or died is never chosen; a connector without a usable session is as good as absent. A suspected one
//! is chosen only when all are, and then the one that was heard last; a connector of which one session is suspected has
//! probably lost them all (hazard 152), so that the others come before it.

use std::time::Instant;

use rand::Rng;

/// Where a session ends at this edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Shard(u16),
    Standby,
}

pub trait Candidate {
    fn place(&self) -> Place;
    fn is_usable(&self) -> bool;
    /// Nothing was heard of it for too long.
    fn is_suspected(&self) -> bool;
    fn last_heard(&self) -> Instant;
    fn in_flight(&self) -> usize;
}

pub trait Connector {
    type Session: Candidate;
    fn sessions(&self) -> &[Self::Session];
}

/// `eligible` says which sessions may carry this request at all: those that announced its name and were not tried yet.
pub fn choose<'a, C: Connector>(
    connectors: &'a [C],
    own: u16,
    rng: &mut impl Rng,
    eligible: impl Fn(&C::Session) -> bool,
) -> Option<&'a C::Session> {
    let usable = |session: &C::Session| session.is_usable() && eligible(session);
    let well = |session: &C::Session| !session.is_suspected() && usable(session);
    let is_well = |connector: &C| {
        connector.sessions().iter().any(well) && !connector.sessions().iter().any(Candidate::is_suspected)
    };
    // Mostly the first finds somebody.
    let connector = match connectors {
        [] => return None,
        [only] => Some(only),
        many => two_choices(many, rng, is_well)
            .or_else(|| two_choices(many, rng, |connector| connector.sessions().iter().any(well))),
    };
    connector.and_then(|connector| within(connector.sessions(), own, &well)).or_else(|| {
        let suspected = connectors.iter().flat_map(Connector::sessions).filter(|session| usable(session));
        suspected.max_by_key(|session| session.last_heard())
    })
}

fn two_choices<'a, C: Connector>(
    connectors: &'a [C],
    rng: &mut impl Rng,
    fits: impl Fn(&C) -> bool,
) -> Option<&'a C> {
    let count = connectors.len();
    let draw = |start: usize, not: Option<usize>| {
        (0..count)
            .map(|step| (start + step) % count)
            .find(|&index| Some(index) != not && fits(&connectors[index]))
    };
    let first = draw(rng.random_range(0..count), None)?;
    let Some(second) = draw(rng.random_range(0..count), Some(first)) else { return Some(&connectors[first]) };
    let (first, second) = (&connectors[first], &connectors[second]);
    Some(if load(second) < load(first) { second } else { first })
}

fn load<C: Connector>(connector: &C) -> usize {
    connector.sessions().iter().map(Candidate::in_flight).sum()
}

fn within<'a, S: Candidate>(sessions: &'a [S], own: u16, usable: &impl Fn(&S) -> bool) -> Option<&'a S> {
    let distance = |session: &S| match session.place() {
        Place::Shard(shard) if shard == own => 0,
        Place::Shard(_) => 1,
        Place::Standby => 2,
    };
    let mut best: Option<(u8, &S)> = None;
    for session in sessions.iter().filter(|session| usable(session)) {
        let distance = distance(session);
        let nearer =
            best.is_none_or(|(nearest, held)| (distance, session.in_flight()) < (nearest, held.in_flight()));
        if nearer {
            best = Some((distance, session));
        }
    }
    best.map(|(_, session)| session)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

    #[derive(Clone, Debug)]
    struct Fake {
        place: Place,
        usable: bool,
        suspected: bool,
        load: usize,
    }

    impl Candidate for Fake {
        fn place(&self) -> Place {
            self.place
        }
        fn is_usable(&self) -> bool {
            self.usable
        }
        fn is_suspected(&self) -> bool {
            self.suspected
        }
        fn last_heard(&self) -> Instant {
            *BEGAN + Duration::from_secs(self.load as u64)
        }
        fn in_flight(&self) -> usize {
            self.load
        }
    }

    impl Connector for Vec<Fake> {
        type Session = Fake;
        fn sessions(&self) -> &[Fake] {
            self
        }
    }

    fn fake(place: Place, load: usize) -> Fake {
        Fake { place, usable: true, suspected: false, load }
    }

    #[test]
    fn own_shard_before_another_before_the_standby() {
        let mut sessions = vec![fake(Place::Standby, 0), fake(Place::Shard(1), 0), fake(Place::Shard(0), 9)];
        let mut rng = StdRng::seed_from_u64(1);
        let mut places = Vec::new();
        for _ in 0..3 {
            let chosen = choose(&[sessions.clone()], 0, &mut rng, |_| true).unwrap().place;
            places.push(chosen);
            sessions.iter_mut().find(|s| s.place == chosen).unwrap().usable = false;
        }
        assert_eq!(places, [Place::Shard(0), Place::Shard(1), Place::Standby]);
        assert!(choose(&[sessions], 0, &mut rng, |_| true).is_none());
    }

    #[test]
    fn of_two_connectors_the_idler_one_is_taken() {
        let connectors = [vec![fake(Place::Shard(0), 5)], vec![fake(Place::Shard(0), 2)]];
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..100 {
            assert_eq!(choose(&connectors, 0, &mut rng, |_| true).unwrap().load, 2);
        }
    }

    #[test]
    fn equal_connectors_share_the_load() {
        let connectors: Vec<_> = (0..4).map(|_| vec![fake(Place::Shard(0), 0)]).collect();
        let mut rng = StdRng::seed_from_u64(3);
        let mut counts = [0_u32; 4];
        for _ in 0..4000 {
            let chosen = choose(&connectors, 0, &mut rng, |_| true).unwrap();
            let index = connectors.iter().position(|c| std::ptr::eq(&c[0], chosen)).unwrap();
            counts[index] += 1;
        }
        assert!(counts.iter().all(|&n| n > 800 && n < 1200), "{counts:?}");
    }

    #[test]
    fn a_suspected_session_gets_nothing_while_another_is_to_be_had() {
        let silent = |place| Fake { suspected: true, ..fake(place, 0) };
        let half = vec![silent(Place::Shard(0)), fake(Place::Standby, 0)];
        let whole = vec![fake(Place::Shard(0), 9)];
        let mut rng = StdRng::seed_from_u64(5);
        for _ in 0..50 {
            let of_both = [half.clone(), whole.clone()];
            assert_eq!(
                choose(&of_both, 0, &mut rng, |_| true).unwrap().load,
                9,
                "the connector that is whole"
            );
            assert_eq!(
                choose(std::slice::from_ref(&half), 0, &mut rng, |_| true).unwrap().place,
                Place::Standby
            );
        }
        let all = [vec![silent(Place::Shard(0))], vec![Fake { load: 3, ..silent(Place::Shard(0)) }]];
        assert_eq!(choose(&all, 0, &mut rng, |_| true).unwrap().load, 3, "the one that was heard last");
    }

    fn session() -> impl Strategy<Value = Fake> {
        let place = prop_oneof![(0..3_u16).prop_map(Place::Shard), Just(Place::Standby)];
        (place, any::<bool>(), any::<bool>(), 0..20_usize).prop_map(|(place, usable, suspected, load)| Fake {
            place,
            usable,
            suspected,
            load,
        })
    }

    proptest! {
        #[test]
        fn somebody_usable_is_always_found_and_nobody_else_ever_chosen(
            connectors in prop::collection::vec(prop::collection::vec(session(), 0..5), 0..8),
            own in 0..3_u16,
            seed in any::<u64>(),
            limit in 0..20_usize,
        ) {
            let eligible = |s: &Fake| s.load < limit;
            let chosen = choose(&connectors, own, &mut StdRng::seed_from_u64(seed), eligible);
            let exists = connectors.iter().flatten().any(|s| s.usable && eligible(s));
            prop_assert_eq!(chosen.is_some(), exists);
            let Some(chosen) = chosen else { return Ok(()) };
            prop_assert!(chosen.usable && eligible(chosen));
            let home = connectors.iter().find(|c| c.iter().any(|s| std::ptr::eq(s, chosen))).unwrap();
            let well = |s: &Fake| s.usable && !s.suspected && eligible(s);
            prop_assert_eq!(chosen.suspected, !connectors.iter().flatten().any(well));
            if chosen.suspected {
                let rest = connectors.iter().flatten().filter(|s| s.usable && eligible(s));
                prop_assert!(rest.map(|s| s.load).max() == Some(chosen.load), "the one that was heard last");
                return Ok(());
            }
            let is_whole = |c: &&Vec<Fake>| c.iter().any(well) && !c.iter().any(|s| s.suspected);
            prop_assert_eq!(is_whole(&home), connectors.iter().any(|c| is_whole(&c)));
            let own_usable = home.iter().any(|s| well(s) && s.place == Place::Shard(own));
            prop_assert_eq!(own_usable, chosen.place == Place::Shard(own));
        }
    }
}
