//! The choice of a session among 1, 2 and 1,000 connectors: two random candidates cost the same however many there are.

use std::hint::black_box;
use std::time::Instant;

use causeway_edge::balance::{Candidate, Connector, Place, choose};
use criterion::{Criterion, criterion_group, criterion_main};
use rand::SeedableRng;
use rand::rngs::SmallRng;

struct Session {
    place: Place,
    in_flight: usize,
}

impl Candidate for Session {
    fn place(&self) -> Place {
        self.place
    }

    fn is_usable(&self) -> bool {
        true
    }

    fn is_suspected(&self) -> bool {
        false
    }

    fn last_heard(&self) -> Instant {
        Instant::now()
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

struct Replica(Vec<Session>);

impl Connector for Replica {
    type Session = Session;

    fn sessions(&self) -> &[Session] {
        &self.0
    }
}

fn balance(c: &mut Criterion) {
    for count in [1usize, 2, 1000] {
        let replica = |n: usize| {
            let session = |place| Session { place, in_flight: n % 7 };
            Replica(vec![session(Place::Shard(0)), session(Place::Standby)])
        };
        let replicas: Vec<Replica> = (0..count).map(replica).collect();
        let mut rng = SmallRng::seed_from_u64(1);
        c.bench_function(&format!("choose among {count} connectors"), |b| {
            b.iter(|| black_box(choose(&replicas, 0, &mut rng, |_| true)).is_some());
        });
    }
}

criterion_group!(benches, balance);
criterion_main!(benches);
