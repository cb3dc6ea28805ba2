//! The allocator with thousands of Services: what one more costs, what a restart costs, and what it costs at rest (C1).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use super::POOL;
use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::scenarios::is_long;
use causeway_tests::cluster::{
    Cluster, SOON, eventually, is_status, path, pause, pool, report, service, with,
};
use serde_json::{Value, json};

/// A namespace of its own: there are thousands of events about the crowd, and other scenarios read all of theirs.
const CROWD: &str = "crowd";
const POOLS: u16 = 50;
/// Services that come one after another while the crowd stands.
const NEW: u16 = 50;
/// Services that come while no allocator runs.
const AWAY: u16 = 10;
/// Calls to the API server at a time.
const CALLERS: usize = 8;
/// Of the allocator's replicas and the one speaker.
const PROGRAMS: f64 = 3.0;
/// Counters and events have been written by then.
const SETTLED: Duration = Duration::from_secs(4);

/// A new Service's address: decided and written by the allocator, and seen by whoever asks the API server.
const WRITTEN: Duration = Duration::from_millis(50);
const SEEN: Duration = Duration::from_secs(1);
const RESTARTED: Duration = Duration::from_secs(5);
const MOST_MIB: f64 = 60.0;

pub(super) fn many_services(c: &mut Cluster) -> Result<()> {
    let count = if is_long() { 5000 } else { 300 };
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": CROWD } });
    match c.api.create(&path("Namespace", "", ""), &namespace) {
        Err(error) if !is_status(&error, 409) => return Err(error),
        _ => {}
    }
    let measured = measure(c, count);
    // In parts, and again: the API server answers when all of a part is gone, which takes longer than a call may.
    let gone = for_each(0..POOLS, |part| {
        let all = format!("{}?labelSelector=part%3D{part}", path("Service", CROWD, ""));
        eventually(30 * SOON, "the crowd is deleted", || c.api.delete(&all))
    });
    measured.and(gone)
}

fn measure(c: &mut Cluster, count: u16) -> Result<()> {
    gather(c, count)?;
    pause(SETTLED);
    at_rest(c)?;
    let before = versions(c)?;
    one_by_one(c)?;
    let full = largest(c);
    restart(c, &before)?;
    let anew = largest(c);
    println!("    allocator's memory with {count} Services: {full:.1} MiB; after a restart {anew:.1} MiB");
    ensure!(full.max(anew) < MOST_MIB, "the allocator has {full:.1} MiB, then {anew:.1} MiB");
    Ok(())
}

/// The crowd, on all pools: four of five Services name theirs.
fn gather(c: &Cluster, count: u16) -> Result<()> {
    let range = |n: u16| format!("10.77.{}.{}/25", 128 + n / 2, n % 2 * 128);
    let pools: Vec<Value> = (0..POOLS).map(|n| pool(&pool_name(n), &[&range(n)])).collect();
    c.create(&pools.iter().collect::<Vec<_>>())?;
    let (before, _) = written(c)?;
    let start = Instant::now();
    let named = count / 5 * 4;
    // Those that name a pool come first: the others take the lowest pool that has room.
    for_each(0..named, |n| {
        let asks = json!({ "metadata": { "annotations": { POOL: pool_name(n % POOLS) } } });
        c.create(&[&with(one(&format!("many-{n}"), n), asks)])
    })?;
    for_each(named..count, |n| c.create(&[&one(&format!("many-{n}"), n)]))?;
    let creating = start.elapsed();
    eventually(12 * SOON, "all have addresses", || {
        let (now, _) = written(c)?;
        ensure!(now - before >= f64::from(count), "{} statuses are written", now - before);
        Ok(())
    })?;
    let given = start.elapsed();
    println!(
        "    {count} Services on {POOLS} pools: created in {creating:.1?}, all addresses after {given:.1?}"
    );
    let metrics = c.allocator_metrics()?;
    for n in 0..POOLS {
        let used = sample(&metrics, &services_of(n)).unwrap_or(0.0);
        ensure!(used > 0.0, "nobody uses {}", pool_name(n));
    }
    Ok(())
}

fn at_rest(c: &Cluster) -> Result<()> {
    let rest = Duration::from_secs(if is_long() { 20 } else { 4 });
    let before = c.api_requests()?;
    pause(rest);
    let calls = (c.api_requests()? - before) / rest.as_secs_f64();
    println!("    at rest for {rest:?}: {calls:.2} API calls/s of two allocators and a speaker together");
    ensure!(calls < PROGRAMS, "{calls} API calls per second at rest, of {PROGRAMS} programs");
    Ok(())
}

