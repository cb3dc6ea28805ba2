use super::*;

fn households(requests: usize) -> Arc<Households> {
    let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:0:9::7/128".parse().unwrap()];
    Households::new(
        Bounds { connections: 2, requests, rate: 0 },
        Arc::new(trusted),
        Visitors::default(),
        Budget::new(160 * 1024 * 1024),
    )
}

fn grown() -> Arc<Age> {
    let age = Age::default();
    age.is_grown.store(true, Ordering::Relaxed);
    Arc::new(age)
}

fn home(households: &Households, address: &str) -> Arc<Household> {
    households.of(address.parse().unwrap())
}

#[test]
fn a_household_is_an_address_or_a_64_and_is_forgotten_with_its_last_holder() {
    let all = households(4);
    let first = home(&all, "2001:db8:0:1::1");
    assert!(Arc::ptr_eq(&first, &home(&all, "2001:db8:0:1:ffff::2")));
    assert!(!Arc::ptr_eq(&first, &home(&all, "2001:db8:0:2::1")));
    let v4 = home(&all, "192.0.2.1");
    assert!(Arc::ptr_eq(&v4, &home(&all, "::ffff:192.0.2.1")));
    let ticket = first.admit(&grown()).unwrap();
    drop((first, v4));
    assert!(!all.is_empty());
    drop(ticket);
    assert!(all.is_empty());
}

#[test]
fn requests_in_flight_are_bounded_by_household_and_given_back() {
    let all = households(4);
    let home = home(&all, "192.0.2.1");
    let age = grown();
    let mut held: Vec<_> = (0..4).map(|_| home.admit(&age).unwrap()).collect();
    assert_eq!(home.admit(&age).unwrap_err(), Crowded::Requests);
    assert!(self::home(&all, "192.0.2.2").admit(&age).is_ok());
    held.pop();
    held.push(home.admit(&age).unwrap());
    assert_eq!(home.admit(&age).unwrap_err(), Crowded::Requests);
    drop(held);
    let (requests, young) = {
        let held = home.held.lock();
        (held.requests, held.young)
    };
    assert_eq!((requests, young), (0, 0));
    assert_eq!(age.in_flight.load(Ordering::Relaxed), 0);
}

#[test]
fn new_connections_share_a_quarter_beyond_their_first_request() {
    let all = households(16);
    let home = home(&all, "192.0.2.1");
    let ages: Vec<_> = (0..5).map(|_| Arc::<Age>::default()).collect();
    // The first request of each is no burst.
    let firsts: Vec<_> = ages.iter().map(|age| home.admit(age).unwrap()).collect();
    let _more: Vec<_> = ages[..4].iter().map(|age| home.admit(age).unwrap()).collect();
    assert_eq!(home.admit(&ages[4]).unwrap_err(), Crowded::Young);
    firsts[4].succeeded();
    assert!(home.admit(&ages[4]).is_ok());
    assert!(home.admit(&grown()).is_ok());
}

#[test]
fn a_trusted_proxy_is_no_household() {
    let all = households(1);
    for proxy in ["10.1.2.3", "2001:db8:0:9::7"] {
        let proxy = home(&all, proxy);
        let _held: Vec<_> = (0..9).map(|_| proxy.admit(&Arc::default()).unwrap()).collect();
        assert!((0..9).all(|_| proxy.connected()), "connections of a proxy are not counted");
        let tunnel = causeway_tunnel::TunnelId::random();
        assert!(proxy.admit(&Arc::default()).unwrap().take_share(tunnel, 0));
    }
    let visitor = home(&all, "2001:db8:0:9::8");
    assert!(visitor.connected() && visitor.connected() && !visitor.connected());
}

#[test]
fn of_many_greedy_households_each_leaves_a_share_of_a_tunnel_to_the_next() {
    let (all, tunnel, capacity) = (households(1000), causeway_tunnel::TunnelId::random(), 60);
    let mut held: Vec<Ticket> = Vec::new();
    for greedy in 1..=3 {
        let home = home(&all, &format!("192.0.2.{greedy}"));
        loop {
            let mut ticket = home.admit(&grown()).unwrap();
            if !ticket.take_share(tunnel, capacity - held.len()) {
                break;
            }
            held.push(ticket);
        }
    }
    // 30, then 15, then 8 of 60: the next one finds a stream.
    assert_eq!(held.len(), 53);
    let other = causeway_tunnel::TunnelId::random();
    let mut next = home(&all, "192.0.2.9").admit(&grown()).unwrap();
    assert!(next.take_share(tunnel, capacity - held.len()));
    let mut elsewhere = home(&all, "192.0.2.1").admit(&grown()).unwrap();
    assert!(elsewhere.take_share(other, 1), "another tunnel is another matter");
    held.clear();
    assert!(home(&all, "192.0.2.1").admit(&grown()).unwrap().take_share(tunnel, 1));
}

#[test]
fn a_warning_is_said_once_a_minute_with_its_count() {
    let (mut rarely, now) = (Rarely::default(), Instant::now());
    assert_eq!(rarely.count(now), Some(1));
    assert_eq!(rarely.count(now + SAY_AGAIN / 2), None);
    assert_eq!(rarely.count(now + SAY_AGAIN), Some(2));
}

