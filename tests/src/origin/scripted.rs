//! An origin that a test scripts byte by byte: it lies, resets, hangs, and tells what it saw.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A running scripted origin.
#[derive(Debug)]
pub struct Scripted {
    addr: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

/// What the origin saw.
#[derive(Debug, Default)]
pub struct Seen {
    heads: Mutex<Vec<String>>,
    connections: AtomicUsize,
    gone: AtomicUsize,
}

/// One accepted connection in the hands of a script.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    seen: Arc<Seen>,
    ahead: Vec<u8>,
    /// Which connection this is, counted from 0.
    pub number: usize,
}

impl Scripted {
    /// Runs `script` on every connection.
    ///
    /// # Panics
    /// When the loopback has no free port.
    pub async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(super::ANY).await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::<Seen>::default();
        let mut tasks = JoinSet::new();
        let shared = seen.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Relaxed);
                let _ = stream.set_nodelay(true);
                connections.spawn(script(Connection {
                    stream,
                    seen: shared.clone(),
                    ahead: Vec::new(),
                    number,
                }));
            }
        });
        Self { addr, seen, _tasks: tasks }
    }

    /// Answers every request on every connection with these bytes, then goes on.
    pub async fn always(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut connection| {
            let answer = answer.clone();
            async move {
                while connection.request().await.is_some() {
                    connection.send(&answer).await;
                }
            }
        })
        .await
    }

    /// Answers the first request with these bytes, then closes.
    pub async fn once(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut connection| {
            let answer = answer.clone();
            async move {
                connection.request().await;
                connection.send(&answer).await;
            }
        })
        .await
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The `http://` service of this origin.
    pub fn service(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The heads of all requests, in order.
    pub fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Relaxed)
    }

    /// How many times a script saw its peer go away.
    pub fn gone(&self) -> usize {
        self.seen.gone.load(Relaxed)
    }
}

impl Connection {
    /// Reads one request head and, when it has a Content-Length, its body. `None` when the peer closed.
    pub async fn request(&mut self) -> Option<String> {
        let head = self.head().await?;
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
        let length = length.and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or_default();
        while self.ahead.len() < length {
            self.more().await?;
        }
        self.ahead.drain(..length);
        Some(head)
    }

    /// Reads one request head only.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                let head = String::from_utf8_lossy(&head).into_owned();
                self.seen.heads.lock().push(head.clone());
                return Some(head);
            }
            self.more().await?;
        }
    }

    /// Reads whatever comes next.
    pub async fn bytes(&mut self) -> Option<Vec<u8>> {
        if self.ahead.is_empty() {
            self.more().await?;
        }
        Some(std::mem::take(&mut self.ahead))
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends bytes and says whether the peer still takes them.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    pub async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Ends with RST instead of FIN.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Waits until the peer went away, and counts it.
    pub async fn wait_gone(&mut self) {
        while self.more().await.is_some() {
            self.ahead.clear();
        }
        self.seen.gone.fetch_add(1, Relaxed);
    }

    /// Reads nothing and says nothing, for ever.
    pub async fn hang(self) {
        std::future::pending::<()>().await;
    }

    async fn more(&mut self) -> Option<()> {
        self.ahead.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.ahead).await {
            Ok(bytes) if bytes > 0 => Some(()),
            _ => None,
        }
    }
}
