//! The VIPs' hot parts: one more Service among 5,000, an election on 200 nodes, an ARP question and its answer.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use causeway_l2::allocate::{Families, Port, Protocol, Request, ServiceKey, Table};
use causeway_l2::api::IPAddressPool;
use causeway_l2::arp;
use causeway_l2::elect::{Candidates, Demand, Peer, Standing, elect};
use causeway_l2::mac::Mac;
use causeway_l2::node_name::NodeName;
use causeway_l2::pool::{Pools, Reserved};
use causeway_l2::range::Family;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;

const SERVICES: usize = 5000;
const POOLS: usize = 50;
const NODES: usize = 200;
const VIPS: u32 = 1000;

/// A table with these pools: as many as there are, each of 128 addresses.
fn table() -> Table {
    let pool = |n: usize| -> IPAddressPool {
        let object = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": { "name": format!("pool-{n:02}") },
            "spec": { "addresses": [format!("10.0.{n}.0/25")] },
        });
        serde_json::from_value(object).expect("a pool")
    };
    let objects: Vec<IPAddressPool> = (0..POOLS).map(pool).collect();
    let reserved = Arc::new(Reserved::default());
    // Released addresses do not rest: a bench that gives and takes would fill the pools.
    let mut table = Table::new(Duration::ZERO);
    table.set_pools(Arc::new(Pools::compile(&objects, &reserved)), reserved);
    table
}

fn request(n: usize, pool: Option<usize>) -> Request {
    Request {
        key: ServiceKey::new("bench", &format!("service-{n}")),
        created: 0,
        labels: BTreeMap::new(),
        namespace_labels: Arc::default(),
        families: Families::Single(Family::V4),
        addresses: Vec::new(),
        pool: pool.map(|n| format!("pool-{n:02}")),
        sharing: None,
        ports: vec![Port { protocol: Protocol::Tcp, number: 80 }],
        held: Vec::new(),
        held_from: None,
        contested: None,
    }
}

fn allocate(c: &mut Criterion) {
    let now = Instant::now();
    let all: Vec<Request> = (0..SERVICES).map(|n| request(n, None)).collect();
    let mut full = table();
    for request in &all {
        assert!(full.decide(request, now).holding.is_some(), "the pools have room");
    }
    // The lowest pools are full: a Service that names none looks at 39 of them first.
    for (asks, pool) in [("any pool", None), ("a pool by name", Some(POOLS - 1))] {
        let new = request(SERVICES, pool);
        c.bench_function(&format!("a new Service among {SERVICES} in {POOLS} pools: {asks}"), |b| {
            b.iter(|| {
                let given = full.decide(black_box(&new), now).holding.is_some();
                full.release(&new.key, now);
                given
            });
        });
    }
    c.bench_function(&format!("all {SERVICES} Services in {POOLS} pools, as after a restart"), |b| {
        let held: Vec<Request> = all
            .iter()
            .map(|request| {
                let holding = full.holding(&request.key).expect("all hold one");
                Request { held: holding.addresses.clone(), ..request.clone() }
            })
            .collect();
        b.iter(|| {
            let mut table = table();
            held.iter().filter(|request| table.decide(request, now).holding.is_some()).count()
        });
    });
}

fn election(c: &mut Criterion) {
    let name = |n: usize| NodeName::new(format!("node-{n}"));
    let peer = |n| Peer {
        name: name(n),
        standing: Standing::Settled,
        unable: Arc::default(),
        networks: None,
        ready: true,
    };
    let peers: Vec<Peer> = (0..NODES).map(peer).collect();
    let candidates: Arc<Candidates> = Arc::new((0..NODES).map(|n| (name(n), 0)).collect());
    let vip = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
    let demand = |n| Demand { vip: vip(n), candidates: candidates.clone(), pin: None, leader: None };
    let demands: Vec<Demand> = (0..VIPS).map(demand).collect();
    let what = format!("election of {VIPS} VIPs on {NODES} nodes");
    c.bench_function(&format!("{what}: nobody owns any"), |b| {
        b.iter(|| elect(black_box(&demands).iter(), &peers, |_| None));
    });
    let owners = elect(demands.iter(), &peers, |_| None);
    c.bench_function(&format!("{what}: as it is"), |b| {
        b.iter(|| elect(black_box(&demands).iter(), &peers, |vip| owners[&vip]));
    });
    // The last one has died: its VIPs are shared among the others.
    let living = &peers[..NODES - 1];
    c.bench_function(&format!("{what}: one has died"), |b| {
        b.iter(|| {
            elect(black_box(&demands).iter(), living, |vip| owners[&vip].filter(|n| *n < living.len()))
        });
    });
}

fn arp(c: &mut Criterion) {
    let (own, asker) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let question = arp::Frame {
        destination: Mac::BROADCAST,
        source: asker,
        operation: arp::Operation::Request,
        sender_mac: asker,
        sender_ip: Ipv4Addr::new(192, 168, 1, 20),
        target_mac: Mac::ZERO,
        target_ip: Ipv4Addr::new(192, 168, 1, 100),
    };
    let frame = question.encode();
    c.bench_function("ARP: read a question", |b| {
        b.iter(|| arp::Frame::parse(black_box(&frame)).map(|frame| frame.heard()));
    });
    c.bench_function("ARP: write the answer", |b| {
        b.iter(|| black_box(&question).reply(own).encode());
    });
}

criterion_group!(benches, allocate, election, arp);
criterion_main!(benches);