fn one_by_one(c: &Cluster) -> Result<()> {
    let (mut allocator, mut client) = (Vec::new(), Vec::new());
    for n in 0..NEW {
        let name = format!("new-{n}");
        let (count, sum) = written(c)?;
        let start = Instant::now();
        c.create(&[&one(&name, n)])?;
        eventually(SOON, &format!("{name} has an address"), || address(c, &name))?;
        client.push(start.elapsed());
        // The answer to its write reaches the allocator a moment after the address is there.
        let took = eventually(SOON, &format!("the write for {name} is counted"), || {
            let (now, total) = written(c)?;
            ensure!(now - count == 1.0, "{} writes", now - count);
            Ok(total - sum)
        })?;
        allocator.push(Duration::from_secs_f64(took));
    }
    // In the long form the test has the machine for itself, and every one counts; else half of them have to be in time.
    allocator.sort();
    let half = allocator[allocator.len() / 2];
    let (_, worst) =
        report("a new Service, from the allocator's watch event to the status it has written", allocator);
    let slowest = if is_long() { worst } else { half };
    let (_, seen) = report("the same, from the client's request to the address at the API server", client);
    ensure!(slowest <= WRITTEN, "{slowest:?} from the watch event to the written status");
    ensure!(seen <= SEEN, "{seen:?} from the request to the address");
    Ok(())
}

/// A planned restart of all replicas: they release their Lease, so nobody waits for its end.
fn restart(c: &mut Cluster, before: &BTreeMap<String, String>) -> Result<()> {
    for allocator in &mut c.allocators {
        let status = allocator.stop(SOON)?;
        ensure!(status.success(), "the allocator ended with {status}\n{}", allocator.tail(10));
    }
    for_each(0..AWAY, |n| c.create(&[&one(&format!("away-{n}"), n)]))?;
    let start = Instant::now();
    c.restart_allocators()?;
    let (mut ready, mut served) = (None, None);
    let (ready, served) = eventually(6 * SOON, "the allocators are ready, and all Services served", || {
        if ready.is_none() && is_ready(c).is_ok() {
            ready = Some(start.elapsed());
        }
        if served.is_none() && (0..AWAY).all(|n| address(c, &format!("away-{n}")).is_ok()) {
            served = Some(start.elapsed());
        }
        ready.zip(served).with_context(|| format!("ready {ready:?}, served {served:?}"))
    })?;
    println!(
        "    a restart: both replicas ready after {ready:.2?}, the {AWAY} Services that came meanwhile served after {served:.2?}"
    );
    // What would be rewritten has been by then.
    pause(Duration::from_secs(2));
    let now = versions(c)?;
    let other: Vec<&String> =
        before.iter().filter(|(name, version)| now.get(*name) != Some(version)).map(|(n, _)| n).collect();
    ensure!(other.is_empty(), "{} Services were written anew: {:?} …", other.len(), &other[..1]);
    ensure!(ready <= RESTARTED && served <= RESTARTED, "ready after {ready:?}, served after {served:?}");
    Ok(())
}

fn pool_name(n: u16) -> String {
    format!("pool-{n:02}")
}

/// A Service that is of interest to allocators only: without pods, and none of kube-proxy's.
fn one(name: &str, n: u16) -> Value {
    let labels =
        json!({ "part": (n % POOLS).to_string(), "service.kubernetes.io/service-proxy-name": "none" });
    with(
        service(name),
        json!({
            "metadata": { "namespace": CROWD, "labels": labels },
            "spec": { "selector": null, "allocateLoadBalancerNodePorts": false },
        }),
    )
}

fn address(c: &Cluster, name: &str) -> Result<()> {
    let status = c.api.get(&path("Service", CROWD, name))?["status"].clone();
    ensure!(status["loadBalancer"]["ingress"][0]["ip"].is_string(), "{name}: {status}");
    Ok(())
}

/// The version of every Service of the crowd. What was not written since has the addresses that it had.
fn versions(c: &Cluster) -> Result<BTreeMap<String, String>> {
    let all = c.api.list(&path("Service", CROWD, ""))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(all.iter().map(|s| (text(&s["metadata"]["name"]), text(&s["metadata"]["resourceVersion"]))).collect())
}

/// How many statuses of Services the leading allocator has written, and the sum of the seconds that each took: from
/// taking in the watch event that led to it until the API server's answer to the write.
fn written(c: &Cluster) -> Result<(f64, f64)> {
    let text = c.allocator_metrics()?;
    let of = |part: &str| sample(&text, &format!("causeway_allocator_latency_seconds_{part}"));
    of("count").zip(of("sum")).context("the allocator counts no writes")
}

fn services_of(pool: u16) -> String {
    format!("metallb_allocator_services_allocated_total{{pool=\"{}\"}}", pool_name(pool))
}

/// The value of a sample, its name given with all of its labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Whether both replicas say so.
fn is_ready(c: &Cluster) -> Result<()> {
    c.lan.control.namespace.enter(|| {
        for port in [17472, 17473] {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        Ok(())
    })
}

/// Resident memory of the larger replica, in MiB.
fn largest(c: &Cluster) -> f64 {
    let bytes = c.allocators.iter().map(causeway_tests::cluster::Process::rss_bytes).max().unwrap_or(0);
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
}

/// Does `work` for each number on a few threads: thousands of calls one after the other take minutes.
fn for_each(numbers: Range<u16>, work: impl Fn(u16) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let share = |caller| {
            let (numbers, work) = (numbers.clone(), &work);
            scope.spawn(move || numbers.skip(caller).step_by(CALLERS).try_for_each(work))
        };
        let callers: Vec<_> = (0..CALLERS).map(share).collect();
        let outcomes = callers.into_iter().map(|c| c.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        outcomes.collect::<Vec<_>>().into_iter().collect()
    })
}
