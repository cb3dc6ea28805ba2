//! What fills a line: transfers that are counted while they run and checked at their end, and a plain TCP flow.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::wan::Door;
use crate::client::{Http1, Http2, tls_connect};
use crate::netns::Namespace;
use crate::origin::content::{Pattern, Sum, pattern_sum};

/// Which way the bytes go, seen by the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    Down,
    Up,
}

/// What the visitor speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Http1,
    Http2,
}

/// A browser's windows: 6 MiB a stream, 15 MiB a connection.
const BROWSER_WINDOWS: (u32, u32) = (6 << 20, 15 << 20);
/// More than any test waits for.
const ENDLESS: u64 = 1 << 40;
/// A transfer that brings nothing for so long is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A visitor's connection on which transfers follow each other.
#[derive(Debug)]
pub enum Bulk {
    Http1(Box<Http1>),
    Http2(Http2),
}

/// A transfer in progress; dropping it breaks it off.
#[derive(Debug)]
pub struct Running {
    moved: Arc<AtomicU64>,
    task: JoinSet<Result<Duration, String>>,
    handle: AbortHandle,
}

impl Bulk {
    /// # Panics
    /// When TLS or the preface fails.
    pub async fn connect(door: &Door, host: &str, speech: Speech) -> Self {
        let alpn = if speech == Speech::Http1 { "http/1.1" } else { "h2" };
        let stream = tls_connect(door.https, &door.ca, host, &[alpn]).await.expect("TLS to the entrance");
        match speech {
            Speech::Http1 => Self::Http1(Box::new(Http1::over(stream))),
            Speech::Http2 => {
                let (stream_window, connection_window) = BROWSER_WINDOWS;
                let client = Http2::over(stream, stream_window, connection_window).await;
                Self::Http2(client.expect("HTTP/2 to the entrance"))
            }
        }
    }

    /// Moves so many bytes and checks that they are the right ones. `moved` counts what the visitor received or sent.
    ///
    /// # Errors
    /// Why it broke.
    pub async fn transfer(
        &mut self,
        host: &str,
        course: Course,
        bytes: u64,
        moved: &AtomicU64,
    ) -> Result<Duration, String> {
        let since = Instant::now();
        match (self, course) {
            (Self::Http1(client), Course::Down) => down1(client, host, bytes, moved).await?,
            (Self::Http1(client), Course::Up) => up1(client, host, bytes, moved).await?,
            (Self::Http2(client), Course::Down) => down2(client, host, bytes, moved).await?,
            (Self::Http2(client), Course::Up) => up2(client, host, bytes, moved).await?,
        }
        Ok(since.elapsed())
    }

    /// A transfer that runs beside other things.
    pub fn run(mut self, host: &str, course: Course, bytes: u64) -> Running {
        let moved = Arc::<AtomicU64>::default();
        let mut task = JoinSet::new();
        let (host, count) = (host.to_owned(), moved.clone());
        let handle = task.spawn(async move { self.transfer(&host, course, bytes, &count).await });
        Running { moved, task, handle }
    }

    /// A transfer that ends when it is dropped.
    pub fn endless(self, host: &str, course: Course) -> Running {
        self.run(host, course, ENDLESS)
    }
}

impl Running {
    /// Bytes that the visitor has received, or sent into its connection.
    pub fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        !self.handle.is_finished()
    }

    /// # Errors
    /// Why it broke.
    pub async fn end(&mut self) -> Result<Duration, String> {
        self.task
            .join_next()
            .await
            .ok_or_else(|| "it ended already".to_owned())?
            .map_err(|error| error.to_string())?
    }
}

