//! Thousands of visitors who take their time, at every place where one can, leave the ordinary ones alone (hazards 106 to 109).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;
use std::time::Duration;

use causeway_tests::child::{Program, output};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::Folder;
use causeway_tests::neighbour::{Neighbour, Turn, elsewhere, seat};
use causeway_tests::origin::sample_apart;
use causeway_tests::site::{APP, NAMES};
use causeway_tests::{long, needs, run_within, wait};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(30);
/// Between two bytes of a slow visitor. Ten thousand need longer (slowhttptest takes ten seconds): at two they
/// have edge, connector and origin on two processors so often that a neighbour waits for the scheduler.
fn pace() -> Duration {
    Duration::from_secs(if long() { 5 } else { 2 })
}

/// Within which all come for the first time; less than what the edge bears a head or a body for.
const ARRIVAL: Duration = Duration::from_secs(4);

/// Of the attack, and of who reads what the programs write. The last comes too late where another program takes all there is.
fn turn() -> Turn {
    if long() { Turn::Last } else { Turn::Ordinary }
}

/// What the slow visitors do.
#[derive(Debug, Default)]
struct Attack {
    here: AtomicUsize,
    drips: AtomicU64,
}

/// What a slow visitor may cost the edge, an upload's place in the tunnel included: the socket's memory is the kernel's.
const BYTES_EACH: u64 = 96 * 1024;
/// Below this a machine that does something else beside shows no difference. In the long form attackers and home share one processor,
/// which is busy all the time: what goes home waits there for others' turns.
fn floor() -> Duration {
    Duration::from_millis(if long() { 3 } else { 25 })
}

/// Where a slow visitor takes his time.
#[derive(Clone, Copy, Debug)]
enum Slow {
    Head,
    Body,
    Reading,
}

/// Who has a processor for himself in the long form, as machines of their own would: the others share the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alone {
    Edge,
    /// Edge and home: slowhttptest takes all that a processor has, and stays in the kernel for milliseconds.
    Programs,
}

/// A site that everybody may visit as often as he likes: the attack is one of many addresses.
async fn site(alone: Alone) -> (Program, Edge, Connector) {
    let (origin, service) = sample_apart().await;
    // In the long form heads are borne for as long as bodies, so that there is time to look.
    let patience = if long() { "60s" } else { "10s" };
    let config = format!(
        "limits: {{ connections: 30000, connectionsPerIp: 30000, connectionRatePerIp: 0, requestsPerIp: 30000, headerTimeout: {patience} }}"
    );
    let edge = Edge::with(EdgeOptions { config, ..Default::default() }).await;
    // slowhttptest knows the site by a name that resolves.
    let names: Vec<&str> = NAMES.into_iter().chain(["localhost"]).collect();
    let tunnel = edge.create("site", &names).await;
    let rules = format!(
        "originRequest: {{ maxConnections: 20000 }}\ningress:\n  - service: {service}\n    http: serve\n"
    );
    let mut connector = Connector::start_in(Folder::default(), &tunnel.token, &rules, &[]);
    connector.ready(SOON).await;
    if long() {
        let others = format!("1-{}", available_parallelism().unwrap().get() - 1);
        let home = if alone == Alone::Programs { "0" } else { &others };
        seat(edge.program.pid(), "0");
        seat(origin.pid(), home);
        seat(connector.program.pid(), home);
        seat(std::process::id(), &others);
    }
    (origin, edge, connector)
}

fn how_many(short: usize) -> usize {
    if long() { 10_000 } else { short }
}

/// To this process and those that it starts. Who may not raise the limit finds out by the error that says so.
fn allow_files(count: usize) {
    let wanted = Some(count as u64 * 2 + 4096);
    if getrlimit(Resource::Nofile).current < wanted {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted });
    }
}

/// Requests of a look at a neighbour.
const LOOK: usize = 400;

/// The same where there is time: p99 is a steadier figure then.
fn long_look() -> usize {
    if long() { 1_500 } else { LOOK }
}

/// The middle one of five looks: one alone is now and then a third, now and then three times of that.
async fn p99(neighbour: &Neighbour, look: usize) -> Duration {
    let mut looks = Vec::new();
    for _ in 0..5 {
        looks.push(neighbour.p99(look).await);
    }
    looks.sort_unstable();
    println!("a neighbour's p99: {looks:?}");
    looks[2]
}

