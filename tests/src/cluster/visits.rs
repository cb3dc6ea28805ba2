//! A client on the segment that opens a new connection every 10 ms, and what it lived through.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream as AsyncStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::netns::Namespace;

pub(super) const EVERY: Duration = Duration::from_millis(10);
/// A SYN is sent again after 1 s: an attempt that needs that is a failed one.
const PATIENCE: Duration = Duration::from_millis(900);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: vip\r\nconnection: close\r\n\r\n";

#[derive(Clone, Debug)]
pub struct Visit {
    pub started: Instant,
    pub ended: Instant,
    /// The name of the pod's node, or why not.
    pub outcome: Result<String, String>,
}

/// Visits until it is finished or dropped.
#[derive(Debug)]
pub struct Visits {
    list: Arc<Mutex<Vec<Visit>>>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// What an event did to the visits that began after it.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    pub failed: usize,
    /// From the event to the end of the first visit that succeeded after the last that failed; zero when none failed.
    pub lasted: Duration,
}

impl Visits {
    pub fn start(namespace: &Namespace, ip: IpAddr, port: u16) -> Self {
        let list = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(Notify::new());
        let target = SocketAddr::new(ip, port);
        let thread = namespace.thread("visits", {
            let (list, stop) = (list.clone(), stop.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a test may have a runtime").block_on(visit_on(target, &list, &stop));
            }
        });
        Self { list, stop, thread: Some(thread) }
    }

    pub fn so_far(&self) -> Vec<Visit> {
        self.list.lock().clone()
    }

    /// Ends the visits (those under way come to their end) and returns them in the order of their start.
    pub fn finish(mut self) -> Vec<Visit> {
        self.end();
        let mut visits = std::mem::take(&mut *self.list.lock());
        visits.sort_by_key(|v| v.started);
        visits
    }

    fn end(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Visits {
    fn drop(&mut self) {
        self.end();
    }
}

/// The outage that `event` caused, seen by `visits` (sorted).
///
/// # Errors
/// When no visit succeeded after the last failure: the outage has not ended.
pub fn outage(visits: &[Visit], event: Instant) -> Result<Outage> {
    let after: Vec<&Visit> = visits.iter().filter(|v| v.started >= event).collect();
    ensure!(!after.is_empty(), "there were no visits after the event");
    let failed = after.iter().filter(|v| v.outcome.is_err()).count();
    let Some(last) = after.iter().rposition(|v| v.outcome.is_err()) else {
        return Ok(Outage { failed: 0, lasted: Duration::ZERO });
    };
    let healed = after[last + 1..].iter().map(|v| v.ended).min();
    let why = after[last].outcome.clone().err().unwrap_or_default();
    let healed = healed.ok_or_else(|| anyhow!("{failed} visits failed, and none succeeded since ({why})"))?;
    Ok(Outage { failed, lasted: healed - event })
}

/// Takes out the visits whose handshake was under way when the client learned the new owner's MAC: its SYN went to one
/// node, its ACK to another whose kernel knows nothing of it and resets. No hand-over on a LAN can spare those.
pub(super) fn take_straddlers(visits: &mut Vec<Visit>, claimed: Instant) -> usize {
    const JITTER: Duration = Duration::from_millis(1);
    let before = visits.len();
    visits.retain(|visit| {
        let during = visit.started <= claimed + JITTER && visit.ended + JITTER >= claimed;
        let reset = visit.outcome.as_ref().is_err_and(|why| why.contains("reset"));
        !(during && reset)
    });
    before - visits.len()
}

async fn visit_on(target: SocketAddr, list: &Arc<Mutex<Vec<Visit>>>, stop: &Notify) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.notified() => break,
            _ = ticks.tick() => {
                let list = list.clone();
                open.spawn(async move {
                    let started = Instant::now();
                    let outcome = match tokio::time::timeout(PATIENCE, attempt(target)).await {
                        Ok(Ok(name)) => Ok(name),
                        Ok(Err(error)) => Err(format!("{error:#}")),
                        Err(_) => Err("no answer".to_owned()),
                    };
                    list.lock().push(Visit { started, ended: Instant::now(), outcome });
                });
                while open.try_join_next().is_some() {}
            }
        }
    }
    while open.join_next().await.is_some() {}
}

async fn attempt(target: SocketAddr) -> Result<String> {
    let mut stream =
        AsyncStream::connect(target).await.map_err(|error| anyhow!("cannot connect: {error}"))?;
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    body(&answer)
}

/// One visit over TCP from `namespace`: the name of the pod's node.
pub fn visit(namespace: &Namespace, ip: IpAddr, port: u16) -> Result<String> {
    namespace.enter(|| {
        let limit = Duration::from_millis(700);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(REQUEST)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        body(&answer)
    })
}

/// One question over UDP from `namespace`: the name of the pod's node.
pub fn visit_udp(namespace: &Namespace, ip: IpAddr, port: u16) -> Result<String> {
    namespace.enter(|| {
        let any: IpAddr = if ip.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(700)))?;
        socket.connect((ip, port))?;
        socket.send(b"who?")?;
        let mut answer = [0u8; 100];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    })
}

fn body(answer: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| anyhow!("no whole answer: {text:?}"))?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body.to_owned())
}