fn readers(home: &Arc<Household>, session: &Arc<Stalled>, count: usize) -> Vec<Arc<Reader>> {
    let ticket = home.admit(&grown()).unwrap();
    (0..count).map(|_| ticket.reader(session)).collect()
}

fn evicted(readers: &[Arc<Reader>]) -> usize {
    readers.iter().filter(|reader| reader.is_evicted()).count()
}

const WINDOW: usize = 256 * 1024;

#[test]
fn hazard_075_a_household_that_does_not_read_loses_its_slowest_reader_and_nobody_else_does() {
    let (all, session) = (households(9), Arc::<Stalled>::default());
    let neighbour = readers(&home(&all, "192.0.2.2"), &session, 1);
    neighbour[0].blocked(1000, WINDOW, 0);
    let greedy = readers(&home(&all, "192.0.2.1"), &session, 129);
    // The first has taken much of late: he is not the one to go.
    for _ in 0..9 {
        greedy[0].blocked(16_384, WINDOW, 0);
        assert!(greedy[0].moving());
    }
    for reader in &greedy[..128] {
        reader.blocked(16_384, WINDOW, 0);
    }
    assert_eq!(evicted(&greedy), 0, "128 windows are within the bound");
    greedy[128].blocked(16_384, WINDOW, 0);
    assert_eq!((evicted(&greedy), evicted(&neighbour)), (1, 0));
    assert!(!greedy[0].is_evicted());
    let gone = greedy.iter().find(|reader| reader.is_evicted()).unwrap();
    assert!(!gone.moving(), "it is told when it asks for more");
    assert_eq!(all.stalled_bytes(), 129 * WINDOW);
    drop((greedy, neighbour));
    assert!(all.stalled_bytes() == 0 && all.is_empty());
}

#[test]
fn hazard_075_of_several_households_on_a_full_session_the_one_that_holds_most_gives_way() {
    let (all, session, other) = (households(9), Arc::<Stalled>::default(), Arc::<Stalled>::default());
    let small = readers(&home(&all, "192.0.2.1"), &session, 60);
    let elsewhere = readers(&home(&all, "192.0.2.9"), &other, 128);
    let large: Vec<_> =
        (2..5).map(|n| readers(&home(&all, &format!("192.0.2.{n}")), &session, 120)).collect();
    let block = |reader: &Arc<Reader>| reader.blocked(1, WINDOW, 0);
    small.iter().chain(&elsewhere).for_each(block);
    large.iter().flatten().for_each(block);
    assert_eq!((evicted(&small), evicted(&elsewhere)), (0, 0));
    assert_eq!(large.iter().map(|readers| evicted(readers)).sum::<usize>(), 60 + 360 - 384);
}

#[test]
fn a_reader_that_moves_is_not_charged() {
    let (all, session) = (households(9), Arc::<Stalled>::default());
    let reader = readers(&home(&all, "192.0.2.1"), &session, 1).pop().unwrap();
    reader.blocked(1, WINDOW, WINDOW / 4);
    assert_eq!((all.stalled_bytes(), all.budget().held()), (WINDOW, WINDOW / 4 * 3));
    assert!(reader.moving() && reader.moving());
    assert_eq!((all.stalled_bytes(), all.budget().held()), (0, 0));
}

#[test]
fn a_reader_with_a_wide_window_is_not_given_up_for_a_moment_that_it_is_blocked() {
    let (all, session) = (households(9), Arc::<Stalled>::default());
    let fast = readers(&home(&all, "192.0.2.1"), &session, 3);
    for _ in 0..9 {
        fast.iter().for_each(|reader| reader.blocked(32_768, 64 * WINDOW, 63 * WINDOW));
        assert!(fast.iter().all(|reader| reader.moving()), "48 MiB may come, and all of it is read at once");
    }
    // Beside it a neighbour of the same household that takes nothing gives way.
    let slow = readers(&home(&all, "192.0.2.1"), &session, 1);
    slow[0].blocked(1, WINDOW, 0);
    fast.iter().for_each(|reader| reader.blocked(32_768, 64 * WINDOW, 63 * WINDOW));
    assert!(slow[0].is_evicted() && evicted(&fast) == 0);
}

#[test]
fn nobody_is_spared_when_the_budget_is_spent() {
    let (all, sessions) = (households(9), [(); 2].map(|()| Arc::<Stalled>::default()));
    // Each household and each session is within its bound, all together are not.
    let new: Vec<_> =
        (0..5).flat_map(|n| readers(&home(&all, &format!("192.0.2.{n}")), &sessions[n / 3], 2)).collect();
    new.iter().for_each(|reader| reader.blocked(32_768, 64 * WINDOW, 63 * WINDOW));
    assert_eq!(evicted(&new), 0, "all have just begun to stand");
    let _rest = all.budget().hold(all.budget().free());
    assert!(new[0].moving());
    new[0].blocked(32_768, 64 * WINDOW, 63 * WINDOW);
    assert_eq!(evicted(&new), 1, "one makes room");
}