/// Compares a neighbour's time with what it was before. Where a machine does something else beside, one look of five suffices: what that
/// does comes and goes, an attack stays.
async fn judge(neighbour: &Neighbour, look: usize, before: Duration, floor: Duration, what: &str) {
    let most = before.mul_f64(1.2) + floor;
    for _ in 0..5 {
        let during = if long() { p99(neighbour, look).await } else { neighbour.p99(look).await };
        let ratio = during.as_secs_f64() / before.as_secs_f64();
        println!("{what}: a neighbour's p99: {before:?} before, {during:?} during: {ratio:.2}");
        if during <= most {
            return;
        }
        if long() {
            break;
        }
    }
    panic!("{what}: a neighbour, at {before:?} before, waits for more than {most:?}");
}

/// One slow visitor after another on this place, for ever: who is given up comes again.
async fn dawdle(edge: SocketAddr, slow: Slow, index: usize, attack: Arc<Attack>) {
    let source =
        Ipv4Addr::new(127, 2, u8::try_from(index / 250).unwrap(), u8::try_from(index % 250).unwrap() + 1);
    // As people do who know nothing of each other: a hundred in the same millisecond are another attack.
    sleep(ARRIVAL.mul_f64(rand::random())).await;
    loop {
        if let Ok(stream) = arrive(edge, source, slow).await {
            attack.here.fetch_add(1, Relaxed);
            drip(stream, slow, &attack.drips).await;
            attack.here.fetch_sub(1, Relaxed);
        }
        // Without a pause somebody who is turned away at once would keep all others from coming.
        sleep(Duration::from_secs(1).mul_f64(rand::random())).await;
    }
}

async fn arrive(edge: SocketAddr, source: Ipv4Addr, slow: Slow) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Slow::Reading = slow {
        socket.set_recv_buffer_size(4096)?;
    }
    socket.bind((source, 0).into())?;
    let mut stream = socket.connect(edge).await?;
    let head = match slow {
        Slow::Head => format!("GET /bytes/1 HTTP/1.1\r\nhost: {APP}\r\nx: "),
        Slow::Body => format!("POST /sink HTTP/1.1\r\nhost: {APP}\r\ncontent-length: 1000000\r\n\r\n"),
        Slow::Reading => format!("GET /bytes/100000 HTTP/1.1\r\nhost: {APP}\r\n\r\n"),
    };
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// A byte now and then, until the edge has enough of it.
async fn drip(mut stream: TcpStream, slow: Slow, drips: &AtomicU64) {
    let mut byte = [0];
    sleep(pace().mul_f64(rand::random())).await;
    loop {
        drips.fetch_add(1, Relaxed);
        let is_borne = match slow {
            // An answer means that it was given up.
            Slow::Head | Slow::Body => {
                stream.write_all(b"x").await.is_ok()
                    && timeout(Duration::from_millis(1), stream.read(&mut byte)).await.is_err()
            }
            Slow::Reading => matches!(stream.read(&mut byte).await, Ok(1)),
        };
        if !is_borne {
            return;
        }
        sleep(pace()).await;
    }
}