async fn down1(client: &mut Http1, host: &str, bytes: u64, moved: &AtomicU64) -> Result<(), String> {
    client.send(format!("GET /bytes/{bytes} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await;
    let head = client.head().await?;
    if head.status != 200 {
        return Err(format!("status {}", head.status));
    }
    let (mut left, mut sum) = (bytes, Sum::default());
    while left > 0 {
        let part = client.bytes(usize::try_from(left).unwrap_or(usize::MAX)).await;
        if part.is_empty() {
            return Err(format!("cut after {} of {bytes} bytes", bytes - left));
        }
        left -= part.len() as u64;
        moved.fetch_add(part.len() as u64, Relaxed);
        sum.update(&part);
    }
    same(bytes, &sum.finish())
}

async fn up1(client: &mut Http1, host: &str, bytes: u64, moved: &AtomicU64) -> Result<(), String> {
    let head = format!("POST /sink HTTP/1.1\r\nhost: {host}\r\ncontent-length: {bytes}\r\n\r\n");
    client.try_send(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut pattern = Pattern::sized(bytes);
    while let Some(chunk) = pattern.take_chunk() {
        client.try_send(&chunk).await.map_err(|error| format!("upload cut: {error}"))?;
        moved.fetch_add(chunk.len() as u64, Relaxed);
    }
    let answer = client.answer("POST").await?;
    judge(bytes, answer.status, &answer.body)
}

async fn down2(client: &mut Http2, host: &str, bytes: u64, moved: &AtomicU64) -> Result<(), String> {
    let request = Request::get(format!("https://{host}/bytes/{bytes}")).body(()).expect("a valid URL");
    let mut stream = client.open(request, true).await?;
    let answer = stream.head().await.map_err(|error| error.to_string())?;
    if answer.status() != 200 {
        return Err(format!("status {}", answer.status()));
    }
    let (mut body, mut sum) = (answer.into_body(), Sum::default());
    loop {
        let data =
            tokio::time::timeout(PATIENCE, body.data()).await.map_err(|_| "nothing more came".to_owned())?;
        let Some(data) = data else { break };
        let data = data.map_err(|error| format!("cut after {} bytes: {error}", sum.bytes()))?;
        let _ = body.flow_control().release_capacity(data.len());
        moved.fetch_add(data.len() as u64, Relaxed);
        sum.update(&data);
    }
    same(bytes, &sum.finish())
}

async fn up2(client: &mut Http2, host: &str, bytes: u64, moved: &AtomicU64) -> Result<(), String> {
    let request = Request::post(format!("https://{host}/sink")).header("content-length", bytes);
    let mut stream = client.open(request.body(()).expect("a valid URL"), false).await?;
    let mut pattern = Pattern::sized(bytes);
    while let Some(mut chunk) = pattern.take_chunk() {
        while !chunk.is_empty() {
            stream.send.reserve_capacity(chunk.len());
            if stream.send.capacity() == 0 {
                let granted = poll_fn(|cx| stream.send.poll_capacity(cx)).await;
                granted.ok_or("the stream is closed")?.map_err(|error| format!("upload cut: {error}"))?;
            }
            let part = chunk.split_to(stream.send.capacity().min(chunk.len()));
            moved.fetch_add(part.len() as u64, Relaxed);
            stream.send.send_data(part, false).map_err(|error| format!("upload cut: {error}"))?;
        }
    }
    stream.send.send_data(Bytes::new(), true).map_err(|error| format!("upload cut: {error}"))?;
    let answer = stream.answer().await?;
    judge(bytes, answer.status, &answer.body)
}

fn judge(bytes: u64, status: u16, body: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(body);
    if status != 200 {
        return Err(format!("status {status}: {text:.200}"));
    }
    let seen: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    same(bytes, seen["sha256"].as_str().unwrap_or_default())
}

fn same(bytes: u64, sum: &str) -> Result<(), String> {
    if sum == pattern_sum(bytes) { Ok(()) } else { Err("other bytes than were sent".to_owned()) }
}

/// A neighbour: one plain TCP connection that sends as fast as it may.
#[derive(Debug)]
pub struct TcpFlow {
    moved: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl TcpFlow {
    /// # Panics
    /// When it cannot connect.
    pub async fn start(from: &Namespace, to: SocketAddr, at: Option<&Namespace>) -> Self {
        let bind = TcpListener::bind(to);
        let listener = match at {
            Some(at) => at.within(bind).await,
            None => bind.await,
        };
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let sender = from.within(TcpStream::connect(addr));
        let (sender, receiver) = tokio::join!(sender, listener.accept());
        let (mut sender, mut receiver) = (sender.expect("a connection"), receiver.expect("a connection").0);
        let moved = Arc::<AtomicU64>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let chunk = vec![0; 64 * 1024];
            while sender.write_all(&chunk).await.is_ok() {}
        });
        let count = moved.clone();
        tasks.spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = receiver.read(&mut buffer).await {
                count.fetch_add(length as u64, Relaxed);
            }
        });
        Self { moved, _tasks: tasks }
    }

    /// Bytes that arrived.
    pub fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }
}
