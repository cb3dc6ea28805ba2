//! Load while something else happens: visitors that ask again and again, check every answer, and count what failed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{End, Entrance, Http1, Http2, Http3};
use crate::edge::Edge;

/// Failures kept with their text.
const KEPT_FAILURES: usize = 20;

/// Visitors at work. Ask [`Load::stop`] for the outcome.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
    slowest_us: AtomicU64,
}

/// What the visitors saw.
#[derive(Clone, Debug)]
pub struct Tally {
    pub answered: u64,
    pub failed: u64,
    pub failures: Vec<String>,
    pub slowest: Duration,
}

impl Load {
    /// `http1` and `http2` visitors, each asking for `path` on a connection of its own until told to stop; a good answer is a 200
    /// with `length` bytes.
    pub fn start(edge: &Edge, host: &str, path: &str, length: usize, http1: usize, http2: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let mut tasks = JoinSet::new();
        let url = format!("https://{host}{path}");
        for _ in 0..http1 {
            let visitor = Visitor::new(edge, host, &url, length, shared.clone());
            tasks.spawn(visitor.http1());
        }
        for _ in 0..http2 {
            let visitor = Visitor::new(edge, host, &url, length, shared.clone());
            tasks.spawn(visitor.http2());
        }
        Self { shared, tasks }
    }

    /// Visitors over plain HTTP/1.1 at an address, such as a balancer's.
    pub fn plain(at: SocketAddr, host: &str, path: &str, length: usize, visitors: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..visitors {
            let (ca, host, url) = (PathBuf::new(), host.to_owned(), format!("http://{host}{path}"));
            let visitor = Visitor { https: at, ca, host, url, length, shared: Arc::clone(&shared) };
            tasks.spawn(visitor.plain());
        }
        Self { shared, tasks }
    }

    /// So many more, by HTTP/3.
    #[must_use]
    pub fn and_http3(mut self, edge: &Edge, host: &str, path: &str, length: usize, http3: usize) -> Self {
        let url = format!("https://{host}{path}");
        for _ in 0..http3 {
            let visitor = Visitor::new(edge, host, &url, length, Arc::clone(&self.shared));
            self.tasks.spawn(visitor.http3(edge.http3()));
        }
        self
    }

    /// Good answers so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Relaxed)
    }

    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Relaxed)
    }

    /// Lets every visitor finish its request, then tells.
    pub async fn stop(mut self) -> Tally {
        self.shared.stop.store(true, Relaxed);
        while self.tasks.join_next().await.is_some() {}
        Tally {
            answered: self.answered(),
            failed: self.failed(),
            failures: self.shared.failures.lock().clone(),
            slowest: Duration::from_micros(self.shared.slowest_us.load(Relaxed)),
        }
    }
}

/// What a visitor needs to connect, without borrowing the edge.
struct Visitor {
    https: SocketAddr,
    ca: PathBuf,
    host: String,
    url: String,
    length: usize,
    shared: Arc<Shared>,
}

impl Visitor {
    fn new(edge: &Edge, host: &str, url: &str, length: usize, shared: Arc<Shared>) -> Self {
        Self { https: edge.https, ca: edge.ca(), host: host.to_owned(), url: url.to_owned(), length, shared }
    }

    async fn http1(self) {
        let mut client: Option<Http1> = None;
        while !self.shared.stop.load(Relaxed) {
            let since = Instant::now();
            let mut connection = match client.take() {
                Some(connection) => connection,
                None => {
                    match crate::client::tls_connect(self.https, &self.ca, &self.host, &["http/1.1"]).await {
                        Ok(stream) => Http1::over(stream),
                        Err(error) => {
                            self.failed(format!("connect: {error}"));
                            continue;
                        }
                    }
                }
            };
            let answer = connection.fetch(self.request()).await;
            let closing = answer.as_ref().is_ok_and(|answer| answer.header("connection") == Some("close"));
            if self.judge(since, answer) && !closing {
                client = Some(connection);
            }
        }
    }

    async fn plain(self) {
        let mut client: Option<Http1> = None;
        while !self.shared.stop.load(Relaxed) {
            let since = Instant::now();
            let mut connection = match client.take() {
                Some(connection) => connection,
                None => match TcpStream::connect(self.https).await {
                    Ok(stream) => Http1::over(stream),
                    Err(error) => {
                        self.failed(format!("connect: {error}"));
                        continue;
                    }
                },
            };
            let answer = connection.fetch(self.request()).await;
            let closing = answer.as_ref().is_ok_and(|answer| answer.header("connection") == Some("close"));
            if self.judge(since, answer) && !closing {
                client = Some(connection);
            }
        }
    }

    async fn http2(self) {
        let mut client: Option<Http2> = None;
        while !self.shared.stop.load(Relaxed) {
            let since = Instant::now();
            // Every 10,000 requests the edge wants a fresh connection; browsers open one without losing anything.
            if let Some(connection) = &mut client
                && !connection.takes_more().await
            {
                client = None;
            }
            if client.is_none() {
                client = match Http2::at(self.https, &self.ca, &self.host).await {
                    Ok(connection) => Some(connection),
                    Err(error) => {
                        self.failed(format!("connect: {error}"));
                        continue;
                    }
                };
            }
            let Some(connection) = client.as_mut() else { continue };
            let answer = connection.fetch(self.request(), None).await;
            if !self.judge(since, answer) {
                client = None;
            }
        }
    }

    async fn http3(self, at: SocketAddr) {
        let mut client: Option<Http3> = None;
        while !self.shared.stop.load(Relaxed) {
            let since = Instant::now();
            if client.is_none() {
                client = match Http3::at(at, &self.ca, &self.host).await {
                    Ok(connection) => Some(connection),
                    Err(error) => {
                        self.failed(format!("connect: {error}"));
                        continue;
                    }
                };
            }
            let Some(connection) = client.as_mut() else { continue };
            let stream = match connection.open(self.request().map(drop)).await {
                Ok(stream) => stream,
                // Nothing was sent: as with HTTP/2, a browser opens another connection.
                Err(error) => {
                    if !connection.was_asked_to_leave() {
                        self.failed(error);
                    }
                    client = None;
                    continue;
                }
            };
            if !self.judge(since, connection.finish(stream).await) {
                client = None;
            }
        }
    }

    fn request(&self) -> Request<Bytes> {
        Request::get(&self.url).body(Bytes::new()).expect("the test's URL is valid")
    }

    fn judge(&self, since: Instant, answer: Result<crate::client::Answer, String>) -> bool {
        let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.slowest_us.fetch_max(took, Relaxed);
        match answer {
            Ok(answer)
                if answer.status == 200 && answer.end == End::Clean && answer.body.len() == self.length =>
            {
                self.shared.answered.fetch_add(1, Relaxed);
                true
            }
            Ok(answer) => {
                let text: String = answer.text().chars().take(200).collect();
                self.failed(format!(
                    "{} {:?} {} bytes: {text}",
                    answer.status,
                    answer.end,
                    answer.body.len()
                ));
                false
            }
            Err(error) => {
                self.failed(error);
                false
            }
        }
    }

    fn failed(&self, why: String) {
        self.shared.failed.fetch_add(1, Relaxed);
        let mut failures = self.shared.failures.lock();
        if failures.len() < KEPT_FAILURES {
            failures.push(why);
        }
    }
}