fn slow_visitors(slow: Slow, count: usize) {
    allow_files(count);
    run_within(Duration::from_secs(if long() { 400 } else { 180 }), async move {
        let (_origin, edge, _connector) = site(Alone::Edge).await;
        turn().for_this_process();
        let neighbour = Neighbour::of(&edge);
        let before = p99(&neighbour, long_look()).await;
        let start = edge.program.usage().resident_bytes;
        let attack = Arc::<Attack>::default();
        // Dropped when the test fails, too: a thread that went on would keep it from ending.
        let (stop, stopping) = oneshot::channel::<()>();
        let (target, theirs) = (edge.http, Arc::clone(&attack));
        let mut thread = JoinSet::new();
        thread.spawn(elsewhere(turn(), move || async move {
            let mut all = JoinSet::new();
            for index in 0..count {
                all.spawn(dawdle(target, slow, index, Arc::clone(&theirs)));
            }
            let _ = stopping.await;
        }));
        wait::holds("the slow visitors to be there", SOON, || attack.here.load(Relaxed) == count).await;
        let (since, drips) = (Instant::now(), attack.drips.load(Relaxed));
        // Heads stay at the edge, and it has a processor for itself: nothing else may show.
        let floor_here = if long() && matches!(slow, Slow::Head) { Duration::ZERO } else { floor() };
        judge(&neighbour, long_look(), before, floor_here, &format!("{count} slow in {slow:?}")).await;
        let rate = (attack.drips.load(Relaxed) - drips) as f64 / since.elapsed().as_secs_f64();
        println!("{count} slow in {slow:?}: {rate:.0} bytes a second");
        // Who comes last to a processor must still come.
        assert!(
            rate > 0.7 * count as f64 / pace().as_secs_f64(),
            "the attack is not one: {rate:.0} bytes a second"
        );
        let each = edge.program.usage().resident_bytes.saturating_sub(start) / count as u64;
        println!("{count} slow in {slow:?}: {each} bytes of the edge each");
        assert!(each < BYTES_EACH, "{each} bytes each");
        // And beyond the deadlines of all of them: now a thousand a second are given up and come again, which is a load of its own.
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(if long() { 60 } else { 12 }) {
            neighbour.p99(100).await;
        }
        judge(&neighbour, long_look(), before, floor(), "after the first deadlines").await;
        drop(stop);
        thread.join_next().await.unwrap().unwrap();
    });
}

#[test]
fn hazard_106_heads_that_drip_from_thousands_leave_ordinary_visitors_alone() {
    slow_visitors(Slow::Head, how_many(4_000));
}

#[test]
fn hazard_107_bodies_that_drip_from_thousands_leave_ordinary_visitors_alone() {
    slow_visitors(Slow::Body, how_many(1_500));
}

#[test]
fn hazard_108_thousands_who_read_byte_by_byte_leave_ordinary_visitors_alone() {
    slow_visitors(Slow::Reading, how_many(1_500));
}

#[test]
fn slowhttptest_finds_the_site_available_in_all_its_modes() {
    let Some(tool) = needs("slowhttptest") else { return };
    run_within(Duration::from_secs(if long() { 600 } else { 360 }), async move {
        let (_origin, edge, _connector) = site(Alone::Programs).await;
        turn().for_this_process();
        let neighbour = Neighbour::of(&edge);
        let before = p99(&neighbour, long_look()).await;
        // As its manual has them (4,000 readers instead of 8,000, for the time): connections, how many a second, and how slow.
        for (mode, path, count, rate) in [
            ("-H -i 10 -x 24", "/bytes/10", 1000_u32, 200),
            ("-B -i 110 -x 10 -s 8192", "/sink", 3000, 3000),
            ("-R -a 10 -b 3000", "/bytes/10000", 1000, 500),
            ("-X -w 512 -y 1024 -n 5 -z 32 -k 3", "/bytes/100000", 4000, 200),
        ] {
            let count = if long() { count } else { count.min(1000) };
            let seconds = count / rate + if long() { 35 } else { 15 };
            let mut command = Command::new("chrt");
            command.args(turn().chrt()).arg(&tool);
            command.args(mode.split(' ')).args([
                "-c",
                &count.to_string(),
                "-r",
                &rate.to_string(),
                "-p",
                "3",
            ]);
            command.args(["-l", &seconds.to_string()]);
            command.args(["-u", &format!("http://localhost:{}{path}", edge.http.port())]);
            let accepted = || edge.metric("causeway_edge_connections_accepted_total", &["http"]);
            let before_it = accepted().await;
            let attack = output(command);
            let visits = async {
                // What they ask for at first is a load, and not slow.
                wait::until("all of them to have come", Duration::from_secs(seconds.into()), || async {
                    (accepted().await >= before_it + f64::from(count)).then_some(())
                })
                .await;
                // Bodies are given up after ten seconds.
                judge(&neighbour, LOOK, before, floor(), mode).await;
                let open = edge.metric("causeway_edge_connections_open", &["http"]).await;
                println!("{mode}: {open} of {count} are still there");
                // The short form's heads have met their deadline.
                assert!(!long() || open > 0.7 * f64::from(count), "{mode}: the attack was over: {open}");
            };
            let (seen, ()) = tokio::join!(attack, visits);
            let text = seen.text();
            assert!(text.contains("service available"), "{mode}: {text}");
            assert!(!text.contains("service available:   NO"), "{mode}: the service went away: {text}");
        }
    });
}
