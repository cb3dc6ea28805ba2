//! Which session carries a request: a pure choice among the connectors of one tunnel.
//!
//! 1. Of two connectors drawn at random, the one with fewer streams in flight (so that replicas share the load without
//!    anybody keeping an order that all shards would have to agree on).
//! 2. Within it, the session of the asking shard (many requests on one session share packets), else another shard's,
//!    else the standby.
//!
//! A session that drains or died is never chosen; a connector without a usable session is as good as absent.

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
    let connector = match connectors {
        [] => return None,
        [only] => only,
        many => two_choices(many, rng, &usable)?,
    };
    within(connector.sessions(), own, &usable)
}

fn two_choices<'a, C: Connector>(
    connectors: &'a [C],
    rng: &mut impl Rng,
    usable: &impl Fn(&C::Session) -> bool,
) -> Option<&'a C> {
    let count = connectors.len();
    let alive = |index: usize| connectors[index].sessions().iter().any(usable);
    let draw = |start: usize, not: Option<usize>| {
        (0..count).map(|step| (start + step) % count).find(|&index| Some(index) != not && alive(index))
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
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[derive(Clone, Debug)]
    struct Fake {
        place: Place,
        usable: bool,
        load: usize,
    }

    impl Candidate for Fake {
        fn place(&self) -> Place {
            self.place
        }
        fn is_usable(&self) -> bool {
            self.usable
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
        Fake { place, usable: true, load }
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

    fn session() -> impl Strategy<Value = Fake> {
        let place = prop_oneof![(0..3_u16).prop_map(Place::Shard), Just(Place::Standby)];
        (place, any::<bool>(), 0..20_usize).prop_map(|(place, usable, load)| Fake { place, usable, load })
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
            let own_usable = home.iter().any(|s| s.usable && eligible(s) && s.place == Place::Shard(own));
            prop_assert_eq!(own_usable, chosen.place == Place::Shard(own));
        }
    }
}
